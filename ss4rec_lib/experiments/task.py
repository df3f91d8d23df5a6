"""What a run is asked to do: rank the catalogue, or predict ratings.

Only a task knows ranks or stars. It is a class with the methods `load`, `check`, `fit`, `evaluate`
and `selection`; `rating_task` has the second one. Folder, resuming, record and comparison are
written once, for both (`run`, `record`, `store`).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ss4rec_lib.data import (
    DataError,
    NotEnoughInteractionsWarning,
    Split,
    global_time_split,
    leave_one_out,
    load_dataset,
)
from ss4rec_lib.evaluation import KS, rank_targets
from ss4rec_lib.experiments.config import RunConfig
from ss4rec_lib.models import CRITERION, Recommender, make_model
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import METRICS, FitResult, fit

logger = logging.getLogger(__name__)


class ExperimentError(ValueError):
    """A run that cannot be made, continued, used or recorded; the message says why."""


@dataclass(frozen=True, eq=False)
class TaskData:
    """The data of a run."""

    split: Any  # the Split; None with `5-fold`
    protocol: dict[str, Any]  # what a figure must name for others to compare with it
    attrs: Mapping[Any, Any]  # of the table: `dataset`, its short name, and `verified`
    parts: list[Any] = field(default_factory=list)  # RatingParts; one, or one per fold


@dataclass(frozen=True, eq=False)
class Outcome:
    """A fitted model, and how it was fitted."""

    model: Any  # with the weights of the chosen epoch; with `5-fold` the last fold's
    history: pd.DataFrame  # one row per epoch; empty where there are no epochs to choose from
    epochs: int  # passes over the data, or draws, that were run
    best_epoch: int  # whose weights were kept, 0 where none was chosen
    stopped: str  # `epochs`, `patience`, `interrupted`, or `fitted` in one go
    seconds: float  # of fitting, without validation
    fold_models: list[Any] = field(default_factory=list)  # one model of ratings per fold


def trained(model: Recommender, result: FitResult) -> Outcome:
    """Return the outcome of a training loop."""
    epochs, seconds = len(result.history), result.train_seconds
    return Outcome(model, result.history, epochs, result.best_epoch, result.stopped, seconds)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of one part under one condition."""

    part: str  # `valid` or `test`
    target_time: str | None  # None for models of ratings without time
    masked: bool | None  # seen items are left out of the ranking; None for predicted ratings
    ranked_by: str | None  # `score`, or `rating` for expected ratings; None for predicted ratings
    metrics: Mapping[str, float]  # standard errors as `NAME_se`
    values: Mapping[str, np.ndarray]  # one number per target: `above`, `tied`, `squared_error`
    users: np.ndarray  # of each target
    slices: Mapping[str, list[dict[str, Any]]] | None = None  # metrics of parts of the targets


def rank_both(
    model: Recommender, split: Split, part: str, target_time: str, max_len: int | None,
    ranked_by: str = "score",
) -> list[Evaluation]:  # fmt: skip
    """Rank the targets of a part with seen items in the ranking, and with them left out."""
    evaluations = []
    found = rank_targets(model, split, part, max_len=max_len, target_time=target_time)
    for masked, result in found.items():
        of_targets = ({"above": result.above, "tied": result.tied}, result.users)
        condition = (part, target_time, masked, ranked_by)
        evaluations.append(Evaluation(*condition, dict(result), *of_targets))
    return evaluations


def load_table(config: RunConfig) -> pd.DataFrame:
    """Return the interactions of a run; without ratings it cannot predict any (`DataError`)."""
    table = load_dataset(config.data.dataset, path=config.data.path)
    if config.task == "rating" and "rating" not in table:
        raise DataError(f"{table.attrs['dataset']} has no ratings to predict: take task='ranking'")
    return table


def load_split(config: RunConfig) -> tuple[Split, Mapping[Any, Any]]:
    """Return the leave-one-out or global-time split of a run, and the table's `.attrs`.

    A catalogue below the metrics' largest K is a `DataError`.
    """
    data, table = config.data, load_table(config)
    with warnings.catch_warnings():
        make = leave_one_out
        if data.split == "global-time":  # some users always come after a cut: a run logs them
            warnings.simplefilter("ignore", NotEnoughInteractionsWarning)
            make = global_time_split
        split = make(table, data.ordering, data.min_interactions)
    if (n_items := split.sequences.n_items) < max(KS):
        found = f"{data.dataset} has {n_items} items after the filter"
        raise DataError(f"{found}: expected at least {max(KS)}, the largest K of the metrics")
    return split, table.attrs


