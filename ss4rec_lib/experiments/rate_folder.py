"""The folder of a rating experiment: which files it has, and what may be done with it.

settings.json           what the run is made with; written first
checkpoint.safetensors  where the training of a sequence model can go on
history.csv             a row an epoch, of the models that choose one
predictions.npz         what was predicted of the test part, and the ranks; see `write_predictions`
result.json             the record; written last, so a run that has it is finished

A folder with any of them holds a run, and no other run is put into it.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ss4rec_lib.evaluation import RatingResult
from ss4rec_lib.experiments.any_folder import ExperimentFolder
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.rate_settings import TASK, RateSettings
from ss4rec_lib.files import whole_file


class RateFolder(ExperimentFolder):
    """Paths of a run's files.

    Args:
        path: The folder; need not exist.
    """

    command, settings_type = "rate", RateSettings

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.predictions = self.path / "predictions.npz"

    def read_result(self) -> dict[str, Any]:
        """The record of a finished run.

        Raises:
            ExperimentError: The run is not finished, there is none, the file is damaged, or it is
                the record of another kind of experiment.
        """
        record = super().read_result()
        if record.get("task") != TASK:
            raise ExperimentError(f"{self.result} is no record of a rating experiment")
        return record


def holds_ratings(path: str | Path) -> bool:
    """Whether a folder holds a rating experiment, and not a run of `ss4rec train`."""
    try:
        settings = json.loads(RateFolder(path).settings.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and settings.get("task") == TASK


def write_predictions(path: Path, test: RatingResult, arms: Iterable[Mapping[str, Any]]) -> None:
    """Write what was predicted of each test target, whole or not at all.

    A NumPy archive without pickle, one entry a target in each array: `users` (original ids),
    `actual` and `predicted` (float32), and for each way of ranking `<by>-<seen>-above` and
    `-tied`, `seen` being `ranked` or `masked`. It holds ratings of the data set, so it stays where
    it is: `ss4rec record` keeps errors only.

    Args:
        path: Where to.
        test: The predictions.
        arms: The rankings, as `rate_fit.Judged` has them.

    Raises:
        FileError: It cannot be written.
    """
    arrays = {
        "users": test.users,
        "actual": test.actual.astype(np.float32),
        "predicted": test.predicted.astype(np.float32),
    }
    for arm in arms:
        prefix = f"{arm['by']}-{'masked' if arm['masked'] else 'ranked'}"
        for name in ("above", "tied"):
            counts = getattr(arm["test"], name)
            arrays[f"{prefix}-{name}"] = counts.astype(np.min_scalar_type(int(counts.max())))
    with whole_file(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)


def read_predictions(path: Path) -> dict[str, np.ndarray]:
    """What `write_predictions` wrote, by name.

    Raises:
        ExperimentError: There is no such file, or it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        arrays["actual"], arrays["predicted"]
        return arrays
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ExperimentError(f"{path} holds no predictions of a run: {error}") from error
