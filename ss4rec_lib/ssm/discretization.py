"""From continuous time to steps: x'(t) = Lambda x(t) + B_tilde u(t), u constant for Delta seconds.

Glossary:
    Lambda       (P,)       diagonal of the continuous state matrix, complex
    Delta        (B, L, P)  step sizes, real
    z            (B, L, P)  Lambda Delta
    Lambda_bar   (B, L, P)  discrete state matrix
    scale        (B, L, P)  B_bar = diag(scale) B_tilde

B_bar itself would be (B, L, P, H). It is never formed, because B_bar u = scale * (B_tilde u): one
matrix product shared by all steps, then an elementwise product. The function is the same and needs
H times less memory.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

INTERVALS = ("raw", "clip", "log1p")

_SERIES_BELOW = 0.1  # at this |z| both the series and the closed form are accurate


def transform_intervals(
    delta: Tensor, interval: str, dt_min: float, dt_max: float, floor: float = 0.0
) -> Tensor:
    """Map seconds (B, L) to the factor that multiplies the learned step of an S5 layer.

    Args:
        delta: Seconds.
        interval: `raw` (as published), `clip` to [dt_min, dt_max], or `log1p`.
        dt_min: Lower end of `clip`.
        dt_max: Upper end of `clip`.
        floor: Smallest value returned; above 0, tied interactions enter the state too.
    """
    if interval == "clip":
        delta = delta.clamp(dt_min, dt_max)
    elif interval == "log1p":
        delta = torch.log1p(delta)
    return delta.clamp_min(floor) if floor > 0 else delta


def _series(z: Tensor, order: int) -> Tensor:
    """Return derivative 0 or 1 of (exp(z) - 1)/z = sum z^n / (n + 1)! near z = 0."""
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

    In float32 exp(z) - 1 loses all digits for small z, so `expm1` is used, and a series near 0.
    The gradients of autograd cancel in the same way: for long intervals it computes d/dDelta =
    exp(z) as a sum with -1/z and +1/z in it, and for short ones d/dLambda as a difference of two
    numbers of size 1/z.
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
    """Solve exactly for an input that is constant over each step (S5, arXiv 2208.04933, eq. 6).

    Lambda_bar = exp(Lambda Delta) and scale = (Lambda_bar - 1) / Lambda.

    Args:
        Lambda: (P,), complex.
        Delta: Step sizes, (B, L, P), real, not negative.

    Returns:
        Lambda_bar and scale, both (B, L, P), complex. Delta = 0 gives exactly 1 and 0, so an
        interaction tied with the next one does not change the state.
    """
    z = Lambda * Delta  # (B, L, P)
    return torch.exp(z), _HoldScale.apply(Lambda, Delta)


def bilinear(Lambda: Tensor, Delta: Tensor) -> tuple[Tensor, Tensor]:
    """Apply the bilinear (Tustin) rule; arguments and results as in `zero_order_hold`.

    Lambda_bar = (1 + z/2) / (1 - z/2) and scale = Delta / (1 - z/2), with z = Lambda Delta. Mirrors
    `s5.s5_model.discretize_bilinear`. For long steps Lambda_bar tends to -1, not to 0: the state
    oscillates where the exact solution has decayed.
    """
    half = Lambda * Delta / 2  # (B, L, P)
    return (1 + half) / (1 - half), Delta / (1 - half)


METHODS = {"zoh": zero_order_hold, "bilinear": bilinear}
