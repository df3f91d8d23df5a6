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
_WIDTH = 64  # states of a task at most: their buffers are on the stack
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


@njit(inline="always")
def _copy_constants(c, lam, inv, step, first, end):
    """Fill c (5, _WIDTH) with a task's Lambda, 1 / Lambda, each real and imaginary, and step."""
    P = step.shape[0]
    for row, source in enumerate((lam[:P], lam[P:], inv[:P], inv[P:], step)):
        c[row, : end - first] = source[first:end]


@loops.compiled(_MATHS)
def irregular_forward(lam, inv, step, delta, Bu, x0, x, groups, lo, hi):
    """Fill x (B, L, 2P) from Bu (B, L, 2P), delta (B, L) and x0 (B, 2P)."""
    length, P = delta.shape[1], index(step.shape[0])
    # Before the loop: what is taken from the stack comes back only when the function returns.
    c, w = loops.buffer(True, 5, _WIDTH), loops.buffer(True, 4, _WIDTH)
    state = loops.buffer(True, 2, _WIDTH)
    for task in range(lo, hi):
        b, first, end = loops.part_of(task, groups, step.shape[0])
        start, width = index(first), index(end - first)
        _copy_constants(c, lam, inv, step, first, end)
        for p in range(width):
            state[0, p], state[1, p] = x0[b, start + p], x0[b, P + start + p]
        for k in range(length):
            seconds, u, after = delta[b, k], Bu[b, k], x[b, k]
            for p in range(width):
                w[0, p], w[1, p], w[2, p], w[3, p], _, _, _ = _hold(
                    c[0, p], c[1, p], c[2, p], c[3, p], seconds * c[4, p]
                )
            for p in range(width):  # of their own, or LLVM would not vectorise either
                r, i, xr, xi = start + p, P + start + p, state[0, p], state[1, p]
                xr, xi = w[0, p] * xr - w[1, p] * xi, w[0, p] * xi + w[1, p] * xr
                state[0, p] = xr + (w[2, p] * u[r] - w[3, p] * u[i])
                state[1, p] = xi + (w[2, p] * u[i] + w[3, p] * u[r])
                after[r], after[i] = state[0, p], state[1, p]


@loops.compiled(_MATHS)
def irregular_backward(
    lam, inv, step, delta, Bu, x0, x, dx, dlam, dstep, ddelta, dBu, dx0, groups, lo, hi
):
    """Fill the gradients; the caller sums dlam (B, 2P), dstep (B, P) and ddelta (B * groups, L).

    The complex gradient at x_k is g_k = dx_k + conj(Lambda_bar_{k+1}) g_{k+1};  dBu_k = g_k
    conj(scale_k);  through Lambda_bar = exp(z): dz = g_k conj(x_{k-1} Lambda_bar);  through the
    scale, v = g_k conj(Bu_k): dDelta += Re(v conj(Lambda_bar)), dLambda += v conj(Delta^2 slope(z))
    """
    length, P = delta.shape[1], index(step.shape[0])
    c, g = loops.buffer(True, 5, _WIDTH), loops.buffer(True, 2, _WIDTH)
    sums = loops.buffer(True, 3, _WIDTH)
    for task in range(lo, hi):
        b, first, end = loops.part_of(task, groups, step.shape[0])
        start, width = index(first), index(end - first)
        _copy_constants(c, lam, inv, step, first, end)
        g[:], sums[:] = _ZERO, _ZERO
        for k in range(length - 1, -1, -1):
            before = x[b, k - 1] if k > 0 else x0[b]
            seconds, u, dx_k, dBu_k, total = delta[b, k], Bu[b, k], dx[b, k], dBu[b, k], _ZERO
            for p in range(width):
                r, i = start + p, P + start + p
                lr, li, inv_r, inv_i, Delta = c[0, p], c[1, p], c[2, p], c[3, p], seconds * c[4, p]
                ar, ai, sr, si, zr, zi, small = _hold(lr, li, inv_r, inv_i, Delta)
                # Delta^2 slope(z), the derivative of scale by Lambda, is (Delta Lambda_bar - scale)
                # / Lambda away from 0.
                tr, ti = _series(zr, zi, _SLOPE)
                er, ei = Delta * ar - sr, Delta * ai - si
                tr = Delta * Delta * tr if small else er * inv_r - ei * inv_i
                ti = Delta * Delta * ti if small else er * inv_i + ei * inv_r
                gr, gi = g[0, p] + dx_k[r], g[1, p] + dx_k[i]
                dBu_k[r], dBu_k[i] = gr * sr + gi * si, gi * sr - gr * si
                ur, ui = u[r], u[i]
                vr, vi = gr * ur + gi * ui, gi * ur - gr * ui
                gr, gi = gr * ar + gi * ai, gi * ar - gr * ai
                g[0, p], g[1, p] = gr, gi
                dzr, dzi = gr * before[r] + gi * before[i], gi * before[r] - gr * before[i]
                dDelta = (vr * ar + vi * ai) + (dzr * lr + dzi * li)
                sums[0, p] += (vr * tr + vi * ti) + dzr * Delta
                sums[1, p] += (vi * tr - vr * ti) + dzi * Delta
                sums[2, p] += dDelta * seconds
                total += dDelta * c[4, p]
            ddelta[task, k] = total
        for p in range(width):
            r, i = start + p, P + start + p
            dlam[b, r], dlam[b, i], dstep[b, r] = sums[0, p], sums[1, p], sums[2, p]
            dx0[b, r], dx0[b, i] = g[0, p], g[1, p]


def _groups(batch: int, P: int) -> int:
    """Return the number of groups of states per sequence; their buffers fit the stack."""
    return max(loops.channel_groups(batch, P), -(-P // _WIDTH))


class _IrregularScan(torch.autograd.Function):
    """Map Lambda (2P,), step (P,), delta (B, L), B_tilde u and the state before to the states."""

    @staticmethod
    def forward(ctx, lam, step, delta, Bu, x0):
        re, im = lam.chunk(2)
        size = re * re + im * im  # by PyTorch: NumPy would warn when diverged weights overflow
        inv = torch.cat((re / size, -im / size))  # 1 / Lambda
        x, P = torch.empty_like(Bu, memory_format=torch.contiguous_format), step.shape[0]
        arrays = loops.as_arrays(lam, inv, step, delta, Bu, x0)
        groups, work = _groups(len(delta), P), delta.numel() * P
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
        groups = _groups(batch, P)
        shapes = [(batch, 2 * P), (batch, P), (batch * groups, length), arrays[4].shape]
        gradients = [np.empty(shape, dtype=np.float32) for shape in (*shapes, (batch, 2 * P))]
        loops.shard(irregular_backward, batch * groups, *arrays, *gradients, groups)
        dlam, dstep, ddelta, dBu, dx0 = (torch.from_numpy(g) for g in gradients)
        ddelta = ddelta.view(batch, groups, length).sum(1)
        return dlam.sum(0), dstep.sum(0), ddelta, dBu, dx0


irregular_scan = _IrregularScan.apply
