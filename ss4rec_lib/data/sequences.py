"""Users' histories as flat arrays with offsets, 16 bytes per interaction.

A history is one user's interactions in the order of a protocol; a position is an index into it,
from 0; an interval is the seconds from an interaction to the next one of the same user.

    `exact-time`       sorts by the integer timestamp; ties keep the file's row order.
    `recbole-float32`  sorts by the timestamp rounded to float32, ties again by file row, and takes
                       the intervals from the rounded times.

RecBole, which most published figures come from, stores timestamps as float32. At 1e9 s (the year
2001) these are 64 s apart, so within every 64 s the file order decides. MovieLens' file order is
nearly the same for all users, which makes the next film easier to guess: name the ordering beside
every figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ss4rec_lib.data.validation import DataError, check_choice, validate_ratings

ORDERINGS = ("exact-time", "recbole-float32")
# `Sequences.item_ids[0]`, by kind of ids: item index 0 is padding and stands for no item.
PADDING = {"i": -1, "U": ""}


class History(NamedTuple):
    """One user's interactions in order: views of `Sequences.items`, `times` and `ratings`."""

    items: np.ndarray
    times: np.ndarray
    ratings: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class Sequences:
    """All users' histories, end to end: user u's is `offsets[u]:offsets[u + 1]`."""

    items: np.ndarray  # (n_interactions,) int32, item indices 1..n_items; 0 is left for padding
    times: np.ndarray  # (n_interactions,) int64 seconds as the protocol sees them, maybe rounded
    ratings: np.ndarray  # (n_interactions,) float32, all NaN when the data have no ratings
    offsets: np.ndarray  # (n_users + 1,) int64
    user_ids: np.ndarray  # (n_users,) int64 or text, original ids, ascending
    item_ids: np.ndarray  # (n_items + 1,) likewise; padding (-1, or "" for text) comes first
    ordering: str = "exact-time"

    def __post_init__(self) -> None:
        """Raise ValueError for arrays that do not belong together."""
        check_choice("ordering", self.ordering, ORDERINGS)
        dtypes = {"items": np.int32, "ratings": np.float32}
        for name in ("items", "times", "ratings", "offsets", "user_ids", "item_ids"):
            array, dtype = getattr(self, name), np.dtype(dtypes.get(name, np.int64))
            text = name.endswith("_ids") and array.dtype.kind == "U"
            if array.ndim != 1 or (array.dtype != dtype and not text):
                found = f"{array.dtype} of shape {array.shape}"
                raise ValueError(f"{name}: expected a vector of {dtype}, found {found}.")
        sizes = [len(self.items), len(self.times), len(self.ratings), *self.offsets[-1:].tolist()]
        if len(set(sizes)) > 1 or len(self.offsets) != self.n_users + 1 or self.offsets[0] != 0:
            raise ValueError(
                f"items, times, ratings and offsets[-1] are {sizes}, with {len(self.offsets)} "
                f"offsets for {self.n_users} users: expected equal sizes and an offset more."
            )
        padding = PADDING[self.item_ids.dtype.kind]
        if self.item_ids[:1].tolist() != [padding]:
            raise ValueError(f"item_ids[0] must be {padding!r}: index 0 is padding.")

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
    def has_ratings(self) -> bool:
        """Return whether the interactions have ratings: then all of them have one."""
        return not np.isnan(self.ratings[:1]).any()

    def require_ratings(self, purpose: str) -> None:
        """Raise DataError when there are no ratings."""
        if not self.has_ratings:
            raise DataError(f"{purpose} needs ratings, and the data have no ratings.")

    @property
    def lengths(self) -> np.ndarray:
        """Return the number of interactions of each user, (n_users,) int64."""
        return np.diff(self.offsets)

    def history(self, user_index: int) -> History:
        """Return views of one user's interactions; the index is 0..n_users-1, not the id."""
        if not 0 <= user_index < self.n_users:
            raise IndexError(f"user index {user_index}: expected 0 to {self.n_users - 1}.")
        span = slice(self.offsets[user_index], self.offsets[user_index + 1])
        return History(self.items[span], self.times[span], self.ratings[span])

    def intervals(self) -> np.ndarray:
        """Return the float32 seconds between consecutive interactions of each user, all users'.

        Subtracted in int64, because float32 times near 1e9 s would lose up to 64 s.
        """
        between = np.diff(self.times)
        inside = np.ones(len(between), dtype=bool)
        inside[self.offsets[1:-1] - 1] = False
        return between[inside].astype(np.float32)

    def item_index(self, ids: object) -> np.ndarray | int:
        """Return the int32 indices of item ids (an int for one); an unknown id is a DataError."""
        return _lookup(self.item_ids, ids, "item", first=1)

    def user_index(self, ids: object) -> np.ndarray | int:
        """Return the indices of original user ids, as `item_index` does for items."""
        return _lookup(self.user_ids, ids, "user", first=0)

    def __repr__(self) -> str:
        """Show counts instead of arrays."""
        users, items, n = self.n_users, self.n_items, self.n_interactions
        counts = f"{users:,} users, {items:,} items, {n:,} interactions"
        return f"Sequences({counts}, ordering={self.ordering!r})"


