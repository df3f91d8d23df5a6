"""What an S5 layer sees of the seconds between two interactions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

INTERVALS = ("raw", "clip", "log1p")


def check_intervals(delta: Tensor, expected: tuple[int, int]) -> None:
    """Refuse anything but finite, non-negative seconds in a floating dtype of shape (B, L).

    Raises:
        ValueError: Naming the argument, its shape or dtype, and the offending value.
    """
    if tuple(delta.shape) != expected:
        raise ValueError(f"delta has shape {tuple(delta.shape)}, expected (B, L) = {expected}")
    if not delta.is_floating_point():
        raise ValueError(
            f"delta has dtype {delta.dtype}, expected a floating dtype: subtract timestamps as "
            "int64, then convert the differences with .float()"
        )
    if delta.numel() == 0:
        return
    low, high = (value.item() for value in delta.detach().aminmax())  # NaN comes through
    if low >= 0 and high < math.inf:
        return
    if not torch.isfinite(delta).all():
        raise ValueError("delta has NaN or infinite entries, expected finite seconds")
    raise ValueError(
        f"delta has a negative entry ({low:g} s): intervals run from an interaction to the next "
        "one; sort each history by time"
    )


def transform_intervals(
    delta: Tensor, interval: str, dt_min: float, dt_max: float, floor: float = 0.0
) -> Tensor:
    """Seconds (B, L) to the factor that multiplies an S5 layer's learned step.

    Args:
        delta: Seconds, (B, L).
        interval: `raw` (as published), `clip` to [dt_min, dt_max], or `log1p`.
        dt_min: Lower end of `clip`.
        dt_max: Upper end of `clip`.
        floor: Smallest value that comes out; above 0, tied interactions enter the state too.
    """
    if interval == "clip":
        delta = delta.clamp(dt_min, dt_max)
    elif interval == "log1p":
        delta = torch.log1p(delta)
    return delta.clamp_min(floor) if floor > 0 else delta
