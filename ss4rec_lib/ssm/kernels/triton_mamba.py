"""Backend `triton`, Mamba: the selective scan of `reference.py`, one fused kernel each way.

A program takes one sequence and a tile of channels, and walks through time with the states of the
tile, (TILE, N), in registers. The (B, L, D, N) tensor of all states is never stored. Forward saves
one state in every CHUNK. Backward goes through the chunks from the last to the first: it computes
the states of a chunk once more from the saved one, into `scratch`, then walks back through them.
A walk in order of time is simple, and other people's trials found it faster at the lengths of
histories than a scan in parallel, which does several times the work.

Sums over the channels of a tile are made in the kernel, those over tiles and sequences by PyTorch,
in a fixed order: atomic additions would give other last digits in every run. Kernels are launched
and registered as in `triton_s5.py`. float32. CUDA, or a CPU under TRITON_INTERPRET=1. Glossary as
in `reference.py`; `g` is the gradient at the state, `d*` at `*`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ss4rec_lib.ssm.kernels import reference
from ss4rec_lib.ssm.kernels.triton_s5 import launch

CHUNK = 16  # one state in CHUNK is saved; L/CHUNK + CHUNK states per channel, least near sqrt(L)
PROGRAM = 512  # states of a program, 16 per lane of its warp


@triton.jit
def _places(channels, N, TILE: tl.constexpr, STATES: tl.constexpr):
    """Return the channels and states of this program, and the offsets of its (TILE, N) in (D, N).

    A kernel computes with powers of two: `in_d`, `in_n` and `inside` say what is not padding.
    """
    d = tl.program_id(1) * TILE + tl.arange(0, TILE)
    n = tl.arange(0, STATES)
    in_d, in_n = d < channels, n < N
    return d, n, in_d, in_n, d[:, None] * N + n[None, :], in_d[:, None] & in_n[None, :]


@triton.jit
def _advance(x, A, step, step_u, B):
    """Return Lambda_bar and the next state, (TILE, N) each."""
    Lambda_bar = tl.exp(step[:, None] * A)
    return Lambda_bar, Lambda_bar * x + step_u[:, None] * B[None, :]


@triton.jit
def selective_forward(
    u, Delta, A, B, C, D, x0, y, last, saved, length, channels, N,
    CHUNK: tl.constexpr, KEEP: tl.constexpr, TILE: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """Fill y (B, L, D), last (B, D, N) and, if KEEP, saved (B, L/CHUNK, D, N)."""
    b = tl.program_id(0).to(tl.int64)  # offsets in a long batch exceed 32 bits
    d, n, in_d, in_n, dn, inside = _places(channels, N, TILE, STATES)
    A, D = tl.load(A + dn, inside, 0.0), tl.load(D + d, in_d, 0.0)
    x = tl.load(x0 + b * channels * N + dn, inside, 0.0)
    chunks = tl.cdiv(length, CHUNK)
    for k in range(length):
        if KEEP and k % CHUNK == 0:
            tl.store(saved + (b * chunks + k // CHUNK) * channels * N + dn, x, inside)
        at = b * length + k
        step = tl.load(Delta + at * channels + d, in_d, 0.0)
        u_k = tl.load(u + at * channels + d, in_d, 0.0)
        B_k, C_k = tl.load(B + at * N + n, in_n, 0.0), tl.load(C + at * N + n, in_n, 0.0)
        _, x = _advance(x, A, step, step * u_k, B_k)
        y_k = tl.sum(C_k[None, :] * x, 1) + D * u_k
        tl.store(y + at * channels + d, y_k, in_d)
    tl.store(last + b * channels * N + dn, x, inside)


@triton.jit
def selective_backward(
    u, Delta, A, B, C, D, saved, dy, dlast, scratch, du, dDelta, dA, dB, dC, dx0,
    length, channels, N, CHUNK: tl.constexpr, TILE: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """Fill the gradients; the caller sums dA (B, D, N) and dB and dC (tiles, B, L, N).

    With g_k the gradient at state x_k:  g_k = C_k dy_k + Lambda_bar_{k+1} g_{k+1}, and then
    dB_k += g_k Delta u,  dC_k += dy x_k,  dA += g_k Delta Lambda_bar x_{k-1},
    dDelta_k = sum_n g_k (A Lambda_bar x_{k-1} + u B),  du_k = D dy + sum_n g_k Delta B.
    """
    b, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    d, n, in_d, in_n, dn, inside = _places(channels, N, TILE, STATES)
    A, D = tl.load(A + dn, inside, 0.0), tl.load(D + d, in_d, 0.0)
    flow = tl.load(dlast + b * channels * N + dn, inside, 0.0)  # gradient at x_k from later ones
    sum_A = flow * 0
    chunks = tl.cdiv(length, CHUNK)
    for later in range(chunks):
        chunk = chunks - 1 - later
        start = chunk * CHUNK
        stop = min(start + CHUNK, length)
        x = tl.load(saved + (b * chunks + chunk) * channels * N + dn, inside, 0.0)
        for k in range(start, stop):  # scratch (B, CHUNK, D, N): the state before each position
            tl.store(scratch + (b * CHUNK + k - start) * channels * N + dn, x, inside)
            at = b * length + k
            step = tl.load(Delta + at * channels + d, in_d, 0.0)
            u_k = tl.load(u + at * channels + d, in_d, 0.0)
            _, x = _advance(x, A, step, step * u_k, tl.load(B + at * N + n, in_n, 0.0))
        tl.debug_barrier()  # one lane may read what another has written
        for done in range(stop - start):
            k = stop - 1 - done
            at = b * length + k
            step = tl.load(Delta + at * channels + d, in_d, 0.0)
            u_k = tl.load(u + at * channels + d, in_d, 0.0)
            dy_k = tl.load(dy + at * channels + d, in_d, 0.0)
            B_k, C_k = tl.load(B + at * N + n, in_n, 0.0), tl.load(C + at * N + n, in_n, 0.0)
            before = tl.load(scratch + (b * CHUNK + k - start) * channels * N + dn, inside, 0.0)
            Lambda_bar, x = _advance(before, A, step, step * u_k, B_k)
            g = flow + dy_k[:, None] * C_k[None, :]
            flow = g * Lambda_bar
            through = flow * before  # gradient at Delta A
            sum_A += step[:, None] * through
            sum_gB = tl.sum(g * B_k[None, :], 1)
            tl.store(dDelta + at * channels + d, tl.sum(through * A, 1) + u_k * sum_gB, in_d)
            tl.store(du + at * channels + d, D * dy_k + step * sum_gB, in_d)
            row = (tile * tl.num_programs(0) * length + at) * N + n
            tl.store(dB + row, tl.sum(g * (step * u_k)[:, None], 0), in_n)
            tl.store(dC + row, tl.sum(x * dy_k[:, None], 0), in_n)
        tl.debug_barrier()  # the next chunk writes to the same scratch
    tl.store(dA + b * channels * N + dn, sum_A, inside)
    tl.store(dx0 + b * channels * N + dn, flow, inside)


def _tiles(A: Tensor) -> tuple[int, dict[str, int]]:
    """Return the number of tiles of channels, and the sizes of one, powers of two."""
    channels, N = A.shape
    STATES = triton.next_power_of_2(N)
    TILE = min(triton.next_power_of_2(channels), max(1, PROGRAM // STATES))
    return triton.cdiv(channels, TILE), {"CHUNK": CHUNK, "TILE": TILE, "STATES": STATES}


def _results(u: Tensor, A: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return room for y, the last state and the saved ones."""
    (B, L, D), N = u.shape, A.shape[1]
    chunks = (L + CHUNK - 1) // CHUNK if keep else 0
    return u.new_empty(B, L, D), u.new_empty(B, D, N), u.new_empty(B, chunks, D, N)


