"""The state that a model carries from one batch to the next: nested tuples of tensors.

Models differ in what their state is made of; these functions only walk through it. A state has the
sequences of a batch as the first axis of every tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


def each(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nest of tuples with every tensor changed; None and () stay."""
    if state is None or isinstance(state, Tensor):
        return None if state is None else change(state)
    parts = (each(part, change) for part in state)
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def detached(state: Any) -> Any:
    """The same numbers without their history: where truncated back-propagation ends."""
    return each(state, Tensor.detach)


def first_rows(state: Any, rows: int) -> Any:
    """The state of the first `rows` sequences."""
    return each(state, lambda tensor: tensor[:rows])


def tensors_of(state: Any) -> list[Tensor]:
    """All tensors, in a fixed order, complex ones as real pairs."""
    found: list[Tensor] = []
    each(state, lambda t: found.append(torch.view_as_real(t) if t.is_complex() else t) or t)
    return found


def with_tensors(template: Any, tensors: Iterator[Tensor]) -> Any:
    """Put what `tensors_of` gave back into the shape of `template`."""

    def take(old: Tensor) -> Tensor:
        new = next(tensors).to(old.device)
        return torch.view_as_complex(new.contiguous()) if old.is_complex() else new

    return each(template, take)
