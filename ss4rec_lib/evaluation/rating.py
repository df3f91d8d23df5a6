r"""Rating metrics, and rankings by expected rating.

Definitions (n targets, prediction p, rating r, m the mean of the TRAINING ratings):
    RMSE   sqrt(mean (p - r)^2)
    MAE    mean |p - r|
    R^2    1 - sum (p - r)^2 / sum (m - r)^2: the share by which the squared error of predicting m
           is reduced. m was known before the test, the mean of the test ratings was not.
    calibration   the line of least squares r = intercept + slope p: 0 and 1 when a prediction of
                  3.7 means an average rating of 3.7. A slope below 1: predictions too spread out.

Standard errors treat **users** as the sample, because the targets of one user are not independent.
Each metric is a function of sums over targets, so to first order its error is a sum of influences,
one per target. They are added up within users, and their spread over users gives the standard error
(delta method; with one target per user, that of RMSE is sd((p - r)^2) / (2 RMSE sqrt(n))).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ss4rec_lib.data import Batch, Split, eval_batches, train_ratings
from ss4rec_lib.evaluation.ranking import (
    KS,
    Metrics,
    NotFiniteError,
    RankingResult,
    check_targets,
    evaluating,
    join_by_user,
    last_targets,
    ranks_of_targets,
)
from ss4rec_lib.models import ModelConfig, RatingBaseline, RatingSS4Rec, Recommender, last_of

METRICS = ("rmse", "mae", "r2", "calibration_slope", "calibration_intercept")


class RatingResult(Metrics):
    """The `METRICS` by name, each also with `_se`, and the ratings they were computed from.

    A standard error with a single user, and the calibration line of predictions that are all equal,
    are NaN. `users` (n,) are the unit of standard errors and of pairing; `predicted` and `actual`
    are (n,) float64.
    """

    def __init__(
        self, users: np.ndarray, predicted: np.ndarray, actual: np.ndarray, train_mean: float
    ) -> None:
        self.users, self.predicted, self.actual = users, predicted, actual
        self.train_mean = float(train_mean)
        index = np.unique(users, return_inverse=True)[1]
        for name, (value, influence) in self._values_and_influences().items():
            by_user = np.bincount(index, weights=influence)
            g = len(by_user)
            se = np.sqrt(g / (g - 1) * (by_user**2).sum()) if g > 1 else np.nan
            self.update({name: float(value), f"{name}_se": float(se)})

    def per_target(self, name: str) -> np.ndarray:
        """Return every target's error, (n,): `mse` squared, `mae` absolute, `error` signed."""
        error = self.predicted - self.actual
        found = {"mse": error**2, "mae": np.abs(error), "error": error}
        if name not in found:
            raise ValueError(f"error {name!r} is unknown: expected one of {list(found)}")
        return found[name]

    def calibration_table(self, n_bins: int = 10) -> pd.DataFrame:
        """Return mean rating and mean prediction in bins of equally many predictions.

        One row per bin, by rising prediction: `n` targets, `mean_predicted`, `mean_actual` and its
        standard error `mean_actual_se` (over targets; NaN with one). Equal predictions share a bin,
        so there may be fewer than `n_bins`.
        """
        if n_bins < 1:
            raise ValueError(f"n_bins={n_bins}: expected at least 1")
        edges = np.unique(np.quantile(self.predicted, np.linspace(0, 1, n_bins + 1)[1:-1]))
        frame = pd.DataFrame({"predicted": self.predicted, "actual": self.actual})
        bins = frame.groupby(np.searchsorted(edges, self.predicted, side="left"))
        return bins.agg(
            n=("actual", "size"),
            mean_predicted=("predicted", "mean"),
            mean_actual=("actual", "mean"),
            mean_actual_se=("actual", "sem"),
        ).reset_index(drop=True)

    def _values_and_influences(self) -> dict[str, tuple[float, np.ndarray]]:
        n = len(self.actual)
        squared, absolute = self.per_target("mse"), self.per_target("mae")
        mse, mae = squared.mean(), absolute.mean()
        rmse = np.sqrt(mse)
        baseline = (self.train_mean - self.actual) ** 2
        total = baseline.sum() or np.nan  # all ratings are the mean: R^2 is not defined
        ratio = squared.sum() / total
        centred = self.predicted - self.predicted.mean()
        spread = (centred**2).sum()
        if spread <= 1e-12 * n * max(1.0, float(np.abs(self.predicted).max())) ** 2:
            spread = np.nan  # all predictions are equal: there is no line
        slope = (centred * self.actual).sum() / spread
        intercept = self.actual.mean() - slope * self.predicted.mean()
        residual = self.actual - intercept - slope * self.predicted
        of_slope = centred * residual / spread
        return {
            # d sqrt(x) = dx / (2 sqrt(x)); perfect predictions have no spread to divide.
            "rmse": (rmse, (squared - mse) / (2 * (rmse or 1.0) * n)),
            "mae": (mae, (absolute - mae) / n),
            "r2": (1 - ratio, -(squared - ratio * baseline) / total),
            "calibration_slope": (slope, of_slope),
            "calibration_intercept": (intercept, residual / n - self.predicted.mean() * of_slope),
        }

    def __repr__(self) -> str:
        return f"RatingResult({len(self.actual):,} targets; {self._shown(METRICS[:3])})"


