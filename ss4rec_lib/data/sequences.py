"""Users' histories as flat arrays with offsets, 16 bytes per interaction.

Glossary
    history   one user's interactions in the order of the protocol
    position  index of an interaction within its user's history, from 0
    interval  seconds from an interaction to the next one of the same user
    CSR       the layout: all histories end to end, `offsets[u]` is where user u's begins

The order within a history, and the times, are those of one of two protocols:

    `exact-time`       sorts each history by the integer timestamp; ties keep the file's row order.
    `recbole-float32`  sorts by the timestamp rounded to float32, ties again by file row, and takes
                       the intervals from the rounded times.

RecBole, which most published figures come from, stores timestamps as float32. At 1e9 s (the year
2001) neighbouring float32 numbers are 64 s apart, so within every 64 s the file order decides.
MovieLens' file order is nearly the same for all users, which makes the next film easier to guess.
Use that ordering to reproduce published figures, and name it beside every figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from ss4rec_lib.data.validation import DataError, validate_ratings

ORDERINGS = ("exact-time", "recbole-float32")
"""The orderings a history can have."""

PADDING = -1
"""What `Sequences.item_ids[0]` holds: item index 0 is padding and stands for no item."""

_DTYPES = {
    "items": np.int32,
    "times": np.int64,
    "ratings": np.float32,
    "offsets": np.int64,
    "user_ids": np.int64,
    "item_ids": np.int64,
}


class History(NamedTuple):
    """One user's interactions in order: views, not copies."""

    items: np.ndarray
    """(n,) int32 item indices, 1..n_items."""
    times: np.ndarray
    """(n,) int64 seconds, as the protocol sees them."""
    ratings: np.ndarray
    """(n,) float32."""


@dataclass(frozen=True, eq=False, repr=False)
class Sequences:
    """All users' histories, end to end.

    Attributes:
        items: (n_interactions,) int32, item indices 1..n_items; 0 is left for padding.
        times: (n_interactions,) int64 seconds as the protocol sees them: the timestamps, or for
            `recbole-float32` the rounded ones.
        ratings: (n_interactions,) float32.
        offsets: (n_users + 1,) int64; user u's history is `offsets[u]:offsets[u + 1]`.
        user_ids: (n_users,) int64 original ids, ascending.
        item_ids: (n_items + 1,) int64 original ids, ascending; `item_ids[i]` is what index i
            stands for, and `item_ids[0]` is -1 (padding).
        ordering: one of `ORDERINGS`.
    """

    items: np.ndarray
    times: np.ndarray
    ratings: np.ndarray
    offsets: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    ordering: str = "exact-time"

    def __post_init__(self) -> None:
        """Raise ValueError for arrays that do not belong together."""
        check_ordering(self.ordering)
        for name, dtype in _DTYPES.items():
            array = getattr(self, name)
            if array.ndim != 1 or array.dtype != dtype:
                raise ValueError(
                    f"{name}: expected a vector of {np.dtype(dtype)}, found {array.dtype} of "
                    f"shape {array.shape}."
                )
        sizes = {len(self.items), len(self.times), len(self.ratings)}
        if len(self.offsets):
            sizes.add(int(self.offsets[-1]))
        if len(sizes) > 1 or len(self.offsets) != len(self.user_ids) + 1 or self.offsets[0] != 0:
            raise ValueError(
                f"items, times, ratings and offsets disagree on the number of interactions or "
                f"users: {len(self.items)} items, {len(self.times)} times, {len(self.ratings)} "
                f"ratings, {len(self.offsets)} offsets for {len(self.user_ids)} users."
            )
        if len(self.item_ids) == 0 or self.item_ids[0] != PADDING:
            raise ValueError(f"item_ids[0] must be {PADDING}: index 0 is padding.")

    @property
    def n_users(self) -> int:
        """Return the number of users."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """Return the number of distinct items; indices run from 1 to this."""
        return len(self.item_ids) - 1

    @property
    def n_interactions(self) -> int:
        """Return the number of interactions of all users."""
        return len(self.items)

    @property
    def lengths(self) -> np.ndarray:
        """Return the number of interactions of each user, (n_users,) int64."""
        return np.diff(self.offsets)

    def history(self, user_index: int) -> History:
        """Return views of one user's items, times and ratings in order.

        `user_index` is 0..n_users-1, not the original id.
        """
        if not 0 <= user_index < self.n_users:
            raise IndexError(f"user index {user_index}: expected 0 to {self.n_users - 1}.")
        span = slice(self.offsets[user_index], self.offsets[user_index + 1])
        return History(self.items[span], self.times[span], self.ratings[span])

    def intervals(self, user_index: int | None = None) -> np.ndarray:
        """Return the seconds between consecutive interactions, float32, none negative.

        The subtraction is done in int64: two float32 times near 1e9 s would lose up to 64 s.

        Args:
            user_index: one user, or None for all users one after the other. No interval reaches
                from one user to the next, so there are `n_interactions - n_users` of them.
        """
        if user_index is not None:
            return np.diff(self.history(user_index).times).astype(np.float32)
        between = np.diff(self.times)
        inside = np.ones(len(between), dtype=bool)
        inside[self.offsets[1:-1] - 1] = False
        return between[inside].astype(np.float32)

    def item_index(self, ids: object) -> np.ndarray | int:
        """Return the int32 indices of original item ids (an int for one id).

        Raises:
            DataError: an id that is not in this catalogue.
        """
        return _lookup(self.item_ids, ids, "item", first=1)

    def user_index(self, ids: object) -> np.ndarray | int:
        """Return the indices of original user ids, as `item_index` does for items."""
        return _lookup(self.user_ids, ids, "user", first=0)

    def __repr__(self) -> str:
        """Show counts instead of arrays."""
        return (
            f"Sequences({self.n_users:,} users, {self.n_items:,} items, "
            f"{self.n_interactions:,} interactions, ordering={self.ordering!r})"
        )


def build_sequences(ratings: pd.DataFrame, ordering: str = "exact-time") -> Sequences:
    """Sort a ratings table into users' histories.

    Users and items are indexed in ascending order of their original ids.

    No filter is applied; see `k_core`. The table is checked by `validate_ratings`.
    """
    check_ordering(ordering)
    return sort_histories(validate_ratings(ratings, source="ratings"), ordering)[0]


def sort_histories(ratings: pd.DataFrame, ordering: str) -> tuple[Sequences, np.ndarray]:
    """Build the sequences of a validated table.

    Returns:
        The histories, and (n_interactions,) int64: entry j of `Sequences.items` is row `rows[j]`.
    """
    user_ids, users = index_ids(ratings["user_id"].to_numpy())
    offsets = np.zeros(len(user_ids) + 1, dtype=np.int64)
    np.cumsum(np.bincount(users, minlength=len(user_ids)), out=offsets[1:])
    times = protocol_times(ratings["timestamp"].to_numpy(), ordering)
    rows = stable_order(users, times)
    del users  # every temporary counts with 32 million rows
    item_ids, items = index_ids(ratings["item_id"].to_numpy())
    items += 1
    sequences = Sequences(
        items=items[rows],
        times=times[rows],
        ratings=ratings["rating"].to_numpy()[rows],
        offsets=offsets,
        user_ids=user_ids,
        item_ids=np.concatenate([[PADDING], item_ids]),
        ordering=ordering,
    )
    return sequences, rows


def check_ordering(ordering: str) -> None:
    """Raise ValueError for an unknown ordering."""
    if ordering not in ORDERINGS:
        raise ValueError(f"ordering={ordering!r}: expected {' or '.join(map(repr, ORDERINGS))}.")


def protocol_times(timestamps: np.ndarray, ordering: str) -> np.ndarray:
    """Return int64 timestamps as a protocol uses them: as they are, or rounded to float32."""
    check_ordering(ordering)
    if ordering == "exact-time":
        return timestamps
    return timestamps.astype(np.float32).astype(np.int64)


def stable_order(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return row numbers sorted by user and time, ties by row.

    This is `np.lexsort((times, users))` in a single sort, for users >= 0 and n at least 1.
    """
    earliest = int(times.min())
    span = int(times.max()) - earliest + 1
    if (int(users.max()) + 1) * span > np.iinfo(np.int64).max:
        return np.lexsort((times, users))
    key = users.astype(np.int64)
    key *= span
    key += times
    key -= earliest
    return np.argsort(key, kind="stable")


