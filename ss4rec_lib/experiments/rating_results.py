"""Recorded rating experiments in `results/ratings/`: reading, naming, grouping over seeds.

    NAME.json           the record
    errors/NAME.npz     of leave-last-out runs `squared_error`, float16, one a test target in the
                        order of the split (ascending users): enough for paired differences of RMSE
    by_history.csv      these errors by length of history, see `experiments.rating_by_history`

Ratings of MovieLens may not be passed on, so predictions and ratings stay in the run's folder. The
errors of the model `mean` are not kept either: with one prediction for all, they *are* ratings.
"""

from __future__ import annotations

import re
import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ss4rec_lib.experiments.changes import as_text
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.rate_options import RATING_MODELS, default_options
from ss4rec_lib.experiments.rate_settings import FOLDS, RANKED_SPLITS, SPLITS, TASK
from ss4rec_lib.experiments.results import Seeds, by_seed, read_records

RATINGS = "ratings"  # the folder of rating experiments, within that of the records
ERRORS = "errors"  # the folder of their errors, within that one

# Kept out of comparisons: they say how a run was carried out, not what was computed.
_INCIDENTAL = ("device", "checkpoint_seconds")

_NEEDED = {
    "task", "dataset", "model", "protocol", "config", "seed", "data_verified", "valid", "test",
    "ranking", "train_seconds", "epochs", "best_epoch", "peak_rss_bytes", "machine", "versions",
    "revision",
}  # fmt: skip


def read_errors(path: Path) -> np.ndarray:
    """Squared errors of a kept run, (n,) float64, in the order of the split's test targets.

    Raises:
        ExperimentError: There is no such file, or it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive["squared_error"].astype(np.float64)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ExperimentError(f"{path} holds no errors of a run: {error}") from error


def load_rating_records(folder: Path) -> dict[str, dict[str, Any]]:
    """All records of a folder by name, in the order of their names.

    Raises:
        ExperimentError: A JSON file that is no record, naming what it lacks.
    """
    return read_records(folder, check_rating_record)


def check_rating_record(label: str, record: Any) -> None:
    """Refuse what is no record of a rating experiment (ExperimentError naming what lacks)."""
    missing = sorted(_NEEDED - record.keys()) if isinstance(record, dict) else sorted(_NEEDED)
    if missing:
        raise ExperimentError(
            f"{label} is no record of a rating experiment: it lacks {', '.join(missing)}"
        )
    for name, value, allowed in (
        ("task", record["task"], (TASK,)),
        ("model", record["model"], RATING_MODELS),
        ("split", record["protocol"].get("split"), SPLITS),
    ):
        if value not in allowed:
            raise ExperimentError(
                f"{label} has the {name} {value!r}: expected one of {', '.join(allowed)}"
            )


def changed_options(record: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded options that are other than the defaults of *this* version."""
    defaults, missing = default_options(record["model"]), object()
    return {
        name: value
        for name, value in record["config"].items()
        if name not in _INCIDENTAL and defaults.get(name, missing) != value
    }


def _beside_defaults(record: Mapping[str, Any]) -> dict[str, str]:
    """Arguments of the split that are not the usual ones, as the command line has them."""
    protocol, found = record["protocol"], {}
    if protocol["ordering"] not in (None, "exact-time"):
        found["--protocol"] = protocol["ordering"]
    if protocol["min_interactions"] != (5 if protocol["split"] in RANKED_SPLITS else 0):
        found["--min-interactions"] = str(protocol["min_interactions"])
    if protocol.get("folds_run", FOLDS) != FOLDS:
        found["--folds"] = str(protocol["folds_run"])
    return found


def rating_name(record: Mapping[str, Any]) -> str:
    """A file name that says what the run was: data, split, model, changes, seed."""
    parts = [record["dataset"], record["protocol"]["split"], record["model"]]
    parts += [
        f"{word.removeprefix('--')}-{value}" for word, value in _beside_defaults(record).items()
    ]
    parts += [f"{key}-{as_text(value)}" for key, value in changed_options(record).items()]
    return re.sub(r"[^\w.-]", "-", "_".join([*parts, f"seed{record['seed']}"]))


def rating_command(record: Mapping[str, Any], name: str) -> str:
    """The command line that makes a recorded run again."""
    words = ["ss4rec", "rate", "--dataset", record["dataset"], "--model", record["model"]]
    words += ["--split", record["protocol"]["split"]]
    for pair in _beside_defaults(record).items():
        words += pair
    for key, value in changed_options(record).items():
        words += ["--set", f"{key}={as_text(value)}"]
    return shlex.join([*words, "--seed", str(record["seed"]), "--out", f"runs/{name}"])


class RatingGroup(Seeds):
    """Runs of `ss4rec rate` that differ in nothing but the seed."""

    def ranking(self, by: str, masked: bool) -> list[dict[str, Any]]:
        """Ranking metrics of the test part of every record; empty where nothing is ranked."""
        return [
            arm["test"]
            for record in self.records
            for arm in record["ranking"] or ()
            if (arm["by"], arm["masked"]) == (by, masked)
        ]


def rating_groups(records: Mapping[str, dict[str, Any]]) -> list[RatingGroup]:
    """Records that differ only in seed come together: by data, by split, simple models first.

    Raises:
        ExperimentError: Two records of the same run: its seed would count twice.
    """

    def shared(record: Mapping[str, Any]) -> list[Any]:
        config = {key: value for key, value in record["config"].items() if key not in _INCIDENTAL}
        own = [record["dataset"], record["protocol"]["split"], record["model"], config]
        return [*own, _beside_defaults(record)]

    return sorted((RatingGroup(*each) for each in by_seed(records, shared)), key=_place)


def _place(group: RatingGroup) -> tuple:
    record = group.first
    return (
        record["dataset"],
        SPLITS.index(record["protocol"]["split"]),
        str(_beside_defaults(record)),
        RATING_MODELS.index(record["model"]),
        str(changed_options(record)),
    )
