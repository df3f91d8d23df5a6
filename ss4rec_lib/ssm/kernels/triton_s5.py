"""Backend `triton`, S5: discretisation and scan in one kernel each way; and the diagonal scan.

The function is that of `numba_s5.py`, whose equations are kept. Here a *program* takes one sequence
and a tile of states, one state per lane of a warp, and walks through time with the state in
registers. Programs share nothing: sums over programs are taken by PyTorch, in a fixed order, so the
results do not depend on how the programs are scheduled.

Every operation is registered with PyTorch (`torch.library.custom_op`). `torch.compile` then needs
no graph break, and a tensor without values (device `meta`) gets results without a kernel.

Complex numbers are pairs (real, imaginary); P states are rows of 2P floats, real parts first.
float32, but for the angle. CUDA, or a CPU under TRITON_INTERPRET=1. Glossary:
    delta (B, L) seconds       step (P,) = exp(log_step)      Delta = delta * step, (B, L, P)
    z = Lambda Delta           Lambda_bar = exp(z)            scale = (Lambda_bar - 1) / Lambda
    x_k = Lambda_bar_k x_{k-1} + scale_k (B_tilde u)_k
    lam (2P,) Lambda           inv (2P,) 1 / Lambda           cycles (P,) Im(Lambda) / 2 pi, float64
    g gradient at the state    d* gradient at *               TILE states per program
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ss4rec_lib.ssm.discretization import states
from ss4rec_lib.ssm.kernels import reference

_WARP = 32  # lanes; one warp per program, so that no step waits for another warp


@triton.jit
def _times(ar, ai, br, bi):
    """Return a b."""
    return ar * br - ai * bi, ar * bi + ai * br


@triton.jit
def _times_conj(ar, ai, br, bi):
    """Return a conj(b)."""
    return ar * br + ai * bi, ai * br - ar * bi


@triton.jit
def _load(row, p, P, here):
    """Load the states p of a row of 2P floats: real and imaginary parts, 0 where not `here`."""
    return tl.load(row + p, here, 0.0), tl.load(row + P + p, here, 0.0)


@triton.jit
def _store(row, p, P, here, real, imaginary):
    tl.store(row + p, real, here)
    tl.store(row + P + p, imaginary, here)


@triton.jit
def _series(zr, zi, order: tl.constexpr):
    """Return derivative 0 or 1 of (exp(z) - 1)/z = sum z^n/(n+1)! near 0, six terms by Horner."""
    r, i = zr * 0 + 1, zi * 0
    for left in tl.static_range(5):
        # The quotient of term n + 1 to term n is z/(n + 2), or z (n + 2)/((n + 1)(n + 3)).
        n = 4 - left
        ratio = 1 / (n + 2) if order == 0 else (n + 2) / ((n + 1) * (n + 3))
        r, i = _times(r, i, zr, zi)
        r, i = 1 + ratio * r, ratio * i
    return (r, i) if order == 0 else (r / 2, i / 2)


@triton.jit
def _hold(lr, li, inv_r, inv_i, cycles, step, seconds):
    """Return Delta, Lambda_bar, scale, and Delta^2 slope(z): the derivative of scale by Lambda."""
    # For an interval of a year the angle is up to 1e10, and float32 would lose it. Whole turns are
    # dropped in float64. For the rest, at most half a turn, the sine needs no slow path.
    exact = seconds.to(tl.float64) * step.to(tl.float64)
    turns = cycles * exact
    angle = 6.283185307179586 * (turns - tl.floor(turns + 0.5)).to(tl.float32)
    Delta = exact.to(tl.float32)
    zr, zi = lr * Delta, li * Delta
    size = tl.exp(zr)
    ar, ai = size * tl.cos(angle), size * tl.sin(angle)
    # Near z = 0 the closed forms subtract nearly equal numbers, and series take their place.
    small = zr * zr + zi * zi < 0.01
    near_r, near_i = tl.where(small, zr, 0.0), tl.where(small, zi, 0.0)
    pr, pi = _series(near_r, near_i, 0)
    sr, si = _times(ar - 1, ai, inv_r, inv_i)
    sr, si = tl.where(small, Delta * pr, sr), tl.where(small, Delta * pi, si)
    pr, pi = _series(near_r, near_i, 1)
    tr, ti = _times(Delta * ar - sr, Delta * ai - si, inv_r, inv_i)
    tr = tl.where(small, Delta * Delta * pr, tr)
    ti = tl.where(small, Delta * Delta * pi, ti)
    return Delta, ar, ai, sr, si, tr, ti


@triton.jit
def irregular_forward(
    lam, inv, cycles, step, delta, Bu, x0, x, length, P, TILE: tl.constexpr
):  # fmt: skip
    """Fill x (B, L, 2P) from Bu (B, L, 2P), delta (B, L) and x0 (B, 2P)."""
    b = tl.program_id(0).to(tl.int64)  # offsets in a long batch exceed 32 bits
    p = tl.program_id(1) * TILE + tl.arange(0, TILE)
    here = p < P
    lr, li = _load(lam, p, P, here)
    inv_r, inv_i = _load(inv, p, P, here)
    cycles, step = tl.load(cycles + p, here, 0.0), tl.load(step + p, here, 0.0)
    xr, xi = _load(x0 + b * 2 * P, p, P, here)
    for k in range(length):
        at = b * length + k
        # What is not used, here the slope, is not computed: the compiler drops it.
        _, ar, ai, sr, si, _, _ = _hold(lr, li, inv_r, inv_i, cycles, step, tl.load(delta + at))
        ur, ui = _load(Bu + at * 2 * P, p, P, here)
        ur, ui = _times(sr, si, ur, ui)
        xr, xi = _times(ar, ai, xr, xi)
        xr, xi = xr + ur, xi + ui
        _store(x + at * 2 * P, p, P, here, xr, xi)


@triton.jit
def irregular_backward(
    lam, inv, cycles, step, delta, Bu, x0, x, dx, dlam, dstep, ddelta, dBu, dx0,
    length, P, TILE: tl.constexpr,
):  # fmt: skip
    """Fill the gradients; the caller sums dlam (B, 2P), dstep (B, P) and ddelta (tiles, B, L).

    The complex gradient at x_k is g_k = dx_k + conj(Lambda_bar_{k+1}) g_{k+1};  dBu_k = g_k
    conj(scale_k);  through Lambda_bar = exp(z): dz = g_k conj(x_{k-1} Lambda_bar);  through the
    scale, v = g_k conj(Bu_k): dDelta += Re(v conj(Lambda_bar)), dLambda += v conj(Delta^2 slope(z))
    """
    b, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    p = tile * TILE + tl.arange(0, TILE)
    here = p < P
    lr, li = _load(lam, p, P, here)
    inv_r, inv_i = _load(inv, p, P, here)
    cycles, step_p = tl.load(cycles + p, here, 0.0), tl.load(step + p, here, 0.0)
    first_r, first_i = _load(x0 + b * 2 * P, p, P, here)
    gr, gi = lr * 0, lr * 0
    sum_r, sum_i, sum_step = lr * 0, lr * 0, lr * 0
    for done in range(length):
        k = length - 1 - done
        at = b * length + k
        seconds = tl.load(delta + at)
        Delta, ar, ai, sr, si, tr, ti = _hold(lr, li, inv_r, inv_i, cycles, step_p, seconds)
        dxr, dxi = _load(dx + at * 2 * P, p, P, here)
        gr, gi = gr + dxr, gi + dxi
        dur, dui = _times_conj(gr, gi, sr, si)
        _store(dBu + at * 2 * P, p, P, here, dur, dui)
        # Through the scale.
        ur, ui = _load(Bu + at * 2 * P, p, P, here)
        vr, vi = _times_conj(gr, gi, ur, ui)
        dDelta = vr * ar + vi * ai
        vr, vi = _times_conj(vr, vi, tr, ti)
        sum_r, sum_i = sum_r + vr, sum_i + vi
        # Through Lambda_bar; g becomes the gradient at the state before.
        row_before = b * length + max(k - 1, 0)  # there is none before the first
        before_r, before_i = _load(x + row_before * 2 * P, p, P, here)
        before_r = tl.where(k > 0, before_r, first_r)
        before_i = tl.where(k > 0, before_i, first_i)
        gr, gi = _times_conj(gr, gi, ar, ai)
        zr, zi = _times_conj(gr, gi, before_r, before_i)
        sum_r, sum_i = sum_r + zr * Delta, sum_i + zi * Delta
        dDelta += zr * lr + zi * li
        sum_step += dDelta * seconds
        tl.store(ddelta + tile * tl.num_programs(0) * length + at, tl.sum(dDelta * step_p))
    _store(dlam + b * 2 * P, p, P, here, sum_r, sum_i)
    tl.store(dstep + b * P + p, sum_step, here)
    _store(dx0 + b * 2 * P, p, P, here, gr, gi)


@triton.jit
def diagonal_forward(a, b, x0, x, length, P, TILE: tl.constexpr):
    """Fill x (B, L, P): x_k = a_k x_{k-1} + b_k, all complex, imaginary beside real part."""
    s = tl.program_id(0).to(tl.int64)
    p = 2 * (tl.program_id(1) * TILE + tl.arange(0, TILE))
    here = p < 2 * P
    xr, xi = _load(x0 + s * 2 * P, p, 1, here)
    for k in range(length):
        at = (s * length + k) * 2 * P
        ar, ai = _load(a + at, p, 1, here)
        br, bi = _load(b + at, p, 1, here)
        xr, xi = _times(ar, ai, xr, xi)
        xr, xi = xr + br, xi + bi
        _store(x + at, p, 1, here, xr, xi)


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run a kernel on the GPU of its first argument, one warp per program."""
    # Fused multiply-adds are named because the default changes between versions of Triton.
    with torch.cuda.device_of(arguments[0]):  # no GPU: nothing to change
        kernel[grid](*arguments, **constants, num_warps=1, enable_fp_fusion=True)