def index_ids(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number ids (integers >= 0) densely, as `np.unique(..., return_inverse=True)` does.

    Returns:
        The distinct ids ascending, int64 (m,); and for each entry its index among them,
        int32 (n,).
    """
    highest = int(ids.max()) if len(ids) else 0
    if highest < max(4 * len(ids), 1_000_000):
        # A table indexed by the id costs no sort and no 64-bit copy of 32 million rows.
        present = np.zeros(highest + 1, dtype=bool)
        present[ids] = True
        distinct = np.flatnonzero(present)
        rank = np.zeros(highest + 1, dtype=np.int32)
        rank[distinct] = np.arange(len(distinct), dtype=np.int32)
        return distinct, rank[ids]
    distinct, index = np.unique(ids, return_inverse=True)
    return distinct.astype(np.int64), index.astype(np.int32)


def _lookup(known: np.ndarray, ids: object, kind: str, first: int) -> np.ndarray | int:
    """Return positions of `ids` in the ascending array `known`, at least `first`."""
    wanted = np.asarray(ids)
    if wanted.size and wanted.dtype.kind not in "iu":
        raise DataError(f"{kind} ids {ids!r}: expected integers, found {wanted.dtype}.")
    wanted = wanted.astype(np.int64)
    place = np.searchsorted(known, wanted)
    place = np.minimum(place, len(known) - 1)
    unknown = (known[place] != wanted) | (place < first)
    if unknown.any():
        strangers = np.unique(wanted[unknown])
        shown = ", ".join(map(str, strangers[:5])) + (", ..." if len(strangers) > 5 else "")
        raise DataError(
            f"unknown {kind} id(s): {shown} ({len(strangers)} in all); the {len(known) - first} "
            f"{kind}s here have ids from {known[first]} to {known[-1]}. It may have been filtered "
            "out (min_interactions)."
        )
    return place.astype(np.int32) if wanted.ndim else int(place)
