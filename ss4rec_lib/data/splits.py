"""Training, validation and test parts: leave-one-out and global-time splits, and the k-core.

    target    an interaction to be predicted from the history before it
    position  index of an interaction within its user's history, from 0
    history   every interaction of the target's user before it, positions `0 .. position - 1` (the
              test history contains the validation target)

Leave-one-out holds out the last interaction of every user, as nearly all published figures do,
although user A's training data may then lie years after user B's test target (Ji et al., "A
Critical Study on Data Leakage in Recommender System Offline Evaluation"). The global-time split
cuts all users at the same moments and avoids this leak.
"""

from __future__ import annotations

import bisect
import hashlib
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from ss4rec_lib.data.sequences import ORDERINGS, Sequences, index_ids, sort_histories
from ss4rec_lib.data.validation import (
    DataError,
    NotEnoughInteractionsWarning,
    check_choice,
    check_integer,
    validate_ratings,
)

PARTS = ("valid", "test")


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Training, validation and test parts of the same histories; nothing is copied.

    `held_out` has, for "valid" and "test", the targets as two int64 vectors: user indices
    (ascending, each at most once) and positions (at least 1: there is always a history).
    `target_timestamps` are their original timestamps, int64 seconds.
    """

    sequences: Sequences  # every interaction left after the filter
    kind: str  # "leave-one-out", "global-time" or "random"
    ordering: str  # one of `ORDERINGS`
    min_interactions: int  # the k of the k-core filter, 0 for none
    train_end: np.ndarray  # (n_users,) int64; positions `0 .. train_end - 1` may be trained on
    held_out: dict[str, tuple[np.ndarray, np.ndarray]]
    target_timestamps: dict[str, np.ndarray]
    report: dict[str, int | float]  # counts of what was kept, dropped and held out

    def targets(self, part: str) -> pd.DataFrame:
        """Return the `user_id`, `item_id` and `timestamp` (all original) of the targets."""
        (users, entries), s = self.target_entries(part), self.sequences
        columns = {"user_id": s.user_ids[users], "item_id": s.item_ids[s.items[entries]]}
        return pd.DataFrame(columns | {"timestamp": self.target_timestamps[part]})

    def target_entries(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the users of the targets, and where in `sequences` the targets are."""
        users, positions = self.held_out[check_choice("part", part, PARTS)]
        return users, self.sequences.offsets[users] + positions

    def in_train(self) -> np.ndarray:
        """Return which entries of `sequences` may be trained on, (n_interactions,) bool."""
        starts = self.sequences.offsets[:-1]
        # +1 where a training part begins, -1 where it ends: the running sum marks its entries.
        marks = np.zeros(self.sequences.n_interactions + 1, dtype=np.int8)
        marks[starts] = 1
        np.subtract.at(marks, starts + self.train_end, 1)
        return np.cumsum(marks[:-1], dtype=np.int8).astype(bool)

    def train_counts(self) -> np.ndarray:
        """Return how often each item occurs in training, (n_items + 1,) int64; 0 for padding."""
        trained = self.sequences.items[self.in_train()]
        return np.bincount(trained, minlength=self.sequences.n_items + 1)

    def describe(self) -> dict[str, object]:
        """Return the protocol and its counts, for records; JSON-able."""
        protocol = {"split": self.kind, "ordering": self.ordering}
        counts = {"min_interactions": self.min_interactions, "catalogue": self.sequences.n_items}
        return {**protocol, **counts, **self.report}

    def fingerprint(self) -> str:
        """Return a digest of all that training and evaluation use, to recognise a split."""
        s, held_out = self.sequences, (*self.held_out["valid"], *self.held_out["test"])
        used = (s.items, s.times, s.offsets, s.item_ids, s.user_ids, self.train_end, *held_out)
        state = hashlib.sha256()
        for array in used:
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()[:32]

    def __repr__(self) -> str:
        """Show the protocol and its counts in one line."""
        core = f"{self.min_interactions}-core" if self.min_interactions > 1 else "no filter"
        s, n = self.sequences, self.report
        return (
            f"Split({self.kind}, {self.ordering}, {core}: {s.n_users:,} users, {s.n_items:,} "
            f"items, {s.n_interactions:,} interactions; {n['n_train_targets']:,} training, "
            f"{n['n_valid']:,} validation and {n['n_test']:,} test targets)"
        )


