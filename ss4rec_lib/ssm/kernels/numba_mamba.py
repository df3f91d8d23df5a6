"""Everything between the two outer projections of a Mamba block, as one differentiable operation.

The function is `Mamba._inner`, as `mamba_inner_fn` of the package mamba-ssm on a GPU. PyTorch's
operators would write and read about twenty tensors of (B, L, d_inner); these passes do not:

    s      = conv(x) + bias          x = silu(s)                       one pass
    dt, B, C = x x_proj^T            raw = dt dt_proj^T + bias         matrix products, by PyTorch
    Delta  = softplus(raw)                                             one pass
    y      = selective scan          out = y silu(z)                   the scan, one pass

Backward computes s, Delta and the sigmoids again. Tasks and determinism as in `numba_loops.py`.
float32, CPU. Glossary: xz (B, L, 2D) is the output of in_proj, x in its first D columns and the
gate z in the others; w (K, D) are the K weights of conv1d, the last for the newest input;
before (B, K - 1, D) the inputs before the first one; R = dt_rank; `d*` the gradient at `*`.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch.nn import functional as F

from ss4rec_lib.ssm.kernels import numba_loops as loops
from ss4rec_lib.ssm.kernels import reference

f32 = np.float32
_ZERO, _ONE, _TWO = f32(0), f32(1), f32(2)
# log(1 + t) = 2 artanh(q), q = t / (2 + t): its series in q^2 <= 1/9
_L3, _L5, _L7, _L9, _L11, _L13 = (f32(1 / n) for n in (3, 5, 7, 9, 11, 13))


@njit(inline="always")
def _sigmoid(v):
    """Return 1 / (1 + exp(-v)), without overflow on either side."""
    e = loops.exp_nonpositive(-abs(v))
    return (_ONE if v >= _ZERO else e) / (_ONE + e)


@njit(inline="always")
def _softplus(v):
    """Return log(1 + exp(v)), with a small relative error also where it is tiny."""
    t = loops.exp_nonpositive(-abs(v))
    q = t / (_TWO + t)
    q2 = q * q
    series = ((((((_L13 * q2 + _L11) * q2 + _L9) * q2 + _L7) * q2 + _L5) * q2 + _L3) * q2) + _ONE
    return max(v, _ZERO) + _TWO * q * series


@loops.inlined(fastmath=True)
def _convolve_at(xz, w, bias, before, b, k, s):
    """Fill s with the D sums of the convolution at position k of sequence b."""
    K, D = w.shape
    s[:] = bias
    for j in range(K):
        at = k - (K - 1) + j
        row = xz[b, at] if at >= 0 else before[b, at + K - 1]
        for d in range(D):
            s[d] += w[j, d] * row[d]


@loops.compiled(fastmath=True)
def convolve_forward(xz, w, bias, before, x, lo, hi):
    """Fill x (B, L, D) with silu(conv)."""
    s = np.empty(w.shape[1], dtype=np.float32)
    for b in range(lo, hi):
        for k in range(xz.shape[1]):
            _convolve_at(xz, w, bias, before, b, k, s)
            for d in range(s.shape[0]):
                x[b, k, d] = s[d] * _sigmoid(s[d])


@loops.compiled(fastmath=True)
def convolve_backward(xz, w, bias, before, dx, dxz, dw, dbias, dbefore, lo, hi):
    """Fill dxz[..., :D] and dbefore; dw (B, K, D) and dbias (B, D) are per sequence."""
    K, D = w.shape
    ds = np.empty(D, dtype=np.float32)
    for b in range(lo, hi):
        dw[b], dbias[b], dbefore[b], dxz[b, :, :D] = _ZERO, _ZERO, _ZERO, _ZERO
        for k in range(xz.shape[1]):
            _convolve_at(xz, w, bias, before, b, k, ds)
            for d in range(D):  # times silu'
                sigmoid = _sigmoid(ds[d])
                ds[d] = dx[b, k, d] * (sigmoid + ds[d] * sigmoid * (_ONE - sigmoid))
            for j in range(K):
                at = k - (K - 1) + j
                row = xz[b, at] if at >= 0 else before[b, at + K - 1]
                drow = dxz[b, at] if at >= 0 else dbefore[b, at + K - 1]
                for d in range(D):
                    dw[b, j, d] += ds[d] * row[d]
                for d in range(D):
                    drow[d] += ds[d] * w[j, d]
            dbias[b] += ds


@loops.compiled(fastmath=True)
def softplus_forward(raw, Delta, lo, hi):
    """Fill Delta (M, D)."""
    for m in range(lo, hi):
        for d in range(raw.shape[1]):
            Delta[m, d] = _softplus(raw[m, d])


@loops.compiled(fastmath=True)
def softplus_backward(raw, dDelta, lo, hi):
    """Overwrite dDelta (M, D) with the gradient at raw."""
    for m in range(lo, hi):
        for d in range(raw.shape[1]):
            dDelta[m, d] *= _sigmoid(raw[m, d])


@loops.compiled(fastmath=True)
def gate_forward(y, xz, out, lo, hi):
    """Fill out (M, D) with y silu(z)."""
    D = y.shape[1]
    for m in range(lo, hi):
        z = xz[m, D:]
        for d in range(D):
            out[m, d] = y[m, d] * z[d] * _sigmoid(z[d])


@loops.compiled(fastmath=True)
def gate_backward(y, xz, dout, dy, dxz, lo, hi):
    """Fill dy (M, D) and dxz[:, D:]."""
    D = y.shape[1]
    for m in range(lo, hi):
        z, dz = xz[m, D:], dxz[m, D:]
        for d in range(D):
            dy[m, d] = dout[m, d] * z[d] * _sigmoid(z[d])
        for d in range(D):
            sigmoid = _sigmoid(z[d])
            dz[d] = dout[m, d] * y[m, d] * (sigmoid + z[d] * sigmoid * (_ONE - sigmoid))


def _rows(t: np.ndarray) -> np.ndarray:
    return t.reshape(-1, t.shape[-1])  # (B, L, D) as (B L, D)


def _plain(xz, w, bias, before, x_proj, dt_proj, dt_bias, A, D_skip, x0):
    """Compute `_MambaInner` by PyTorch's operators."""
    (x, z), length, N = xz.chunk(2, dim=-1), xz.shape[1], A.shape[1]
    padded = torch.cat((before, x), dim=1)
    x = F.silu(bias + sum(w[j] * padded[:, j : j + length] for j in range(len(w))))
    dt, B, C = (x @ x_proj.T).split([dt_proj.shape[1], N, N], dim=-1)
    Delta = F.softplus(dt @ dt_proj.T + dt_bias)
    y, last = reference.selective_scan(x, Delta, A, B, C, D_skip, x0)
    return y * F.silu(z), last


