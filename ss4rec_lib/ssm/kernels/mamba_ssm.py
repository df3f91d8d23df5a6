"""Backend `mamba_ssm`: the fused CUDA kernel of the package mamba-ssm, where it is installed.

The tensors are transposed to its layout (B, D, L) and back. Its kernel starts from an empty state
and has no complex diagonal scan; `scan.py` does not choose it for either.
"""

from __future__ import annotations

from torch import Tensor

HOW_TO_INSTALL = (
    'install it on a machine with a CUDA GPU and nvcc: pip install --no-build-isolation -e ".[gpu]"'
)


def selective_scan(
    u: Tensor, Delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial_state: None
) -> tuple[Tensor, Tensor]:
    """Call `selective_scan_fn`; computes `reference.selective_scan` from an empty state.

    Args:
        u: (B, L, D), on a CUDA device; float32, float16 or bfloat16.
        Delta: (B, L, D), after its softplus.
        A: (D, N).
        B: (B, L, N).
        C: (B, L, N).
        D: (D,).
        initial_state: Must be None.

    Returns:
        y (B, L, D), and the last state (B, D, N), through which mamba-ssm passes no gradient.
    """
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    assert initial_state is None, "scan.py does not choose this backend for a state"
    y, last = selective_scan_fn(
        u.transpose(1, 2),  # (B, D, L)
        Delta.transpose(1, 2),  # (B, D, L)
        A.float(),  # the kernel takes float32 weights with inputs of any dtype
        B.transpose(1, 2),  # (B, N, L)
        C.transpose(1, 2),  # (B, N, L)
        D=D.float(),
        z=None,
        delta_bias=None,
        delta_softplus=False,
        return_last_state=True,
    )
    return y.transpose(1, 2), last
