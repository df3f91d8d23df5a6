"""Rating baselines with a vector per user and item.

    BiasedMF         mu + b_u + b_i + q_i . p_u                           Surprise's `SVD`
    SVDPlusPlus      mu + b_u + b_i + q_i . (p_u + |I_u|^-1/2 sum y_j)    Surprise's `SVDpp`
    BayesianFM       a factorisation machine, averaged over Gibbs draws   myFM
    RatingNeuralCF   mu + b_u + b_i + NeuMF(u, i)                         here, see `neural_cf`

The libraries, Surprise 1.1.5 and myFM 0.4.0, are in the extra `peers`. Glossary: mu global mean,
b bias, I_u the items user u rated in training, y_j the implicit factor of having rated j.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional as F

from ss4rec_lib.configuration import Count, NotNegative, Positive, Probability
from ss4rec_lib.models.base import ModelConfig, import_peer
from ss4rec_lib.models.neural_cf import PAIRS_AT_ONCE, NeuralCF, NeuralCFConfig, fit_epochs
from ss4rec_lib.models.rating_baselines import BiasBaseline, RatingBaseline, Triples, or_zero


class BiasedMFConfig(ModelConfig):
    """Options under Surprise's names, with the defaults behind its published table."""

    label = "SVD"
    n_factors: Count = 100
    n_epochs: Count = 20
    lr_all: Positive = 0.005  # learning rate, and below it the L2 penalty, of everything
    reg_all: NotNegative = 0.02
    init_std_dev: NotNegative = 0.1


class SVDPlusPlusConfig(BiasedMFConfig):
    """Options of SVD++, with Surprise's defaults."""

    label = "SVD++"
    n_factors: Count = 20
    lr_all: Positive = 0.007


