"""Baselines that are fitted in one go, not trained by `ss4rec_lib.training.fit`.

Names of configurations:
    popularity              training interactions of each item
    recent_popularity       the same in the last days of the training part
    recent_popularity_user  the same in the days before each user's own moment
    item_knn                nearest neighbours of the items of the history
    als, bpr_mf             matrix factorisation, by the library `implicit`
    neural_cf               NeuMF: matrix factorisation and a perceptron

None of them looks at the intervals of a history. A field that a configuration shares with
`TrainingConfig` (`seed`, `learning_rate`, `n_negatives`) is one option and not two: the experiments
set it in the training part and hand it on; its default is that of the model's configuration.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ss4rec_lib.models.baselines import Popularity, PopularityConfig
from ss4rec_lib.models.baselines_config import training_interactions
from ss4rec_lib.models.factorization import (
    ALS,
    ALSConfig,
    MatrixBPR,
    MatrixBPRConfig,
    fit_als,
    fit_matrix_bpr,
    import_implicit,
)
from ss4rec_lib.models.neighbours import ItemKNN, ItemKNNConfig, interaction_matrix
from ss4rec_lib.models.neural_cf import NeuralCF, NeuralCFConfig, fit_neural_cf
from ss4rec_lib.models.recent_popularity import (
    RecentPopularity,
    RecentPopularityConfig,
    moments_of,
)

if TYPE_CHECKING:
    from ss4rec_lib.data import Split
    from ss4rec_lib.training import TrainingConfig

FITTED: Mapping[str, Callable[..., Any]] = {
    "popularity": PopularityConfig,
    "recent_popularity": RecentPopularityConfig,
    "recent_popularity_user": functools.partial(RecentPopularityConfig, moments="user"),
    "item_knn": ItemKNNConfig,
    "als": ALSConfig,
    "bpr_mf": MatrixBPRConfig,
    "neural_cf": NeuralCFConfig,
}
"""Configurations by name, each called with the fields to be changed."""

# The fields of TrainingConfig that matter to each, beside the seed; a length is that of the
# history that is looked at.
TRAINED_WITH: Mapping[type, tuple[str, ...]] = {
    PopularityConfig: (),
    RecentPopularityConfig: (),
    ItemKNNConfig: ("max_len",),
    ALSConfig: ("max_len",),
    MatrixBPRConfig: ("learning_rate",),
    NeuralCFConfig: ("epochs", "learning_rate", "patience", "n_negatives", "device"),
}

# What the epoch of neural_cf, and every option of these baselines, is to be chosen by. They score
# what a user has chosen already above everything else: with that in the ranking, the model that has
# learned least would win.
CRITERION = "masked_ndcg@10"

_USERS_LEARNED = (MatrixBPRConfig, NeuralCFConfig)  # scores of users, not of histories


@dataclass(frozen=True, eq=False)
class FittedBaseline:
    """A fitted model, and how it came about.

    Attributes:
        model: In evaluation mode.
        seconds: Spent on fitting, validation left out.
        rows: One an epoch where there are epochs: `epoch`, `train_loss`, the validation metrics,
            `train_seconds`, `valid_seconds`.
        best_epoch: The epoch whose weights the model has, from 1; 0 where there are none.
    """

    model: nn.Module
    seconds: float
    rows: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0


def check_fittable(split: Split, config: Any) -> None:
    """Refuse what could not be fitted or would be ranked by chance.

    Raises:
        ImportError: It needs a library that is not installed; the message says how to get it.
        ValueError: It scores users, and some with a target have no training interaction.
    """
    if isinstance(config, ALSConfig | MatrixBPRConfig):
        import_implicit()
    asked = np.union1d(*(users for users, _ in split.held_out.values()))
    unknown = int(is_unknown(split, config, asked).sum())
    if unknown:
        raise ValueError(
            f"{config.display_name} scores users of the training part, and {unknown:,} of the "
            f"{len(asked):,} users with a target have no interaction there: nothing would be "
            "known of them. Take als or item_knn, which read histories, or leave-one-out"
        )


def is_unknown(split: Split, config: Any, users: np.ndarray) -> np.ndarray:
    """Whether the model can say nothing of users: it learns users, and not these; (n,) bool."""
    return (split.train_end[users] == 0) & isinstance(config, _USERS_LEARNED)


def fit_baseline(
    split: Split,
    config: Any,
    training: TrainingConfig,
    validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
) -> FittedBaseline:
    """Fit the baseline of a configuration to the training part.

    Args:
        split: Whose training part is learned.
        config: One that `FITTED` makes.
        training: Its fields named in `TRAINED_WITH` count, and its seed.
        validate: Validation metrics of a model, `CRITERION` among them, which chooses the epoch of
            `neural_cf`; None keeps the last one.

    Returns:
        The model. The same arguments give the same one again.

    Raises:
        ImportError: See `check_fittable`.
        FloatingPointError: A loss or a learned number that is not finite.
    """
    begin = time.perf_counter()
    if isinstance(config, NeuralCFConfig):
        return _fit_neural_cf(split, config, training, validate)
    model: nn.Module
    if isinstance(config, ALSConfig):
        model = fit_als(interaction_matrix(split), config)
    elif isinstance(config, MatrixBPRConfig):
        model = fit_matrix_bpr(interaction_matrix(split), config, num_threads=1)
    else:
        model = counted(split, config)
    return FittedBaseline(model.eval(), time.perf_counter() - begin)


def model_for(model: nn.Module, split: Split, part: str | None) -> nn.Module:
    """The model that answers for a part: with users' own moments, one for each.

    Args:
        model: Any model; all but `RecentPopularity` with moments are returned as they are.
        split: Its data.
        part: `valid`, `test`, or None for what comes after everything that is known.
    """
    if not isinstance(model, RecentPopularity) or model.moments is None:
        return model
    if part is None:
        return model.at(split.sequences.times[split.sequences.offsets[1:] - 1])
    return model.at(moments_of(split, part))


def n_learned(model: nn.Module) -> int:
    """Learned numbers: weights and factors; counts and similarities are none."""
    tensors = list(model.parameters())
    if isinstance(model, ALS | MatrixBPR):
        tensors = list(model.buffers())
    return sum(tensor.numel() * (2 if tensor.is_complex() else 1) for tensor in tensors)


def counted(split: Split, config: Any) -> nn.Module:
    """The model of a configuration that has nothing to learn; the same data give the same one."""
    if isinstance(config, PopularityConfig):
        return Popularity(split.train_counts())
    if isinstance(config, ItemKNNConfig):
        return ItemKNN(interaction_matrix(split), config)
    _, items, times = training_interactions(split)
    moments = moments_of(split, "test") if config.moments == "user" else None
    n_items = split.sequences.n_items
    return RecentPopularity(items, times, n_items, config.window_days, moments)


def _fit_neural_cf(
    split: Split,
    config: NeuralCFConfig,
    training: TrainingConfig,
    validate: Callable[[nn.Module], Mapping[str, float]] | None,
) -> FittedBaseline:
    """Epochs, each timed and validated; the best one's weights."""
    torch.manual_seed(training.seed)
    model = NeuralCF(split.sequences.n_users, split.sequences.n_items, config)
    if training.device == "cuda" or training.device == "auto" and torch.cuda.is_available():
        model.to("cuda")
    users, items, _ = training_interactions(split)
    measured: list[dict[str, float]] = []
    begin = time.perf_counter()

    def check() -> float:
        nonlocal begin
        trained = time.perf_counter()
        metrics = dict(validate(model))
        now = time.perf_counter()
        times = {"train_seconds": trained - begin, "valid_seconds": now - trained}
        measured.append(metrics | times)
        begin = now
        return metrics[CRITERION]

    rows = fit_neural_cf(
        model, users, items, epochs=training.epochs, learning_rate=training.learning_rate,
        patience=training.patience, seed=training.seed,
        validate=None if validate is None else check,
    )  # fmt: skip
    if validate is None:
        return FittedBaseline(model.eval(), time.perf_counter() - begin, rows, len(rows))
    best = max(range(len(rows)), key=lambda i: rows[i]["valid"])  # the first of equal ones
    if not all(math.isfinite(row["valid"]) for row in rows):
        raise FloatingPointError("validation gave numbers that are not finite")
    curve = [
        {"epoch": row["epoch"], "train_loss": row["train_loss"], **more}
        for row, more in zip(rows, measured, strict=True)
    ]
    seconds = sum(row["train_seconds"] for row in curve)
    return FittedBaseline(model.eval(), seconds, curve, best + 1)
