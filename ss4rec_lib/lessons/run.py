"""Running lessons as jobs: parameters checked first, then papermill, then one table.

A lesson that fails does not stop the others. Executed notebooks are written under a temporary name
and renamed when they are complete, so that an interrupted run never leaves half a notebook where a
whole one was; a failed lesson is kept as `NAME.failed.ipynb` beside the last good one.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ss4rec_lib.lessons.errors import LessonError, RecordError, UnknownLessonError
from ss4rec_lib.lessons.parameters import (
    read_parameters,
    unknown_parameter,
    validate,
    value_from_text,
)
from ss4rec_lib.lessons.record import read_record
from ss4rec_lib.lessons.summary import LessonRun, format_summary, write_summary

LESSON_NAME = re.compile(r"\d\d_\w+")
"""Notebooks that are lessons: 01_time_intervals, 04_train_ss4rec, ..."""


def notebooks_folder() -> Path:
    """Finds the notebooks of the checkout this package runs from.

    Returns:
        The folder `notebooks` beside the package.

    Raises:
        LessonError: If the package was installed without its checkout.
    """
    folder = Path(__file__).resolve().parents[2] / "notebooks"
    if not folder.is_dir():
        raise LessonError(
            "the folder 'notebooks' is not beside the installed package; lessons run from a "
            'checkout: clone the repository and install it with pip install -e ".[dev]"'
        )
    return folder


def find_lessons(names: Sequence[str] = (), folder: Path | None = None) -> list[Path]:
    """Finds lessons by name, number or file name.

    Args:
        names: For example "04", "train_ss4rec" or "04_train_ss4rec"; none means all.
        folder: Where the notebooks are; by default those of the checkout.

    Returns:
        Notebook paths in the order of their numbers, each once.

    Raises:
        UnknownLessonError: If a name fits no lesson, or there are no lessons at all.
    """
    folder = notebooks_folder() if folder is None else Path(folder)
    lessons = {
        path.stem: path
        for path in sorted(folder.glob("*.ipynb"))
        if LESSON_NAME.fullmatch(path.stem)
    }
    if not lessons:
        raise UnknownLessonError(f"no lesson (NN_name.ipynb) lies in the folder {folder.name!r}")
    chosen = set()
    for name in names:
        wanted = Path(name).name.removesuffix(".ipynb")
        fits = [
            stem for stem in lessons if wanted in (stem, stem[3:], stem[:2], stem[:2].lstrip("0"))
        ]
        if not fits:
            near = difflib.get_close_matches(
                wanted, [*lessons, *(stem[3:] for stem in lessons)], n=1
            )
            suggestion = f" Did you mean {near[0]!r}?" if near else ""
            raise UnknownLessonError(
                f"unknown lesson {name!r}.{suggestion} Lessons are {', '.join(lessons)}."
            )
        chosen.update(fits)
    return [path for stem, path in lessons.items() if not names or stem in chosen]


def plan(
    lessons: Sequence[Path], parameters: Mapping[str, Any], from_text: bool = False
) -> dict[Path, dict[str, Any]]:
    """Gives each lesson the parameters it declares, checked, before anything runs.

    Args:
        lessons: Notebooks.
        parameters: Values by name; each must be declared by at least one of the lessons.
        from_text: Read string values according to each lesson's declaration (a command line).

    Returns:
        For each notebook the values it takes.

    Raises:
        UnknownParameterError: If no lesson declares a name.
        ParameterTypeError: If a value does not fit a declaration.
        ParametersCellError: If a notebook's parameters cell is unusable.
    """
    declared = {lesson: read_parameters(lesson) for lesson in lessons}
    known = list(dict.fromkeys(name for names in declared.values() for name in names))
    for name in parameters:
        if name not in known:
            where = "none of the chosen lessons" if len(lessons) > 1 else lessons[0].name
            raise unknown_parameter(name, known, where)
    planned: dict[Path, dict[str, Any]] = {}
    for lesson, names in declared.items():
        values = {
            name: value_from_text(name, value, names[name])
            if from_text and isinstance(value, str)
            else value
            for name, value in parameters.items()
            if name in names
        }
        validate(lesson, values)
        planned[lesson] = values
    return planned


def run_lessons(
    names: Sequence[str] | None = None,
    *,
    out: str | Path = "runs/lessons",
    parameters: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    from_text: bool = False,
    folder: Path | None = None,
) -> list[LessonRun]:
    """Runs lessons through papermill, one after another.

    Prints where the executed notebooks are and one table of what they recorded, and writes both to
    `summary.json` in the output folder.

    Args:
        names: Lessons by name or number; None or empty means all.
        out: Folder for executed notebooks; made when missing.
        parameters: Values for papermill; a lesson takes those it declares.
        timeout: Longest time one cell may take, seconds; None means no limit.
        from_text: Read string values according to each lesson's declaration.
        folder: Where the lessons are; by default the notebooks of the checkout.

    Returns:
        One result a lesson, in order. A failed lesson has its `error` set.

    Raises:
        LessonError: If a lesson is unknown, or a parameter unknown or of the wrong type; nothing
            has run then.
    """
    if timeout is not None and timeout <= 0:
        raise LessonError(f"timeout is {timeout}, expected a positive number of seconds or None")
    planned = plan(find_lessons(names or (), folder), parameters or {}, from_text)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LessonError(f"cannot make the output folder {out}: {error.strerror}") from error
    runs = []
    for lesson, values in planned.items():
        runs.append(_run_one(lesson, out, values, timeout))
        write_summary(out / "summary.json", runs)
    print(format_summary(runs))
    return runs


def _run_one(lesson: Path, out: Path, values: dict[str, Any], timeout: float | None) -> LessonRun:
    import papermill

    # Papermill announces paths and repeats errors; its findings are reported below, once.
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    part = out / f".{lesson.stem}.{os.getpid()}.part.ipynb"
    done, failed = out / lesson.name, out / f"{lesson.stem}.failed.ipynb"
    start = time.perf_counter()
    record: dict[str, Any] = {}
    error = None
    try:
        papermill.execute_notebook(
            _literal_path(lesson),
            _literal_path(part),
            parameters=values,
            cwd=str(lesson.parent.resolve()),
            execution_timeout=timeout,
            progress_bar={"desc": lesson.stem, "file": sys.stderr},
            # ipykernel warns into the progress bar that its local ports are not encrypted.
            extra_arguments=["--IPKernelApp.log_level=40"],
        )
        record = read_record(part)
    except RecordError as problem:
        error = str(problem)
    except Exception as problem:  # whatever a lesson raises, the next one still runs
        error = _describe(problem, part)
    except BaseException:  # interrupted by the user: leave nothing half-written behind
        part.unlink(missing_ok=True)
        raise
    seconds = time.perf_counter() - start
    if error is None:
        failed.unlink(missing_ok=True)
    target = done if error is None else failed
    if part.exists():
        os.replace(part, target)
    return LessonRun(lesson.stem, os.path.relpath(target), seconds, values, record, error)


def _literal_path(path: Path) -> str:
    """Absolute path; papermill fills parameters into braces, which a folder's name may hold."""
    return str(path.resolve()).replace("{", "{{").replace("}", "}}")


def _describe(problem: Exception, executed: Path) -> str:
    """Names the failing cell and what it raised, in one line."""
    name = getattr(problem, "ename", type(problem).__name__)
    message = str(getattr(problem, "evalue", problem)).strip()
    number, source = getattr(problem, "exec_count", None), getattr(problem, "source", "")
    if (
        number is None and executed.exists()
    ):  # a time limit or a dead kernel: papermill knows no cell
        cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
        begun = [
            cell
            for cell in cells
            if cell["cell_type"] == "code"
            and cell["metadata"].get("papermill", {}).get("start_time")
        ]
        number, source = len(begun), "".join(begun[-1]["source"]) if begun else ""
        message = message.splitlines()[0] if message else ""
    lines = [line for line in source.splitlines() if line.strip() and not line.startswith("#")]
    cell = f"cell In [{number}]" + (f" ({lines[0].strip()[:60]})" if lines else "")
    return f"{cell}: {name}: {message}"
