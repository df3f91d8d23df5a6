"""A Bayesian factorisation machine for ratings, the library myFM's (0.4.0, in the extra `peers`).

Fitted on triples (user, item, rating) like the models of `rating_baselines`, and used like them.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from ss4rec_lib.models.rating_baselines import RatingBaseline, library, rated


class BayesianFM(RatingBaseline):
    """A factorisation machine under a Gaussian prior, averaged over Gibbs draws: myFM.

    Rendle, Zhang and Koren, "On the Difficulty of Evaluating Baselines", arXiv 1905.01395: tuned by
    nothing but its width, it beat a decade of published rating models. `implicit` adds, as they
    do, what else the user rated and who else rated the item (both in training only).

    Args:
        rank: width of the factors.
        n_iter: Gibbs draws.
        implicit: whether to add those features; several times slower.
        seed: of the draws.
    """

    def __init__(
        self, rank: int = 8, n_iter: int = 300, implicit: bool = False, seed: int = 0
    ) -> None:
        self.rank, self.n_iter, self.implicit, self.seed = rank, n_iter, implicit, seed

    def _fit(self, user: np.ndarray, item: np.ndarray, ratings: np.ndarray) -> None:
        self._myfm = library("myfm")
        self._parts = None
        n_users, n_items = len(self.user_ids), len(self.item_ids)
        by_user, by_item = rated(user, item), rated(item, user)
        # One row for each user, and a last one, all 0, for everybody unknown.
        self._blocks = tuple(
            sparse.vstack(
                [
                    sparse.hstack([sparse.eye(n), other]) if self.implicit else sparse.eye(n),
                    sparse.csr_matrix((1, n + other.shape[1] * self.implicit)),
                ],
                format="csr",
            )
            for n, other in ((n_users, by_user), (n_items, by_item))
        )
        shapes = [n_users, n_items, n_items, n_users] if self.implicit else [n_users, n_items]
        self._fm = self._myfm.MyFMRegressor(self.rank, random_seed=self.seed)
        self._fm.fit(
            None,
            ratings,
            X_rel=self._relations(user, item),
            n_iter=self.n_iter,
            n_kept_samples=max(1, self.n_iter // 2),  # the first half is burn-in
            group_shapes=shapes,
        )

    def _relations(self, user: np.ndarray, item: np.ndarray) -> list[object]:
        pairs = zip((user, item), self._blocks, strict=True)
        return [self._myfm.RelationBlock(np.asarray(at), block) for at, block in pairs]

    def _predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return self._fm.predict(None, self._relations(user, item))

    def _scores(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        if self._parts is None:
            self._parts = self._split_draws()
        offset, (of_user, of_item), (p, q) = self._parts
        return offset + of_user[user][:, None] + of_item[item] + p[user] @ q[item].T

    def _split_draws(self) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
        """The mean over the draws as a constant, a part of each side, and one inner product.

        Of one draw, with x the features of a user and an item behind one another,

            w0 + w . x + (|V' x|^2 - sum V_jf^2 x_j^2) / 2

        is w0, a term of the user's features, the same of the item's, and (V'x)_user . (V'x)_item.
        The products of all draws are one product of longer vectors.
        """
        draws = self._fm.predictor_.samples
        offset = float(np.mean([draw.w0 for draw in draws]))
        own, factors = [], []
        begin = 0
        for block in self._blocks:
            end = begin + block.shape[1]
            squared, alone, vectors = block.multiply(block).tocsr(), 0.0, []
            for draw in draws:
                w, v = np.asarray(draw.w)[begin:end], np.asarray(draw.V)[begin:end]
                vector = block @ v  # (n + 1, rank)
                square = (vector**2).sum(1) - (squared @ v**2).sum(1)
                alone = alone + (block @ w + square / 2) / len(draws)
                vectors.append(vector / np.sqrt(len(draws)))
            own.append(alone)
            factors.append(np.concatenate(vectors, axis=1))  # (n + 1, draws * rank)
            begin = end
        return offset, own, factors
