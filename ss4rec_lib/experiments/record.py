"""The record of a run: one JSON object with everything that a figure must be read with.

    format, task, dataset, model, display_name, overrides, uses_time, seed
                        what was run; `overrides` are the options that differed from the preset
    protocol            split, ordering, filter, catalogue, counts, target time, fingerprint
    data_verified       whether the ratings are the published ones, by hash
    config, parameters  every option of model and training; number of learned numbers
    evaluations         list of {part, target_time, masked, ranked_by, metrics, slices}
    selection           the metric that chose the epoch and the options, and its masking
    epochs, best_epoch, stopped, curve      the curve has the rows of the history
    seconds             train, valid (of all epochs), wall (of the process that finished the run)
    resumed             whether other processes did a part of it
    peak_memory_bytes   largest resident memory of the process until training ended
    machine, versions, revision, command

The record is read without presets or data. Values of single targets lie beside it in a NumPy
archive. Paths and names of hosts or people are left out; numbers that are not finite are null.
"""

from __future__ import annotations

import math
import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ss4rec_lib.data import checkout
from ss4rec_lib.experiments.config import FORMAT, RunConfig, read_format
from ss4rec_lib.experiments.task import Evaluation, ExperimentError, Outcome, TaskData
from ss4rec_lib.files import whole_file
from ss4rec_lib.models import n_learned

NEEDED = tuple(  # fields that no record lacks, beside `format`
    "task dataset model display_name overrides uses_time seed protocol evaluations selection "
    "epochs best_epoch curve seconds machine versions revision command".split()
)
_CODE = ("ss4rec_lib", "pyproject.toml")  # what decides a run's numbers


