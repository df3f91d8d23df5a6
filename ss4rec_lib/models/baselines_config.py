"""What the baselines have in common: checks of options and inputs, and the training interactions.

The checks are those of `SS4RecConfig` and `SS4Rec`, as functions, so that every model refuses the
same mistakes in the same words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import Tensor

from ss4rec_lib.models.base import check_history as check_shapes

if TYPE_CHECKING:
    from ss4rec_lib.data import Split


def check_counts(config: object, *names: str) -> None:
    """Refuse fields that are not integers of at least 1 (ValueError naming field and value)."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r}: expected an integer of at least 1")


def check_numbers(config: object, *names: str, above: float = -math.inf) -> None:
    """Refuse fields that are not finite numbers above a bound (ValueError)."""
    for name in names:
        value = getattr(config, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value <= above:
            bound = f" above {above:g}" if above > -math.inf else ""
            raise ValueError(f"{name}={value!r}: expected a finite int or float{bound}")


def check_dropout(config: object, *names: str) -> None:
    """Refuse fields that are not probabilities of at least 0 and below 1 (ValueError)."""
    check_numbers(config, *names)
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise ValueError(f"{name}={value}: expected 0 <= {name} < 1")


def check_choice(config: object, name: str, allowed: Iterable[str]) -> None:
    """Refuse a field that is none of the names there are (ValueError listing them)."""
    value, allowed = getattr(config, name), tuple(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}={value!r}: choose one of {', '.join(allowed)}")


def check_size(name: str, value: object) -> int:
    """A size of a catalogue or of a group of users, at least 1 (ValueError naming it)."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(f"{name}={value!r}: expected an integer of at least 1")
    return int(value)


def check_history(items: Tensor, delta: Tensor, n_items: int) -> None:
    """Refuse what is no batch of histories.

    Args:
        items: Item ids, (B, L), integer, 0 (padding) to n_items.
        delta: Seconds to the next interaction, (B, L), floating, finite, >= 0.
        n_items: Size of the catalogue.

    Raises:
        ValueError: Naming the argument, what it is and what was expected.
    """
    check_shapes(items, delta)
    low, high = (int(extreme) for extreme in items.aminmax())
    if low < 0 or high > n_items:
        raise ValueError(
            f"items holds the id {low if low < 0 else high}, expected 0 (padding) to {n_items}"
        )


class Interactions(NamedTuple):
    """Interactions as three columns of the same length."""

    users: np.ndarray
    """(n,) int64 user indices from 0."""
    items: np.ndarray
    """(n,) int32 item indices, 1..n_items."""
    times: np.ndarray
    """(n,) int64 seconds."""


def training_interactions(split: Split) -> Interactions:
    """The interactions that may be learned from: each user's positions `0 .. train_end - 1`."""
    sequences = split.sequences
    users = np.repeat(np.arange(sequences.n_users), sequences.lengths)
    kept = split.in_train()
    return Interactions(users[kept], sequences.items[kept], sequences.times[kept])
