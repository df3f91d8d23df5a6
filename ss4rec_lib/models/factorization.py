"""Matrix factorisation of who chose what: ALS and BPR, trained by the library `implicit`.

ALS: Hu, Koren & Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008. With
item factors Y, a user of history S is folded in by least squares, the chosen items with confidence
alpha and all others with confidence 1:

    x = (Y^T Y + (alpha - 1) sum_S y_j y_j^T + regularization I)^-1  alpha sum_S y_j
    score(i) = x . y_i

so its hidden state is the history, as that of `ItemKNN`, and held-out users' latest items count.

BPR: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009 (arXiv
1205.2618). Its user factors are learned, so it scores users of the training part, not histories.

`implicit` is needed for training only: scores are computed here, from factors that are ordinary
buffers of the model.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from ss4rec_lib.models.base import Count, ModelConfig, NotNegative, Positive, check_size
from ss4rec_lib.models.neighbours import HistoryModel, distinct

if TYPE_CHECKING:
    from ss4rec_lib.data import Batch


class ALSConfig(ModelConfig):
    """Options of alternating least squares, under `implicit`'s names.

    Attributes:
        factors: Width of user and item factors.
        regularization: Weight of the squared factors.
        alpha: Confidence of a chosen item; that of any other is 1. (c = 1 + 40 in the paper.)
        iterations: Alternations.
        seed: Of the initial factors.
    """

    factors: Count = 64
    regularization: Positive = 0.01
    alpha: Positive = 10.0
    iterations: Count = 15
    seed: int = 0


class MatrixBPRConfig(ModelConfig):
    """Options of matrix factorisation with BPR, under `implicit`'s names.

    Attributes:
        factors: Width of user and item factors.
        learning_rate: Of stochastic gradient descent.
        regularization: Weight of the squared factors.
        iterations: Epochs.
        seed: Of initial factors and negatives. (Exactly repeatable with one thread only.)
    """

    factors: Count = 64
    learning_rate: Positive = 0.01
    regularization: NotNegative = 0.01
    iterations: Count = 100
    seed: int = 0

    @property
    def display_name(self) -> str:
        """The name of the model in a table."""
        return "BPR-MF"


class ALS(HistoryModel):
    """Scores from a user's factors, which are computed anew from the history.

    Args:
        item_factors: Y, (n_items + 1, factors); row 0, padding, is not looked at. `fit_als` learns
            them.
        config: The options they were learned with.

    Raises:
        ValueError: Factors of another shape than the configuration's.
    """

    def __init__(self, item_factors: np.ndarray | Tensor, config: ALSConfig | None = None) -> None:
        super().__init__(len(item_factors) - 1)
        self.config = config or ALSConfig()
        factors = torch.as_tensor(item_factors, dtype=torch.float64).clone()
        if factors.ndim != 2 or factors.shape[1] != self.config.factors:
            raise ValueError(
                f"item_factors has shape {tuple(factors.shape)}, expected (n_items + 1, "
                f"factors={self.config.factors})"
            )
        factors[0] = 0
        # float64: the normal equations of long histories are badly conditioned.
        self.register_buffer("item_factors", factors)

    def user_factors(self, history: Tensor) -> Tensor:
        """Item ids (..., W), 0 for none, to factors (..., factors)."""
        Y, config = self.item_factors, self.config
        chosen = Y[distinct(history)]  # (..., W, factors); repeats and padding are rows of 0
        system = Y.T @ Y + (config.alpha - 1) * chosen.mT @ chosen  # (..., factors, factors)
        identity = torch.eye(config.factors, dtype=Y.dtype, device=Y.device)
        wanted = config.alpha * chosen.sum(-2)  # (..., factors)
        return torch.linalg.solve(system + config.regularization * identity, wanted)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of all items, (..., W) item ids -> (..., n_items + 1) float64."""
        return self.user_factors(hidden) @ self.item_factors.T


