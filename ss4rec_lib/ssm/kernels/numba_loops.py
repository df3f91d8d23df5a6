"""Backend `numba`: the two scans of `reference.py` as compiled loops; float32, CPU.

Every line of the inner loops over the N states of a channel is one vector operation. Forward saves
one state in every `CHUNK` and backward recomputes the others: O(L N / CHUNK) memory per channel.

A task is a sequence and a group of channels. A call does the tasks `[lo, hi)` without the GIL, and
`shard` divides the tasks between Python threads, without a second OpenMP runtime. Groups and order
of sums depend on shapes only, so the results do not depend on the number of threads.

Glossary as in `reference.py`; `g` is the gradient at the state, `d*` at `*`. C-contiguous arrays.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numba import njit, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from torch import Tensor

from ss4rec_lib.ssm.kernels import parallel, reference

CHUNK = 32  # one state in CHUNK is saved; the buffers, 4 * CHUNK * N floats, fit the first cache

_ENOUGH = 8  # sequences that occupy the cores of a laptop without being cut into groups
_WORTH_A_THREAD = 1 << 14  # states; they take about 20 microseconds, as long as waking a thread
_GROUP = 16  # channels per group: one cache line of a row of u

_LOG2E = np.float32(1.4426950408889634)
# ln 2 in two parts, the first with few digits, so that k * _LN2_HIGH is exact.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOWEST = np.float32(-87.0)  # exp(-87) = 1.6e-38, the last normal float32
_C2, _C3, _C4, _C5, _C6 = (np.float32(c) for c in (1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720))
_ONE, _HALF = np.float32(1.0), np.float32(0.5)
# Indices of inner loops are unsigned: a negative index would count from the end, and a loop that
# allows for it vectorises badly or not at all.
index = np.uint64


def compiled(fastmath):
    """Compile with `njit`, without the GIL, cached on disk where a cache folder can be written."""
    options = {"nogil": True, "fastmath": fastmath, "error_model": "numpy"}  # 1/0 as in PyTorch

    def decorate(function):
        try:
            return njit(**options, cache=True)(function)
        except RuntimeError:  # no cache folder can be written: compile in each process
            return njit(**options)(function)

    return decorate


def inlined(fastmath):
    """Compile with `njit` as a part of each function that calls it.

    Without inlining, a process that compiles and one that loads from the cache may call versions
    that round differently.
    """
    return njit(fastmath=fastmath, error_model="numpy", forceinline=True)


@njit(inline="always")
def exp_nonpositive(z):
    """Return exp(z) for z <= 0 in float32, within 5e-7 relative; at most 1.7e-38 below -87.

    A scalar `exp` would not vectorise. Here exp(z) = 2^k exp(r), with r = z - k ln 2 and
    |r| <= ln(2)/2, and a polynomial gives exp(r).
    """
    z = max(z, _LOWEST)
    k = np.floor(z * _LOG2E + _HALF)
    r = (z - k * _LN2_HIGH) - k * _LN2_LOW
    p = (((((_C6 * r + _C5) * r + _C4) * r + _C3) * r + _C2) * r + _ONE) * r + _ONE
    # 2^k: write k into the exponent bits of a float32.
    bits = np.int32(np.int32(np.int32(k) + np.int32(127)) << np.int32(23))
    return p * bits.view(np.float32)


@lru_cache(maxsize=1)
def _pool(workers: int, process: int) -> ThreadPoolExecutor:
    # Keyed by the process: a fork inherits the pool's memory but none of its threads.
    return ThreadPoolExecutor(workers, thread_name_prefix="ss4rec-scan")


def channel_groups(batch: int, channels: int) -> int:
    """Return the number of groups of channels per sequence; it depends on shapes only."""
    return 1 if batch >= _ENOUGH else -(-channels // _GROUP)


@njit(inline="always")
def part_of(task, groups, channels):
    """Return the sequence of a task, and the first channel and the end of its group."""
    width = -(-channels // groups)
    first = task % groups * width
    return task // groups, first, min(first + width, channels)


def shard(loop: Callable, tasks: int, *arguments: object, work: int | None = None) -> None:
    """Run a compiled `loop(*arguments, lo, hi)` over [0, tasks), in as many threads as PyTorch's.

    `work` is the number of states to be computed: few of them use fewer threads. None means many.
    """
    threads = max(1, min(torch.get_num_threads(), tasks))
    if work is not None:
        threads = min(threads, work // _WORTH_A_THREAD + 1)
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
    return [t.contiguous().numpy(force=True) for t in tensors]


@intrinsic
def on_stack(_, length):
    """Return a pointer to `length` float32 on the stack, for `carray`.

    LLVM knows that no other pointer leads there, so loops over them need no check for overlap.
    """

    def allocate(context, builder, signature, arguments):
        return builder.alloca(context.get_value_type(types.float32), arguments[0])

    return types.CPointer(types.float32)(length), allocate


@njit(inline="always")
def buffer(stack, rows, N):
    """Return an array (rows, N), on the stack or not; its numbers are not set."""
    if stack:
        pointer = on_stack(index(rows) * N)  # pyright: ignore[reportCallIssue]
        return carray(pointer, (rows, N))
    return np.empty((rows, N), dtype=np.float32)


def selective_loops(N: int) -> tuple[Callable, Callable]:
    """Return the loops of the selective scan, forward and backward, for N states a channel.

    Compiled for this N where that pays: LLVM unrolls a loop of known length. Of 8 states, a single
    vector, it would make no vector at all. The stacks of all systems hold buffers of 64 states.
    """
    return _loops(N if N % 16 == 0 and N <= 64 else 0, N <= 64)


@lru_cache
def _loops(fixed: int, stack: bool) -> tuple[Callable, Callable]:
    @compiled(fastmath=True)
    def forward(u, Delta, A, B, C, D, x0, y, x_last, saved, groups, lo, hi):
        """Fill y (B, L, D), x_last (B, D, N) and, if it is not empty, saved (B, D, L/CHUNK, N)."""
        length, channels = u.shape[1], u.shape[2]
        N = index(fixed) if fixed else index(A.shape[1])
        keep = saved.shape[2] > 0
        x = buffer(stack, 1, N)[0]
        for task in range(lo, hi):
            b, first, end = part_of(task, groups, channels)
            x_last[b, first:end] = x0[b, first:end]
            # All channels of a chunk before the next chunk, so that its data stay in the cache.
            for start in range(0, length, CHUNK):
                stop = min(start + CHUNK, length)
                for d in range(first, end):
                    x[:] = x_last[b, d]
                    if keep:
                        saved[b, d, start // CHUNK] = x
                    for k in range(start, stop):
                        step = Delta[b, k, d]
                        step_u = step * u[b, k, d]
                        total = np.float32(0.0)
                        for n in range(N):
                            x[n] = exp_nonpositive(step * A[d, n]) * x[n] + step_u * B[b, k, n]
                            total += C[b, k, n] * x[n]
                        y[b, k, d] = total + D[d] * u[b, k, d]
                    x_last[b, d] = x

    @compiled(fastmath=True)
    def backward(
        u, Delta, A, B, C, D, saved, dy, dx_last, du, dDelta, dA, dB, dC, dx0, groups, lo, hi
    ):
        """Fill the gradients; the caller sums dA (B, D, N) and dB and dC (B * groups, L, N).

        With g_k the gradient at state x_k:  g_k = C_k dy_k + Lambda_bar_{k+1} g_{k+1}, and then
        dB_k += g_k Delta u,  dC_k += dy x_k,  dA += g_k Delta Lambda_bar x_{k-1},
        dDelta_k = sum_n g_k (A Lambda_bar x_{k-1} + u B),  du_k = D dy + sum_n g_k Delta B.
        """
        length, channels = u.shape[1], u.shape[2]
        N = index(fixed) if fixed else index(A.shape[1])
        # Of a chunk: before[j] is the state entering step j, decay[j] its Lambda_bar.
        before, decay = buffer(stack, CHUNK + 1, N), buffer(stack, CHUNK, N)
        dB_chunk, dC_chunk = buffer(stack, CHUNK, N), buffer(stack, CHUNK, N)
        # Of a channel: its state, its dA, and the gradient at x_k from the positions after it.
        x, dA_row, flow = buffer(stack, 1, N)[0], buffer(stack, 1, N)[0], buffer(stack, 1, N)[0]
        for task in range(lo, hi):
            b, first, end = part_of(task, groups, channels)
            dx0[b, first:end] = dx_last[b, first:end]
            dA[b, first:end] = np.float32(0)
            for c in range(saved.shape[2] - 1, -1, -1):
                start = c * CHUNK
                size = min(CHUNK, length - start)
                dB_chunk[:], dC_chunk[:] = np.float32(0), np.float32(0)
                for d in range(first, end):
                    x[:], dA_row[:], flow[:] = saved[b, d, c], dA[b, d], dx0[b, d]
                    before[0] = x
                    for j in range(size):  # recompute the states
                        step = Delta[b, start + j, d]
                        step_u = step * u[b, start + j, d]
                        for n in range(N):
                            kept = exp_nonpositive(step * A[d, n])
                            decay[j, n] = kept
                            x[n] = kept * x[n] + step_u * B[b, start + j, n]
                            before[j + 1, n] = x[n]
                    for j in range(size - 1, -1, -1):
                        k = start + j
                        step, u_k, dy_k = Delta[b, k, d], u[b, k, d], dy[b, k, d]
                        step_u = step * u_k
                        sum_gB, sum_gAx = np.float32(0.0), np.float32(0.0)
                        for n in range(N):
                            dC_chunk[j, n] += dy_k * before[j + 1, n]
                            g = flow[n] + dy_k * C[b, k, n]
                            dB_chunk[j, n] += g * step_u
                            sum_gB += g * B[b, k, n]
                            g *= decay[j, n]
                            flow[n] = g  # gradient at x_{k-1}
                            g *= before[j, n]
                            dA_row[n] += step * g
                            sum_gAx += A[d, n] * g
                        dDelta[b, k, d] = sum_gAx + u_k * sum_gB
                        du[b, k, d] = D[d] * dy_k + step * sum_gB
                    dA[b, d], dx0[b, d] = dA_row, flow
                dB[task, start : start + size] = dB_chunk[:size]
                dC[task, start : start + size] = dC_chunk[:size]

    return forward, backward


@compiled(fastmath=False)
def diagonal_forward(a, b, x0, x, groups, lo, hi):
    """Fill x (B, L, P): x_k = a_k x_{k-1} + b_k."""
    for task in range(lo, hi):
        s, first, end = part_of(task, groups, a.shape[2])
        for k in range(a.shape[1]):
            before = x[s, k - 1] if k > 0 else x0[s]
            for p in range(first, end):
                x[s, k, p] = a[s, k, p] * before[p] + b[s, k, p]


def selective_states(inputs: list[np.ndarray], keep: bool) -> tuple[np.ndarray, ...]:
    """Map u, Delta, A, B, C, D and x0 to y, the last state and, if `keep`, the saved states."""
    u, N = inputs[0], inputs[2].shape[1]
    batch, length, channels = u.shape
    groups, chunks = channel_groups(batch, channels), -(-length // CHUNK) if keep else 0
    x_last = np.empty((batch, channels, N), dtype=np.float32)
    results = np.empty_like(u), x_last, np.empty((batch, channels, chunks, N), dtype=np.float32)
    loop, _ = selective_loops(N)
    shard(loop, batch * groups, *inputs, *results, groups, work=u.size * N)
    return results


def selective_gradients(inputs: list[np.ndarray]) -> tuple[Tensor, ...]:
    """Map u, Delta, A, B, C, D, saved, dy and dx_last to the gradients of u, ..., D and x0."""
    u, N, dy = inputs[0], inputs[2].shape[1], inputs[7]
    batch, length, channels = u.shape
    groups = channel_groups(batch, channels)
    per_channel, per_position = (batch, channels, N), (batch * groups, length, N)
    shapes = (u.shape, u.shape, per_channel, per_position, per_position, per_channel)
    gradients = [np.empty(shape, dtype=np.float32) for shape in shapes]
    _, loop = selective_loops(N)
    shard(loop, batch * groups, *inputs, *gradients, groups)
    du, dDelta, dA, dB, dC, dx0 = (torch.from_numpy(g) for g in gradients)
    if groups > 1:
        dB, dC = (t.view(batch, groups, length, N).sum(1) for t in (dB, dC))
    dD = (torch.from_numpy(dy) * torch.from_numpy(u)).sum((0, 1))
    return du, dDelta, dA.sum(0), dB, dC, dD, dx0


class _SelectiveScan(torch.autograd.Function):
    """Compute `reference.selective_scan`; A <= 0."""

    @staticmethod
    def forward(ctx, u, Delta, A, B, C, D, initial_state):
        inputs = as_arrays(u, Delta, A, B, C, D, initial_state)
        if (inputs[2] > 0).any():  # `exp_nonpositive` would return wrong numbers
            raise ValueError(f"A has a positive entry ({inputs[2].max():g}), expected A <= 0")
        results = selective_states(inputs, keep=any(ctx.needs_input_grad))
        y, x_last, saved = (torch.from_numpy(array) for array in results)
        ctx.save_for_backward(u, Delta, A, B, C, D, initial_state, saved)
        return y, x_last

    @staticmethod
    def backward(ctx, dy, dx_last):
        if reference.must_differentiate(dy):
            inputs = ctx.saved_tensors[:7]
            return reference.gradients_of(reference.selective_scan, inputs, dy, dx_last)
        *inputs, _, saved = ctx.saved_tensors
        return selective_gradients(as_arrays(*inputs, saved, dy, dx_last))


class _DiagonalScan(torch.autograd.Function):
    """Compute `reference.diagonal_scan`; complex64 or float32."""

    @staticmethod
    def forward(ctx, a, b, initial_state):
        arrays, groups = as_arrays(a, b, initial_state), channel_groups(a.shape[0], a.shape[2])
        x = np.empty_like(arrays[1])
        shard(diagonal_forward, a.shape[0] * groups, *arrays, x, groups)
        x = torch.from_numpy(x)
        ctx.save_for_backward(a, initial_state, x)
        return x

    @staticmethod
    def backward(ctx, dx):
        scan = parallel.diagonal_scan if reference.must_differentiate(dx) else diagonal_scan
        a, x0, x = ctx.saved_tensors
        # The same scan, run from the end: db_k = dx_k + conj(a_{k+1}) db_{k+1}
        following = torch.cat((a[:, 1:], torch.zeros_like(a[:, :1])), dim=1).conj()
        db = scan(following.flip(1), dx.flip(1), torch.zeros_like(x0)).flip(1)
        before = torch.cat((x0[:, None], x[:, :-1]), dim=1)
        return db * before.conj(), db, a[:, 0].conj() * db[:, 0]


diagonal_scan = _DiagonalScan.apply
selective_scan = _SelectiveScan.apply