def make_record(
    config: RunConfig, data: TaskData, outcome: Outcome, evaluations: Iterable[Evaluation],
    selection: Mapping[str, Any], wall: float, measured: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Put a record together; `measured` holds the fields from `resumed` to `revision`."""
    training, options = config.training_options.model_dump(mode="json"), config.model_options
    known, history = config.preset.model.trained_with, outcome.history
    names = training if known is None else ("seed", "target_time", *known)
    valid_seconds = sum(history["valid_seconds"]) if "valid_seconds" in history else 0.0
    kept = ("part", "target_time", "masked", "ranked_by", "metrics", "slices")
    rows = ({name: getattr(each, name) for name in kept} for each in evaluations)
    shown = {"model": options.model_dump(mode="json"), "training": {n: training[n] for n in names}}
    record = {
        "format": FORMAT,
        "task": config.task,
        "dataset": data.attrs["dataset"],
        "model": config.name,
        "display_name": options.display_name,
        "overrides": config.overrides(),
        "uses_time": options.uses_time,
        "seed": config.seed,
        "protocol": data.protocol,
        "data_verified": bool(data.attrs["verified"]),
        "config": shown,
        "parameters": n_learned(outcome.model),
        "evaluations": [{k: v for k, v in row.items() if k != "slices" or v} for row in rows],
        "selection": selection,
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
        "stopped": outcome.stopped,
        "seconds": {"train": outcome.seconds, "valid": valid_seconds, "wall": wall},
        **measured,
        "command": config.command(f"runs/{record_name(config, data.attrs['dataset'])}"),
        "curve": history.to_dict("records"),
    }
    return plain(record)


def record_name(config: RunConfig, dataset: str) -> str:
    """Return a file name that says what the run is: task, data, protocol, model, options, seed.

    `dataset` is the short name that the record holds.
    """
    data = config.data
    parts = ["rating"] if config.task == "rating" else []
    parts += [dataset, data.split, data.ordering, config.name]
    parts += [f"{data.min_interactions}-core"] if "min_interactions" in data.changes() else []
    parts += [f"{key}-{value}" for key, value in config.overrides().items()]
    text = "_".join([*parts, f"seed{config.seed}"])
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in text)


def evaluation_of(
    record: Mapping[str, Any], part: str = "test", target_time: str | None = None,
    masked: bool | None = None, ranked_by: str | None = None,
) -> dict[str, Any] | None:  # fmt: skip
    """Return the metrics of one condition of a record, None if it has no such evaluation.

    `masked` is None for predicted ratings; `target_time` is the run's own when None, and
    `ranked_by` is `score` where `masked` is given.
    """
    time = record["protocol"].get("target_time") if target_time is None else target_time
    ranked_by = "score" if masked is not None and ranked_by is None else ranked_by
    wanted = {"part": part, "target_time": time, "masked": masked, "ranked_by": ranked_by}
    found = (e["metrics"] for e in record["evaluations"] if wanted.items() <= e.items())
    return next(found, None)


def summary(record: Mapping[str, Any]) -> str:
    """Return a finished run in a few lines, for a terminal."""
    protocol, lines = record["protocol"], []
    for each in (e for e in record["evaluations"] if e["part"] == "test"):
        if each["masked"] is None:
            names, left_out = ("rmse", "mae", "r2"), protocol["left_out"]
            what = f"{protocol['n_test']:,} ratings" + f", {left_out:,} left out" * bool(left_out)
        else:
            names = ("hr@10", "ndcg@10", "mrr@10")
            seen = "masked" if each["masked"] else "not masked"
            by = f"ranked by {each['ranked_by']}, " if record["task"] == "rating" else ""
            what = f"{by}target time {each['target_time']}, seen items {seen}"
        figures = (f"{name.upper()} {with_error(each['metrics'], name)}" for name in names)
        lines.append(f"test, {what}: {', '.join(figures)}")
    if protocol.get("folds_run"):
        lines.append(f"folds: {protocol['folds_run']} of {protocol['folds']}")
    chosen = record["selection"]
    valid = evaluation_of(record, "valid", masked=chosen["masked"])
    if valid is not None:
        best, metric = record["best_epoch"], chosen["metric"]
        what = f"epoch {best} of {record['epochs']} chosen on validation" if best else "validation"
        seen = ", seen items masked" if chosen["masked"] else ""
        lines.append(f"{what}: {metric.upper()} {with_error(valid, metric)}{seen}")
    return "\n".join([*lines, f"{record['seconds']['train']:.1f} s of training"])


def with_error(metrics: Mapping[str, float | None], name: str) -> str:
    """Return `0.3561 ± 0.0061`: a metric and its standard error over users; `-` if undefined."""
    value, error = metrics[name], metrics.get(f"{name}_se")
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:.4f}"
    return text if error is None or math.isnan(error) else f"{text} ± {error:.4f}"


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: lists, objects, text, finite numbers, null for others."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_per_target(path: Path, evaluations: Iterable[Evaluation]) -> None:
    """Write the values of every test target, without pickle (a `FileError` if not possible).

    `users`, then for each condition `<target time>.<ranked by>.<masked|unmasked>.above` and
    `.tied`, from which every ranking metric follows, or `<target time>.squared_error` in float16;
    no ratings or predictions, since ratings of MovieLens may not be passed on.
    """
    arrays: dict[str, np.ndarray] = {}
    for each in (e for e in evaluations if e.part == "test"):
        words = [each.target_time or "none"]
        if each.masked is not None:
            words += [str(each.ranked_by), "masked" if each.masked else "unmasked"]
        arrays.setdefault("users", _small(each.users))
        for name, values in each.values.items():
            arrays[".".join([*words, name])] = _small(values)
    with whole_file(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)  # pyright: ignore[reportArgumentType]


def _small(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return values.astype(np.float16)
    return values.astype(np.min_scalar_type(int(values.max())))


def read_per_target(path: str | Path) -> dict[str, np.ndarray]:
    """Read what `write_per_target` wrote, integers as int64 and errors as float64."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        arrays["users"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ExperimentError(f"{path} holds no values of a run's targets: {error}") from error
    wide = {"f": np.float64, "i": np.int64, "u": np.int64}
    return {name: array.astype(wide[array.dtype.kind]) for name, array in arrays.items()}


def read_record(path: Path) -> dict[str, Any]:
    """Read a record; an `ExperimentError` names the file and its format or missing fields."""
    record = read_format(path, ExperimentError)
    missing = [name for name in NEEDED if name not in record]
    if missing:
        raise ExperimentError(f"{path} is no record of a run: missing {', '.join(missing)}")
    return record


def code_revision(root: Path | None = None) -> str | None:
    """Return the git revision of the checkout that this package runs from; None without one.

    `+changes` follows the commit when the package or its dependencies differ from it.
    """
    root = checkout() if root is None else Path(root)
    # Without .git of its own, the package may lie inside somebody else's repository.
    if root is None or not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        how = {"capture_output": True, "text": True, "timeout": 30, "check": True}
        return subprocess.run(command, **how).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changes = git("status", "--porcelain", "--", *_CODE)
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    return f"{commit}+changes" if changes else commit