class _MambaInner(torch.autograd.Function):
    """Map the output of in_proj to the input of out_proj.

    The arguments are xz, w, its bias (D,), before, the weights of x_proj (R + 2N, D) and dt_proj
    (D, R), the bias of dt_proj (D,), A (D, N), not positive, the skip weight (D,), and the state to
    continue from (B, D, N). The results are the gated output (B, L, D) and the last state.
    """

    @staticmethod
    def forward(ctx, xz, w, bias, before, x_proj, dt_proj, dt_bias, A, D_skip, x0):
        batch, length, _ = xz.shape
        D, N, R = len(bias), A.shape[1], dt_proj.shape[1]
        arrays = loops.as_arrays(xz, w, bias, before)
        x = torch.empty(batch, length, D)
        loops.shard(convolve_forward, batch, *arrays, x.numpy())
        projected = x.view(-1, D) @ x_proj.T  # (B L, R + 2N)
        raw = torch.addmm(dt_bias, projected[:, :R], dt_proj.T)  # (B L, D)
        Delta = np.empty((batch, length, D), dtype=np.float32)
        loops.shard(softplus_forward, batch * length, raw.numpy(), _rows(Delta))
        B, C = (t.reshape(batch, length, N) for t in projected[:, R:].split(N, dim=1))
        scan = [x.numpy(), Delta, *loops.as_arrays(A, B, C, D_skip, x0)]
        y, x_last, saved = loops.selective_states(scan, keep=any(ctx.needs_input_grad))
        out = np.empty_like(y)
        loops.shard(gate_forward, batch * length, _rows(y), _rows(arrays[0]), _rows(out))
        computed = x, raw, projected, torch.from_numpy(y), torch.from_numpy(saved)
        inputs = xz, w, bias, before, x_proj, dt_proj, dt_bias, A, D_skip, x0
        ctx.save_for_backward(*inputs, *computed)
        return torch.from_numpy(out), torch.from_numpy(x_last)

    @staticmethod
    def backward(ctx, dout, dx_last):
        if reference.must_differentiate(dout):
            return reference.gradients_of(_plain, ctx.saved_tensors[:10], dout, dx_last)
        xz, w, bias, before, x_proj, dt_proj, _, A, D_skip, _, *computed = ctx.saved_tensors
        x, raw, projected, y, saved = computed
        (batch, length, D), N, R = x.shape, A.shape[1], dt_proj.shape[1]
        conv = loops.as_arrays(xz, w, bias, before)
        dout, dx_last, y, saved = loops.as_arrays(dout, dx_last, y, saved)
        dxz, dy = np.empty_like(conv[0]), np.empty_like(y)
        tokens = batch * length
        rows = (_rows(array) for array in (y, conv[0], dout, dy, dxz))
        loops.shard(gate_backward, tokens, *rows)
        Delta = np.empty_like(y)
        loops.shard(softplus_forward, tokens, raw.numpy(), _rows(Delta))
        B, C = (t.reshape(batch, length, N) for t in projected[:, R:].split(N, dim=1))
        scan = [x.numpy(), Delta, *loops.as_arrays(A, B, C, D_skip), saved, dy, dx_last]
        dx, dDelta, dA, dB, dC, dD, dx0 = loops.selective_gradients(scan)
        draw = dDelta.view(tokens, D)  # the gradient of Delta becomes that of raw, in place
        loops.shard(softplus_backward, tokens, raw.numpy(), draw.numpy())
        dprojected = torch.cat((draw @ dt_proj, dB.view(tokens, N), dC.view(tokens, N)), dim=1)
        flat = dx.view(tokens, D)
        torch.addmm(flat, dprojected, x_proj, out=flat)  # `addmm_` escapes PyTorch's FLOP counter
        shapes = (batch, *w.shape), (batch, D), before.shape
        dw, dbias, dbefore = (np.empty(shape, dtype=np.float32) for shape in shapes)
        loops.shard(convolve_backward, batch, *conv, dx.numpy(), dxz, dw, dbias, dbefore)
        dxz, dw, dbias, dbefore = (torch.from_numpy(g) for g in (dxz, dw, dbias, dbefore))
        dx_proj, ddt_proj = dprojected.T @ x.view(tokens, D), draw.T @ projected[:, :R]
        return dxz, dw.sum(0), dbias.sum(0), dbefore, dx_proj, ddt_proj, draw.sum(0), dA, dD, dx0


mamba_inner = _MambaInner.apply
