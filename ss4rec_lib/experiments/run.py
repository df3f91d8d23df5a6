"""One experiment, from settings to a record: train, choose on validation, evaluate once, write."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from ss4rec_lib.evaluation import KS
from ss4rec_lib.experiments.baselines import check_baseline, fit_run, is_fitted
from ss4rec_lib.experiments.errors import ExperimentError, SettingsError
from ss4rec_lib.experiments.folder import RunFolder, load_split
from ss4rec_lib.experiments.ranks import write_ranks
from ss4rec_lib.experiments.record import evaluate_arms, make_record
from ss4rec_lib.experiments.revision import code_revision
from ss4rec_lib.experiments.settings import Settings
from ss4rec_lib.files import FileError, write_text
from ss4rec_lib.machine import peak_rss_bytes
from ss4rec_lib.models import make_model, save_fitted, save_model
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import fit, make_accelerator, resolve_device, same_everywhere

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)
T = TypeVar("T")

_NO_TARGET = ("users_too_short", "valid_without_history", "test_without_history")


def run_experiment(
    settings: Settings, out: str | Path, resume: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Train and evaluate, and leave everything in a folder (see `experiments.folder`).

    The test part is evaluated when training has ended, once in each arm (see
    `experiments.record`). Killed at any moment, the run goes on with `resume=True` from its last
    checkpoint (a baseline that is fitted in one go has none, and begins anew); a finished one is
    not repeated. Started as several processes (see `fit`), they
    train one model, and the first of them evaluates and writes.

    Args:
        settings: What to run.
        out: The run's folder; made when it is not there.
        resume: Go on with the run in `out`; where there is none, begin.
        progress: Show a progress bar.

    Returns:
        The record, as in `result.json`.

    Raises:
        ExperimentError: `out` holds a run and `resume` is not set, or one with other settings; a
            device that is not there; a catalogue too small for the metrics; a baseline that cannot
            be fitted here.
        DataError: The data set cannot be had or used.
        CheckpointError: The checkpoint does not fit, or cannot be read or written.
        FileError: A file cannot be written.
        TrainingDiverged: See `fit` and `experiments.baselines.fit_run`.
        KeyboardInterrupt: The run was interrupted, and can be resumed.
    """
    begin = time.perf_counter()
    folder, training = RunFolder(out), settings.training_config()
    try:
        accelerator = make_accelerator(resolve_device(training.device))
    except ValueError as error:
        raise SettingsError(str(error)) from error
    finished = _on_main(accelerator, lambda: folder.prepare(settings, resume))
    if finished is not None:
        return finished
    split, verified = load_split(settings)
    if split.sequences.n_items < max(KS):
        raise ExperimentError(
            f"{settings.dataset} has {split.sequences.n_items} items after the filter: expected "
            f"at least {max(KS)}, the largest K of the metrics"
        )
    fitted = is_fitted(settings)
    if fitted:
        check_baseline(settings, split)
    revision = code_revision()
    seed_everything(settings.seed)
    model = None if fitted else make_model(split.sequences.n_items, settings.model_config())
    resumed = folder.settings.exists()
    _on_main(accelerator, lambda: None if resumed else settings.write(folder.settings))

    main = accelerator.is_main_process
    with _log_to(folder.log if main else None):
        logger.info(
            "%s: %r, revision %s", "resumed" if resumed else "started", split, revision or "unknown"
        )
        without = {name: n for name, n in split.report.items() if n and name in _NO_TARGET}
        if without:
            logger.info("users without a target: %s", without)
        try:
            if fitted:
                model, result = fit_run(settings, split)
            else:
                result = fit(
                    model, split, training, checkpoint=folder.checkpoint, resume=resume,
                    on_epoch=lambda history: _write_history(folder, history) if main else None,
                    progress=progress,
                )  # fmt: skip
        except Exception as error:
            logger.error("%s: %s", type(error).__name__, error)
            raise
        if result.stopped == "interrupted":  # the test part waits for the end of training
            logger.info("interrupted in epoch %d", len(result.history) + 1)
            raise KeyboardInterrupt
        peak = peak_rss_bytes()

        def finish() -> dict[str, Any]:
            if len(result.history):  # again: a resumed run may have no epoch left
                _write_history(folder, result.history)
            if fitted:
                save_fitted(model, settings.model_config(), folder.model)
            else:
                save_model(model, folder.model)
            arms = evaluate_arms(model, split, training)
            write_ranks(folder.ranks, arms)
            measured = {
                "data_verified": verified,
                "wall_seconds": time.perf_counter() - begin,
                "resumed": resumed,
                "peak_rss_bytes": peak,
                "revision": revision,
            }
            processes = accelerator.num_processes
            record = make_record(settings, split, model, result, arms, measured, processes)
            write_text(folder.result, json.dumps(record, indent=2, allow_nan=False) + "\n")
            logger.info("finished: %s after epoch %d", result.stopped, len(result.history))
            return record

        return _on_main(accelerator, finish)


def _on_main(accelerator: Accelerator, action: Callable[[], T]) -> T:
    """What the first process' action returns, or raises, in all of them.

    An error that only one process saw would leave the others waiting for it.
    """
    value, error = None, None
    if accelerator.is_main_process:
        try:
            value = action()
        except Exception as problem:
            error = problem
    value, error = same_everywhere(accelerator, (value, error))
    if error is not None:
        raise error
    return value


def _write_history(folder: RunFolder, history: pd.DataFrame) -> None:
    write_text(folder.history, history.to_csv(index=False, lineterminator="\n"))


@contextlib.contextmanager
def _log_to(path: Path | None) -> Iterator[None]:
    """Send what the package logs to a file as well, behind what is there."""
    if path is None:
        yield
        return
    package = logging.getLogger("ss4rec_lib")
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    level = package.level
    package.addHandler(handler)
    package.setLevel(min(level, logging.INFO) if level else logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        handler.close()
