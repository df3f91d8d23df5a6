"""The data of a rating experiment: what to train on, to choose by, and to be judged on.

Everybody learns from `train`, may choose by `valid`, and is judged on `test` once. Users are their
original ids, items the indices of the catalogue. Under `random` a held-out rating whose user has no
earlier training rating is left out for *all* models, since a sequence model has nothing to
predict it from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ss4rec_lib.data import (
    RatingTriples,
    Split,
    global_time_split,
    held_out_ratings,
    k_core,
    k_fold,
    leave_one_out,
    load_movielens,
    random_holdout,
    train_ratings,
)
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.rate_settings import FOLDS, RateSettings


@dataclass(frozen=True, eq=False)
class RatingParts:
    """One split into parts.

    Attributes:
        train: Users by original id, items and ratings.
        valid: The same; None where everything that is not tested is trained on.
        test: The same.
    """

    train: RatingTriples
    valid: RatingTriples | None
    test: RatingTriples

    @property
    def train_mean(self) -> float:
        """Mean of the training ratings."""
        return float(self.train.ratings.mean(dtype=np.float64))


@dataclass(frozen=True, eq=False)
class RatingData:
    """The data of an experiment.

    Attributes:
        parts: One, or a fold each.
        split: For sequence models; None with `5-fold`.
        protocol: What a figure must name for others to compare with it.
        verified: Whether the ratings are the published ones, by hash.
    """

    parts: list[RatingParts]
    split: Split | None
    protocol: dict[str, Any]
    verified: bool


def load_rating_data(settings: RateSettings, max_len: int | None = 200) -> RatingData:
    """Read and split the data of an experiment.

    Args:
        settings: Which data and which split.
        max_len: With `random`, the longest history kept before a held-out rating.

    Raises:
        ExperimentError: Ratings that are all equal: there is nothing to learn from them.
        DataError: The data set cannot be had, used or split so.
    """
    ratings = load_movielens(settings.dataset, path=settings.path)
    verified = bool(ratings.attrs["verified"])
    protocol: dict[str, Any] = {
        "split": settings.split,
        "ordering": settings.ordering,
        "min_interactions": settings.min_interactions,
    }
    split, order = None, (settings.ordering, settings.min_interactions)
    if settings.split == "5-fold":
        ratings = k_core(ratings, settings.min_interactions)
        parts = list(_folds(ratings, settings))
        protocol |= {"ordering": None, "catalogue": int(ratings["item_id"].nunique())}
        protocol |= {"folds": FOLDS, "folds_run": settings.folds}
        left_out = 0
    else:
        if settings.split == "leave-last-out":
            split = leave_one_out(ratings, *order)
            left_out = split.report["users_too_short"]
        elif settings.split == "global-time":
            split = global_time_split(ratings, *order)
            left_out = split.report["test_without_history"]
        else:
            ratings = k_core(ratings, settings.min_interactions)
            split, _ = random_holdout(
                ratings, seed=settings.seed, ordering=settings.ordering, max_len=max_len
            )
            left_out = split.report["test_without_history"]
        train, valid, test = (
            RatingTriples(split.sequences.user_ids[users], items, values)
            for users, items, values in (
                train_ratings(split),
                held_out_ratings(split, "valid"),
                held_out_ratings(split, "test"),
            )
        )
        parts = [RatingParts(train, valid, test)]
        protocol |= {"catalogue": split.sequences.n_items, "fingerprint": split.fingerprint()}
    for part in parts:
        if len(np.unique(part.train.ratings)) < 2:
            raise ExperimentError(
                f"all training ratings of {settings.dataset} are {part.train.ratings[0]:g}: there "
                "is nothing to learn from them; take a data set with different ratings"
            )
    protocol |= {
        "n_train": sum(len(part.train.ratings) for part in parts) // len(parts),
        "n_valid": 0 if parts[0].valid is None else len(parts[0].valid.ratings),
        "n_test": sum(len(part.test.ratings) for part in parts),
        "left_out": left_out,
    }
    return RatingData(parts, split, protocol, verified)


def _folds(ratings: pd.DataFrame, settings: RateSettings) -> Iterator[RatingParts]:
    columns = [
        ratings["user_id"].to_numpy().astype(np.int64),
        np.unique(ratings["item_id"].to_numpy(), return_inverse=True)[1] + 1,
        ratings["rating"].to_numpy(),
    ]
    for fold in k_fold(len(ratings), FOLDS, settings.seed)[: settings.folds]:
        train, test = (RatingTriples(*(c[rows] for c in columns)) for rows in fold)
        yield RatingParts(train, None, test)
