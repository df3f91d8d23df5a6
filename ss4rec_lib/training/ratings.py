"""Training for ratings: the model to start from, its loss and its validation."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from ss4rec_lib.data import Batch, Split, train_ratings
from ss4rec_lib.evaluation import evaluate_both
from ss4rec_lib.models import BiasBaseline, RatingConfig, RatingSS4Rec, SS4Rec
from ss4rec_lib.training.config import TrainingConfig
from ss4rec_lib.training.distributed import resolve_device
from ss4rec_lib.training.loop import FitResult, fit
from ss4rec_lib.training.objectives import (
    METRICS,
    Objective,
    at_targets,
    ranking_objective,
    targets_of,
)


def rating_model(
    split: Split, config: RatingConfig | None = None, trunk: SS4Rec | None = None
) -> RatingSS4Rec:
    """Return a model that starts as the bias baseline of the training part.

    `levels` of the configuration are replaced by the ratings that occur in training. `trunk` is a
    trained SS4Rec to start from; None for a new one.
    """
    known = train_ratings(split)
    levels = tuple(float(level) for level in np.unique(known.ratings))
    if len(levels) < 2:
        raise ValueError(f"all training ratings are {levels}: there is nothing to learn from them")
    if config is None:
        config = RatingConfig() if trunk is None else RatingConfig(**trunk.config.model_dump())
    biases = BiasBaseline().fit(*known)
    item_bias = np.zeros(split.sequences.n_items + 1)
    item_bias[biases.item_ids] = biases.item_bias
    owners = np.unique(split.sequences.user_ids, return_inverse=True)[1]
    return RatingSS4Rec(
        split.sequences.n_items,
        config.replace(levels=levels),
        mean=float(known.ratings.mean(dtype=np.float64)),
        item_bias=item_bias,
        shrinkage=biases.config.reg_u,
        owners=owners,
        trunk=trunk,
    )


def rating_objective(ranking: Objective) -> Objective:
    """Return the loss that `RatingConfig.train_for` asks for, around a ranking objective.

    It is the mean squared error with the penalty of the users' and items' vectors (squared rating
    units), the ranking loss (nats), or the ranking loss + rating_weight * squared error.
    """

    def objective(model: Any, hidden: Tensor, batch: Batch, n: int) -> Tensor:
        config = model.config
        loss = hidden.new_zeros(())
        if config.train_for != "rating":
            loss = ranking(model, hidden, batch, n)
        if config.train_for == "ranking":
            return loss
        targets = targets_of(batch)
        bias = at_targets(model.history_bias(batch.items, batch.ratings), batch)  # (M,)
        user = model.user_vectors(batch.users)  # (B, 1, f), or None
        if user is not None:
            user = at_targets(user.expand(-1, batch.items.shape[1], -1), batch)  # (M, f)
        expected = model.predict_ratings(hidden, targets, bias, user)  # (M,)
        actual = at_targets(batch.target_ratings, batch)  # (M,)
        squared = (expected.float() - actual).square() + model.penalty(targets, user)
        weight = config.rating_weight if config.train_for == "both" else 1.0
        return loss + weight * (squared.sum() / n)

    return objective


class RatingValidation:
    """RMSE and MAE, and the ranking metrics too if the model is trained to rank."""

    def __init__(self, split: Split, config: TrainingConfig, train_for: str = "rating") -> None:
        self.lower_is_better = train_for != "ranking"
        self.criterion = "rmse" if self.lower_is_better else "ndcg@10"
        self._split, self._ranked = split, train_for != "rating"
        self._options = {
            "max_len": config.eval_max_len,
            "target_time": config.target_time,
            "train_mean": float(train_ratings(split).ratings.mean(dtype=np.float64)),
        }

    def __call__(self, model: Any) -> dict[str, float]:
        """Return the metrics of the validation part."""
        k = min(10, self._split.sequences.n_items)
        ks = (k,) if self._ranked else ()
        rating, ranking = evaluate_both(model, self._split, "valid", ks=ks, **self._options)
        found = {name: rating[name] for name in ("rmse", "mae")}
        if ranking is not None:
            found |= {name: ranking[name.replace("@10", f"@{k}")] for name in METRICS}
        return found


def fit_ratings(
    model: RatingSS4Rec, split: Split, config: TrainingConfig | None = None, **options: Any
) -> FitResult:
    """Train a rating model in place: `fit` with a loss over ratings, chosen by validation RMSE.

    A model that is trained for ranking alone is chosen by validation NDCG@10. The history has
    `rmse` and `mae` of validation, with ranking also `hr@10`, `ndcg@10` and `mrr@10`.
    """
    config = config or TrainingConfig()
    device = resolve_device(config.device)
    objective = rating_objective(ranking_objective(model, split, config.n_negatives, device))
    validation = RatingValidation(split, config, model.config.train_for)
    return fit(model, split, config, objective=objective, validation=validation, **options)
