"""Matrix factorisation of who chose what: ALS and BPR, trained by the library `implicit`.

ALS: Hu, Koren & Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008. With
item factors Y, a user of history S is folded in by least squares, the chosen items with confidence
alpha and all others with confidence 1:

    x = (Y^T Y + (alpha - 1) sum_S y_j y_j^T + regularization I)^-1  alpha sum_S y_j
    score(i) = x . y_i

so the scores depend on the history alone, and the latest items of held-out users count.

BPR: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009 (arXiv
1205.2618). Its user factors are learned, so it scores users of the training part, not histories.

`implicit` is needed for training only; factors are ordinary buffers of the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ss4rec_lib.configuration import Count, NotNegative, Positive
from ss4rec_lib.models.base import Baseline, ModelConfig, import_peer
from ss4rec_lib.models.neighbours import distinct, interaction_matrix

if TYPE_CHECKING:
    from ss4rec_lib.data import Batch, Split
    from ss4rec_lib.training import TrainingConfig


class ALSConfig(ModelConfig):
    """Options of alternating least squares, under `implicit`'s names.

    `alpha` is the confidence of a chosen item; that of any other is 1 (c = 1 + 40 in the paper).
    """

    factors: Count = 64
    regularization: Positive = 0.01
    alpha: Positive = 10.0
    iterations: Count = 15


class MatrixBPRConfig(ModelConfig):
    """Options of matrix factorisation with BPR, under `implicit`'s names."""

    label = "BPR-MF"

    factors: Count = 64
    regularization: NotNegative = 0.01
    iterations: Count = 100


class _Factorisation(Baseline):
    requires = "implicit"
    item_table = "item_factors"

    @classmethod
    def for_tensors(cls, n_items: int, config: Any, tensors: Mapping[str, Tensor]) -> Self:
        """Return a model with the saved factors, which its constructor takes by name."""
        make: Any = cls
        try:
            return make(**tensors, config=config)
        except TypeError as error:
            raise ValueError(f"its tensors are {', '.join(tensors)}") from error


class ALS(_Factorisation):
    """Scores from a user's factors, which are computed anew from the history.

    Args:
        item_factors: Y, (n_items + 1, factors); row 0, padding, is ignored.
        config: The options they were learned with.
    """

    trained_with = ("max_len",)
    config_type = ALSConfig
    config: ALSConfig
    item_factors: Tensor

    def __init__(self, item_factors: np.ndarray | Tensor, config: ALSConfig | None = None) -> None:
        super().__init__(len(item_factors) - 1, config)
        factors = torch.as_tensor(item_factors, dtype=torch.float64).clone()
        if factors.ndim != 2 or factors.shape[1] != self.config.factors:
            raise ValueError(
                f"item_factors has shape {tuple(factors.shape)}, expected (n_items + 1, "
                f"factors={self.config.factors})"
            )
        factors[0] = 0
        # float64: the normal equations of long histories are badly conditioned.
        self.register_buffer("item_factors", factors)

    @classmethod
    def fitted_to(cls, split: Split, config: Any, training: TrainingConfig) -> Self:
        """Learn item factors from the training part."""
        return cls.learned(interaction_matrix(split), config, training.seed)

    @classmethod
    def learned(
        cls, matrix: sparse.csr_array, config: ALSConfig | None = None, seed: int = 0
    ) -> Self:
        """Return a model of `interaction_matrix(split)`, a matrix (n_users, n_items + 1) of ones.

        Raises:
            ImportError: `implicit` is not installed; the message says how to install it.
            FloatingPointError: The factors are not finite.
        """
        config = config or ALSConfig()
        options = {"random_state": seed, **config.model_dump()}
        return cls(_factors("als", "AlternatingLeastSquares", matrix, options)[1], config)

    def user_factors(self, history: Tensor) -> Tensor:
        """Map item ids (..., W), 0 for none, to factors (..., factors)."""
        Y, config = self.item_factors, self.config
        chosen = Y[distinct(history)]  # (..., W, factors); repeats and padding are rows of 0
        system = Y.T @ Y + (config.alpha - 1) * chosen.mT @ chosen  # (..., factors, factors)
        identity = torch.eye(config.factors, dtype=Y.dtype, device=Y.device)
        wanted = config.alpha * chosen.sum(-2)  # (..., factors)
        return torch.linalg.solve(system + config.regularization * identity, wanted)

    def history_scores(self, history: Tensor) -> Tensor:
        """Map item ids (..., W) to scores (..., n_items + 1) float64."""
        return self.user_factors(history) @ self.item_factors.T

    def scores(self, batch: Batch) -> Tensor:
        """Return the scores after each row's history, (B, n_items + 1) float64."""
        return self.history_scores(batch.items)


class MatrixBPR(_Factorisation):
    """Scores from learned factors of the users of the training part.

    Args:
        user_factors: (n_users, f).
        item_factors: (n_items + 1, f); row 0 is padding, item biases are among the columns.
        config: The options they were learned with.
    """

    needs_known_users = True
    reads_histories = False
    trained_with = ("learning_rate",)
    config_type = MatrixBPRConfig
    user_factors: Tensor
    item_factors: Tensor

    def __init__(
        self,
        user_factors: np.ndarray | Tensor,
        item_factors: np.ndarray | Tensor,
        config: MatrixBPRConfig | None = None,
    ) -> None:
        users, items = torch.as_tensor(user_factors), torch.as_tensor(item_factors)
        if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
            raise ValueError(
                f"user_factors has shape {tuple(users.shape)}, item_factors {tuple(items.shape)}: "
                "expected (n_users, f) and (n_items + 1, f)"
            )
        super().__init__(len(items) - 1, config)
        self.register_buffer("user_factors", users.clone())
        self.register_buffer("item_factors", items.clone())

    @classmethod
    def fitted_to(cls, split: Split, config: Any, training: TrainingConfig) -> Self:
        """Learn factors of users and items from the training part."""
        matrix = interaction_matrix(split)
        return cls.learned(matrix, config, training.learning_rate, training.seed)

    @classmethod
    def learned(
        cls,
        matrix: sparse.csr_array,
        config: MatrixBPRConfig | None = None,
        learning_rate: float = 0.01,
        seed: int = 0,
    ) -> Self:
        """Do as `ALS.learned`, by stochastic gradient descent in one thread and so repeatably."""
        config = config or MatrixBPRConfig()
        options = {"learning_rate": learning_rate, "random_state": seed, "num_threads": 1}
        options |= config.model_dump()
        return cls(*_factors("bpr", "BayesianPersonalizedRanking", matrix, options), config)

    def scores(self, batch: Batch) -> Tensor:
        """Return the scores of each row's user, (B, n_items + 1)."""
        return self.user_factors[batch.users] @ self.item_factors.T


def _factors(
    module: str, kind: str, matrix: sparse.csr_array, options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the factors that `implicit` learns, of users and of padding and items."""
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
    if not all(np.isfinite(f).all() for f in (model.user_factors, model.item_factors)):
        raise FloatingPointError(
            f"the factors of {kind} are not finite with {options}: try a smaller learning_rate or "
            "alpha, or a larger regularization"
        )
    padding = np.zeros_like(model.item_factors[:1])
    return model.user_factors, np.concatenate((padding, model.item_factors))