@torch.library.custom_op("ss4rec::selective_forward", mutates_args=())
def _selective(
    u: Tensor, Delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, x0: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = [t.contiguous() for t in (u, Delta, A, B, C, D, x0)]
    results, (batch, length, channels), N = _results(u, A, keep), u.shape, A.shape[1]
    tiles, constants = _tiles(A)
    arguments = *inputs, *results, length, channels, N
    launch(selective_forward, (batch, tiles), *arguments, KEEP=keep, **constants)
    return results


@_selective.register_fake
def _(u, Delta, A, B, C, D, x0, keep):
    return _results(u, A, keep)


@torch.library.custom_op("ss4rec::selective_backward", mutates_args=())
def _selective_gradients(
    u: Tensor, Delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, saved: Tensor,
    dy: Tensor, dlast: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    inputs = [t.contiguous() for t in (u, Delta, A, B, C, D, saved, dy, dlast)]
    (batch, length, channels), N = u.shape, A.shape[1]
    tiles, constants = _tiles(A)
    per_channel, per_position = (batch, channels, N), (tiles, batch, length, N)
    shapes = (u.shape, u.shape, per_channel, per_position, per_position, per_channel)
    scratch, *gradients = (u.new_empty(s) for s in ((batch, CHUNK, channels, N), *shapes))
    arguments = *inputs, scratch, *gradients, length, channels, N
    launch(selective_backward, (batch, tiles), *arguments, **constants)
    du, dDelta, dA, dB, dC, dx0 = gradients
    return du, dDelta, dA.sum(0), dB.sum(0), dC.sum(0), (dy * u).sum((0, 1)), dx0


@_selective_gradients.register_fake
def _(u, Delta, A, B, C, D, saved, dy, dlast):
    return tuple(t.new_empty(t.shape) for t in (u, Delta, A, B, C, D, dlast))


def _save(ctx: Any, inputs: tuple, output: tuple) -> None:
    _, last, saved = output
    ctx.save_for_backward(*inputs[:7], last, saved)
    ctx.set_materialize_grads(False)  # else PyTorch would fill zeros for `saved`


def _selective_backward(ctx: Any, dy: Tensor | None, dlast: Tensor | None, _: None) -> tuple:
    *inputs, last, saved = ctx.saved_tensors
    dy = torch.zeros_like(inputs[0]) if dy is None else dy
    dlast = torch.zeros_like(last) if dlast is None else dlast
    if reference.must_differentiate(dy):
        return *reference.gradients_of(reference.selective_scan, inputs, dy, dlast), None
    return *_selective_gradients(*inputs[:6], saved, dy, dlast), None


_selective.register_autograd(_selective_backward, setup_context=_save)


def selective_scan(
    u: Tensor, Delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial_state: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute `reference.selective_scan` in float32; results have the dtype of `u`."""
    inputs = [t.float() for t in (u, Delta, A, B, C, D, initial_state)]
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    y, last, _ = _selective(*inputs, keep)
    return y.to(u.dtype), last.to(u.dtype)
