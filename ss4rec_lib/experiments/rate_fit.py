"""Fitting and judging one model of a rating experiment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ss4rec_lib.data import Split
from ss4rec_lib.evaluation import (
    RankedByRating,
    RankingResult,
    RatingResult,
    evaluate_rating,
    rank_targets,
    rating_metrics,
)
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.rate_data import RatingData, RatingParts
from ss4rec_lib.experiments.rate_folder import RateFolder
from ss4rec_lib.experiments.rate_settings import RANKED_SPLITS, RateSettings
from ss4rec_lib.files import write_text
from ss4rec_lib.machine import peak_rss_bytes
from ss4rec_lib.models import RatingBaseline, RatingNeuralCF
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import fit_ratings, rating_model


@dataclass(frozen=True)
class Judged:
    """What came of a model.

    Attributes:
        valid: How well it predicts the validation part; None without one.
        test: The test part; the folds' predictions together where there are several.
        arms: The rankings, each `by` (`score` or `rating`), `masked`, and a `RankingResult` for
            `valid` and for `test`; empty where nothing is ranked.
        train_seconds: Of fitting, all folds together; validation inside the epochs of an SS4Rec is
            left out.
        epochs: Passes over the ratings, or Gibbs draws; those that were run.
        best_epoch: The one whose weights were kept; None where none is chosen.
        curve: A row an epoch, of the models that choose one.
        folds: `rmse` and `mae` of each fold; None where there are none.
        undefined: Metrics that mean nothing in a fold, so not in all of them together either: the
            calibration line of one prediction for all.
        peak_rss_bytes: Largest resident memory until fitting ended.
        device: What it was fitted on.
    """

    valid: RatingResult | None
    test: RatingResult
    arms: list[dict[str, Any]]
    train_seconds: float
    epochs: int
    best_epoch: int | None
    curve: list[dict[str, Any]] | None
    folds: list[dict[str, float]] | None
    peak_rss_bytes: int | None
    device: str = "cpu"
    undefined: tuple[str, ...] = ()


def fit_baseline(settings: RateSettings, data: RatingData, folder: RateFolder) -> Judged:
    """Fit a model of users and items, on each fold where there are several, and judge it.

    Raises:
        ExperimentError: Its loss is not finite.
        FileError: The history cannot be written.
    """
    tests, seconds = [], 0.0
    for part in data.parts:
        model = settings.make()
        if isinstance(model, RatingNeuralCF):
            model.valid = part.valid
        begin = time.perf_counter()
        try:
            model.fit(*part.train)
        except FloatingPointError as error:
            raise ExperimentError(f"{settings.model}: {error}") from error
        seconds += time.perf_counter() - begin
        tests.append(_judge(model, part, "test"))
    peak = peak_rss_bytes()
    options, curve, best_epoch = settings.resolved_options(), None, None
    epochs = options.get("n_epochs", options.get("n_iter", 0))
    if isinstance(model, RatingNeuralCF):
        curve, best_epoch, epochs = model.history, model.best_epoch, len(model.history)
        _write_history(folder, pd.DataFrame(curve))
    several = settings.split == "5-fold"
    return Judged(
        valid=None if data.parts[0].valid is None else _judge(model, data.parts[0], "valid"),
        test=_together(tests) if several else tests[0],
        arms=_arms(settings, data, {"rating": lambda split: RankedByRating(model, split)}),
        train_seconds=seconds,
        epochs=epochs,
        best_epoch=best_epoch,
        curve=curve,
        folds=[{m: test[m] for m in ("rmse", "mae")} for test in tests] if several else None,
        peak_rss_bytes=peak,
        undefined=tuple(name for name in tests[0] if any(np.isnan(test[name]) for test in tests)),
    )


def fit_sequence_model(
    settings: RateSettings, data: RatingData, folder: RateFolder, resume: bool, progress: bool
) -> Judged:
    """Train an SS4Rec for ratings, choose its epoch on validation, judge it.

    Args:
        settings: What to run.
        data: With a split.
        folder: Where checkpoint and history go.
        resume: Go on from the checkpoint, if there is one.
        progress: Show a progress bar.

    Raises:
        CheckpointError: See `fit_ratings`.
        TrainingDiverged: See there.
        FileError: The history cannot be written.
        KeyboardInterrupt: Interrupted; can be resumed.
    """
    config, training = settings.make()
    seed_everything(settings.seed)
    model = rating_model(data.split, config)
    result = fit_ratings(
        model, data.split, training, checkpoint=folder.checkpoint, resume=resume,
        on_epoch=lambda history: _write_history(folder, history), progress=progress,
    )  # fmt: skip
    if result.stopped == "interrupted":  # the test part waits for the end of training
        raise KeyboardInterrupt
    peak = peak_rss_bytes()
    _write_history(folder, result.history)  # again: a resumed run may have no epoch left
    options = {
        "max_len": training.eval_max_len, "target_time": training.target_time,
        "train_mean": data.parts[0].train_mean,
    }  # fmt: skip
    rankings = {"score": lambda split: model, "rating": lambda split: RankedByRating(model, split)}
    return Judged(
        valid=evaluate_rating(model, data.split, "valid", **options),
        test=evaluate_rating(model, data.split, "test", **options),
        arms=_arms(settings, data, rankings, training.eval_max_len, training.target_time),
        train_seconds=result.train_seconds,
        epochs=len(result.history),
        best_epoch=result.best_epoch,
        curve=result.history.to_dict("records"),
        folds=None,
        peak_rss_bytes=peak,
        device=str(next(model.parameters()).device),
    )


def _judge(model: RatingBaseline, part: RatingParts, name: str) -> RatingResult:
    users, items, actual = getattr(part, name)
    return rating_metrics(
        model.predict(users, items), actual, train_mean=part.train_mean, users=users
    )


def _together(tests: Sequence[RatingResult]) -> RatingResult:
    """The folds as one test part: users, the unit of errors, have ratings in several of them."""
    return rating_metrics(
        np.concatenate([test.predicted for test in tests]),
        np.concatenate([test.actual for test in tests]),
        train_mean=float(np.mean([test.train_mean for test in tests])),
        users=np.concatenate([test.users for test in tests]),
    )


def _arms(
    settings: RateSettings,
    data: RatingData,
    rankings: dict[str, Any],
    max_len: int | None = 200,
    target_time: str = "known",
) -> list[dict[str, Any]]:
    """The full ranking of each target, unmasked and masked, in each way the model can rank."""
    if settings.split not in RANKED_SPLITS:
        return []
    split: Split = data.split
    found: list[dict[str, Any]] = []
    for by, wrapped in rankings.items():
        parts: dict[str, dict[bool, RankingResult]] = {
            part: rank_targets(
                wrapped(split), split, part, max_len=max_len, target_time=target_time
            )
            for part in ("valid", "test")
        }
        found += [
            {"by": by, "masked": masked} | {part: of[masked] for part, of in parts.items()}
            for masked in (False, True)
        ]
    return found


def _write_history(folder: RateFolder, history: pd.DataFrame) -> None:
    write_text(folder.history, history.to_csv(index=False, lineterminator="\n"))
