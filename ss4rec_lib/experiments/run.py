"""One run, from a configuration to a record: fit, choose on validation, evaluate once, write.

The folder of a run:

    config.json             what the run is made with; written first
    checkpoint.safetensors  where training can continue; baselines fitted in one go have none
    log.txt                 a line per epoch, extended when a run is resumed
    history.csv             a row per epoch, where there are epochs
    model.safetensors       the model with the weights of the chosen epoch, where any were learned
    per_target.npz          the values of every test target, see `record.write_per_target`
    record.json             the record; written last, so a run that has it is finished
    diverged.txt            in place of a record, why training could not go on; the model is then
                            that of the best epoch before, if there was one

A folder with any of them holds a run, and no other run is put into it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
import torch

from ss4rec_lib.configuration import ConfigError
from ss4rec_lib.data import DataError, UnusablePathError
from ss4rec_lib.experiments.config import IDENTITY, RunConfig, absolute, refuse_differences
from ss4rec_lib.experiments.rating_task import RatingTask
from ss4rec_lib.experiments.record import code_revision, make_record, read_record, write_per_target
from ss4rec_lib.experiments.task import ExperimentError, RankingTask, TaskData
from ss4rec_lib.files import FileError, write_json, write_text
from ss4rec_lib.machine import describe_machine, describe_versions, peak_rss_bytes
from ss4rec_lib.models import Recommender, TrainingDiverged, load_model, save_model
from ss4rec_lib.training import make_accelerator, resolve_device, same_everywhere

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)
T = TypeVar("T")

TASKS = {task.name: task for task in (RankingTask(), RatingTask())}
PACKAGES = tuple(
    "torch numpy pandas scipy numba s5-pytorch accelerate safetensors implicit scikit-surprise "
    "myfm ss4rec-lab".split()
)
_OLD_FILES = ("settings.json", "result.json")  # of runs made before format 2


class RunFolder:
    """Paths of a run's files, and when a run may begin or continue there; need not exist."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.log = self.path / "log.txt"
        self.history = self.path / "history.csv"
        self.model = self.path / "model.safetensors"
        self.per_target = self.path / "per_target.npz"
        self.record = self.path / "record.json"
        self.diverged = self.path / "diverged.txt"

    def refuse_old_format(self) -> None:
        """Raise an `ExperimentError` if the folder holds a run of format 1."""
        old = [name for name in _OLD_FILES if (self.path / name).exists()]
        if old and not self.config.exists():
            raise ExperimentError(
                f"{self.path} holds a run of format 1 ({', '.join(old)}), this version reads "
                "format 2. Nothing was changed: make the run again in another folder, or use the "
                "release that wrote it (0.1)"
            )

    def prepare(self, config: RunConfig, resume: bool) -> dict[str, Any] | None:
        """Return the record if the run is finished, None if it may begin or continue here.

        Nothing is written. Raise an `ExperimentError` if a run is here and `resume` is not set, a
        `ConfigError` if it was made with other options, `TrainingDiverged` if it cannot go on.
        """
        self.refuse_old_format()
        here = [file.name for file in vars(self).values() if file != self.path and file.exists()]
        if here and not resume:
            remedy = "--resume (resume=True) continues it; for another run choose another folder"
            raise ExperimentError(f"{self.path} already holds a run ({', '.join(here)}): {remedy}")
        if here:
            refuse_differences(self.path, RunConfig.read(self.config), config.in_force())
        if self.diverged.exists():
            raise TrainingDiverged(self.diverged.read_text(encoding="utf-8").strip())
        return self.read_record() if self.record.exists() else None

    def keep_diverged(self, error: FloatingPointError, learns: bool) -> TrainingDiverged:
        """Keep the history and the best weights of training that diverged; return what to raise."""
        if isinstance(error, TrainingDiverged) and error.rows:
            self.write_history(pd.DataFrame(error.rows))
            if learns:
                save_model(error.model, self.model)
        kept = [file.name for file in (self.history, self.model) if file.exists()]
        text = f"training diverged: {str(error).rstrip('.')}. This run cannot be continued"
        text += f" ({' and '.join(kept)} of the epochs before are kept)" if kept else ""
        text += ": train again with other options into another folder."
        write_text(self.diverged, f"{text}\n")
        return TrainingDiverged(text)

    def load_data(self, config: RunConfig, path: str | None = None) -> tuple[RunConfig, TaskData]:
        """Return the run's data from where they are now, and the configuration with that place.

        That is `path`, or else where the run named them, seen from here, where the data set's
        variable says, or where they were then. Other data are passed over; if there is nothing
        else, raise an `ExperimentError`.
        """
        kept = json.loads(self.config.read_text(encoding="utf-8"))
        known = kept.get("identity", {})
        if not known and self.record.exists():  # a run of an older version
            known = self.read_record()["protocol"]
        others = config.at(None).data.named(), kept.get("resolved")
        places = [config.data.named(), *filter(None, others)] if path is None else [path]
        problems = []
        for place in dict.fromkeys(place and absolute(place) for place in places):
            here, where = config.at(place), place or "the usual places"
            try:
                data = TASKS[config.task].load(here)
            except DataError as error:
                gone = isinstance(error, UnusablePathError) and not os.path.exists(where)
                problems.append(f"{where} is not there" if gone else f"{where}: {error}")
                continue
            same, found = {n: known[n] for n in IDENTITY if n in known}, data.protocol
            different = [f"{n} {found.get(n)}" for n, v in same.items() if found.get(n) != v]
            if not different:
                return here, data
            problems.append(f"{where} has other data ({', '.join(different)})")
        raise ExperimentError(
            f"{self.path} needs the data that it was trained on: {'; '.join(problems)}. "
            "Name their place with --path"
        )

    def read_record(self) -> dict[str, Any]:
        """Return the record; raise an `ExperimentError` if the run has none or it is damaged."""
        self.refuse_old_format()
        if self.diverged.exists():
            reason = self.diverged.read_text(encoding="utf-8").strip()
            raise ExperimentError(f"{self.path}: {reason}")
        if not self.record.exists():
            state = "is not finished" if self.config.exists() else "holds no run"
            first = f"it has no {self.record.name}. First: ss4rec train --resume --out {self.path}"
            raise ExperimentError(f"{self.path} {state}: {first}")
        return read_record(self.record)

    def read_model(self, config: RunConfig, n_items: int) -> Recommender:
        """Return the trained model; an `ExperimentError` if it is not that of run and data."""
        try:
            model = load_model(self.model)
        except (FileNotFoundError, FileError) as error:
            raise ExperimentError(str(error)) from error
        expected = config.model_options
        if (model.n_items, model.config) != (n_items, expected):
            found = f"{self.model} has {model.n_items:,} items and {model.config!r}"
            raise ExperimentError(f"{found}: this run and its data {n_items:,} and {expected!r}")
        return model

    def write_history(self, history: pd.DataFrame) -> None:
        """Write the rows of all epochs so far (a `FileError` if that is not possible)."""
        write_text(self.history, history.to_csv(index=False, lineterminator="\n"))


