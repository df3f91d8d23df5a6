"""Run lessons as jobs: check the parameters, execute with papermill, record, summarise.

A lesson that fails does not stop the others. An executed notebook is written under a temporary
name and renamed when it is complete, so that an interrupted run never replaces a whole notebook
with half of one. A failed lesson is kept as `NAME.failed.ipynb` beside the last good one.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ss4rec_lib.configuration import as_text, did_you_mean
from ss4rec_lib.files import write_json
from ss4rec_lib.lessons.parameters import (
    LessonError,
    check_values,
    literal_path,
    read_parameters,
    value_from_text,
)
from ss4rec_lib.lessons.records import HIGHLIGHTS, RecordError, flatten, read_record, shown
from ss4rec_lib.machine import describe_machine, describe_versions

LESSON_NAME = re.compile(r"\d\d[a-z]?_\w+")
"""File names of lessons, without the ending: 04_train_ss4rec, 02a_hippo (a deeper one), ..."""

DEEPER = "deeper"
"""Folder, inside that of the lessons, of those that go further than a core lesson."""

_NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class LessonRun:
    """Outcome of one lesson."""

    name: str
    title: str
    notebook: str
    seconds: float  # wall time, including the start of the kernel
    parameters: dict[str, Any]  # values that were given; defaults are not repeated
    record: dict[str, Any]  # empty after a failure
    error: str | None  # the failing cell and what it raised


def notebooks_folder() -> Path:
    """Return the folder `notebooks` of the checkout that this package runs from."""
    folder = Path(__file__).resolve().parents[2] / "notebooks"
    if not folder.is_dir():
        how = (
            'lessons run from a checkout: clone the repository, then pip install -e ".[notebooks]"'
        )
        raise LessonError(f"the folder 'notebooks' is not beside the installed package; {how}")
    return folder


def find_lessons(names: Sequence[str] = (), folder: Path | None = None) -> list[Path]:
    """Find lessons by number, name or file name, in their order.

    No names means the core lessons, "deeper" all that lie in the folder of this name.
    """
    folder = notebooks_folder() if folder is None else Path(folder)
    found = [*sorted(folder.glob("*.ipynb")), *sorted((folder / DEEPER).glob("*.ipynb"))]
    known = {path: _names_of(path) for path in found if LESSON_NAME.fullmatch(path.stem)}
    if not known:
        raise LessonError(f"no lesson (NN_name.ipynb) lies in the folder {folder.name!r}")
    chosen: set[Path] = set()
    for name in names or [folder.name]:
        wanted = Path(name).name.removesuffix(".ipynb")
        fits = {path for path, words in known.items() if wanted in words}
        if not fits:
            stems = [path.stem for path in known]
            near = did_you_mean(wanted, [*stems, *(words[1] for words in known.values())])
            raise LessonError(f"unknown lesson {name!r}.{near} Lessons are {', '.join(stems)}.")
        chosen |= fits
    return [path for path in known if path in chosen]


def lesson_number(stem: str) -> str:
    """Return the number that a file name begins with: 04, 02a."""
    return stem.partition("_")[0]


def _names_of(lesson: Path) -> list[str]:
    number, _, name = lesson.stem.partition("_")
    return [lesson.stem, name, number, number.lstrip("0") or "0", lesson.parent.name]


def lesson_title(notebook: str | Path) -> str:
    """Return the first heading of a notebook."""
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    text = "".join("".join(cell["source"]) + "\n" for cell in cells)
    heading = re.search(r"^# (.+)$", text, re.MULTILINE)
    return heading[1].strip() if heading else Path(notebook).stem


def assign(
    defaults: Mapping[Path, Mapping[str, Any]],
    parameters: Mapping[str, Any],
    from_text: bool = False,
) -> dict[Path, dict[str, Any]]:
    """Give each lesson the parameters that it has defaults for, checked, before anything runs.

    At least one of the lessons must declare each parameter. With `from_text`, text values (from a
    command line) are read by the type of each lesson's default.
    """
    known = {name: default for own in defaults.values() for name, default in own.items()}
    unknown = {name: value for name, value in parameters.items() if name not in known}
    check_values(unknown, known, ", ".join(lesson.name for lesson in defaults))
    assigned = {}
    for lesson, own in defaults.items():
        assigned[lesson] = values = {k: v for k, v in parameters.items() if k in own}
        words = [name for name, value in values.items() if from_text and isinstance(value, str)]
        values |= {name: value_from_text(values[name], own[name]) for name in words}
        check_values(values, own, lesson.name)
    return assigned


def run_lessons(
    names: Sequence[str] = (),
    *,
    out: str | Path = "runs/lessons",
    parameters: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    from_text: bool = False,
    folder: Path | None = None,
) -> list[LessonRun]:
    """Run lessons with papermill, one after another, and print a summary of one screen.

    Beside each executed notebook, `NAME.json` holds the lesson's record in the format of all runs.
    `summary.json` holds everything that was recorded. If a lesson or a parameter is unknown or
    wrong, a `LessonError` is raised before anything runs.

    Args:
        names: Lessons by name or number; empty means all.
        out: Folder for executed notebooks; made when missing.
        parameters: Values for papermill; each lesson takes those that it declares.
        timeout: Longest time of one cell, seconds; None means no limit.
        from_text: Read text values by the type of each lesson's default.
        folder: Folder of the lessons; by default that of the checkout.
    """
    if timeout is not None and not 0 < timeout < math.inf:
        raise LessonError(f"timeout is {timeout}, expected a positive number of seconds or None")
    defaults = {
        lesson: {name: entry.default for name, entry in read_parameters(lesson).items()}
        for lesson in find_lessons(names, folder)
    }
    assigned = assign(defaults, parameters or {}, from_text)
    named = [(defaults[lesson] | values).get("dataset") for lesson, values in assigned.items()]
    usable = {name: _usable(name) for name in dict.fromkeys(named) if name is not None}
    out, runs = Path(out), []
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LessonError(f"cannot make the output folder {out}: {error.strerror}") from error
    for lesson, values in assigned.items():
        runs.append(run := _run_one(lesson, out, values, usable, timeout))
        if run.error is None:
            write_json(out / f"{lesson.stem}.json", run_record(run, defaults[lesson]))
        write_json(out / "summary.json", {"lessons": [asdict(run) for run in runs]})
    print(format_summary(runs, out / "summary.json"))
    return runs


def run_record(run: LessonRun, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a lesson in the format of all runs (format 2, task "lesson")."""
    from ss4rec_lib.data import dataset_name
    from ss4rec_lib.experiments import code_revision, portable

    given, found, words = dict(run.parameters), run.record, []
    for name, value in given.items():
        words += ["-p", name, portable(value) if name == "dataset" else as_text(value)]
    if "dataset" in given:
        given["dataset"] = dataset_name(given["dataset"])
    in_force = dict(defaults) | given
    protocol = found.get("protocol") or {}
    condition = {name: protocol.get(name) for name in ("target_time", "masked", "ranked_by")}
    return {
        "format": 2,
        "task": "lesson",
        "dataset": in_force.get("dataset", found.get("dataset")),
        "model": run.name,
        "display_name": run.title,
        "overrides": given,
        "uses_time": None,
        "seed": in_force.get("seed"),
        "protocol": protocol,
        "config": {"parameters": in_force},
        "evaluations": [{"part": "lesson", **condition, "metrics": flatten(found)}],
        "selection": {"metric": None, "masked": None},
        "epochs": found.get("epochs"),
        "best_epoch": found.get("best_epoch"),
        "curve": [],
        "seconds": {"train": found.get("train_seconds"), "wall": round(run.seconds, 1)},
        "peak_memory_bytes": found.get("peak_rss_bytes"),
        "machine": found.get("machine") or describe_machine(),
        "versions": found.get("versions") or describe_versions(),
        "revision": code_revision(),
        "command": shlex.join(["ss4rec", "lessons", lesson_number(run.name), *words]),
    }