class BiasedMF(RatingBaseline):
    """Matrix factorisation with biases by stochastic gradient descent: Surprise's `SVD`."""

    config_type = BiasedMFConfig
    requires = "surprise"
    algorithm = "SVD"

    def _fit(self, train: Triples, valid: Triples | None) -> None:
        user, item, ratings = train
        surprise: Any = import_peer("surprise")
        self.n_passes = self.config.n_epochs
        options = self.config.model_dump() | {"random_state": self.seed}
        options |= {"cache_ratings": True} if self.algorithm == "SVDpp" else {}
        table = pd.DataFrame({"user": user, "item": item, "rating": ratings})
        reader = surprise.Reader(rating_scale=(self.low, self.high))
        trainset = surprise.Dataset.load_from_df(table, reader).build_full_trainset()
        algorithm = getattr(surprise, self.algorithm)(**options).fit(trainset)
        # In our order, not as Surprise met them, with a last row of zeros for unknown ones.
        of_user = [trainset.to_inner_uid(u) for u in range(len(self.user_ids))]
        of_item = [trainset.to_inner_iid(i) for i in range(len(self.item_ids))]
        self.user_bias = or_zero(algorithm.bu[of_user])
        self.item_bias = or_zero(algorithm.bi[of_item])
        self.item_factors = or_zero(algorithm.qi[of_item])  # (n_items + 1, f)
        p = algorithm.pu[of_user]
        if hasattr(algorithm, "yj"):  # what the rated items add to the factors of each user
            p = p + rated(user, item) @ algorithm.yj[of_item]
        self.user_factors = or_zero(p)  # (n_users + 1, f)

    def _predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        biases = self.mean + self.user_bias[user] + self.item_bias[item]
        return biases + np.einsum("nf,nf->n", self.user_factors[user], self.item_factors[item])

    def _scores(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        biases = self.user_bias[user][:, None] + self.item_bias[item]
        return self.mean + biases + self.user_factors[user] @ self.item_factors[item].T


class SVDPlusPlus(BiasedMF):
    """SVD++, Koren 2008: which items a user rated says something, whatever the rating.

    The cost of a pass is the sum of squared history lengths: minutes for MovieLens-1M.
    """

    config_type = SVDPlusPlusConfig
    algorithm = "SVDpp"


class BayesianFMConfig(ModelConfig):
    """Options under myFM's names, and which features there are."""

    rank: Count = 8  # width of the factors
    n_iter: Count = 300  # Gibbs draws, of which the first half is burn-in
    # The other items a user rated and the other users who rated the item (both in training only)
    # are features too; several times slower.
    implicit: bool = False

    @property
    def display_name(self) -> str:
        """The name of the model in a table."""
        return "Bayesian FM" + (", implicit feedback" if self.implicit else "")


class BayesianFM(RatingBaseline):
    """A factorisation machine under a Gaussian prior, averaged over Gibbs draws: myFM.

    Rendle, Zhang and Koren, "On the Difficulty of Evaluating Baselines", arXiv 1905.01395: with no
    option tuned but its width, it beat a decade of published rating models.
    """

    config_type = BayesianFMConfig
    requires = "myfm"

    def _fit(self, train: Triples, valid: Triples | None) -> None:
        user, item, ratings = train
        self._myfm: Any = import_peer("myfm")
        self.n_passes = n_iter = self.config.n_iter
        vars(self).pop("_parts", None)  # those of an earlier fit
        self._blocks: list[Any] = []
        shapes: list[int] = []
        for others in (rated(user, item), rated(item, user)):
            n = others.shape[0]
            features: list[Any] = [sparse.eye(n)] + [others] * self.config.implicit
            shapes += [part.shape[1] for part in features]
            block: Any = sparse.hstack(features, format="csr")
            block.resize(n + 1, block.shape[1])  # a last row, of zeros, for unknown ids
            self._blocks.append(block)
        self._fm = self._myfm.MyFMRegressor(self.config.rank, random_seed=self.seed)
        options = {"n_iter": n_iter, "n_kept_samples": max(1, n_iter // 2), "group_shapes": shapes}
        self._fm.fit(None, ratings, self._relations(user, item), **options)

    def _relations(self, user: np.ndarray, item: np.ndarray) -> list[Any]:
        make = self._myfm.RelationBlock
        return [make(at, block) for at, block in zip((user, item), self._blocks, strict=True)]

    def _predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return self._fm.predict(None, self._relations(user, item))

    def _scores(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        offset, (of_user, of_item), (p, q) = self._parts
        return offset + of_user[user][:, None] + of_item[item] + p[user] @ q[item].T

    @functools.cached_property
    def _parts(self) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
        """Return the mean over the draws as a constant, a part of each side, and factors.

        Of one draw, w0 + w . x + (|V' x|^2 - sum V_jf^2 x_j^2) / 2, with x the features of a user
        and of an item, is w0, a term of the user's features, the same of the item's, and
        (V'x)_user . (V'x)_item. The products of all draws are one product of longer vectors.
        """
        draws = self._fm.predictor_.samples
        offset = float(np.mean([draw.w0 for draw in draws]))
        own, factors, begin = [], [], 0
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


def rated(user: np.ndarray, item: np.ndarray) -> Any:
    """Return (n_users, n_items): |I_u|^-1/2 at the items a user rated, 0 elsewhere."""
    weights = 1 / np.sqrt(np.bincount(user))[user]
    return sparse.csr_matrix((weights, (user, item)))


class RatingNeuralCFConfig(ModelConfig):
    """Shape and training of NeuMF with biases."""

    label = "NeuralCF"
    mf_embedding_size: Count = 16
    mlp_embedding_size: Count = 16  # the perceptron's layers are twice and once as wide
    dropout_prob: Probability = 0.2
    epochs: Count = 30
    learning_rate: Positive = 1e-3
    weight_decay: NotNegative = 0.1  # AdamW's, of everything but biases
    batch_size: Count = 512
    patience: Count = 5  # epochs without a better validation RMSE


class RatingNeuralCF(RatingBaseline):
    """NeuMF with biases, by AdamW on the squared error; untrained it is the bias baseline."""

    config_type = RatingNeuralCFConfig
    chooses_epoch = True

    def _fit(self, train: Triples, valid: Any) -> None:
        (user, item, ratings), config = train, self.config
        torch.manual_seed(self.seed)
        rng = np.random.default_rng(self.seed)
        width = config.mlp_embedding_size
        same = config.model_dump(include={"mf_embedding_size", "dropout_prob"})
        shape = NeuralCFConfig(mlp_embedding_size=width, mlp_hidden_size=(2 * width, width), **same)
        self.net = net = NeuralCF(len(self.user_ids) + 1, len(self.item_ids) + 1, shape)
        # Unknown users and items have last rows of zeros, which no training pair changes.
        unknown = (t.weight[-1] for t in (net.user_mf, net.user_mlp, net.item_mf, net.item_mlp))
        for tensor in (*unknown, net.predict.weight, net.predict.bias):
            nn.init.zeros_(tensor)
        start = BiasBaseline().fit(user, item, ratings)
        biases = [torch.from_numpy(or_zero(b)).float() for b in (start.user_bias, start.item_bias)]
        self.biases = nn.ParameterList(biases)  # (n_users + 1,), (n_items + 1,)
        decayed = {"params": net.parameters(), "weight_decay": config.weight_decay}
        others = {"params": self.biases.parameters(), "weight_decay": 0.0}
        optimizer = torch.optim.AdamW([decayed, others], lr=config.learning_rate)
        users, items, actual = map(torch.from_numpy, (user, item, ratings.astype(np.float32)))

        def steps() -> Iterable[tuple[Tensor, int]]:
            for picked in torch.from_numpy(rng.permutation(len(user))).split(config.batch_size):
                found = self._pairs(users[picked], items[picked])
                yield F.mse_loss(found, actual[picked]), len(picked)

        def validate(_: nn.Module) -> dict[str, float]:
            error = self.predict(valid[0], valid[1]) - valid[2]
            return {"rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.abs(error).mean())}

        network, check = nn.ModuleList([net, self.biases]), None if valid is None else validate
        rows, self.best_epoch = fit_epochs(network, optimizer, steps, check, config, "rmse", -1)
        self.history = [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]
        self.n_passes = len(rows)

    def _pairs(self, user: Tensor, item: Tensor) -> Tensor:
        of_user, of_item = self.biases
        biases = of_user[user] + of_item[item]
        return self.mean + biases + self.net.pairs(user, item + 1)  # its items begin at 1

    @torch.no_grad()
    def _predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        parts = zip(*(torch.from_numpy(a).split(PAIRS_AT_ONCE) for a in (user, item)), strict=True)
        return np.concatenate([self._pairs(*part).double().numpy() for part in parts])

    @torch.no_grad()
    def _scores(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        users, (of_user, of_item) = torch.from_numpy(user), self.biases
        biases = of_user[users, None] + of_item  # (U, n_items + 1)
        found = self.mean + biases + self.net.user_scores(users)[:, 1:]
        return found[:, item].double().numpy()
