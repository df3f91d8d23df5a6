"""The interface of rating baselines, and the two simplest: the global mean, and biases.

Users and items are any integers; an unknown one has bias 0 and no factors. Predictions are clipped
to the range of the training ratings, as Surprise clips them; `scores` are not, since clipped ones
tie at the end of the scale, where a ranking begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from ss4rec_lib.configuration import Count, NotNegative
from ss4rec_lib.models.base import ModelConfig

Triples = Sequence[np.ndarray]  # users, items, ratings


class RatingBaseline:
    """`fit(users, items, ratings)`, then `predict(users, items)` or `scores(users, items)`."""

    # See `ss4rec_lib.models.Recommender`.
    reads_histories: ClassVar[bool] = False
    fitted: ClassVar[bool] = True
    learns: ClassVar[bool] = False
    chooses_epoch: ClassVar[bool] = False
    trained_with: ClassVar[tuple[str, ...] | None] = ()
    requires: ClassVar[str | None] = None
    config_type: ClassVar[type[ModelConfig]]

    config: Any

    def __init__(self, config: ModelConfig | None = None, seed: int = 0) -> None:
        self.config = config or self.config_type()
        self.seed = seed
        self.history: list[dict[str, float]] = []  # one row per epoch, if validation chooses one
        self.best_epoch = 0  # the epoch whose weights the model has, from 1; 0 if none was chosen
        self.n_passes = 0  # over the ratings, or draws, that fitting took
        self.mean: float | None = None

    def fit(
        self, users: ArrayLike, items: ArrayLike, ratings: ArrayLike, valid: Triples | None = None
    ) -> Self:
        """Learn from vectors of one length, and return the model; `valid` may choose the epoch."""
        users, items = _ids(users, items)
        ratings = np.asarray(ratings, dtype=np.float64)
        if ratings.shape != users.shape or len(ratings) == 0:
            shapes = f"ratings has shape {ratings.shape}, users {users.shape}"
            raise ValueError(f"{shapes}: expected as many of one as of the other, at least one")
        if bad := int((~np.isfinite(ratings)).sum()):
            raise ValueError(f"{bad} of {len(ratings)} ratings are NaN or infinite: drop them")
        self.low, self.high = float(ratings.min()), float(ratings.max())
        self.mean = float(ratings.mean())
        self.user_ids, user = np.unique(users, return_inverse=True)
        self.item_ids, item = np.unique(items, return_inverse=True)
        self._fit((user, item, ratings), valid)
        return self

    def predict(self, users: ArrayLike, items: ArrayLike) -> np.ndarray:
        """Return expected ratings of pairs, (n,), within the range of the training ratings."""
        return np.clip(self._predict(*self._known(*_ids(users, items))), self.low, self.high)

    def scores(self, users: ArrayLike, items: ArrayLike) -> np.ndarray:
        """Return unclipped ratings of users (U,) with items (V,), (U, V), to rank items by."""
        users, items = _ids(users, users)[0], _ids(items, items)[0]
        return self._scores(*self._known(users, items))

    def _known(self, users: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.mean is None:
            raise ValueError(f"{type(self).__name__} has not been fitted: call fit first")
        return _places(self.user_ids, users), _places(self.item_ids, items)

    def _fit(self, train: Triples, valid: Triples | None) -> None:
        """Learn from places in `user_ids` and `item_ids`, and ratings; `valid` has ids."""

    def _predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return predictions for such places; unknown ids have the place after the last."""
        raise NotImplementedError

    def _scores(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return predictions for every pair of such places, (U, V)."""
        pairs = np.repeat(user, len(item)), np.tile(item, len(user))
        return self._predict(*pairs).reshape(len(user), len(item))


class GlobalMeanConfig(ModelConfig):
    """The mean has no options."""

    label = "Global mean"


class GlobalMean(RatingBaseline):
    """Predict the global mean, the floor for any rating model."""

    config_type = GlobalMeanConfig

    def _predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return np.full(len(user), self.mean)


class BiasConfig(ModelConfig):
    """Options: rounds over both kinds of bias, and the strength of their pull to 0, in ratings."""

    label = "Bias baseline"
    n_epochs: Count = 10
    reg_u: NotNegative = 15.0
    reg_i: NotNegative = 10.0


class BiasBaseline(RatingBaseline):
    """mu + b_u + b_i by alternating regularised means, items first.

    b_i = sum (r - mu - b_u) / (reg_i + n_i), and b_u likewise. Koren, "Factor in the Neighbors",
    TKDD 2010, section 2.1; the same iteration as Surprise's `BaselineOnly` with `als`, to rounding.
    `user_bias` and `item_bias` stand in the order of `user_ids` and `item_ids`.
    """

    config_type = BiasConfig

    def _fit(self, train: Triples, valid: Triples | None) -> None:
        (user, item, ratings), config = train, self.config
        self.n_passes = config.n_epochs
        deviation = ratings - self.mean
        n_user, n_item = np.bincount(user), np.bincount(item)
        self.user_bias = np.zeros(len(n_user))
        for _ in range(config.n_epochs):
            rest = np.bincount(item, weights=deviation - self.user_bias[user])
            self.item_bias = rest / (config.reg_i + n_item)
            rest = np.bincount(user, weights=deviation - self.item_bias[item])
            self.user_bias = rest / (config.reg_u + n_user)

    def _predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return self.mean + or_zero(self.user_bias)[user] + or_zero(self.item_bias)[item]


def _ids(users: ArrayLike, items: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    vectors = np.asarray(users), np.asarray(items)
    for name, ids in zip(("users", "items"), vectors, strict=True):
        if ids.dtype.kind not in "iu" or ids.shape != (vectors[0].size,):
            found = f"{name} is {ids.dtype} of shape {ids.shape}"
            raise ValueError(f"{found}: expected two vectors of integers, of one length")
    return vectors


def _places(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return places of ids in the ascending `known`; its length for unknown ones."""
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[place] == ids, place, len(known))


def or_zero(values: np.ndarray) -> np.ndarray:
    """Return the values with one row of zeros more, for unknown ids."""
    return np.concatenate([values, np.zeros((1, *values.shape[1:]))])