def leave_one_out(
    ratings: pd.DataFrame, ordering: str = "exact-time", min_interactions: int | None = 5
) -> Split:
    """Hold out each user's last interaction for test and the last but one for validation.

    All interactions of a user with fewer than three (possible when `min_interactions`, the k of the
    `k_core` filter, is below 3) stay in the training part; `report["users_too_short"]` counts such
    users and a warning says so. `ordering`, one of `ORDERINGS`, decides what "last" means among
    ties. Ratings of which nothing is left to hold out are a DataError.
    """
    prepared = _prepare(ratings, ordering, min_interactions)
    lengths = prepared.sequences.lengths
    users = np.flatnonzero(lengths >= 3)
    if len(users) == 0:
        raise DataError(f"leave_one_out: none of the {len(lengths)} users has 3 interactions.")
    if too_short := len(lengths) - len(users):
        text = f"{too_short} of {len(lengths)} users have no targets: all of their fewer than 3 "
        text += "interactions stay in the training part."
        warnings.warn(text, NotEnoughInteractionsWarning, stacklevel=2)
    prepared.report["users_too_short"] = too_short
    train_end = np.where(lengths >= 3, lengths - 2, lengths)
    held_out = {"valid": (users, lengths[users] - 2), "test": (users, lengths[users] - 1)}
    return prepared.split("leave-one-out", train_end, held_out)


def global_time_split(
    ratings: pd.DataFrame,
    ordering: str = "exact-time",
    min_interactions: int | None = 5,
    valid_from: float | None = None,
    test_from: float | None = None,
) -> Split:
    """Cut every history at the same two moments.

    Training uses everything before `valid_from`. A user's validation target is their first
    interaction from then on and before `test_from`, the test target the first one from `test_from`
    on, each predicted from everything before that cut. A target without any history is left out,
    counted in the report (`valid_without_history`, `test_without_history`) and warned about.

    The k-core filter looks at the whole table, so which users and items are active enough leaks
    from the held-out time into the catalogue, unless `min_interactions` is None. Items that appear
    after `valid_from` only can be targets.

    The cuts are seconds since 1970, by default the 80 % and 90 % quantiles of the times of the
    `ordering`. Cuts that leave a part without targets are a DataError. Other arguments are as for
    `leave_one_out`.
    """
    for name, cut in (("valid_from", valid_from), ("test_from", test_from)):
        if cut is not None and not isinstance(cut, (int, float, np.number)):
            raise ValueError(f"{name}={cut!r}: expected a time in seconds since 1970, or None.")
    prepared = _prepare(ratings, ordering, min_interactions)
    sequences, report = prepared.sequences, prepared.report
    times = sequences.times
    usual: list[int] = np.quantile(times, [0.8, 0.9], method="higher").astype(int).tolist()
    cuts = zip((valid_from, test_from), usual, strict=True)
    valid_from, test_from = (default if cut is None else cut for cut, default in cuts)
    first, last = int(times.min()), int(times.max())
    if not first < valid_from < test_from <= last:
        raise DataError(
            f"valid_from={valid_from}, test_from={test_from}: expected {first} (first interaction) "
            f"< valid_from < test_from <= {last} (last interaction), in seconds since 1970."
        )
    starts = sequences.offsets[:-1]
    train_end = np.add.reduceat(times < valid_from, starts, dtype=np.int64)
    test_start = np.add.reduceat(times < test_from, starts, dtype=np.int64)
    spans = {"valid": (train_end, test_start), "test": (test_start, sequences.lengths)}
    held_out = {}
    for part, (begin, end) in spans.items():
        users = np.flatnonzero((begin < end) & (begin > 0))
        report[f"{part}_without_history"] = int((begin < end).sum()) - len(users)
        if len(users) == 0:
            raise DataError(
                f"global_time_split: no user with a history has a {part} target; move the cuts "
                f"valid_from={valid_from} and test_from={test_from}."
            )
        held_out[part] = (users, begin[users])
    n_valid, n_test = (report[f"{part}_without_history"] for part in PARTS)
    if n_valid or n_test:
        text = "users without any interaction before the cut have no target: "
        text += f"{n_valid} for validation, {n_test} for test (of {sequences.n_users} users)."
        warnings.warn(text, NotEnoughInteractionsWarning, stacklevel=2)
    report["valid_from"], report["test_from"] = valid_from, test_from
    return prepared.split("global-time", train_end, held_out)