def format_summary(runs: Sequence[LessonRun], details: Path) -> str:
    """Lay results out on one screen: per lesson its time, the numbers that matter, its notebook."""
    lines = [""]
    for run in runs:
        lines.append(f"{run.title}  ({run.seconds:.0f} s)  {run.notebook}")
        if run.error is not None:
            lines.append(f"    FAILED in {run.error}")
            continue
        numbers, entries = flatten(run.record), []
        for name in run.record.get(HIGHLIGHTS) or list(numbers)[:3]:
            error = numbers.get(f"{name}_se")
            spread = "" if error is None else f" ± {error:.2g}"
            entries.append(f"{name} {shown(numbers[name])}{spread} ·".replace(" ", _NO_BREAK))
        rows = textwrap.wrap(" ".join(entries)[:-2], 96, break_on_hyphens=False)
        lines += [f"    {row.replace(_NO_BREAK, ' ')}" for row in rows]
    return "\n".join([*lines, "", f"All recorded numbers: {os.path.relpath(details)}"])


def _usable(dataset: str) -> str:
    """Return a data set as kernels must know it, which run elsewhere; raise if it is unusable.

    It is fetched here and now: the licence is shown once, and no kernel waits for the network.
    """
    # Here and not above: every lesson imports this module, and these packages are heavy.
    from ss4rec_lib.data import fetch, is_path, load_dataset
    from ss4rec_lib.experiments import absolute

    if is_path(dataset):
        load_dataset(dataset)
        return absolute(dataset)
    if dataset != "planted":
        fetch(dataset)
    return dataset