class MatrixBPR(nn.Module):
    """Scores from learned factors of the users of the training part.

    Args:
        user_factors: (n_users, f).
        item_factors: (n_items + 1, f); row 0 is padding. `fit_matrix_bpr` learns both; item biases
            are among the columns.
        config: The options they were learned with.

    Raises:
        ValueError: Factors of different widths.
    """

    def __init__(
        self,
        user_factors: np.ndarray | Tensor,
        item_factors: np.ndarray | Tensor,
        config: MatrixBPRConfig | None = None,
    ) -> None:
        super().__init__()
        users, items = torch.as_tensor(user_factors), torch.as_tensor(item_factors)
        if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
            raise ValueError(
                f"user_factors has shape {tuple(users.shape)}, item_factors {tuple(items.shape)}: "
                "expected (n_users, f) and (n_items + 1, f)"
            )
        self.n_items = check_size("n_items", len(items) - 1)
        self.config = config or MatrixBPRConfig()
        self.register_buffer("user_factors", users.clone())
        self.register_buffer("item_factors", items.clone())

    def forward(self, items: Tensor, delta: Tensor) -> Tensor:
        """Not possible from a history.

        Raises:
            ValueError: Always, saying what to call instead.
        """
        raise ValueError(
            "MatrixBPR scores users, not histories: call last_hidden(batch), as evaluate_ranking "
            "does, or take ALS, which folds histories in"
        )

    def last_hidden(self, batch: Batch) -> Tensor:
        """The factors of each row's user, (B, f)."""
        return self.user_factors[batch.users]

    @property
    def score_weight(self) -> Tensor:
        """(n_items + 1, f), whose rows' inner products with user factors are the scores."""
        return self.item_factors

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of all items, (..., f) -> (..., n_items + 1); column 0 is padding."""
        return hidden @ self.score_weight.T


def fit_als(matrix: sparse.csr_array, config: ALSConfig | None = None) -> ALS:
    """Learn item factors from who chose what.

    Args:
        matrix: (n_users, n_items + 1) of ones, column 0 empty: `interaction_matrix(split)`.
        config: See `ALSConfig`.

    Raises:
        ImportError: `implicit` is not installed; the message says how to get it.
        FloatingPointError: The factors are not finite.
    """
    config = config or ALSConfig()
    fitted = _fitted(
        "als.AlternatingLeastSquares", matrix, factors=config.factors,
        regularization=config.regularization, alpha=config.alpha, iterations=config.iterations,
        random_state=config.seed,
    )  # fmt: skip
    return ALS(_with_padding(fitted.item_factors), config)


def fit_matrix_bpr(
    matrix: sparse.csr_array, config: MatrixBPRConfig | None = None, num_threads: int = 0
) -> MatrixBPR:
    """Learn user and item factors from who chose what.

    Args:
        matrix: (n_users, n_items + 1) of ones, column 0 empty: `interaction_matrix(split)`.
        config: See `MatrixBPRConfig`.
        num_threads: 0 for as many as there are cores; with 1, a seed gives the same factors again.

    Raises:
        ImportError: `implicit` is not installed; the message says how to get it.
        FloatingPointError: The factors are not finite.
    """
    config = config or MatrixBPRConfig()
    fitted = _fitted(
        "bpr.BayesianPersonalizedRanking", matrix, factors=config.factors,
        learning_rate=config.learning_rate, regularization=config.regularization,
        iterations=config.iterations, random_state=config.seed, num_threads=num_threads,
    )  # fmt: skip
    return MatrixBPR(fitted.user_factors, _with_padding(fitted.item_factors), config)


def import_implicit() -> tuple[Any, Any]:
    """The modules `als` and `bpr` of `implicit`.

    Raises:
        ImportError: It is not installed; the message says how to get it.
    """
    try:
        from implicit.cpu import als, bpr
    except ImportError as error:
        raise ImportError(
            f"training with ALS or BPR needs the library implicit ({error}): pip install implicit, "
            "or the extra `peers` of this project"
        ) from error
    return als, bpr


def _fitted(name: str, matrix: sparse.csr_array, **options: Any) -> Any:
    """A model of `implicit`, fitted to the matrix without its column of padding."""
    als, bpr = import_implicit()
    from implicit.recommender_base import ModelFitError
    from threadpoolctl import threadpool_limits  # implicit imports it too

    module, _, kind = name.partition(".")
    # implicit has threads of its own, and warns when those of BLAS are on top of them.
    with threadpool_limits(1, "blas"):
        model = getattr({"als": als, "bpr": bpr}[module], kind)(**options)
        # It wants the older matrix class, and 32-bit indices.
        wanted = sparse.csr_matrix(matrix[:, 1:], dtype=np.float32)
        with contextlib.suppress(ModelFitError):  # NaN; infinite numbers it lets pass
            model.fit(wanted, show_progress=False)
    if not all(np.isfinite(f).all() for f in (model.user_factors, model.item_factors)):
        raise FloatingPointError(
            f"the factors of {kind} are not finite with {options}: try a smaller learning_rate or "
            "alpha, or a larger regularization"
        )
    return model


def _with_padding(item_factors: np.ndarray) -> np.ndarray:
    """Factors of items 1..n with a row of zeros before them."""
    return np.concatenate((np.zeros_like(item_factors[:1]), item_factors))
