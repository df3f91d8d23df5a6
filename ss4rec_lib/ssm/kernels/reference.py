"""The two scans as the papers write them: a loop over time in plain PyTorch.

Slow, and easy to check against the papers. Any device and dtype; autograd gives first and second
derivatives. Every other backend is tested against this file, for values and for gradients.

Glossary: `u` input, `Delta` step sizes, `A` continuous state matrix (diagonal), `B` and `C`
input-dependent projections, `D` skip weight, `x` state; sizes (B, L, D, N) = batch, length,
channels, states per channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def transformed() -> bool:
    """Return True under jit.trace, torch.export and torch.func, which look into an operation."""
    functional = torch._C._are_functorch_transforms_active()  # type: ignore[attr-defined]
    return torch._C._is_tracing() or torch.compiler.is_exporting() or functional


def must_differentiate(gradient: Tensor) -> bool:
    """Return True in a backward whose gradients are differentiated again, or come in batches."""
    functorch: Any = torch._C._functorch  # type: ignore[attr-defined]
    batch = functorch.is_legacy_batchedtensor(gradient)  # of `is_grads_batched`
    return torch.is_grad_enabled() or batch or transformed()  # enabled by create_graph=True


def gradients_of(plain: Callable, inputs: Sequence[Tensor], *given: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of a function of PyTorch's operators, to be differentiated again."""
    with torch.enable_grad():  # views: the same tensor may be given for two inputs
        at = [t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in inputs]
        return torch.autograd.grad(plain(*at), at, given, create_graph=True)


def diagonal_scan(a: Tensor, b: Tensor, initial_state: Tensor) -> Tensor:
    """Compute x_k = a_k x_{k-1} + b_k, elementwise (S5, arXiv 2208.04933, eq. 2).

    Map a and b (B, L, P), real or complex, and x_{-1} (B, P) to the states (B, L, P).
    """
    x, states = initial_state, []
    for k in range(a.shape[1]):
        x = a[:, k] * x + b[:, k]  # (B, P)
        states.append(x)
    return torch.stack(states, dim=1)


def selective_scan(
    u: Tensor, Delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial_state: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the selective recurrence of Mamba (arXiv 2312.00752, algorithm 2).

    Mirrors `mamba_ssm.ops.selective_scan_interface.selective_scan_ref` (time before channels):
    Lambda_bar = exp(Delta A), B_bar u = Delta B u, x = Lambda_bar x + B_bar u, y = C x + D u.
    Map u and Delta (B, L, D), A (D, N), B and C (B, L, N), D (D,) and the initial state (B, D, N)
    to y (B, L, D) and the last state.
    """
    x = initial_state  # (B, D, N)
    outputs = []
    for k in range(u.shape[1]):
        Lambda_bar = torch.exp(Delta[:, k, :, None] * A)  # (B, D, N)
        B_bar_u = (Delta[:, k] * u[:, k])[..., None] * B[:, k, None, :]  # (B, D, N)
        x = Lambda_bar * x + B_bar_u  # (B, D, N)
        outputs.append((x * C[:, k, None, :]).sum(-1))  # (B, D)
    return torch.stack(outputs, dim=1) + D * u, x  # (B, L, D), (B, D, N)
