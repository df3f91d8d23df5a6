"""Backend `numba`: the compiled loops of `numba_loops.py` as differentiable PyTorch operations.

A batch is cut into as many runs of sequences as PyTorch has threads (`torch.get_num_threads()`),
one Python thread each; the loops release the GIL. No second OpenMP runtime competes with
PyTorch's, and nested or concurrent calls are safe.

float32 (complex64 for the diagonal scan) on the CPU only; `scan.py` sends the rest elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ss4rec_lib.ssm.kernels import numba_loops as loops


@lru_cache(maxsize=1)
def _pool(workers: int, process: int) -> ThreadPoolExecutor:
    # Keyed by the process: a fork inherits the pool's memory but none of its threads.
    return ThreadPoolExecutor(workers, thread_name_prefix="ss4rec-scan")


def _over_sequences(loop: Callable, batch: int, *arrays: np.ndarray) -> None:
    """Run `loop(*arrays, lo, hi)` over [0, batch), shared between the threads."""
    threads = max(1, min(torch.get_num_threads(), batch))
    bounds = np.linspace(0, batch, threads + 1).astype(int)
    others = [
        _pool(threads, os.getpid()).submit(loop, *arrays, int(lo), int(hi))
        for lo, hi in zip(bounds[1:-1], bounds[2:], strict=True)
    ]
    loop(*arrays, 0, int(bounds[1]))  # this thread takes the first run itself
    for other in others:
        other.result()


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [t.detach().resolve_conj().contiguous().numpy() for t in tensors]


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, Delta, A, B, C, D, initial_state):
        inputs = _arrays(u, Delta, A, B, C, D, initial_state)
        batch, length, channels = u.shape
        N = A.shape[1]
        y = np.empty((batch, length, channels), dtype=np.float32)
        x_last = np.empty((batch, channels, N), dtype=np.float32)
        chunks = -(-length // loops.CHUNK) if any(ctx.needs_input_grad) else 0
        saved = np.empty((batch, channels, chunks, N), dtype=np.float32)
        _over_sequences(loops.selective_forward, batch, *inputs, y, x_last, saved)
        ctx.save_for_backward(u, Delta, A, B, C, D, torch.from_numpy(saved))
        return torch.from_numpy(y), torch.from_numpy(x_last)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dx_last):
        *inputs, saved = ctx.saved_tensors
        batch = inputs[0].shape[0]
        arrays = _arrays(*inputs, saved, dy, dx_last)
        u, Delta, A, B, C, _D, saved_array = arrays[:7]
        du, dDelta, dB, dC = (np.empty_like(array) for array in (u, Delta, B, C))
        dA = np.empty((batch, *A.shape), dtype=np.float32)
        dx0 = np.empty((batch, *A.shape), dtype=np.float32)
        _over_sequences(loops.selective_backward, batch, *arrays, du, dDelta, dA, dB, dC, dx0)
        dD = (dy * inputs[0]).sum((0, 1))
        tensors = [torch.from_numpy(g) for g in (du, dDelta, dA, dB, dC, dx0)]
        return tensors[0], tensors[1], tensors[2].sum(0), tensors[3], tensors[4], dD, tensors[5]


class _DiagonalScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b, initial_state):
        arrays = _arrays(a, b, initial_state)
        x = np.empty_like(arrays[1])
        _over_sequences(loops.diagonal_forward, a.shape[0], *arrays, x)
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
        arrays = _arrays(a, initial_state, x, dx)
        da, db, dx0 = (np.empty_like(array) for array in (arrays[0], arrays[0], arrays[1]))
        _over_sequences(loops.diagonal_backward, a.shape[0], *arrays, da, db, dx0)
        return tuple(torch.from_numpy(g) for g in (da, db, dx0))


def diagonal_scan(a: Tensor, b: Tensor, initial_state: Tensor) -> tuple[Tensor, Tensor]:
    """Same arguments and results as `reference.diagonal_scan`; complex64 or float32, CPU."""
    return _DiagonalScan.apply(a, b, initial_state)


def selective_scan(
    u: Tensor, Delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial_state: Tensor
) -> tuple[Tensor, Tensor]:
    """Same arguments and results as `reference.selective_scan`; float32, CPU, A <= 0."""
    return _SelectiveScan.apply(u, Delta, A, B, C, D, initial_state)