def _tiles(P: int) -> tuple[int, int]:
    """Return the number of tiles of P states and the states of one, a power of two."""
    TILE = min(_WARP, triton.next_power_of_2(P))
    return triton.cdiv(P, TILE), TILE


def _constants(lam: Tensor) -> tuple[Tensor, Tensor]:
    """Return 1 / Lambda, and the turns of its imaginary part per unit of Delta."""
    re, im = lam.chunk(2)
    size = re * re + im * im
    return torch.cat((re / size, -im / size)), im.double() / (2 * math.pi)


@torch.library.custom_op("ss4rec::irregular_forward", mutates_args=())
def _irregular(lam: Tensor, step: Tensor, delta: Tensor, Bu: Tensor, x0: Tensor) -> Tensor:
    lam, step, delta, Bu, x0 = (t.contiguous() for t in (lam, step, delta, Bu, x0))
    x, (B, L), P = torch.empty_like(Bu), delta.shape, len(step)
    tiles, TILE = _tiles(P)
    arguments = lam, *_constants(lam), step, delta, Bu, x0, x
    launch(irregular_forward, (B, tiles), *arguments, L, P, TILE=TILE)
    return x


@_irregular.register_fake
def _(lam: Tensor, step: Tensor, delta: Tensor, Bu: Tensor, x0: Tensor) -> Tensor:
    return Bu.new_empty(Bu.shape)