def run_experiment(
    config: RunConfig, out: str | Path, resume: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Fit and evaluate a model, leave everything in the folder `out`, and return the record.

    Killed at any moment, a run continues with `resume=True` from its last checkpoint (a baseline
    that is fitted in one go begins again); a finished run is not repeated. Started as several
    processes, they train one model, and the first of them evaluates and writes. Raise an
    `ExperimentError` or a `ConfigError`, before anything is written, for a run that cannot be made
    or is not the one in `out`; a KeyboardInterrupt for a run that can be resumed.
    """
    begin, task = time.perf_counter(), TASKS[config.task]
    config.check_packages()
    try:
        accelerator = make_accelerator(resolve_device(config.training_options.device))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    folder = RunFolder(out)
    finished = _on_main(accelerator, lambda: folder.prepare(config, resume))
    if finished is not None:
        return finished
    revision, resumed = code_revision(), _on_main(accelerator, folder.config.exists)
    if resumed:
        place, config = config.data.path, RunConfig.read(folder.config)
        _, data = folder.load_data(config, place if place != config.data.path else None)
    else:
        data = task.load(config)
    task.check(config, data)
    _on_main(accelerator, lambda: None if resumed else config.write(folder.config, data.protocol))
    main = accelerator.is_main_process
    with _log_to(folder, config.preset.model.learns) if main else contextlib.nullcontext():
        what = "resumed" if resumed else "started"
        logger.info("%s: %s, revision %s", what, data.split or "folds", revision or "unknown")
        how = {"checkpoint": folder.checkpoint, "resume": resume, "progress": progress}
        keep = folder.write_history if main else None
        outcome = task.fit(config, data, on_epoch=keep, **how)
        if outcome.stopped == "interrupted":  # the test part waits for the end of training
            logger.info("interrupted in epoch %d", len(outcome.history) + 1)
            raise KeyboardInterrupt
        used = {"torch_threads": torch.get_num_threads(), "device": accelerator.device.type}
        used["processes"] = accelerator.num_processes
        measured = {"resumed": resumed, "peak_memory_bytes": peak_rss_bytes()}
        measured |= {"machine": describe_machine() | used, "versions": describe_versions(PACKAGES)}
        measured["revision"] = revision

        def finish() -> dict[str, Any]:
            if len(outcome.history):  # again: a resumed run may have no epoch left
                folder.write_history(outcome.history)
            if config.preset.model.learns:
                save_model(outcome.model, folder.model)
            evaluations = task.evaluate(config, data, outcome)
            write_per_target(folder.per_target, evaluations)
            selection, wall = task.selection(config), time.perf_counter() - begin
            record = make_record(config, data, outcome, evaluations, selection, wall, measured)
            write_json(folder.record, record)
            logger.info("finished: %s after epoch %d", outcome.stopped, outcome.epochs)
            return record

        return _on_main(accelerator, finish)


def _on_main(accelerator: Accelerator, action: Callable[[], T]) -> T:
    """Return, or raise, in all processes what the first process' action returns or raises.

    An error that only one process saw would leave the others waiting for it.
    """
    value, error = None, None
    if accelerator.is_main_process:
        try:
            value = action()
        except Exception as problem:
            error = problem
    value, error = same_everywhere((value, error))
    if error is not None:
        raise error
    return value  # pyright: ignore[reportReturnType]  (the action's own None, if any)


@contextlib.contextmanager
def _log_to(folder: RunFolder, learns: bool) -> Iterator[None]:
    """Send what the package logs to a run's log as well, and keep what is left after an error."""
    package = logging.getLogger("ss4rec_lib")
    try:
        handler = logging.FileHandler(folder.log, encoding="utf-8")
    except OSError as error:
        raise FileError(f"cannot write {folder.log}: {error.strerror or error}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    level = package.level
    package.addHandler(handler)
    package.setLevel(min(level, logging.INFO) if level else logging.INFO)
    try:
        yield
    except Exception as error:
        logger.error("%s: %s", type(error).__name__, error)
        if isinstance(error, FloatingPointError):
            raise folder.keep_diverged(error, learns) from None
        raise
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        handler.close()
