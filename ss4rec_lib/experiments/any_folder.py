"""What the folders of all kinds of experiments have in common: when a run may begin in one.

A folder with any of its files holds a run, and no other run is put into it. `settings.json` is
written first, `result.json` last, so a run that has the record is finished.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.settings import refuse_differences


class ExperimentFolder:
    """Paths of a run's files. Each kind of experiment says which other files it has.

    Args:
        path: The folder; need not exist.
    """

    command: str
    """What begins and continues such a run: `ss4rec <command>`."""
    settings_type: type
    """The kind of settings a run is made with; has `read` and `resolved`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.settings = self.path / "settings.json"
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.history = self.path / "history.csv"
        self.result = self.path / "result.json"

    @property
    def files(self) -> Sequence[Path]:
        """All files a run may have here."""
        return [value for value in vars(self).values() if value != self.path]

    def prepare(self, settings: Any, resume: bool) -> dict[str, Any] | None:
        """Whether a run may begin or go on here; nothing is written.

        Args:
            settings: What the run would be made with, of this folder's `settings_type`.
            resume: Whether a run that is here may go on.

        Returns:
            The record when there is nothing left to do, else None.

        Raises:
            ExperimentError: A run is here and `resume` is not set, or its settings differ.
        """
        here = [file.name for file in self.files if file.exists()]
        if here and not resume:
            raise ExperimentError(
                f"{self.path} holds a run already ({', '.join(here)}), and nothing was changed. "
                "--resume (resume=True) goes on with it; for another run choose another folder."
            )
        if not here:
            return None
        saved = self.settings_type.read(self.settings)
        refuse_differences(self.path, saved, settings.resolved())
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
                f"First: ss4rec {self.command} --resume --out {self.path}"
            ) from None
        except (OSError, ValueError) as error:
            raise ExperimentError(f"{self.result} cannot be read: {error}") from error
        if not isinstance(record, dict):
            raise ExperimentError(f"{self.result} is no record of a run: it holds no JSON object")
        return record
