"""S5 over irregular steps in one compiled pass: discretisation and scan together.

`discretization.zero_order_hold` followed by a diagonal scan says what is computed; here the steps
Delta, Lambda_bar and the scale of B_tilde never exist as tensors of their own in forward, complex
numbers are pairs of real ones, and sine, cosine and exponential are polynomials that vectorise (a
complex `exp` takes most of the time of the layer otherwise). Backward recomputes them.

Layout: complex quantities of P states are rows of 2P floats, real parts first. So `B_tilde u` comes
straight from one real matrix product, and the states go straight into the next one.

Tasks, threads and determinism as in `numba_loops.py`. float32, CPU, Re(Lambda) <= 0. Glossary:
    delta (B, L) seconds       step (P,) = exp(log_step)      Delta = delta * step, (B, L, P)
    z = Lambda Delta           Lambda_bar = exp(z)            scale = (Lambda_bar - 1) / Lambda
    x_k = Lambda_bar_k x_{k-1} + scale_k (B_tilde u)_k
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

from ss4rec_lib.ssm.kernels.numba_cpu import as_arrays, channel_groups, share
from ss4rec_lib.ssm.kernels.numba_loops import compiled, exp_nonpositive

f32 = np.float32
_ONE, _ZERO = f32(1), f32(0)
_SMALL = f32(0.01)  # |z|^2 below which series replace (exp(z) - 1)/z and its derivative
# (exp(z) - 1)/z = sum z^n/(n+1)!  and its derivative = sum (n+1) z^n/(n+2)!
_PHI = tuple(f32(1 / math.factorial(n + 1)) for n in range(6))
_SLOPE = tuple(f32((n + 1) / math.factorial(n + 2)) for n in range(6))
_PHI0, _PHI1, _PHI2, _PHI3, _PHI4, _PHI5 = _PHI
_SLOPE0, _SLOPE1, _SLOPE2, _SLOPE3, _SLOPE4, _SLOPE5 = _SLOPE
# sin r and cos r for |r| <= pi/4, the minimax polynomials of Cephes' sinf and cosf
_S3, _S5, _S7 = f32(-1.6666654611e-1), f32(8.3321608736e-3), f32(-1.9515295891e-4)
_C4, _C6, _C8 = f32(4.166664568298827e-2), f32(-1.388731625493765e-3), f32(2.443315711809948e-5)
_TWO_OVER_PI, _HALF_PI = 2 / math.pi, math.pi / 2
_QUARTER_PI = f32(math.pi / 4)
# Not the whole of fastmath: a branch that is not taken may hold an infinity.
_MATHS = {"contract", "reassoc", "nsz"}


@njit(inline="always")
def _sin_cos(angle):
    """Sine and cosine of a float64 angle, as float32.

    The angle is reduced in float64: Im(Lambda) Delta reaches 1e10 after a year's break.
    """
    quarter = np.floor(angle * _TWO_OVER_PI + 0.5)
    r = f32(angle - quarter * _HALF_PI)
    r = min(max(r, -_QUARTER_PI), _QUARTER_PI)
    q = np.int64(quarter)
    r2 = r * r
    s = r + r * r2 * (_S3 + r2 * (_S5 + r2 * _S7))
    c = _ONE - f32(0.5) * r2 + r2 * r2 * (_C4 + r2 * (_C6 + r2 * _C8))
    swapped_s, swapped_c = (c, s) if q & 1 else (s, c)
    sine = -swapped_s if q & 2 else swapped_s
    cosine = -swapped_c if (q + 1) & 2 else swapped_c
    return sine, cosine


@njit(inline="always")
def _series(zr, zi, c0, c1, c2, c3, c4, c5):
    """c0 + c1 z + ... + c5 z^5 for complex z, by Horner's rule."""
    r, i = c5, _ZERO
    r, i = r * zr - i * zi + c4, r * zi + i * zr
    r, i = r * zr - i * zi + c3, r * zi + i * zr
    r, i = r * zr - i * zi + c2, r * zi + i * zr
    r, i = r * zr - i * zi + c1, r * zi + i * zr
    return r * zr - i * zi + c0, r * zi + i * zr


@njit(inline="always")
def _hold(lr, li, inv_r, inv_i, Delta):
    """Lambda_bar and scale of one state and one step, real and imaginary parts."""
    zr, zi = lr * Delta, li * Delta
    size = exp_nonpositive(zr)
    sine, cosine = _sin_cos(np.float64(li) * np.float64(Delta))
    ar, ai = size * cosine, size * sine
    dr, di = ar - _ONE, ai
    pr, pi = _series(zr, zi, _PHI0, _PHI1, _PHI2, _PHI3, _PHI4, _PHI5)
    small = zr * zr + zi * zi < _SMALL
    sr = Delta * pr if small else dr * inv_r - di * inv_i
    si = Delta * pi if small else dr * inv_i + di * inv_r
    return ar, ai, sr, si, zr, zi, small


