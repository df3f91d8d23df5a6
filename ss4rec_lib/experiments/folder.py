"""The folder of a run: which files it has, and what may be done with it.

settings.json           what the run is made with; written first
checkpoint.safetensors  where training can go on; baselines fitted in one go have none
log.txt                 a line an epoch, added to when a run is resumed
history.csv             a row an epoch, where there are epochs
model.safetensors       the model with the weights of the chosen epoch, where any were learned
ranks.npz               the rank of every test target in each arm
result.json             the record; written last, so a run that has it is finished

A folder with any of them holds a run, and no other run is put into it.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from torch import nn

from ss4rec_lib.data import Split, global_time_split, leave_one_out, load_movielens
from ss4rec_lib.data.errors import NotEnoughInteractionsWarning
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.settings import Settings, refuse_differences
from ss4rec_lib.files import FileProblem
from ss4rec_lib.models import load_model


class RunFolder:
    """Paths of a run's files.

    Args:
        path: The folder; need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.settings = self.path / "settings.json"
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.log = self.path / "log.txt"
        self.history = self.path / "history.csv"
        self.model = self.path / "model.safetensors"
        self.ranks = self.path / "ranks.npz"
        self.result = self.path / "result.json"

    def prepare(self, settings: Settings, resume: bool) -> dict[str, Any] | None:
        """Whether a run may begin or go on here; nothing is written.

        Returns:
            The record when there is nothing left to do, else None.

        Raises:
            ExperimentError: A run is here and `resume` is not set, or its settings differ.
        """
        files = (
            self.settings, self.checkpoint, self.log, self.history, self.model, self.ranks,
            self.result,
        )  # fmt: skip
        here = [file.name for file in files if file.exists()]
        if here and not resume:
            raise ExperimentError(
                f"{self.path} holds a run already ({', '.join(here)}), and nothing was changed. "
                "--resume (resume=True) goes on with it; for another run choose another folder."
            )
        if not here:
            return None
        refuse_differences(self.path, Settings.read(self.settings), settings.resolved())
        return self.read_result() if self.result.exists() else None

    def read_result(self) -> dict[str, Any]:
        """The record of a finished run.

        Raises:
            ExperimentError: The run is not finished, there is none, or the file is damaged.
        """
        try:
            record = json.loads(self.result.read_text(encoding="utf-8"))
        except FileNotFoundError:
            state = "is not finished" if self.settings.exists() else "holds no run"
            raise ExperimentError(
                f"{self.path} {state}: it has no {self.result.name}. "
                f"Train first: ss4rec train --resume --out {self.path}"
            ) from None
        except (OSError, ValueError) as error:
            raise ExperimentError(f"{self.result} cannot be read: {error}") from error
        if not isinstance(record, dict):
            raise ExperimentError(f"{self.result} is no record of a run: it holds no JSON object")
        return record

    def read_model(self, split: Split) -> nn.Module:
        """The trained model, for the data it was trained on.

        Raises:
            ExperimentError: It cannot be read, or the data's catalogue is another one.
        """
        try:
            model = load_model(self.model)
        except (FileNotFoundError, FileProblem) as error:
            raise ExperimentError(str(error)) from error
        if model.n_items != split.sequences.n_items:
            raise ExperimentError(
                f"{self.model} knows {model.n_items:,} items, the data has "
                f"{split.sequences.n_items:,}: it is not the data the model was trained on"
            )
        return model


def load_split(settings: Settings) -> tuple[Split, bool]:
    """The data of a run, split under its protocol.

    Returns:
        The split, and whether the ratings are the published ones (by hash).

    Raises:
        DataError: As `load_movielens`, `leave_one_out` and `global_time_split` do.
    """
    ratings = load_movielens(settings.dataset, path=settings.path)
    verified = bool(ratings.attrs["verified"])
    if settings.split == "leave-one-out":
        return leave_one_out(ratings, settings.ordering, settings.min_interactions), verified
    with warnings.catch_warnings():
        # Some users always come after a cut: the split's report counts them, and a run logs it.
        warnings.simplefilter("ignore", NotEnoughInteractionsWarning)
        split = global_time_split(ratings, settings.ordering, settings.min_interactions)
    return split, verified
