"""S5 over irregular steps in one compiled pass: discretisation and scan together.

The function is `discretization.zero_order_hold` followed by a diagonal scan. Delta, Lambda_bar and
the scale are not stored; backward recomputes them. Sine, cosine and exponential are polynomials
that vectorise: a complex `exp` would take most of the time of the layer.

Complex numbers of P states are rows of 2P floats, real parts first: results and inputs of real
matrix products. Tasks and determinism as in `numba_loops.py`. float32, CPU. Glossary:
    delta (B, L) seconds       step (P,) = exp(log_step)      Delta = delta * step, (B, L, P)
    z = Lambda Delta           Lambda_bar = exp(z)            scale = (Lambda_bar - 1) / Lambda
    x_k = Lambda_bar_k x_{k-1} + scale_k (B_tilde u)_k
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit

from ss4rec_lib.ssm.discretization import states
from ss4rec_lib.ssm.kernels import numba_loops as loops
from ss4rec_lib.ssm.kernels import reference

f32, index = np.float32, np.uint64  # unsigned indices, see `numba_loops.py`
_ONE, _ZERO = f32(1), f32(0)
_SMALL = f32(0.01)  # |z|^2 below which series replace (exp(z) - 1)/z and its derivative
# (exp(z) - 1)/z = sum z^n/(n+1)!  and its derivative = sum (n+1) z^n/(n+2)!
_PHI = tuple(f32(1 / math.factorial(n + 1)) for n in range(6))
_SLOPE = tuple(f32((n + 1) / math.factorial(n + 2)) for n in range(6))
# sin r and cos r for |r| <= pi/4, the minimax polynomials of Cephes' sinf and cosf
_S3, _S5, _S7 = f32(-1.6666654611e-1), f32(8.3321608736e-3), f32(-1.9515295891e-4)
_C4, _C6, _C8 = f32(4.166664568298827e-2), f32(-1.388731625493765e-3), f32(2.443315711809948e-5)
_TWO_OVER_PI, _HALF_PI = 2 / math.pi, math.pi / 2
_QUARTER_PI = f32(math.pi / 4)
_OVERFLOW = f32(89)  # exp(89) is infinite in float32
# Not all of fastmath: the value of a branch that is not taken may be infinite.
_MATHS = {"contract", "reassoc", "nsz"}


@njit(inline="always")
def _sin_cos(angle):
    """Return sine and cosine of a float64 angle (up to 1e10 for intervals of a year) as float32."""
    quarter = np.floor(angle * _TWO_OVER_PI + 0.5)
    r = f32(angle - quarter * _HALF_PI)
    r = min(max(r, -_QUARTER_PI), _QUARTER_PI)
    q = np.int64(quarter)
    r2 = r * r
    s = r + r * r2 * (_S3 + r2 * (_S5 + r2 * _S7))
    c = _ONE - f32(0.5) * r2 + r2 * r2 * (_C4 + r2 * (_C6 + r2 * _C8))
    swapped_s, swapped_c = (c, s) if q & 1 else (s, c)
    return (-swapped_s if q & 2 else swapped_s), (-swapped_c if (q + 1) & 2 else swapped_c)


@njit(inline="always")
def _series(zr, zi, c):
    """Return c[0] + c[1] z + ... + c[5] z^5 for complex z, by Horner's rule."""
    r, i = c[5], _ZERO
    for n in (4, 3, 2, 1, 0):
        r, i = r * zr - i * zi + c[n], r * zi + i * zr
    return r, i


@njit(inline="always")
def _hold(lr, li, inv_r, inv_i, Delta):
    """Return Lambda_bar and scale of one state and one step, real and imaginary parts."""
    zr, zi = lr * Delta, li * Delta
    # Re(Lambda) may become positive in an unconstrained layer; the polynomial is accurate there.
    size = loops.exp_nonpositive(min(zr, _OVERFLOW))
    sine, cosine = _sin_cos(np.float64(li) * np.float64(Delta))
    ar, ai = size * cosine, size * sine
    dr, di = ar - _ONE, ai
    pr, pi = _series(zr, zi, _PHI)
    small = zr * zr + zi * zi < _SMALL
    sr = Delta * pr if small else dr * inv_r - di * inv_i
    si = Delta * pi if small else dr * inv_i + di * inv_r
    return ar, ai, sr, si, zr, zi, small


# Loops over a row of states are functions of their own, with few arrays each. Only then can the
# compiler check cheaply that the arrays do not overlap. In one function they take twice the time.