@compiled(_MATHS)
def irregular_forward(lam, inv, step, delta, Bu, x0, x, groups, lo, hi):
    """Fill x (B, L, 2P) from Bu (B, L, 2P), delta (B, L) and x0 (B, 2P)."""
    length, P = delta.shape[1], step.shape[0]
    width = -(-P // groups)
    for task in range(lo, hi):
        b, first = task // groups, task % groups * width
        end = min(first + width, P)
        state_r, state_i = x0[b, :P].copy(), x0[b, P:].copy()
        for k in range(length):
            for p in range(first, end):
                ar, ai, sr, si, _, _, _ = _hold(
                    lam[p], lam[P + p], inv[p], inv[P + p], delta[b, k] * step[p]
                )
                ur, ui = Bu[b, k, p], Bu[b, k, P + p]
                xr, xi = state_r[p], state_i[p]
                new_r = ar * xr - ai * xi + sr * ur - si * ui
                new_i = ar * xi + ai * xr + sr * ui + si * ur
                state_r[p], state_i[p] = new_r, new_i
                x[b, k, p], x[b, k, P + p] = new_r, new_i


@compiled(_MATHS)
def irregular_backward(
    lam, inv, step, delta, Bu, x0, x, dx, dlam, dstep, ddelta, dBu, dx0, groups, lo, hi
):
    """Gradients; dlam (B, 2P) and dstep (B, P) are per sequence, ddelta (B * groups, L) per task.

    With g_k the gradient at x_k (of real and imaginary part, as one complex number):
    g_k = dx_k + conj(Lambda_bar_{k+1}) g_{k+1};  dBu_k = g_k conj(scale_k);  through
    Lambda_bar = exp(z): dz = g_k conj(x_{k-1} Lambda_bar);  through the scale, with
    h = g_k conj(Bu_k): dDelta += Re(h conj(Lambda_bar)),  dLambda += h conj(Delta^2 slope(z)).
    """
    length, P = delta.shape[1], step.shape[0]
    width = -(-P // groups)
    g_r, g_i = np.empty(P, dtype=np.float32), np.empty(P, dtype=np.float32)
    for task in range(lo, hi):
        b, first = task // groups, task % groups * width
        end = min(first + width, P)
        for p in range(first, end):
            g_r[p], g_i[p] = _ZERO, _ZERO
            dlam[b, p], dlam[b, P + p], dstep[b, p] = _ZERO, _ZERO, _ZERO
        for k in range(length - 1, -1, -1):
            seconds, total = delta[b, k], _ZERO
            before = x[b, k - 1] if k > 0 else x0[b]
            for p in range(first, end):
                Delta = seconds * step[p]
                lr, li, inv_r, inv_i = lam[p], lam[P + p], inv[p], inv[P + p]
                ar, ai, sr, si, zr, zi, small = _hold(lr, li, inv_r, inv_i, Delta)
                gr, gi = g_r[p] + dx[b, k, p], g_i[p] + dx[b, k, P + p]
                ur, ui = Bu[b, k, p], Bu[b, k, P + p]
                dBu[b, k, p] = gr * sr + gi * si
                dBu[b, k, P + p] = gi * sr - gr * si
                hr, hi_ = gr * ur + gi * ui, gi * ur - gr * ui
                # Delta^2 slope(z) = (Delta Lambda_bar - scale) / Lambda away from 0
                tr, ti = _series(zr, zi, _SLOPE0, _SLOPE1, _SLOPE2, _SLOPE3, _SLOPE4, _SLOPE5)
                er, ei = Delta * ar - sr, Delta * ai - si
                tr = Delta * Delta * tr if small else er * inv_r - ei * inv_i
                ti = Delta * Delta * ti if small else er * inv_i + ei * inv_r
                flow_r, flow_i = gr * ar + gi * ai, gi * ar - gr * ai  # to x_{k-1}
                br, bi = before[p], before[P + p]
                dz_r, dz_i = flow_r * br + flow_i * bi, flow_i * br - flow_r * bi
                dlam[b, p] += dz_r * Delta + hr * tr + hi_ * ti
                dlam[b, P + p] += dz_i * Delta + hi_ * tr - hr * ti
                dDelta = dz_r * lr + dz_i * li + hr * ar + hi_ * ai
                dstep[b, p] += dDelta * seconds
                total += dDelta * step[p]
                g_r[p], g_i[p] = flow_r, flow_i
            ddelta[task, k] = total
        for p in range(first, end):
            dx0[b, p], dx0[b, P + p] = g_r[p], g_i[p]


class _IrregularScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, lam, step, delta, Bu, x0):
        P = step.shape[0]
        size = lam[:P] ** 2 + lam[P:] ** 2
        inv = torch.cat((lam[:P], -lam[P:])) / torch.cat((size, size))  # 1 / Lambda
        arrays = as_arrays(lam, inv, step, delta, Bu, x0)
        x = np.empty_like(arrays[4])
        batch = delta.shape[0]
        groups = channel_groups(batch, P)
        share(irregular_forward, batch * groups, *arrays, x, groups, work=delta.numel() * P)
        x = torch.from_numpy(x)
        ctx.save_for_backward(lam, inv, step, delta, Bu, x0, x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx, dx):
        arrays = as_arrays(*ctx.saved_tensors, dx)
        (batch, length), P = arrays[3].shape, arrays[2].shape[0]
        groups = channel_groups(batch, P)
        shapes = [(batch, 2 * P), (batch, P), (batch * groups, length), arrays[4].shape]
        gradients = [np.empty(shape, dtype=np.float32) for shape in (*shapes, (batch, 2 * P))]
        share(irregular_backward, batch * groups, *arrays, *gradients, groups)
        dlam, dstep, ddelta, dBu, dx0 = (torch.from_numpy(g) for g in gradients)
        ddelta = ddelta.view(batch, groups, length).sum(1)
        return dlam.sum(0), dstep.sum(0), ddelta, dBu, dx0


def irregular_scan(Lambda: Tensor, step: Tensor, delta: Tensor, Bu: Tensor, x0: Tensor) -> Tensor:
    """States of S5 over irregular steps.

    Args:
        Lambda: (P,), complex64, no positive real part.
        step: exp(log_step), (P,).
        delta: Seconds, (B, L).
        Bu: B_tilde u as [real | imaginary], (B, L, 2P).
        x0: State to continue from as [real | imaginary], (B, 2P).

    Returns:
        All states as [real | imaginary], (B, L, 2P).
    """
    return _IrregularScan.apply(torch.cat((Lambda.real, Lambda.imag)), step, delta, Bu, x0)
