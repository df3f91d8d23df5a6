"""What a rating model is compared with: a mean, biases, matrix factorisation, SVD++.

All are fitted on triples (user, item, rating), know nothing of time, and predict

    GlobalMean     mu
    BiasBaseline   mu + b_u + b_i                                       Koren 2010, in NumPy
    BiasedMF       mu + b_u + b_i + q_i . p_u                           Surprise's `SVD`
    SVDPlusPlus    mu + b_u + b_i + q_i . (p_u + |I_u|^-1/2 sum y_j)    Surprise's `SVDpp`

The last two are Surprise's (1.1.5, in the extra `peers`); here they get one interface, and
predictions for whole vectors. Defaults are Surprise's, the ones behind its published table. Users
and items are any integers; an unknown one has bias 0 and no factors. Predictions are clipped to
the range of the training ratings, as Surprise clips them; `scores`, to rank by, are not. Two more
with this interface: `bayesian_fm.BayesianFM` and `neural_cf_rating.RatingNeuralCF`.

Glossary: mu global mean, b bias, I_u the items user u rated in training, y_j what having rated j
says about a user.
"""

from __future__ import annotations

import abc
import importlib
from types import ModuleType
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy import sparse


def library(name: str) -> ModuleType:
    """A package of the extra `peers`.

    Raises:
        ImportError: It is not installed, or not whole; says what to install.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"this baseline is the package {name!r}, which cannot be imported here ({error}): "
            'pip install -e ".[peers]"'
        ) from error


class RatingBaseline(abc.ABC):
    """`fit(users, items, ratings)`, then `predict(users, items)` or `scores(users, items)`."""

    reads_histories: ClassVar[bool] = False

    def fit(self, users: np.ndarray, items: np.ndarray, ratings: np.ndarray) -> RatingBaseline:
        """Learn from the training ratings.

        Args:
            users: (n,) integers.
            items: (n,) integers.
            ratings: (n,) finite numbers.

        Returns:
            Itself.

        Raises:
            ValueError: nothing to learn from, vectors of different lengths, ids that are not
                integers, ratings that are not finite.
            ImportError: the library behind it is not installed; says what to install.
        """
        users, items = _ids(users, items)
        ratings = np.asarray(ratings, dtype=np.float64)
        if ratings.shape != users.shape or len(ratings) == 0:
            raise ValueError(
                f"ratings has shape {ratings.shape}, users {users.shape}: expected as many of one "
                "as of the other, and at least one"
            )
        if not np.isfinite(ratings).all():
            bad = int((~np.isfinite(ratings)).sum())
            raise ValueError(f"{bad} of {len(ratings)} ratings are NaN or infinite: drop them")
        self.low, self.high = float(ratings.min()), float(ratings.max())
        self.mean = float(ratings.mean())
        self.user_ids, user = np.unique(users, return_inverse=True)
        self.item_ids, item = np.unique(items, return_inverse=True)
        self._fit(user, item, ratings)
        return self

    def predict(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Ratings expected, within the range of the training ratings.

        Args:
            users: (n,) integers.
            items: (n,) integers.

        Returns:
            (n,) float64.

        Raises:
            ValueError: vectors of different lengths, ids that are not integers, or not fitted.
        """
        users, items = _ids(users, items)
        found = self._predict(*self._known(users, items))
        return np.clip(found, self.low, self.high)

    def scores(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """What `predict` clips, for every user with every item: to rank items by.

        Clipped predictions tie at the end of the scale, where a ranking begins.

        Args:
            users: (U,) integers.
            items: (V,) integers.

        Returns:
            (U, V) float64.

        Raises:
            ValueError: ids that are not integers, or not fitted.
        """
        users, items = _ids(users, users)[0], _ids(items, items)[0]
        return self._scores(*self._known(users, items))

    def _known(self, users: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of ids; ValueError when nothing was learned."""
        if not hasattr(self, "mean"):
            raise ValueError(f"{type(self).__name__} has not been fitted: call fit first")
        return _places(self.user_ids, users), _places(self.item_ids, items)

    @abc.abstractmethod
    def _fit(self, user: np.ndarray, item: np.ndarray, ratings: np.ndarray) -> None:
        """Learn from places in `user_ids` and `item_ids`."""

    @abc.abstractmethod
    def _predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Predictions for such places; unknown ids have the place after the last."""

    def _scores(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Predictions for every pair of such places, (U, V)."""
        pairs = np.repeat(user, len(item)), np.tile(item, len(user))
        return self._predict(*pairs).reshape(len(user), len(item))


class GlobalMean(RatingBaseline):
    """mu for everybody and everything: what knowing nobody is worth."""

    def _fit(self, user: np.ndarray, item: np.ndarray, ratings: np.ndarray) -> None:
        """`fit` has taken the mean."""

    def _predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return np.full(len(user), self.mean)


class BiasBaseline(RatingBaseline):
    """mu + b_u + b_i by alternating regularised means.

    Minimises the squared error plus reg_u sum b_u^2 + reg_i sum b_i^2 over one kind of bias at a
    time, items first: b_i = sum (r - mu - b_u) / (reg_i + n_i). Koren, "Factor in the Neighbors",
    TKDD 2010, section 2.1; the same iteration as Surprise's `BaselineOnly` with `als`, to rounding.

    Args:
        n_epochs: rounds over both kinds.
        reg_u: pulls users' biases to 0: as many ratings of the mean.
        reg_i: the same for items.

    Attributes:
        user_bias: (n_users,) by place in `user_ids`.
        item_bias: (n_items,) by place in `item_ids`.
    """

    def __init__(self, n_epochs: int = 10, reg_u: float = 15, reg_i: float = 10) -> None:
        self.n_epochs, self.reg_u, self.reg_i = n_epochs, reg_u, reg_i

    def _fit(self, user: np.ndarray, item: np.ndarray, ratings: np.ndarray) -> None:
        deviation = ratings - self.mean
        n_user, n_item = np.bincount(user), np.bincount(item)
        self.user_bias = np.zeros(len(n_user))
        for _ in range(self.n_epochs):
            rest = np.bincount(item, weights=deviation - self.user_bias[user])
            self.item_bias = rest / (self.reg_i + n_item)
            rest = np.bincount(user, weights=deviation - self.item_bias[item])
            self.user_bias = rest / (self.reg_u + n_user)

    def _predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return self.mean + _or_zero(self.user_bias)[user] + _or_zero(self.item_bias)[item]


class BiasedMF(RatingBaseline):
    """Matrix factorisation with biases by stochastic gradient descent: Surprise's `SVD`.

    Args:
        n_factors: width of p_u and q_i.
        n_epochs: passes over the ratings.
        lr_all: learning rate of everything.
        reg_all: L2 penalty of everything.
        init_std_dev: of the initial factors; biases start at 0.
        seed: of the initial factors.
    """

    def __init__(
        self,
        n_factors: int = 100,
        n_epochs: int = 20,
        lr_all: float = 0.005,
        reg_all: float = 0.02,
        init_std_dev: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.options = {
            "n_factors": n_factors, "n_epochs": n_epochs, "lr_all": lr_all,
            "reg_all": reg_all, "init_std_dev": init_std_dev,
        }  # fmt: skip
        self.seed = seed

    def _fit(self, user: np.ndarray, item: np.ndarray, ratings: np.ndarray) -> None:
        surprise = library("surprise")
        self.algorithm = self._algorithm(surprise)
        table = pd.DataFrame({"user": user, "item": item, "rating": ratings})
        reader = surprise.Reader(rating_scale=(self.low, self.high))
        trainset = surprise.Dataset.load_from_df(table, reader).build_full_trainset()
        self.algorithm.fit(trainset)
        # Surprise numbers users and items as it meets them; the rows are put in our order.
        of_user = [trainset.to_inner_uid(u) for u in range(len(self.user_ids))]
        of_item = [trainset.to_inner_iid(i) for i in range(len(self.item_ids))]
        self.user_bias = np.asarray(self.algorithm.bu)[of_user]
        self.item_bias = np.asarray(self.algorithm.bi)[of_item]
        self.user_factors = np.asarray(self.algorithm.pu)[of_user]  # (n_users, f)
        self.item_factors = np.asarray(self.algorithm.qi)[of_item]  # (n_items, f)
        self._finish(of_item, user, item)

    def _algorithm(self, surprise: ModuleType) -> object:
        return surprise.SVD(**self.options, random_state=self.seed)

    def _finish(self, of_item: list[int], user: np.ndarray, item: np.ndarray) -> None:
        """What SVD++ adds to the users' factors."""

    def _predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        biases = self.mean + _or_zero(self.user_bias)[user] + _or_zero(self.item_bias)[item]
        p, q = _or_zero(self.user_factors), _or_zero(self.item_factors)
        return biases + np.einsum("nf,nf->n", p[user], q[item])

    def _scores(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        biases = _or_zero(self.user_bias)[user][:, None] + _or_zero(self.item_bias)[item]
        p, q = _or_zero(self.user_factors), _or_zero(self.item_factors)
        return self.mean + biases + p[user] @ q[item].T


class SVDPlusPlus(BiasedMF):
    """SVD++, Koren 2008: which items a user rated says something, whatever the rating.

    The cost of a pass is the sum of squared history lengths: minutes for MovieLens-1M.

    Args:
        n_factors: width of p_u, q_i and y_j.
        n_epochs: passes over the ratings.
        lr_all: learning rate of everything.
        reg_all: L2 penalty of everything.
        init_std_dev: of the initial factors; biases start at 0.
        seed: of the initial factors.
    """

    def __init__(
        self,
        n_factors: int = 20,
        n_epochs: int = 20,
        lr_all: float = 0.007,
        reg_all: float = 0.02,
        init_std_dev: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(n_factors, n_epochs, lr_all, reg_all, init_std_dev, seed)

    def _algorithm(self, surprise: ModuleType) -> object:
        return surprise.SVDpp(**self.options, random_state=self.seed, cache_ratings=True)

    def _finish(self, of_item: list[int], user: np.ndarray, item: np.ndarray) -> None:
        implicit = np.asarray(self.algorithm.yj)[of_item]  # (n_items, f)
        self.user_factors = self.user_factors + rated(user, item) @ implicit


def rated(user: np.ndarray, item: np.ndarray) -> sparse.csr_matrix:
    """(n_users, n_items): |I_u|^-1/2 at the items a user rated, 0 elsewhere."""
    weights = 1 / np.sqrt(np.bincount(user))[user]
    return sparse.csr_matrix((weights, (user, item)))


def _ids(users: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    users, items = np.asarray(users), np.asarray(items)
    for name, ids in (("users", users), ("items", items)):
        if ids.dtype.kind not in "iu" or ids.shape != (users.size,):
            raise ValueError(
                f"{name} is {ids.dtype} of shape {ids.shape}: expected a vector of integers, users "
                "and items of one length"
            )
    return users, items


def _places(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Places of ids in the ascending `known`; its length for those it does not hold."""
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[place] == ids, place, len(known))


def _or_zero(values: np.ndarray) -> np.ndarray:
    """One row of 0 more, for unknown ids."""
    return np.concatenate([values, np.zeros((1, *values.shape[1:]))])
