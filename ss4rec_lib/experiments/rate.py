"""One rating experiment, from settings to a record: fit, choose on validation, judge once, write.

The record is one JSON object:

    task, dataset, model, protocol, config, seed, data_verified
    valid, test         RMSE, MAE, R^2 and calibration with standard errors over users; `valid` is
                        null where there is no validation part
    ranking             list of {by, masked, valid, test}: the full ranking of the same targets by
                        the model's scores or by the ratings it expects; null without ranking
    folds               RMSE and MAE of each fold; null without folds
    train_seconds, epochs, best_epoch, curve
    peak_rss_bytes, machine, versions, revision

`protocol` has the split, `ordering`, `min_interactions`, `target_time` (of models that know of
time), `n_train`, `n_valid`, `n_test`, `left_out` (test ratings without any history) and, where the
split has one, its fingerprint. Paths and names of hosts or people are left out. Numbers that are
not finite are null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ss4rec_lib.evaluation import KS
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.rate_data import RatingData, load_rating_data
from ss4rec_lib.experiments.rate_fit import Judged, fit_baseline, fit_sequence_model
from ss4rec_lib.experiments.rate_folder import RateFolder, write_predictions
from ss4rec_lib.experiments.rate_options import SEQUENCE_MODELS
from ss4rec_lib.experiments.rate_settings import RANKED_SPLITS, TASK, RateSettings
from ss4rec_lib.experiments.record import PACKAGES, with_error
from ss4rec_lib.experiments.revision import code_revision
from ss4rec_lib.files import write_text
from ss4rec_lib.machine import describe_machine, describe_versions
from ss4rec_lib.training import resolve_device


def run_rating_experiment(
    settings: RateSettings, out: str | Path, resume: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Fit and judge a model of ratings, and leave everything in a folder (see `rate_folder`).

    The test part is judged once, when fitting has ended. Killed at any moment, a sequence model
    goes on with `resume=True` from its last checkpoint, and other models begin again; a finished
    run is not repeated.

    Args:
        settings: What to run.
        out: The run's folder; made when it is not there.
        resume: Go on with the run in `out`; where there is none, begin.
        progress: Show a progress bar.

    Returns:
        The record, as in `result.json`.

    Raises:
        ExperimentError: `out` holds a run and `resume` is not set, or one with other settings; a
            library or device that is not there; ratings that are all equal; a catalogue too small
            for the ranking metrics. Nothing is written then.
        DataError: The data set cannot be had or used.
        CheckpointError: The checkpoint does not fit, or cannot be read or written.
        FileError: A file cannot be written.
        TrainingDiverged: See `fit_ratings`.
        KeyboardInterrupt: The run was interrupted, and can be resumed.
    """
    folder, training = RateFolder(out), None
    settings.check_packages()
    if settings.model in SEQUENCE_MODELS:
        _, training = settings.make()
        try:
            resolve_device(training.device)
        except ValueError as error:
            raise ExperimentError(str(error)) from error
        if training.accumulate != 1 or training.history != "windows":
            raise ExperimentError("rating models take accumulate=1 and history=windows")
    finished = folder.prepare(settings, resume)
    if finished is not None:
        return finished
    data = load_rating_data(settings, 200 if training is None else training.eval_max_len)
    if settings.split in RANKED_SPLITS and data.protocol["catalogue"] < max(KS):
        raise ExperimentError(
            f"{settings.dataset} has {data.protocol['catalogue']} items after the filter: expected "
            f"at least {max(KS)}, the largest K of the metrics"
        )
    revision = code_revision()
    if not folder.settings.exists():
        settings.write(folder.settings)
    if training is None:
        judged = fit_baseline(settings, data, folder)
    else:
        data.protocol["target_time"] = training.target_time
        judged = fit_sequence_model(settings, data, folder, resume, progress)
    write_predictions(folder.predictions, judged.test, judged.arms)
    record = _record(settings, data, judged, revision)
    write_text(folder.result, json.dumps(record, indent=2, allow_nan=False) + "\n")
    return record


def _record(
    settings: RateSettings, data: RatingData, judged: Judged, revision: str | None
) -> dict[str, Any]:
    ranking = [
        {"by": arm["by"], "masked": arm["masked"]}
        | {part: _finite(arm[part]) for part in ("valid", "test")}
        for arm in judged.arms
    ]
    device = judged.device
    machine = describe_machine() | {
        "torch_threads": torch.get_num_threads(),
        "device": "cpu" if device == "cpu" else torch.cuda.get_device_name(device),
    }
    return {
        "task": TASK,
        "dataset": settings.dataset,
        "model": settings.model,
        "protocol": data.protocol,
        "config": settings.resolved_options(),
        "seed": settings.seed,
        "data_verified": data.verified,
        "valid": None if judged.valid is None else _finite(judged.valid),
        "test": _finite(judged.test) | dict.fromkeys(judged.undefined),
        "ranking": ranking or None,
        "folds": judged.folds,
        "train_seconds": judged.train_seconds,
        "epochs": judged.epochs,
        "best_epoch": judged.best_epoch,
        "curve": None if judged.curve is None else [_finite(row) for row in judged.curve],
        "peak_rss_bytes": judged.peak_rss_bytes,
        "machine": machine,
        "versions": describe_versions((*PACKAGES, "scikit-surprise", "myfm")),
        "revision": revision,
    }


def _finite(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in metrics.items()
    }


def rating_summary(record: Mapping[str, Any]) -> str:
    """A finished run in a few lines, for a terminal."""
    protocol, lines = record["protocol"], []
    figures = [f"{m.upper()} {with_error(record['test'], m)}" for m in ("rmse", "mae", "r2")]
    left_out = f", {protocol['left_out']:,} left out" if protocol["left_out"] else ""
    lines.append(f"test, {protocol['n_test']:,} ratings{left_out}: {', '.join(figures)}")
    for arm in record["ranking"] or ():
        seen = "masked" if arm["masked"] else "not masked"
        figures = [f"{m.upper()} {with_error(arm['test'], m)}" for m in ("hr@10", "ndcg@10")]
        lines.append(f"ranked by {arm['by']}, seen items {seen}: {', '.join(figures)}")
    if protocol.get("folds_run"):
        lines.append(f"folds: {protocol['folds_run']} of {protocol['folds']}")
    if record["best_epoch"] is not None:
        lines.append(f"epoch {record['best_epoch']} of {record['epochs']} chosen on validation")
    return "\n".join([*lines, f"{record['train_seconds']:.1f} s of fitting"])