def protocol_of_split(config: RunConfig, split: Split) -> dict[str, Any]:
    """Return the part of the protocol that every run with a `Split` records."""
    report = split.report
    return {
        "split": config.data.split,
        "ordering": split.ordering,
        "min_interactions": config.data.min_interactions,
        "catalogue": split.sequences.n_items,
        "users": report["users"],
        "interactions": report["rows"],
        "fingerprint": split.fingerprint(),
        "n_train": report["n_train_targets"],
        "n_valid": report["n_valid"],
        "n_test": report["n_test"],
        "left_out": report.get("users_too_short", 0) + report.get("test_without_history", 0),
        **{name: report[name] for name in ("valid_from", "test_from") if name in report},
    }


class RankingTask:
    """Rank the whole catalogue for each held-out interaction."""

    name = "ranking"

    def load(self, config: RunConfig) -> TaskData:
        """Return the leave-one-out or global-time split."""
        split, attrs = load_split(config)
        training = config.training_options
        protocol = protocol_of_split(config, split)
        protocol |= {"target_time": training.target_time, "max_len": training.eval_max_len}
        return TaskData(split, protocol, attrs)

    def check(self, config: RunConfig, data: TaskData) -> None:
        """Raise an `ExperimentError` for users that nothing is known of."""
        asked = np.union1d(*(users for users, _ in data.split.held_out.values()))
        unknown = int((data.split.train_end[asked] == 0).sum())
        if config.preset.model.needs_known_users and unknown:
            raise ExperimentError(
                f"{config.model_options.display_name} scores users of the training part, and "
                f"{unknown:,} of the {len(asked):,} users with a target have no interaction "
                "there. Take als or item_knn, which read histories, or leave-one-out"
            )

    def fit(self, config: RunConfig, data: TaskData, **how: Any) -> Outcome:
        """Fit on the training part, choose the epoch on validation.

        `how` goes to the training loop; baselines are fitted in one go, without checkpoints.
        """
        split, training = data.split, config.training_options
        kind, options = config.preset.model, config.model_options
        names = ("users_too_short", "valid_without_history", "test_without_history")
        without = {name: n for name in names if (n := split.report.get(name))}
        if without:
            logger.info("users without a target: %s", without)
        seed_everything(config.seed)
        if not kind.fitted:
            model = make_model(split.sequences.n_items, options)
            return trained(model, fit(model, split, training, **how))

        def validate(model: Recommender) -> Mapping[str, float]:
            how = ("valid", training.target_time, training.eval_max_len)
            unmasked, masked = rank_both(model, split, *how)
            metrics = {name: unmasked.metrics[name] for name in METRICS}
            metrics[CRITERION] = masked.metrics["ndcg@10"]
            logger.info("valid %s", ", ".join(f"{k.upper()} {v:.4f}" for k, v in metrics.items()))
            return metrics

        fitted = kind.fit(split, options, training, validate)
        history = pd.DataFrame(fitted.rows)
        epochs = len(history)
        stopped = "fitted" if not epochs else "epochs" if epochs == training.epochs else "patience"
        return Outcome(fitted.model, history, epochs, fitted.best_epoch, stopped, fitted.seconds)

    def evaluate(self, config: RunConfig, data: TaskData, outcome: Outcome) -> list[Evaluation]:
        """Rank validation and test targets, masked and not, and where their time is known, hidden.

        The run's own condition comes first.
        """
        own, max_len = config.training_options.target_time, config.training_options.eval_max_len
        evaluations: list[Evaluation] = []
        for time in ("known", "hidden") if own == "known" else (own,):
            for part in ("valid", "test"):
                evaluations += rank_both(outcome.model, data.split, part, time, max_len)
        return evaluations

    def selection(self, config: RunConfig) -> dict[str, Any]:
        """NDCG@10; masked for fitted baselines, which put seen items first."""
        return {"metric": "ndcg@10", "masked": config.preset.model.fitted}
