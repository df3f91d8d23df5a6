"""Backend `numba`: the compiled loops of `numba_loops.py` as differentiable PyTorch operations.

The tasks of a batch are shared between as many Python threads as PyTorch uses
(`torch.get_num_threads()`); the loops release the GIL. There is no second OpenMP runtime beside
PyTorch's, and nested or concurrent calls are safe.

float32 (complex64 for the diagonal scan) on the CPU only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ss4rec_lib.ssm.kernels import numba_loops as loops

_ENOUGH = 8  # sequences that occupy the cores of a laptop without being cut into groups
_WORTH_A_THREAD = 1 << 14  # states; they take about 20 microseconds, as long as waking a thread
_GROUP = 16  # channels per group: one cache line of a row of u


@lru_cache(maxsize=1)
def _pool(workers: int, process: int) -> ThreadPoolExecutor:
    # Keyed by the process: a fork inherits the pool's memory but none of its threads.
    return ThreadPoolExecutor(workers, thread_name_prefix="ss4rec-scan")


def channel_groups(batch: int, channels: int) -> int:
    """Return the number of groups of channels per sequence; it depends on shapes only."""
    return 1 if batch >= _ENOUGH else -(-channels // _GROUP)


def shard(loop: Callable, tasks: int, *arguments: object, work: int | None = None) -> None:
    """Run `loop(*arguments, lo, hi)` over [0, tasks), shared between the threads.

    Args:
        loop: Compiled, without the GIL.
        tasks: Number of tasks; they are independent of each other.
        arguments: Passed to the loop.
        work: Number of states to be computed; few of them use fewer threads. None for many.
    """
    threads = max(1, min(torch.get_num_threads(), tasks))
    if work is not None:
        threads = min(threads, work // _WORTH_A_THREAD + 1)
    if threads == 1:
        loop(*arguments, 0, tasks)
        return
    bounds = [tasks * i // threads for i in range(threads + 1)]
    others = [
        _pool(threads, os.getpid()).submit(loop, *arguments, lo, hi)
        for lo, hi in pairwise(bounds[1:])
    ]
    loop(*arguments, 0, bounds[1])  # this thread takes the first part itself
    for other in others:
        other.result()


def as_arrays(*tensors: Tensor) -> list[np.ndarray]:
    """Return tensors as C-contiguous NumPy arrays, copied only where necessary."""
    return [t.detach().resolve_conj().contiguous().numpy() for t in tensors]


def selective_states(
    u: np.ndarray,
    Delta: np.ndarray,
    A: np.ndarray,
    B: np.ndarray,
    C: np.ndarray,
    D: np.ndarray,
    x0: np.ndarray,
    keep: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return y (B, L, D), the last state (B, D, N), and the states for backward if `keep`."""
    (batch, length, channels), N = u.shape, A.shape[1]
    y = np.empty_like(u)
    x_last = np.empty((batch, channels, N), dtype=np.float32)
    chunks = -(-length // loops.CHUNK) if keep else 0
    saved = np.empty((batch, channels, chunks, N), dtype=np.float32)
    groups = channel_groups(batch, channels)
    shard(
        loops.selective_forward, batch * groups,
        u, Delta, A, B, C, D, x0, y, x_last, saved, groups, work=u.size * N,
    )  # fmt: skip
    return y, x_last, saved


def selective_gradients(
    u: np.ndarray,
    Delta: np.ndarray,
    A: np.ndarray,
    B: np.ndarray,
    C: np.ndarray,
    D: np.ndarray,
    saved: np.ndarray,
    dy: np.ndarray,
    dx_last: np.ndarray,
) -> tuple[Tensor, ...]:
    """Return the gradients of u, Delta, A, B, C, D and x0, each of its own shape."""
    (batch, length, channels), N = u.shape, A.shape[1]
    groups = channel_groups(batch, channels)
    du, dDelta = np.empty_like(u), np.empty_like(u)
    dB, dC = (np.empty((batch * groups, length, N), dtype=np.float32) for _ in range(2))
    dA, dx0 = (np.empty((batch, channels, N), dtype=np.float32) for _ in range(2))
    gradients = (du, dDelta, dA, dB, dC, dx0)
    shard(
        loops.selective_backward, batch * groups,
        u, Delta, A, B, C, D, saved, dy, dx_last, *gradients, groups,
    )  # fmt: skip
    du, dDelta, dA, dB, dC, dx0 = (torch.from_numpy(g) for g in gradients)
    if groups > 1:
        dB, dC = (t.view(batch, groups, length, N).sum(1) for t in (dB, dC))
    dD = (torch.from_numpy(dy) * torch.from_numpy(u)).sum((0, 1))
    return du, dDelta, dA.sum(0), dB, dC, dD, dx0


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, Delta, A, B, C, D, initial_state):
        inputs = as_arrays(u, Delta, A, B, C, D, initial_state)
        if (inputs[2] > 0).any():  # `exp_nonpositive` would return wrong numbers
            raise ValueError(
                f"A has a positive entry ({inputs[2].max():g}): expected A <= 0, as in "
                "A = -exp(A_log)"
            )
        results = selective_states(*inputs, keep=any(ctx.needs_input_grad))
        y, x_last, saved = (torch.from_numpy(array) for array in results)
        ctx.save_for_backward(u, Delta, A, B, C, D, saved)
        return y, x_last

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dx_last):
        return selective_gradients(*as_arrays(*ctx.saved_tensors, dy, dx_last))


class _DiagonalScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b, initial_state):
        arrays = as_arrays(a, b, initial_state)
        x = np.empty_like(arrays[1])
        groups = channel_groups(a.shape[0], a.shape[2])
        shard(loops.diagonal_forward, a.shape[0] * groups, *arrays, x, groups)
        x = torch.from_numpy(x)
        ctx.save_for_backward(a, initial_state, x)
        # A copy, not a view of x: autograd outputs must not alias each other.
        return x, x[:, -1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, dx, dx_last):
        a, initial_state, x = ctx.saved_tensors
        dx = dx.clone()
        dx[:, -1] += dx_last
        arrays = as_arrays(a, initial_state, x, dx)
        da, db, dx0 = (np.empty_like(array) for array in (arrays[0], arrays[0], arrays[1]))
        groups = channel_groups(a.shape[0], a.shape[2])
        tasks = a.shape[0] * groups
        shard(loops.diagonal_backward, tasks, *arrays, da, db, dx0, groups)
        return tuple(torch.from_numpy(g) for g in (da, db, dx0))


def diagonal_scan(a: Tensor, b: Tensor, initial_state: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `reference.diagonal_scan`; complex64 or float32, CPU."""
    return _DiagonalScan.apply(a, b, initial_state)


def selective_scan(
    u: Tensor, Delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial_state: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute `reference.selective_scan`; float32, CPU, A <= 0."""
    return _SelectiveScan.apply(u, Delta, A, B, C, D, initial_state)
