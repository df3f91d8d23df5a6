"""Which ratings train and which test.

    k-fold, random 90/10   index arrays over the rows of a ratings table, from 0: what published
                           RMSE figures use. A test rating may lie years before a training rating
                           of the same user: the future is known, which makes the task easier.
    leave-one-out,         an existing `Split`: its held-out interactions have ratings too
    global time            (`held_out_ratings`), and so has everything before (`train_ratings`).

`random_holdout` turns a random 90/10 split into a `Split`, so that a sequence model can be judged
on the same rows as matrix factorisation and still uses the past only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from ss4rec_lib.data.sequences import Sequences, sort_histories
from ss4rec_lib.data.splits import PARTS, Prepared, Split
from ss4rec_lib.data.validation import DataError, check_integer, validate_ratings


class RatingFold(NamedTuple):
    """Rows to train on and rows to test on, both ascending int64; no row is in both."""

    train: np.ndarray
    test: np.ndarray


class RatingTriples(NamedTuple):
    """Users (from 0), items (from 1), both int64 indices, and their float32 ratings: (n,) each."""

    users: np.ndarray
    items: np.ndarray
    ratings: np.ndarray


def k_fold(n_ratings: int, k: int = 5, seed: int = 0) -> list[RatingFold]:
    """Cut `n_ratings` rows at random into k folds; every row is in exactly one test part.

    The sizes of the test parts differ by at most one.
    """
    k = check_integer("k", k, 2)
    n_ratings = check_integer("n_ratings", n_ratings, k)
    order = np.random.default_rng(check_integer("seed", seed, 0)).permutation(n_ratings)
    return [_fold(n_ratings, test) for test in np.array_split(order, k)]


def random_split(n_ratings: int, test_share: float = 0.1, seed: int = 0) -> RatingFold:
    """Hold out a random share of the rows: 90/10 by default, at least one row on either side."""
    n_ratings = check_integer("n_ratings", n_ratings, 2)
    _check_share("test_share", test_share)
    order = np.random.default_rng(check_integer("seed", seed, 0)).permutation(n_ratings)
    n_test = min(max(1, round(n_ratings * test_share)), n_ratings - 1)
    return _fold(n_ratings, order[:n_test])


def train_ratings(split: Split) -> RatingTriples:
    """Return all ratings that may be trained on, user by user, in the order of the histories."""
    sequences, inside = split.sequences, split.in_train()
    sequences.require_ratings("train_ratings")
    users = np.repeat(np.arange(sequences.n_users), sequences.lengths)
    items = sequences.items[inside].astype(np.int64)
    return RatingTriples(users[inside], items, sequences.ratings[inside])


def held_out_ratings(split: Split, part: str) -> RatingTriples:
    """Return the ratings of the "valid" or "test" targets, by ascending user."""
    split.sequences.require_ratings("held_out_ratings")
    users, entries = split.target_entries(part)
    items = split.sequences.items[entries].astype(np.int64)
    return RatingTriples(users, items, split.sequences.ratings[entries])


def random_holdout(
    ratings: pd.DataFrame,
    test_share: float = 0.1,
    valid_share: float = 0.05,
    seed: int = 0,
    ordering: str = "exact-time",
    max_len: int | None = 200,
) -> tuple[Split, dict[str, np.ndarray]]:
    """Split ratings at random, each held-out one after its user's earlier training interactions.

    The test rows are those of `random_split(len(ratings), test_share, seed)`; `valid_share` is a
    share of the *others*. A held-out rating becomes a sequence of its own: the last `max_len`
    *training* interactions of its user before it (all with None, at 16 bytes each), then the
    held-out one. One without earlier training interactions is left out.

    The random split itself leaks the future, because others' later ratings train the embeddings.
    The history does not, which handicaps a sequence model against matrix factorisation here.

    The users' training histories come first, then the held-out ones; `sequences.user_ids[user]` is
    the original user of each, repeated. Also return the rows of the table in "train", "valid" and
    "test", in the order of `train_ratings` and `held_out_ratings`, to judge other models on them.
    """
    _check_share("valid_share", valid_share)
    check_integer("max_len", 1 if max_len is None else max_len, 1)
    ratings = validate_ratings(ratings, source="ratings")
    rest, test = random_split(len(ratings), test_share, seed)
    if len(rest) < 2:
        raise DataError(f"random_holdout: {len(ratings)} ratings are too few to hold any out.")
    part_of = np.zeros(len(ratings), dtype=np.int8)
    part_of[test] = 2
    part_of[rest[random_split(len(rest), valid_share, seed + 1).test]] = 1

    whole, rows = sort_histories(ratings, ordering)
    whole.require_ratings("random_holdout")
    part_of = part_of[rows]  # by entry of `whole` from here on
    owner = np.repeat(np.arange(whole.n_users), whole.lengths)
    trained = np.flatnonzero(part_of == 0)  # entries of the training part, by user and time
    n_trained = np.bincount(owner[trained], minlength=whole.n_users)
    first = np.cumsum(n_trained) - n_trained  # where each user's entries begin in `trained`
    before = np.cumsum(part_of == 0)  # training entries ahead of each held-out entry
    pieces, owners, lengths = [trained], [np.arange(whole.n_users)], [n_trained]
    report: dict[str, int | float] = {"rows": len(ratings), "users": whole.n_users}
    report["items"], held_out = whole.n_items, {}
    for code, part in enumerate(PARTS, start=1):
        entries = np.flatnonzero(part_of == code)
        count = before[entries] - first[owner[entries]]
        report[f"{part}_without_history"] = int((count == 0).sum())
        entries, count = entries[count > 0], count[count > 0]
        if len(entries) == 0:
            raise DataError(
                f"random_holdout: no {part} rating has an earlier training rating of its user; "
                "there are too few ratings, or the share is too small."
            )
        count = count if max_len is None else np.minimum(count, max_len)
        held_out[part] = (np.arange(len(entries)) + sum(map(len, owners)), count)
        pieces.append(_windows(trained, before[entries] - count, count, entries))
        owners.append(owner[entries])
        lengths.append(count + 1)
    entries, lengths = np.concatenate(pieces), np.concatenate(lengths)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    by_entry = (whole.items[entries], whole.times[entries], whole.ratings[entries])
    user_ids = whole.user_ids[np.concatenate(owners)]
    sequences = Sequences(*by_entry, offsets, user_ids, whole.item_ids, ordering)
    timestamps = ratings["timestamp"].to_numpy()[rows[entries]]
    train_end = np.where(np.arange(len(lengths)) < whole.n_users, lengths, 0)
    split = Prepared(sequences, timestamps, 0, report).split("random", train_end, held_out)
    targets = {part: rows[entries[split.target_entries(part)[1]]] for part in PARTS}
    return split, {"train": rows[trained]} | targets


def _fold(n_ratings: int, test: np.ndarray) -> RatingFold:
    return RatingFold(np.delete(np.arange(n_ratings), test), np.sort(test))


def _windows(trained: np.ndarray, begin: np.ndarray, count: np.ndarray, last: np.ndarray):
    """Return entries `trained[begin : begin + count]` and then `last`, window after window."""
    end = np.cumsum(count + 1)
    within = np.arange(end[-1]) - np.repeat(end - count - 1, count + 1)
    index = np.repeat(begin, count + 1) + within
    entries = trained[np.minimum(index, len(trained) - 1)]
    entries[end - 1] = last
    return entries


def _check_share(name: str, share: object) -> None:
    if not isinstance(share, (float, np.floating)) or not 0 < share < 1:
        raise ValueError(f"{name}={share!r}: expected a share above 0 and below 1.")