def build_sequences(ratings: pd.DataFrame, ordering: str = "exact-time") -> Sequences:
    """Check and sort a ratings table into users' histories, without any filter (see `k_core`).

    Users and items are indexed in ascending order of their original ids.
    """
    return sort_histories(validate_ratings(ratings, source="ratings"), ordering)[0]


def sort_histories(ratings: pd.DataFrame, ordering: str) -> tuple[Sequences, np.ndarray]:
    """Return the sequences of a validated table, and the row that each entry comes from."""
    user_ids, users = index_ids(ratings["user_id"])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users))])
    times = protocol_times(ratings["timestamp"].to_numpy(), ordering)
    rows = stable_order(users, times)
    del users  # every temporary counts with 32 million rows
    item_ids, items = index_ids(ratings["item_id"])
    items += 1
    rated = "rating" in ratings
    stars = ratings["rating"].to_numpy()[rows] if rated else np.full_like(rows, np.nan, np.float32)
    by_entry = (items[rows], times[rows], stars)
    item_ids = np.concatenate([[PADDING[item_ids.dtype.kind]], item_ids])
    return Sequences(*by_entry, offsets, user_ids, item_ids, ordering), rows


def protocol_times(timestamps: np.ndarray, ordering: str) -> np.ndarray:
    """Return int64 timestamps as a protocol uses them: as they are, or rounded to float32."""
    check_choice("ordering", ordering, ORDERINGS)
    exact = ordering == "exact-time"
    return timestamps if exact else timestamps.astype(np.float32).astype(np.int64)


def stable_order(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return row numbers sorted by user and time, ties by row: a faster `np.lexsort`.

    The key of user and time fits int64 for 90 million users, with the times of a checked table.
    """
    key = users.astype(np.int64)
    key *= times.max() - times.min() + 1
    key += times
    return np.argsort(key, kind="stable")


def index_ids(ids: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct ids, int64 or text (m,) ascending, and each entry's int32 index, (n,)."""
    index, distinct = pd.factorize(ids, sort=True)  # np.unique would sort 32 million rows
    kind = np.int64 if pd.api.types.is_numeric_dtype(distinct) else str
    return np.asarray(distinct, kind), index.astype(np.int32)


def _lookup(known: np.ndarray, ids: object, kind: str, first: int) -> np.ndarray | int:
    """Return positions of `ids` in the ascending array `known`, at least `first`."""
    wanted, text = np.asarray(ids), known.dtype.kind == "U"
    of_text = wanted.dtype.kind in "OT" and all(isinstance(i, str) for i in wanted.flat)
    if of_text or (text and wanted.dtype.kind in "iu"):  # integers: from a command line
        wanted = wanted.astype(str)
    if wanted.size and wanted.dtype.kind not in ("U" if text else "iu"):
        expected = "text" if text else "integers"
        raise DataError(f"{kind} ids {ids!r}: expected {expected}, found {wanted.dtype}.")
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    unknown = (known[place] != wanted) | (place < first)
    if unknown.any():
        raise DataError(
            f"unknown {kind} id(s) {np.unique(wanted[unknown])[:5]}; the {len(known) - first} "
            f"{kind}s left by the filter (min_interactions) have ids from {known[first]} to "
            f"{known[-1]}."
        )
    return place.astype(np.int32) if wanted.ndim else int(place)
