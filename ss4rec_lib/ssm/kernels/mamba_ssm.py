"""Backend `mamba_ssm`: the fused CUDA kernel of the package mamba-ssm, where it is installed.

Inputs are float32, float16 or bfloat16. It starts from an empty state and has no diagonal scan.
"""

from __future__ import annotations

import torch
from torch import Tensor

HOW_TO_INSTALL = 'with a CUDA GPU and nvcc: pip install --no-build-isolation -e ".[gpu]"'


def selective_scan(
    u: Tensor, Delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial_state: None
) -> tuple[Tensor, Tensor]:
    """Compute `reference.selective_scan`; the last state carries no gradient."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    assert initial_state is None, "scan.py does not choose this backend for a state"
    u, Delta, B, C = (t.transpose(1, 2) for t in (u, Delta, B, C))  # to time last, as (B, D, L)
    # The kernel takes float32 weights with inputs of any dtype. `Delta` is after its softplus.
    y, last = selective_scan_fn(
        u, Delta, A.float(), B, C, D=D.float(), delta_softplus=False, return_last_state=True
    )

    def refuse_second(gradient: Tensor) -> None:
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError("mamba-ssm has no second derivatives: use backend='parallel'")

    if y.requires_grad:
        y.register_hook(refuse_second)
    return y.transpose(1, 2), last