def k_core(ratings: pd.DataFrame, k: int | None) -> pd.DataFrame:
    """Keep the users and items with at least `k` interactions, iterated to a fixed point.

    Dropping a rare item may leave one of its users with too few interactions, and the reverse. The
    published protocol is the 5-core ("6,040 users, 3,416 items" on ML-1M). Interactions are counted
    as rows: a user who rated one film at five different times has five.

    None, 0 and 1 filter nothing. The rows left keep their order, other columns and `.attrs` and get
    a new RangeIndex; `ratings` itself is returned when all stay. If none do, a DataError gives the
    largest k that leaves something.
    """
    k = 0 if k is None else check_integer("k", k, 0)
    if k <= 1:
        return ratings
    user_ids, users = index_ids(ratings["user_id"])
    item_ids, items = index_ids(ratings["item_id"])
    keep = _core_rows(users, items, k)
    if len(keep) == len(ratings):
        return ratings
    if len(keep) == 0:
        largest = 1 + bisect.bisect_left(
            range(2, k), True, key=lambda smaller: len(_core_rows(users, items, smaller)) == 0
        )
        raise DataError(
            f"the {k}-core filter leaves nothing of {len(ratings)} rows ({len(user_ids)} users, "
            f"{len(item_ids)} items). The largest value that leaves something is {largest}; choose "
            "at most that, or None for no filter."
        )
    left = ratings.iloc[keep].reset_index(drop=True)
    left.attrs = dict(ratings.attrs)
    return left


def _core_rows(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Return the row numbers of the k-core, ascending."""
    rows = np.arange(len(users))
    while True:
        keep = (np.bincount(users) >= k)[users]
        keep &= (np.bincount(items) >= k)[items]
        if keep.all():
            return rows
        rows, users, items = rows[keep], users[keep], items[keep]


class Prepared(NamedTuple):
    """Checked, filtered and sorted ratings."""

    sequences: Sequences
    timestamps: np.ndarray  # the original one of each entry of `sequences`
    min_interactions: int
    report: dict[str, int | float]

    def split(
        self, kind: str, train_end: np.ndarray, held_out: dict[str, tuple[np.ndarray, np.ndarray]]
    ) -> Split:
        """Return the `Split` with these parts, counted in its report."""
        sequences, timestamps, k, report = self
        report["n_train_targets"] = int(np.maximum(train_end - 1, 0).sum())
        report |= {f"n_{part}": len(users) for part, (users, _) in held_out.items()}
        times = {p: timestamps[sequences.offsets[u] + at] for p, (u, at) in held_out.items()}
        protocol = (kind, sequences.ordering, k)
        return Split(sequences, *protocol, train_end, held_out, times, report)


def _prepare(ratings: pd.DataFrame, ordering: str, min_interactions: int | None) -> Prepared:
    check_choice("ordering", ordering, ORDERINGS)
    k = 0 if min_interactions is None else check_integer("min_interactions", min_interactions, 0)
    ratings = validate_ratings(ratings, source="ratings")
    report: dict[str, int | float] = {"rows_before_filter": len(ratings)}
    for column, name in (("user_id", "users"), ("item_id", "items")):
        report[f"{name}_before_filter"] = len(ratings[column].unique())
    ratings = k_core(ratings, k)
    sequences, rows = sort_histories(ratings, ordering)
    report |= {"rows": len(ratings), "users": sequences.n_users, "items": sequences.n_items}
    return Prepared(sequences, ratings["timestamp"].to_numpy()[rows], k, report)
