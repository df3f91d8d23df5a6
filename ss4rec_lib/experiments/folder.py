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

import warnings
from pathlib import Path

from torch import nn

from ss4rec_lib.data import (
    NotEnoughInteractionsWarning,
    Split,
    global_time_split,
    leave_one_out,
    load_movielens,
)
from ss4rec_lib.experiments.any_folder import ExperimentFolder
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.settings import Settings
from ss4rec_lib.files import FileError
from ss4rec_lib.models import load_model


class RunFolder(ExperimentFolder):
    """Paths of a run's files.

    Args:
        path: The folder; need not exist.
    """

    command, settings_type = "train", Settings

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.log = self.path / "log.txt"
        self.model = self.path / "model.safetensors"
        self.ranks = self.path / "ranks.npz"

    def read_model(self, split: Split) -> nn.Module:
        """The trained model, for the data it was trained on.

        Raises:
            ExperimentError: It cannot be read, or the data's catalogue is another one.
        """
        try:
            model = load_model(self.model)
        except (FileNotFoundError, FileError) as error:
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