def _run_one(
    lesson: Path, out: Path, values: dict[str, Any], usable: dict[str, Any], timeout: float | None
) -> LessonRun:
    import papermill

    target, failed = out / lesson.name, out / f"{lesson.stem}.failed.ipynb"
    record, error, start = {}, None, time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=".", dir=out) as folder:
        part = Path(folder, lesson.name)
        try:
            papermill.execute_notebook(
                literal_path(lesson),
                literal_path(part),
                parameters={
                    n: usable.get(v, v) if n == "dataset" else v for n, v in values.items()
                },
                cwd=str(lesson.parent.resolve()),
                execution_timeout=timeout,
                # Options of tqdm; papermill declares the argument as bool.
                progress_bar={"desc": lesson.stem, "file": sys.stderr},  # pyright: ignore[reportArgumentType]
                # ipykernel warns into the progress bar that its local ports are not encrypted.
                extra_arguments=["--IPKernelApp.log_level=40"],
            )
            record = read_record(part)
            failed.unlink(missing_ok=True)
        except Exception as problem:  # whatever a lesson raises, the next one still runs
            target = failed
            error = str(problem) if isinstance(problem, RecordError) else _describe(problem, part)
        seconds = time.perf_counter() - start
        if part.exists():
            os.replace(part, target)
    place = os.path.relpath(target)
    return LessonRun(lesson.stem, lesson_title(lesson), place, seconds, values, record, error)


def _describe(problem: Exception, executed: Path) -> str:
    """Name the failing cell and what it raised, in one line."""
    name = getattr(problem, "ename", type(problem).__name__)
    message = str(getattr(problem, "evalue", problem)).strip()
    number, source = getattr(problem, "exec_count", None), getattr(problem, "source", "")
    if number is None and executed.exists():
        # After a time limit or the death of a kernel papermill does not know the cell.
        cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        begun = [c for c in code if c["metadata"].get("papermill", {}).get("start_time")]
        number, source = len(begun), "".join(begun[-1]["source"]) if begun else ""
        message = message.partition("\n")[0]
    lines = [line for line in source.splitlines() if line.strip() and not line.startswith("#")]
    cell = f"cell In [{number}]" + (f" ({lines[0].strip()[:60]})" if lines else "")
    return f"{cell}: {name}: {message}"