@loops.inlined(_MATHS)
def _coefficients(lam, inv, step, seconds, w, first, end):
    """Fill w (4, P): Lambda_bar, then the scale, each real and imaginary."""
    P = index(step.shape[0])
    for p in range(index(first), index(end)):
        w[0, p], w[1, p], w[2, p], w[3, p], _, _, _ = _hold(
            lam[p], lam[P + p], inv[p], inv[P + p], seconds * step[p]
        )


@loops.inlined(_MATHS)
def _slopes(lam, inv, step, seconds, w, first, end):
    """Fill w (6, P): `_coefficients`, then Delta^2 slope(z), the derivative of scale by Lambda."""
    P = index(step.shape[0])
    for p in range(index(first), index(end)):
        Delta = seconds * step[p]
        inv_r, inv_i = inv[p], inv[P + p]
        ar, ai, sr, si, zr, zi, small = _hold(lam[p], lam[P + p], inv_r, inv_i, Delta)
        # Delta^2 slope(z) = (Delta Lambda_bar - scale) / Lambda away from 0
        tr, ti = _series(zr, zi, _SLOPE)
        er, ei = Delta * ar - sr, Delta * ai - si
        w[0, p], w[1, p], w[2, p], w[3, p] = ar, ai, sr, si
        w[4, p] = Delta * Delta * tr if small else er * inv_r - ei * inv_i
        w[5, p] = Delta * Delta * ti if small else er * inv_i + ei * inv_r


