"""From continuous time to steps: x'(t) = Lambda x(t) + B_tilde u(t), held over Delta seconds.

Glossary: `Lambda` diagonal of the continuous state matrix (P,), complex; `Delta` step sizes
(B, L, P); `Lambda_bar` and `B_bar` their discrete counterparts. `B_bar` would be (B, L, P, H); it
is never formed. Every row of it is the same `B_tilde` scaled by one number a state,
`B_bar = diag(scale) B_tilde`, so `B_bar u = scale * (B_tilde u)`: one shared matrix product, then
an elementwise product. Same function, H times less memory.

`exp(z) - 1` loses all its digits for small z in float32; `expm1` and, near 0, a series keep them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SERIES_BELOW = 0.1  # |z| where both series and closed form are accurate


def _series(z: Tensor, order: int) -> Tensor:
    """The `order`-th derivative (0 or 1) of (exp(z) - 1)/z = sum z^n / (n + 1)! near z = 0."""
    terms = 6 if z.dtype == torch.complex64 else 11  # 0.1^6 / 7! = 2e-10, 0.1^11 / 12! = 2e-20
    if order == 0:
        coefficients = [1 / math.factorial(n + 1) for n in range(terms)]
    else:
        coefficients = [(n + 1) / math.factorial(n + 2) for n in range(terms)]
    total = torch.full_like(z, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * z + coefficient
    return total


class _HoldScale(torch.autograd.Function):
    """(exp(Lambda Delta) - 1) / Lambda = Delta (exp(z) - 1)/z, and its gradients in closed form.

    Written out because autograd's own gradients cancel: d/dDelta is exp(z), but autograd adds
    -1/z and +1/z to get it for long intervals; d/dLambda is Delta^2 times the derivative of
    (exp(z) - 1)/z, but autograd subtracts two numbers of size 1/z to get it for short ones.
    """

    @staticmethod
    def forward(ctx, Lambda: Tensor, Delta: Tensor) -> Tensor:
        ctx.save_for_backward(Lambda, Delta)
        z = Lambda * Delta
        small = z.abs() < _SERIES_BELOW
        return Delta * torch.where(small, _series(z, 0), torch.expm1(z) / torch.where(small, 1, z))

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
    """Exact solution for an input constant over each step (S5, arXiv 2208.04933, eq. 6).

    Lambda_bar = exp(Lambda Delta);  scale = (Lambda_bar - 1) / Lambda, so B_bar = scale * B_tilde.

    Args:
        Lambda: (P,), complex.
        Delta: Step sizes, (B, L, P), real, not negative.

    Returns:
        Lambda_bar and scale, both (B, L, P), complex. Delta = 0 gives exactly 1 and 0: an
        interaction tied with the next one leaves no trace in the state.
    """
    z = Lambda * Delta  # (B, L, P)
    return torch.exp(z), _HoldScale.apply(Lambda, Delta)


def bilinear(Lambda: Tensor, Delta: Tensor) -> tuple[Tensor, Tensor]:
    """Bilinear (Tustin) rule: Lambda_bar = (1 + z/2) / (1 - z/2), scale = Delta / (1 - z/2).

    With z = Lambda Delta. Mirrors `s5.s5_model.discretize_bilinear`. Arguments and results as in
    `zero_order_hold`. For long steps Lambda_bar tends to -1, not to 0: it rings where the exact
    solution has forgotten.
    """
    half = Lambda * Delta / 2  # (B, L, P)
    return (1 + half) / (1 - half), Delta / (1 - half)


METHODS = {"zoh": zero_order_hold, "bilinear": bilinear}
