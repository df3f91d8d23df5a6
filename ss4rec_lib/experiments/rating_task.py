"""The second task: how many stars, for a given item.

All models learn from `train`, may choose by `valid`, and are evaluated on `test` once. Under
`random` a held-out rating whose user has no earlier training rating is left out for *all* models,
since a sequence model has nothing to predict it from.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ss4rec_lib.data import (
    RatingTriples,
    held_out_ratings,
    k_core,
    k_fold,
    random_holdout,
    train_ratings,
)
from ss4rec_lib.evaluation import (
    RankedByRating,
    RatingResult,
    evaluate_rating,
    rating_metrics,
    user_numbers,
)
from ss4rec_lib.experiments.config import FOLDS, RunConfig
from ss4rec_lib.experiments.task import (
    Evaluation,
    ExperimentError,
    Outcome,
    TaskData,
    load_split,
    load_table,
    protocol_of_split,
    rank_both,
    trained,
)
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import fit_ratings, rating_model

RANKED_SPLITS = ("leave-one-out", "global-time")  # with one target per user: can be ranked too

# Ends of the ranges of history lengths, in ratings, that errors are reported by.
HISTORY_EDGES = (0, 30, 50, 100, 200, 400, 10_000)


class RatingParts(NamedTuple):
    """One split of the ratings: users by `user_numbers`, items by index of the catalogue."""

    train: RatingTriples
    valid: RatingTriples | None  # None where everything that is not tested is trained on
    test: RatingTriples

    @property
    def train_mean(self) -> float:
        """Mean of the training ratings."""
        return float(self.train.ratings.mean(dtype=np.float64))


class RatingTask:
    """Predict the rating of each held-out interaction."""

    name = "rating"

    def load(self, config: RunConfig) -> TaskData:
        """Return the split, or the folds, with the ratings of each part."""
        data, training = config.data, config.training_options
        if data.split in RANKED_SPLITS:
            split, attrs = load_split(config)
        else:
            table = load_table(config)
            attrs, ratings = table.attrs, k_core(table, data.min_interactions)
            if data.split == "5-fold":
                return _five_folds(config, ratings)
            how = {"ordering": data.ordering, "max_len": training.eval_max_len}
            split, _ = random_holdout(ratings, seed=config.seed, **how)
        held_out = (held_out_ratings(split, part) for part in ("valid", "test"))
        ids = user_numbers(split)
        parts = (t._replace(users=ids[t.users]) for t in (train_ratings(split), *held_out))
        protocol = protocol_of_split(config, split) | {"n_train": int(split.in_train().sum())}
        if config.preset.model.reads_histories:
            protocol |= {"target_time": training.target_time, "max_len": training.eval_max_len}
        return TaskData(split, protocol, attrs, [RatingParts(*parts)])

    def check(self, config: RunConfig, data: TaskData) -> None:
        """Raise an `ExperimentError` for ratings that are all equal."""
        for stars in (np.unique(part.train.ratings) for part in data.parts):
            if len(stars) < 2:
                equal = f"all training ratings of {config.data.dataset} are {stars[0]:g}"
                raise ExperimentError(f"{equal}: there is nothing to learn from them")

    def fit(self, config: RunConfig, data: TaskData, **how: Any) -> Outcome:
        """Train a sequence model with checkpoints, or fit a model of users and items."""
        kind = config.preset.model
        options: Any = config.model_options
        seed_everything(config.seed)
        if kind.reads_histories:
            model = rating_model(data.split, options)
            return trained(model, fit_ratings(model, data.split, config.training_options, **how))
        models, begin = [], time.perf_counter()
        for part in data.parts:
            model = kind(options, seed=config.seed)
            model.fit(*part.train, valid=part.valid)
            models.append(model)
        seconds = time.perf_counter() - begin
        history = pd.DataFrame(model.history)
        return Outcome(model, history, model.n_passes, model.best_epoch, "fitted", seconds, models)

    def evaluate(self, config: RunConfig, data: TaskData, outcome: Outcome) -> list[Evaluation]:
        """Evaluate the predicted ratings, then the rankings that the model makes."""
        found = {part: self._predict(config, data, outcome, part) for part in ("test", "valid")}
        evaluations = [_of_ratings(part, each, data) for part, each in found.items() if each]
        if config.data.split not in RANKED_SPLITS:
            return evaluations
        by: dict[str, Any] = {"rating": RankedByRating(outcome.model, data.split)}
        if config.preset.model.reads_histories:
            by = {"score": outcome.model, **by}
        time = data.protocol.get("target_time", "known")
        max_len = config.training_options.eval_max_len
        for ranked_by, model in by.items():
            for part in ("valid", "test"):
                evaluations += rank_both(model, data.split, part, time, max_len, ranked_by)
        return evaluations

    def _predict(
        self, config: RunConfig, data: TaskData, outcome: Outcome, part: str
    ) -> list[RatingResult]:
        """Return the predictions of a part, one result per fold; nothing without such a part."""
        if config.preset.model.reads_histories:
            how = {name: data.protocol[name] for name in ("target_time", "max_len")}
            how["train_mean"] = data.parts[0].train_mean
            return [evaluate_rating(outcome.model, data.split, part, **how)]
        results = []
        for model, parts in zip(outcome.fold_models, data.parts, strict=True):
            if (triples := getattr(parts, part)) is not None:
                users, items, actual = triples
                predicted, mean = model.predict(users, items), parts.train_mean
                results.append(rating_metrics(predicted, actual, train_mean=mean, users=users))
        return results

    def selection(self, config: RunConfig) -> dict[str, Any]:
        """RMSE, or NDCG@10 for a model that is trained for ranking alone."""
        options: Any = config.model_options
        if config.preset.model.reads_histories and options.train_for == "ranking":
            return {"metric": "ndcg@10", "masked": False}
        return {"metric": "rmse", "masked": None}


def _of_ratings(part: str, results: list[RatingResult], data: TaskData) -> Evaluation:
    """Return the metrics of a part; the folds are evaluated together and one by one."""
    # A user, the unit of standard errors, has ratings in several folds.
    result = rating_metrics(
        np.concatenate([each.predicted for each in results]),
        np.concatenate([each.actual for each in results]),
        train_mean=float(np.mean([each.train_mean for each in results])),
        users=np.concatenate([each.users for each in results]),
    )
    # What is undefined in a fold (the calibration of a constant) is so in all together.
    undefined = [name for name in result if any(np.isnan(each[name]) for each in results)]
    metrics = dict(result) | dict.fromkeys(undefined, float("nan"))
    squared, slices = result.per_target("mse"), None
    if data.split is None:
        slices = {"folds": [{name: each[name] for name in ("rmse", "mae")} for each in results]}
    elif part == "test" and data.split.kind == "leave-one-out":
        slices = {"history": list(_by_history(squared, data.split.held_out["test"][1]))}
    target_time, values = data.protocol.get("target_time"), {"squared_error": squared}
    return Evaluation(part, target_time, None, None, metrics, values, result.users, slices)


def _by_history(squared: np.ndarray, before: np.ndarray) -> Iterator[dict[str, float]]:
    """Yield the RMSE of targets by the number of ratings that their user gave before."""
    for low, high in itertools.pairwise(HISTORY_EDGES):
        found = squared[(before > low) & (before <= high)]
        if len(found) < 2:
            continue
        rmse = float(np.sqrt(found.mean()))
        # The mean of squares has the usual error; that of its root follows from the derivative.
        se = float(found.std(ddof=1) / np.sqrt(len(found)) / (2 * rmse)) if rmse else 0.0
        figures = {"rmse": round(rmse, 4), "rmse_se": round(se, 4)}
        yield {"more_than": low, "up_to": high, "targets": len(found), **figures}


def _five_folds(config: RunConfig, ratings: pd.DataFrame) -> TaskData:
    ids = ratings["user_id"]
    columns = [
        (ids.cat.codes if ids.dtype == "category" else ids).to_numpy(np.int64),
        pd.factorize(ratings["item_id"], sort=True)[0] + 1,
        ratings["rating"].to_numpy(),
    ]
    parts = []
    for fold in k_fold(len(ratings), FOLDS, config.seed)[: config.data.folds]:
        train, test = (RatingTriples(*(column[rows] for column in columns)) for rows in fold)
        parts.append(RatingParts(train, None, test))
    sizes = {"catalogue": ratings["item_id"].nunique(), "users": ratings["user_id"].nunique()}
    n_train = sum(len(part.train.ratings) for part in parts) // len(parts)
    n_test = sum(len(part.test.ratings) for part in parts)
    protocol: dict[str, Any] = {"split": "5-fold", "ordering": None}
    protocol |= {"min_interactions": config.data.min_interactions, **sizes}
    protocol |= {"interactions": len(ratings), "folds": FOLDS, "folds_run": config.data.folds}
    protocol |= {"n_train": n_train, "n_valid": 0, "n_test": n_test, "left_out": 0}
    return TaskData(None, protocol, ratings.attrs, parts)
