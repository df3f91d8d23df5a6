"""Runs of baselines that are fitted in one go: checked before any file is written, then fitted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from torch import nn

from ss4rec_lib.data import Split
from ss4rec_lib.evaluation import rank_targets
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.settings import Settings
from ss4rec_lib.models import CRITERION, FITTED, check_fittable, fit_baseline, model_for
from ss4rec_lib.training import METRICS, FitResult, TrainingDiverged

logger = logging.getLogger(__name__)

_COLUMNS = ("epoch", "train_loss", *METRICS, CRITERION, "train_seconds", "valid_seconds")


@dataclass(frozen=True)
class BaselineResult(FitResult):
    """What `fit` returns, of a baseline: the history is empty where there are no epochs.

    Attributes:
        seconds: Spent on fitting, validation left out.
    """

    seconds: float = 0.0

    @property
    def train_seconds(self) -> float:
        """Seconds of fitting."""
        return self.seconds


def is_fitted(settings: Settings) -> bool:
    """Whether the preset is fitted in one go, not trained with checkpoints."""
    return settings.preset in FITTED


def check_baseline(settings: Settings, split: Split) -> None:
    """Refuse a baseline that could not be fitted to this data, here.

    Raises:
        ExperimentError: A library is not installed, or users would be ranked by chance.
    """
    try:
        check_fittable(split, settings.model_config())
    except (ImportError, ValueError) as error:
        raise ExperimentError(str(error)) from error


def fit_run(settings: Settings, split: Split) -> tuple[nn.Module, BaselineResult]:
    """Fit the preset of a run, which names one of `models.fitted.FITTED`.

    The epoch of `neural_cf` is chosen by validation NDCG@10 with seen items masked, see
    `models.fitted.CRITERION`; the others have none.

    Returns:
        The model, and what `fit` would have returned.

    Raises:
        TrainingDiverged: A loss or a learned number that is not finite.
    """
    training = settings.training_config()

    def validate(model: nn.Module) -> Mapping[str, float]:
        found = rank_targets(
            model_for(model, split, "valid"), split, "valid",
            max_len=training.eval_max_len, target_time=training.target_time,
        )  # fmt: skip
        metrics = {name: found[False][name] for name in METRICS}
        metrics[CRITERION] = found[True]["ndcg@10"]
        shown = ", ".join(f"{name.upper()} {value:.4f}" for name, value in metrics.items())
        logger.info("valid %s", shown)
        return metrics

    try:
        fitted = fit_baseline(split, settings.model_config(), training, validate)
    except FloatingPointError as error:
        raise TrainingDiverged(str(error)) from error
    history = pd.DataFrame(fitted.rows, columns=list(_COLUMNS))
    epochs = len(history)
    stopped = "fitted" if epochs == 0 else "epochs" if epochs == training.epochs else "patience"
    return fitted.model, BaselineResult(history, fitted.best_epoch, stopped, fitted.seconds)