def user_numbers(split: Split) -> np.ndarray:
    """Return the users' original ids, (n_users,) int64, or their ranks if the ids are text.

    In a random split several sequences belong to one user.
    """
    ids = split.sequences.user_ids
    return ids if ids.dtype.kind == "i" else np.unique(ids, return_inverse=True)[1]


def rating_metrics(
    predicted: np.ndarray, actual: np.ndarray, *, train_mean: float, users: np.ndarray | None = None
) -> RatingResult:
    """Return RMSE, MAE, R^2 and calibration of (n,) predictions, with standard errors over users.

    `train_mean` is the mean of the training ratings, which R^2 compares with. `users` are (n,)
    integers, or None if each target has a user of its own.
    """
    predicted, actual = (np.asarray(v, dtype=np.float64) for v in (predicted, actual))
    n = actual.size
    users = np.arange(n) if users is None else np.asarray(users)
    if n == 0:
        raise ValueError("no targets to evaluate: expected at least one rating")
    for name, vector in {"predicted": predicted, "actual": actual, "users": users}.items():
        if vector.shape != (n,):
            raise ValueError(f"{name} has shape {vector.shape}: expected one per target, ({n},)")
        if bad := int((~np.isfinite(vector)).sum()):
            found = f"{name} holds {bad} of {n} values that are NaN or infinite"
            if name == "predicted":
                raise NotFiniteError(f"{found}: the model has diverged")
            raise ValueError(f"{found}: drop those ratings")
    if not np.isfinite(train_mean):
        raise ValueError(f"train_mean={train_mean}: expected the mean of the training ratings")
    return RatingResult(users, predicted, actual, train_mean)


def evaluate_rating(
    model: RatingSS4Rec, split: Split, part: str = "test", **options: Any
) -> RatingResult:
    """Predict the rating of each held-out interaction from the history before it and its item.

    `users` of the result are `user_numbers`: in a random split a user has many targets.

    `options` are `train_mean`, the mean of the training ratings (by default that of the split), and
    `max_len`, `max_tokens` and `target_time` of `ss4rec_lib.data.eval_batches`.
    """
    return evaluate_both(model, split, part, ks=(), **options)[0]


def evaluate_both(
    model: RatingSS4Rec,
    split: Split,
    part: str = "test",
    *,
    ks: Sequence[int] = KS,
    train_mean: float | None = None,
    **batching: Any,
) -> tuple[RatingResult, RankingResult | None]:
    """Return `evaluate_rating` and `evaluate_ranking`, computed from the same hidden states.

    Seen items are ranked too. Without cut-offs `ks` there is no ranking, and None in its place.
    """
    check_targets(split, part, ks)
    split.sequences.require_ratings("rating metrics")
    if train_mean is None:
        train_mean = float(train_ratings(split).ratings.mean(dtype=np.float64))
    found: list[tuple[np.ndarray, ...]] = []
    with evaluating(model) as device:
        for batch in eval_batches(split, part, **batching):
            batch = batch.to(device)
            hidden = model.encode(batch)  # (B, L, d_model)
            predicted = model.rate(
                batch.items, batch.delta, batch.ratings, batch.targets, hidden, batch.users
            )  # (B, L)
            pair = (last_of(values, batch) for values in (predicted, batch.target_ratings))
            columns = [batch.users.cpu().numpy(), *(v.double().cpu().numpy() for v in pair)]
            if ks:
                scores = model.logits(last_of(hidden, batch))  # (B, n_items + 1)
                columns += ranks_of_targets(scores, last_targets(batch))
            found.append(tuple(columns))
    users, predicted, actual, *counts = join_by_user(found)
    numbers = user_numbers(split)[users]
    rating = rating_metrics(predicted, actual, train_mean=train_mean, users=numbers)
    return rating, RankingResult(users, *counts, ks=ks) if ks else None


class RankedByRating(Recommender):
    """All items ranked by the rating that a model expects.

    This is the ranking that a small RMSE promises. It ignores the probability that the user chooses
    the item. Expected ratings are not clipped, or they would tie where a ranking begins. The model
    is a sequence model of ratings, or a baseline fitted on `user_numbers` and item indices.
    """

    def __init__(self, model: RatingSS4Rec | RatingBaseline, split: Split) -> None:
        super().__init__(split.sequences.n_items, ModelConfig())
        self._model: Any = model
        self._user_ids = user_numbers(split)
        if model.reads_histories:
            self.train(self._model.training)  # evaluation puts this mode back, the model's with it

    def scores(self, batch: Batch) -> Tensor:
        """Return the expected rating of every item, (B, n_items + 1); 0 is padding."""
        if self._model.reads_histories:
            return self._model.expected_ratings(batch)
        users = self._user_ids[batch.users.cpu().numpy()]
        found = self._model.scores(users, np.arange(self.n_items + 1))
        return torch.from_numpy(found).to(batch.users.device)