@loops.inlined(_MATHS)
def _advance(w, u, before, after, first, end):
    """Take one step: after = Lambda_bar before + scale u."""
    P = index(before.shape[0] // 2)
    for p in range(index(first), index(end)):
        after[p] = (w[0, p] * before[p] - w[1, p] * before[P + p]) + (
            w[2, p] * u[p] - w[3, p] * u[P + p]
        )
        after[P + p] = (w[0, p] * before[P + p] + w[1, p] * before[p]) + (
            w[2, p] * u[P + p] + w[3, p] * u[p]
        )


@loops.compiled(_MATHS)
def irregular_forward(lam, inv, step, delta, Bu, x0, x, groups, lo, hi):
    """Fill x (B, L, 2P) from Bu (B, L, 2P), delta (B, L) and x0 (B, 2P)."""
    length, P = delta.shape[1], step.shape[0]
    w = np.empty((4, P), dtype=np.float32)
    for task in range(lo, hi):
        b, first, end = loops.part_of(task, groups, P)
        before = x0[b]
        for k in range(length):
            _coefficients(lam, inv, step, delta[b, k], w, first, end)
            _advance(w, Bu[b, k], before, x[b, k], first, end)
            before = x[b, k]


@loops.inlined(_MATHS)
def _into_input(w, g, dx, dBu, first, end):
    """Add dx to the gradient at the state, and pass it to the input: dBu = g conj(scale)."""
    P = index(g.shape[1])
    for p in range(index(first), index(end)):
        gr, gi = g[0, p] + dx[p], g[1, p] + dx[P + p]
        sr, si = w[2, p], w[3, p]
        g[0, p], g[1, p] = gr, gi
        dBu[p], dBu[P + p] = gr * sr + gi * si, gi * sr - gr * si


@loops.inlined(_MATHS)
def _into_scale(w, g, u, h, first, end):
    """Fill the gradients through the scale, v = g conj(u): Lambda in h[:2], Delta in h[2]."""
    P = index(g.shape[1])
    for p in range(index(first), index(end)):
        vr, vi = g[0, p] * u[p] + g[1, p] * u[P + p], g[1, p] * u[p] - g[0, p] * u[P + p]
        tr, ti = w[4, p], w[5, p]
        h[0, p], h[1, p] = vr * tr + vi * ti, vi * tr - vr * ti
        h[2, p] = vr * w[0, p] + vi * w[1, p]


@loops.inlined(_MATHS)
def _into_decay(lam, w, g, before, h, first, end):
    """Move g to the step before, g *= conj(Lambda_bar); dz = g conj(before) into h[3:], h[2]."""
    P = index(g.shape[1])
    for p in range(index(first), index(end)):
        ar, ai = w[0, p], w[1, p]
        gr, gi = g[0, p] * ar + g[1, p] * ai, g[1, p] * ar - g[0, p] * ai
        g[0, p], g[1, p] = gr, gi
        zr, zi = gr * before[p] + gi * before[P + p], gi * before[p] - gr * before[P + p]
        h[3, p], h[4, p] = zr, zi
        h[2, p] += zr * lam[p] + zi * lam[P + p]


@loops.inlined(_MATHS)
def _sum_up(step, seconds, h, sums, first, end):
    """Add h to sums (3, P): Lambda real, imaginary, step. Return the gradient at `seconds`."""
    total = _ZERO
    for p in range(index(first), index(end)):
        Delta = seconds * step[p]
        sums[0, p] += h[0, p] + h[3, p] * Delta
        sums[1, p] += h[1, p] + h[4, p] * Delta
        sums[2, p] += h[2, p] * seconds
        total += h[2, p] * step[p]
    return total


@loops.compiled(_MATHS)
def irregular_backward(
    lam, inv, step, delta, Bu, x0, x, dx, dlam, dstep, ddelta, dBu, dx0, groups, lo, hi
):
    """Fill the gradients; the caller sums dlam (B, 2P), dstep (B, P) and ddelta (B * groups, L).

    The complex gradient at x_k is g_k = dx_k + conj(Lambda_bar_{k+1}) g_{k+1};  dBu_k = g_k
    conj(scale_k);  through Lambda_bar = exp(z): dz = g_k conj(x_{k-1} Lambda_bar);  through the
    scale, v = g_k conj(Bu_k): dDelta += Re(v conj(Lambda_bar)), dLambda += v conj(Delta^2 slope(z))
    """
    length, P = delta.shape[1], step.shape[0]
    w, h = np.empty((6, P), dtype=np.float32), np.empty((5, P), dtype=np.float32)
    g, sums = np.empty((2, P), dtype=np.float32), np.empty((3, P), dtype=np.float32)
    for task in range(lo, hi):
        b, first, end = loops.part_of(task, groups, P)
        g[:], sums[:] = _ZERO, _ZERO
        for k in range(length - 1, -1, -1):
            before = x[b, k - 1] if k > 0 else x0[b]
            _slopes(lam, inv, step, delta[b, k], w, first, end)
            _into_input(w, g, dx[b, k], dBu[b, k], first, end)
            _into_scale(w, g, Bu[b, k], h, first, end)
            _into_decay(lam, w, g, before, h, first, end)
            ddelta[task, k] = _sum_up(step, delta[b, k], h, sums, first, end)
        for p in range(first, end):
            dlam[b, p], dlam[b, P + p], dstep[b, p] = sums[0, p], sums[1, p], sums[2, p]
            dx0[b, p], dx0[b, P + p] = g[0, p], g[1, p]


class _IrregularScan(torch.autograd.Function):
    """Map Lambda (2P,), step (P,), delta (B, L), B_tilde u and the state before to the states."""

    @staticmethod
    def forward(ctx, lam, step, delta, Bu, x0):
        re, im = lam.chunk(2)
        size = re * re + im * im  # by PyTorch: NumPy would warn when diverged weights overflow
        inv = torch.cat((re / size, -im / size))  # 1 / Lambda
        x, P = torch.empty_like(Bu, memory_format=torch.contiguous_format), step.shape[0]
        arrays = loops.as_arrays(lam, inv, step, delta, Bu, x0)
        groups, work = loops.channel_groups(len(delta), P), delta.numel() * P
        loops.shard(irregular_forward, len(delta) * groups, *arrays, x.numpy(), groups, work=work)
        ctx.save_for_backward(lam, step, delta, Bu, x0, inv, x)
        return x

    @staticmethod
    def backward(ctx, dx):
        if reference.must_differentiate(dx):
            return reference.gradients_of(states, ctx.saved_tensors[:5], dx)
        lam, step, delta, Bu, x0, inv, x = ctx.saved_tensors
        arrays = loops.as_arrays(lam, inv, step, delta, Bu, x0, x, dx)
        (batch, length), P = arrays[3].shape, arrays[2].shape[0]
        groups = loops.channel_groups(batch, P)
        shapes = [(batch, 2 * P), (batch, P), (batch * groups, length), arrays[4].shape]
        gradients = [np.empty(shape, dtype=np.float32) for shape in (*shapes, (batch, 2 * P))]
        loops.shard(irregular_backward, batch * groups, *arrays, *gradients, groups)
        dlam, dstep, ddelta, dBu, dx0 = (torch.from_numpy(g) for g in gradients)
        ddelta = ddelta.view(batch, groups, length).sum(1)
        return dlam.sum(0), dstep.sum(0), ddelta, dBu, dx0


irregular_scan = _IrregularScan.apply