@torch.library.custom_op("ss4rec::irregular_backward", mutates_args=())
def _irregular_gradients(
    lam: Tensor, step: Tensor, delta: Tensor, Bu: Tensor, x0: Tensor, x: Tensor, dx: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    lam, step, delta, Bu, x0, dx = (t.contiguous() for t in (lam, step, delta, Bu, x0, dx))
    (B, L), P = delta.shape, len(step)
    tiles, TILE = _tiles(P)
    shapes = (B, 2 * P), (B, P), (tiles, B, L), Bu.shape, x0.shape
    gradients = [x.new_empty(shape) for shape in shapes]
    arguments = lam, *_constants(lam), step, delta, Bu, x0, x, dx, *gradients
    launch(irregular_backward, (B, tiles), *arguments, L, P, TILE=TILE)
    dlam, dstep, ddelta, dBu, dx0 = gradients
    return dlam.sum(0), dstep.sum(0), ddelta.sum(0), dBu, dx0


@_irregular_gradients.register_fake
def _(lam, step, delta, Bu, x0, x, dx):
    return tuple(t.new_empty(t.shape) for t in (lam, step, delta, Bu, x0))


def _save(ctx: Any, inputs: tuple, output: Any) -> None:
    ctx.save_for_backward(*inputs, output)


def _irregular_backward(ctx: Any, dx: Tensor) -> tuple[Tensor, ...]:
    *inputs, x = ctx.saved_tensors
    if reference.must_differentiate(dx):
        return reference.gradients_of(states, inputs, dx)
    return _irregular_gradients(*inputs, x, dx)


_irregular.register_autograd(_irregular_backward, setup_context=_save)


def irregular_scan(lam: Tensor, step: Tensor, delta: Tensor, Bu: Tensor, x0: Tensor) -> Tensor:
    """Map Lambda (2P,), step (P,), delta (B, L), B_tilde u and the state before to the states."""
    return _irregular(*(t.float() for t in (lam, step, delta, Bu, x0)))


@torch.library.custom_op("ss4rec::diagonal_scan", mutates_args=())
def _diagonal(a: Tensor, b: Tensor, x0: Tensor) -> Tensor:
    a, b, x0 = (torch.view_as_real(t.contiguous()) for t in (a, b, x0))
    x, (B, L, P, _) = torch.empty_like(b), b.shape
    tiles, TILE = _tiles(P)
    launch(diagonal_forward, (B, tiles), a, b, x0, x, L, P, TILE=TILE)
    return torch.view_as_complex(x)


@_diagonal.register_fake
def _(a: Tensor, b: Tensor, x0: Tensor) -> Tensor:
    return b.new_empty(b.shape)


def _diagonal_backward(ctx: Any, dx: Tensor) -> tuple[Tensor, ...]:
    a, _, x0, x = ctx.saved_tensors
    # The same scan, run from the end: db_k = dx_k + conj(a_{k+1}) db_{k+1}
    following = torch.cat((a[:, 1:], torch.zeros_like(a[:, :1])), dim=1).conj()
    db = _diagonal(following.flip(1), dx.flip(1), torch.zeros_like(x0)).flip(1)
    before = torch.cat((x0[:, None], x[:, :-1]), dim=1)
    return db * before.conj(), db, a[:, 0].conj() * db[:, 0]


_diagonal.register_autograd(_diagonal_backward, setup_context=_save)


def diagonal_scan(a: Tensor, b: Tensor, initial_state: Tensor) -> Tensor:
    """Compute `reference.diagonal_scan` in complex64; real inputs give a real result."""
    x = _diagonal(*(t.to(torch.complex64) for t in (a, b, initial_state)))
    return x if a.is_complex() else x.real.to(a.dtype)
