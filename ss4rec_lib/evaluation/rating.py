r"""Rating metrics: how far predictions are from ratings, and whether they mean what they say.

Definitions (n targets, prediction p, rating r, m the mean of the TRAINING ratings):
    RMSE   sqrt(mean (p - r)^2)
    MAE    mean |p - r|
    R^2    1 - sum (p - r)^2 / sum (m - r)^2: the share of the squared error of "always m" that is
           gone. m is what was known before the test; with the test's own mean, R^2 would be judged
           against a predictor nobody has.
    calibration   the line of least squares r = intercept + slope p: 0 and 1 when a prediction of
                  3.7 means an average rating of 3.7. A slope below 1: predictions too spread out.

Standard errors treat **users** as the sample: a user's targets stand or fall together. Each metric
is a function of sums over targets, so to first order its error is a sum of influences, one a
target; these are added up within users, and their spread over users gives the standard error
(delta method; with one target a user and RMSE it is sd((p - r)^2) / (2 RMSE sqrt(n))). `bootstrap`
draws users instead and needs no linearisation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats

from ss4rec_lib.data import Batch, Split, eval_batches, train_ratings
from ss4rec_lib.evaluation.ranking import KS, RankingResult, ranks_of_targets
from ss4rec_lib.progress import progress_bar

METRICS = ("rmse", "mae", "r2", "calibration_slope", "calibration_intercept")


class Bootstrap(NamedTuple):
    """Standard error and percentile interval of a metric, users drawn with replacement."""

    standard_error: float
    low: float
    high: float


class RatingResult(Mapping[str, float]):
    """Metrics by name (`rmse`, `rmse_se`, ...), with what they were computed from.

    Names are those of `METRICS`, each also with `_se`. A standard error with a single user, and
    the calibration line of predictions that are all equal, are NaN.

    Attributes:
        users: user of each target, (n,): the unit of standard errors and of pairing.
        predicted: float64, (n,).
        actual: float64, (n,).
        train_mean: mean of the training ratings, what R^2 compares with.
    """

    def __init__(
        self, users: np.ndarray, predicted: np.ndarray, actual: np.ndarray, train_mean: float
    ) -> None:
        self.users, self.predicted, self.actual = users, predicted, actual
        self.train_mean = float(train_mean)
        self._user_index = np.unique(users, return_inverse=True)[1]
        self._metrics: dict[str, float] = {}
        for name, (value, influence) in self._values_and_influences().items():
            self._metrics[name] = value
            self._metrics[f"{name}_se"] = self._standard_error(influence)

    def per_target(self, name: str) -> np.ndarray:
        """Errors of every target, (n,) float64: `mse` squared, `mae` absolute, `error` signed."""
        error = self.predicted - self.actual
        found = {"mse": error**2, "mae": np.abs(error), "error": error}
        if name not in found:
            raise ValueError(f"error {name!r} is unknown: expected one of {list(found)}")
        return found[name]

    def bootstrap(
        self, name: str = "rmse", level: float = 0.95, n_resamples: int = 2_000, seed: int = 0
    ) -> Bootstrap:
        """Draw users with replacement, with all of their targets.

        Args:
            name: `rmse`, `mae` or `r2`.
            level: of the percentile interval, above 0 and below 1.
            n_resamples: draws.
            seed: of the draws.

        Returns:
            The standard error and the interval; NaN with a single user.

        Raises:
            ValueError: another name.
        """
        numerator = {"rmse": self.per_target("mse"), "mae": self.per_target("mae")}
        numerator["r2"] = numerator["rmse"]
        if name not in numerator:
            raise ValueError(f"metric {name!r}: expected one of {list(numerator)}")
        baseline = (self.train_mean - self.actual) ** 2
        below = baseline if name == "r2" else np.ones_like(baseline)
        sums = [np.bincount(self._user_index, weights=w) for w in (numerator[name], below)]
        if len(sums[0]) < 2:
            return Bootstrap(np.nan, np.nan, np.nan)
        turn = {"rmse": np.sqrt, "mae": lambda x: x, "r2": lambda x: 1 - x}[name]
        drawn = stats.bootstrap(
            sums,
            lambda above, n, axis: turn(above.sum(axis=axis) / n.sum(axis=axis)),
            paired=True,
            vectorized=True,
            n_resamples=n_resamples,
            batch=200,  # rows of one number a user: bounded memory
            confidence_level=level,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
        low, high = drawn.confidence_interval
        return Bootstrap(float(drawn.standard_error), float(low), float(high))

    def calibration_table(self, n_bins: int = 10) -> pd.DataFrame:
        """Mean rating against mean prediction, in bins of equally many predictions.

        Args:
            n_bins: bins to cut the sorted predictions into; equal predictions are never parted, so
                there may be fewer.

        Returns:
            One row a bin, by rising prediction: `n` targets, `mean_predicted`, `mean_actual` and
            its standard error `mean_actual_se` (over targets; NaN with one).

        Raises:
            ValueError: fewer than one bin.
        """
        if n_bins < 1:
            raise ValueError(f"n_bins={n_bins}: expected at least 1")
        edges = np.unique(np.quantile(self.predicted, np.linspace(0, 1, n_bins + 1)[1:-1]))
        frame = pd.DataFrame({"predicted": self.predicted, "actual": self.actual})
        bins = frame.groupby(np.searchsorted(edges, self.predicted, side="left"))
        return pd.DataFrame(
            {
                "n": bins.size(),
                "mean_predicted": bins["predicted"].mean(),
                "mean_actual": bins["actual"].mean(),
                "mean_actual_se": bins["actual"].sem(),
            }
        ).reset_index(drop=True)

    def _values_and_influences(self) -> dict[str, tuple[float, np.ndarray]]:
        """Each metric, and what each target adds to its error to first order, (n,)."""
        n = len(self.actual)
        squared, absolute = self.per_target("mse"), self.per_target("mae")
        mse, mae = squared.mean(), absolute.mean()
        rmse = np.sqrt(mse)
        # d sqrt(x) = dx / (2 sqrt(x)); perfect predictions have no spread to divide.
        found = {
            "rmse": (rmse, (squared - mse) / (2 * rmse * n) if rmse > 0 else np.zeros(n)),
            "mae": (mae, (absolute - mae) / n),
        }
        baseline = (self.train_mean - self.actual) ** 2
        if baseline.sum() > 0:
            ratio = squared.sum() / baseline.sum()
            found["r2"] = (1 - ratio, -(squared - ratio * baseline) / baseline.sum())
        else:
            found["r2"] = (np.nan, np.full(n, np.nan))
        centred = self.predicted - self.predicted.mean()
        spread = (centred**2).sum()
        if spread > 1e-12 * n * max(1.0, float(np.abs(self.predicted).max())) ** 2:
            slope = (centred * self.actual).sum() / spread
            intercept = self.actual.mean() - slope * self.predicted.mean()
            residual = self.actual - intercept - slope * self.predicted
            of_slope = centred * residual / spread
            of_intercept = residual / n - self.predicted.mean() * of_slope
        else:
            slope = intercept = np.nan
            of_slope = of_intercept = np.full(n, np.nan)
        found["calibration_slope"] = (slope, of_slope)
        found["calibration_intercept"] = (intercept, of_intercept)
        return {name: (float(value), influence) for name, (value, influence) in found.items()}

    def _standard_error(self, influence: np.ndarray) -> float:
        by_user = np.bincount(self._user_index, weights=influence)
        g = len(by_user)
        return float(np.sqrt(g / (g - 1) * (by_user**2).sum())) if g > 1 else float("nan")

    def __getitem__(self, name: str) -> float:
        return self._metrics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)

    def __repr__(self) -> str:
        shown = ", ".join(f"{m} {self[m]:.4f} ± {self[f'{m}_se']:.4f}" for m in METRICS[:3])
        return f"RatingResult({len(self.actual):,} targets; {shown})"


def rating_metrics(
    predicted: np.ndarray,
    actual: np.ndarray,
    *,
    train_mean: float,
    users: np.ndarray | None = None,
) -> RatingResult:
    """RMSE, MAE, R^2 and calibration of predictions, with standard errors over users.

    Args:
        predicted: (n,) predicted ratings, in the order of `actual`.
        actual: (n,) ratings.
        train_mean: mean of the training ratings: what R^2 compares with.
        users: (n,) user of each target, integers; None when each is a user of its own.

    Returns:
        The metrics, in the units of the ratings.

    Raises:
        ValueError: nothing to judge, vectors of different lengths, NaN or infinity anywhere.
    """
    vectors = {"predicted": predicted, "actual": actual}
    vectors = {name: np.asarray(v, dtype=np.float64) for name, v in vectors.items()}
    n = vectors["actual"].size
    users = np.arange(n) if users is None else np.asarray(users)
    for name, vector in (*vectors.items(), ("users", users)):
        if vector.shape != (n,):
            raise ValueError(
                f"{name} has shape {vector.shape}: expected ({n},), one number a target in `actual`"
            )
    if n == 0:
        raise ValueError("no targets to evaluate: expected at least one rating")
    for name, vector in vectors.items():
        bad = int((~np.isfinite(vector)).sum())
        if bad:
            raise ValueError(
                f"{name} holds {bad} of {n} values that are NaN or infinite: "
                + ("the model has diverged" if name == "predicted" else "drop those ratings")
            )
    if not np.isfinite(train_mean):
        raise ValueError(f"train_mean={train_mean}: expected the mean of the training ratings")
    return RatingResult(users, vectors["predicted"], vectors["actual"], train_mean)


def evaluate_rating(
    model: torch.nn.Module,
    split: Split,
    part: str = "test",
    *,
    max_len: int | None = 200,
    max_tokens: int = 12_800,
    target_time: str = "known",
    train_mean: float | None = None,
    progress: bool = False,
) -> RatingResult:
    """Predict the rating of each held-out interaction from the history before it and its item.

    Args:
        model: a sequence rating model: `rate(items, delta, ratings, target_items) -> (B, L)`, as
            `ss4rec_lib.models.rating.RatingSS4Rec` has it; put in evaluation mode meanwhile. One
            whose `knows_users` is true also takes `users`, (B,), whose histories these are.
        split: leave-one-out, global-time or `random_holdout`.
        part: `valid` or `test`.
        max_len: most recent interactions the model sees; None for the whole history.
        max_tokens: padded positions a batch.
        target_time: what the model is told of time, see `ss4rec_lib.data.batching`.
        train_mean: mean of the training ratings; None to take it from the split.
        progress: show a progress bar.

    Returns:
        The metrics. `users` are original user ids: in a random split a user has many targets.

    Raises:
        ValueError: no targets, or predictions that are not finite.
    """
    return _evaluate(
        model, split, part, (), max_len, max_tokens, target_time, train_mean, progress
    )[0]


def evaluate_both(
    model: torch.nn.Module,
    split: Split,
    part: str = "test",
    *,
    ks: tuple[int, ...] = KS,
    max_len: int | None = 200,
    max_tokens: int = 12_800,
    target_time: str = "known",
    train_mean: float | None = None,
    progress: bool = False,
) -> tuple[RatingResult, RankingResult]:
    """`evaluate_rating`, and the full ranking of the same targets by the same hidden states.

    A model that takes the history's ratings as input needs this to be judged as a ranking model:
    `evaluate_ranking` gives a model no ratings. Seen items stay in the ranking.

    Args:
        model: with `forward(items, delta, ratings)` and `logits(hidden)` beside `rate`, which also
            takes `hidden`, what `forward` gave.
        split: see `evaluate_rating`, also for the arguments below and for what is raised.
        part: see there.
        ks: cut-offs of the ranking, 1 to the size of the catalogue.
        max_len: see there.
        max_tokens: see there.
        target_time: see there.
        train_mean: see there.
        progress: see there.

    Returns:
        How well it predicts ratings, and how well it ranks.
    """
    n_items = split.sequences.n_items
    for k in ks:
        if k < 1 or k > n_items:
            raise ValueError(f"K={k}: expected 1 <= K <= {n_items}, the size of the catalogue")
    return _evaluate(
        model, split, part, tuple(ks), max_len, max_tokens, target_time, train_mean, progress
    )


@torch.no_grad()
def _evaluate(
    model: torch.nn.Module,
    split: Split,
    part: str,
    ks: tuple[int, ...],
    max_len: int | None,
    max_tokens: int,
    target_time: str,
    train_mean: float | None,
    progress: bool,
) -> tuple[RatingResult, RankingResult | None]:
    if part not in split.held_out or len(split.held_out[part][0]) == 0:
        raise ValueError(f"part {part!r} of the split holds no targets; has {list(split.held_out)}")
    if train_mean is None:
        train_mean = float(train_ratings(split).ratings.mean(dtype=np.float64))
    batches = eval_batches(
        split, part, max_tokens=max_tokens, max_len=max_len, target_time=target_time
    )
    device = next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    was_training = model.training
    model.eval()
    found = []
    try:
        for batch in progress_bar(batches, desc=f"rate {part}", show=progress, leave=False):
            found.append(_of_batch(model, batch.to(device), bool(ks)))
    finally:
        model.train(was_training)
    users, predicted, actual, above, tied = (np.concatenate(c) for c in zip(*found, strict=True))
    order = np.argsort(users, kind="stable")  # batches are sorted by length; users read better
    users, predicted, actual = users[order], predicted[order], actual[order]
    rating = rating_metrics(
        predicted, actual, train_mean=train_mean, users=split.sequences.user_ids[users]
    )
    ranking = RankingResult(users, above[order], tied[order], ks) if ks else None
    return rating, ranking


def _of_batch(model: torch.nn.Module, batch: Batch, ranked: bool) -> tuple[np.ndarray, ...]:
    """Users, predictions, ratings, and counts for ranks (empty unless wanted), each (B,)."""
    rows = torch.arange(len(batch.lengths), device=batch.lengths.device)
    last = batch.lengths - 1  # (B,)
    targets = batch.targets[rows, last]  # (B,)
    known = batch.items, batch.delta, batch.ratings
    user = {"users": batch.users} if getattr(model, "knows_users", False) else {}
    above = tied = np.zeros(0, dtype=np.int64)
    if ranked:
        hidden = model(*known)  # (B, L, d_model)
        predicted = model.rate(*known, batch.targets, hidden=hidden, **user)  # (B, L)
        above, tied = ranks_of_targets(model.logits(hidden[rows, last]), targets)
    else:
        predicted = model.rate(*known, batch.targets, **user)  # (B, L)
    return (
        batch.users.cpu().numpy(),
        predicted[rows, last].double().cpu().numpy(),
        batch.target_ratings[rows, last].double().cpu().numpy(),
        above,
        tied,
    )
