"""From continuous time to steps: x'(t) = Lambda x(t) + B_tilde u(t), u constant for Delta seconds.

Glossary:
    Lambda       (P,)       diagonal of the continuous state matrix, complex
    Delta        (B, L, P)  step sizes, real
    z            (B, L, P)  Lambda Delta
    Lambda_bar   (B, L, P)  discrete state matrix
    scale        (B, L, P)  B_bar = diag(scale) B_tilde

B_bar, (B, L, P, H), is never formed: B_bar u = scale * (B_tilde u), one matrix product shared by
all steps, then an elementwise one, with H times less memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from ss4rec_lib.ssm.kernels.reference import transformed
from ss4rec_lib.ssm.scan import diagonal_scan

_SERIES_BELOW = 0.1  # at this |z| both the series and the closed form are accurate


def _series(z: Tensor, order: int) -> Tensor:
    """Return derivative 0 or 1 of (exp(z) - 1)/z = sum z^n / (n + 1)! near z = 0."""
    terms = 6 if z.dtype == torch.complex64 else 11  # 0.1^6 / 7! = 2e-10, 0.1^11 / 12! = 2e-20
    factors = [math.perm(n + order, order) / math.factorial(n + order + 1) for n in range(terms)]
    total = torch.full_like(z, factors[-1])
    for factor in reversed(factors[:-1]):
        total = total * z + factor
    return total


def _hold_scale(Lambda: Tensor, Delta: Tensor) -> Tensor:
    z = Lambda * Delta
    small = z.abs() < _SERIES_BELOW
    return Delta * torch.where(small, _series(z, 0), torch.expm1(z) / torch.where(small, 1, z))


class _HoldScale(torch.autograd.Function):
    """(exp(Lambda Delta) - 1) / Lambda = Delta (exp(z) - 1)/z, and its gradients in closed form.

    In float32 exp(z) - 1 loses all digits for small z, so `expm1` is used, and a series near 0.
    The gradients of autograd would cancel in the same way: sums of terms of size 1/z.
    """

    @staticmethod
    def forward(ctx, Lambda: Tensor, Delta: Tensor) -> Tensor:
        ctx.save_for_backward(Lambda, Delta)
        return _hold_scale(Lambda, Delta)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        Lambda, Delta = ctx.saved_tensors
        z = Lambda * Delta
        small = z.abs() < _SERIES_BELOW
        safe = torch.where(small, 1, z)
        slope = (torch.exp(z) - torch.expm1(z) / safe) / safe  # of (exp(z) - 1)/z
        slope = torch.where(small, _series(z, 1), slope)
        d_Lambda = (gradient * (Delta**2 * slope).conj()).sum_to_size(Lambda.shape)
        d_Delta = (gradient * torch.exp(z).conj()).real
        return d_Lambda, d_Delta


def zero_order_hold(Lambda: Tensor, Delta: Tensor) -> tuple[Tensor, Tensor]:
    """Solve exactly for an input that is constant over each step (S5, arXiv 2208.04933, eq. 6).

    Return Lambda_bar = exp(Lambda Delta) and scale = (Lambda_bar - 1) / Lambda, both (B, L, P).
    Delta = 0 gives exactly 1 and 0: an interaction tied with the next leaves the state unchanged.
    """
    scale = _hold_scale if transformed() else _HoldScale.apply
    return torch.exp(Lambda * Delta), scale(Lambda, Delta)


def bilinear(Lambda: Tensor, Delta: Tensor) -> tuple[Tensor, Tensor]:
    """Apply the bilinear (Tustin) rule; arguments and results as in `zero_order_hold`.

    Mirrors `s5.s5_model.discretize_bilinear`. For long steps Lambda_bar tends to -1, not to 0: the
    state oscillates where the exact solution has decayed.
    """
    half = Lambda * Delta / 2  # (B, L, P)
    return (1 + half) / (1 - half), Delta / (1 - half)


def states(
    lam: Tensor, step: Tensor, delta: Tensor, Bu: Tensor, x0: Tensor,
    method: Callable = zero_order_hold, backend: str = "reference",
) -> Tensor:  # fmt: skip
    """Return the states (B, L, 2P) of S5, real parts first; inputs as in `kernels.numba_s5`."""
    Lambda, Bu, x0 = (torch.complex(*t.chunk(2, dim=-1)) for t in (lam, Bu, x0))
    Lambda_bar, scale = method(Lambda, delta[..., None] * step)  # (B, L, P) each
    x = cast(Tensor, diagonal_scan(Lambda_bar, scale * Bu, x0, backend=backend))
    return torch.cat((x.real, x.imag), dim=-1)


METHODS = {"zoh": zero_order_hold, "bilinear": bilinear}
