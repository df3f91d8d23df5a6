"""Matrix factorisation of who chose what: ALS and BPR, trained by the library `implicit`.

ALS: Hu, Koren & Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008. With
item factors Y, a user of history S is folded in by least squares, chosen items with confidence
alpha and all others with 1, so the scores depend on the history alone:

    x = (Y^T Y + (alpha - 1) sum_S y_j y_j^T + regularization I)^-1  alpha sum_S y_j
    score(i) = x . y_i

BPR: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009 (arXiv
1205.2618). Its user factors are learned, so it scores users of the training part, not histories.

`implicit` is needed for training only; factors are ordinary buffers of the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ss4rec_lib.configuration import Count, NotNegative, Positive
from ss4rec_lib.models.base import Baseline, ModelConfig, TrainingDiverged, import_peer
from ss4rec_lib.models.neighbours import distinct, interaction_matrix

if TYPE_CHECKING:
    from ss4rec_lib.data import Batch, Split
    from ss4rec_lib.training import TrainingConfig

Factors = np.ndarray | Tensor


class ALSConfig(ModelConfig):
    """Options of alternating least squares, under `implicit`'s names."""

    factors: Count = 64
    regularization: Positive = 0.01
    alpha: Positive = 10.0  # confidence of a chosen item, others have 1 (c = 1 + 40 in the paper)
    iterations: Count = 15


class MatrixBPRConfig(ModelConfig):
    """Options of matrix factorisation with BPR, under `implicit`'s names."""

    label = "BPR-MF"
    factors: Count = 64
    regularization: NotNegative = 0.01
    iterations: Count = 100


class _Factorisation(Baseline):
    """A model of factors, which its constructor takes by the names of its buffers."""

    learns = True
    requires = "implicit"
    item_table = "item_factors"
    algorithm: ClassVar[str]  # in `implicit.cpu`
    n_threads: ClassVar[int] = 0  # as many as there are

    @classmethod
    def for_tensors(cls, n_items: int, config: Any, tensors: Mapping[str, Any]) -> Self:
        """Return a model with the saved factors."""
        make: Any = cls
        return make(**tensors, config=config)

    @classmethod
    def _fitted(cls, split: Split, config: Any, training: TrainingConfig) -> Self:
        options = training.model_dump(include={"learning_rate"} & set(cls.trained_with or ()))
        return cls.learned(interaction_matrix(split), config, training.seed, **options)

    @classmethod
    def learned(
        cls, matrix: sparse.csr_array, config: Any = None, seed: int = 0, **options: Any
    ) -> Self:
        """Return a model of `interaction_matrix(split)`, a matrix (n_users, n_items + 1) of ones.

        `options` are given to `implicit` beside those of the configuration.
        """
        config = config or cls.config_type()
        options |= {"random_state": seed, "num_threads": cls.n_threads, **config.model_dump()}
        module, _, kind = cls.algorithm.partition(".")
        make = getattr(import_peer(f"implicit.cpu.{module}"), kind)
        from implicit.recommender_base import ModelFitError
        from threadpoolctl import threadpool_limits  # implicit imports it too

        # implicit has threads of its own, and warns when those of BLAS are on top of them.
        with threadpool_limits(1, "blas"):
            model = make(**options)
            # It wants the older matrix class, and 32-bit indices.
            wanted = sparse.csr_matrix(matrix[:, 1:], dtype=np.float32)
            with contextlib.suppress(ModelFitError):  # NaN; infinite numbers it lets pass
                model.fit(wanted, show_progress=False)
        users, items = model.user_factors, model.item_factors
        if not (np.isfinite(users).all() and np.isfinite(items).all()):
            remedy = "try a smaller learning_rate or alpha, or a larger regularization"
            raise TrainingDiverged(f"the factors of {kind} are not finite with {options}: {remedy}")
        padded = np.concatenate((np.zeros_like(items[:1]), items))
        known = {"user_factors": users} if cls.needs_known_users else {}
        return cls.for_tensors(len(items), config, {"item_factors": padded, **known})


class ALS(_Factorisation):
    """Scores from a user's factors, which are computed anew from the history.

    `item_factors` is Y, (n_items + 1, factors); row 0, padding, is ignored.
    """

    algorithm = "als.AlternatingLeastSquares"
    trained_with = ("max_len",)
    config_type = ALSConfig
    config: ALSConfig
    item_factors: Tensor

    def __init__(self, item_factors: Factors, config: ALSConfig | None = None) -> None:
        super().__init__(len(item_factors) - 1, config)
        factors = torch.as_tensor(item_factors, dtype=torch.float64).clone()
        if factors.ndim != 2 or factors.shape[1] != self.config.factors:
            wanted = f"(n_items + 1, factors={self.config.factors})"
            raise ValueError(f"item_factors has shape {tuple(factors.shape)}, expected {wanted}")
        factors[0] = 0
        # float64: the normal equations of long histories are badly conditioned.
        self.register_buffer("item_factors", factors)

    def user_factors(self, history: Tensor) -> Tensor:
        """Map item ids (..., W), 0 for none, to factors (..., factors)."""
        Y, config = self.item_factors, self.config
        chosen = Y[distinct(history)]  # (..., W, factors); repeats and padding are rows of 0
        system = Y.T @ Y + (config.alpha - 1) * chosen.mT @ chosen  # (..., factors, factors)
        system = system + config.regularization * torch.eye(config.factors).to(Y)
        return torch.linalg.solve(system, config.alpha * chosen.sum(-2))  # (..., factors)

    def scores(self, batch: Batch) -> Tensor:
        """Return the scores after each row's history, (B, n_items + 1) float64."""
        return self.user_factors(batch.items) @ self.item_factors.T


class MatrixBPR(_Factorisation):
    """Scores from learned factors: of users of the training part, (n_users, f), and of items.

    `item_factors` is (n_items + 1, f); row 0 is padding, item biases are among the columns.
    """

    algorithm = "bpr.BayesianPersonalizedRanking"
    n_threads = 1  # the steps of several would depend on their order
    needs_known_users = True
    reads_histories = False
    trained_with = ("learning_rate",)
    config_type = MatrixBPRConfig
    user_factors: Tensor
    item_factors: Tensor

    def __init__(
        self, user_factors: Factors, item_factors: Factors, config: MatrixBPRConfig | None = None
    ) -> None:
        users, items = torch.as_tensor(user_factors), torch.as_tensor(item_factors)
        if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
            found = f"user_factors {tuple(users.shape)}, item_factors {tuple(items.shape)}"
            raise ValueError(f"{found}: expected (n_users, f) and (n_items + 1, f)")
        super().__init__(len(items) - 1, config)
        self.register_buffer("user_factors", users.clone())
        self.register_buffer("item_factors", items.clone())

    def scores(self, batch: Batch) -> Tensor:
        """Return the scores of each row's user, (B, n_items + 1)."""
        return self.user_factors[batch.users] @ self.item_factors.T
