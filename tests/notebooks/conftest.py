"""Runs of the committed lessons.

Every test here with the argument `lesson` gets each in turn, with `core` each core lesson, with
`solutions` each notebook of solutions.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from ss4rec_lib.experiments import code_revision
from ss4rec_lib.lessons import DEEPER, LESSON_NAME
from tools.make_exercises import ExerciseError, blank, pairs, tags

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NOTEBOOKS = ROOT / "notebooks"
REVISION = code_revision()


def _lessons(folder: str) -> list[Path]:
    found = sorted((NOTEBOOKS / folder).glob("*.ipynb"))
    return [path for path in found if LESSON_NAME.fullmatch(path.stem)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    core = _lessons(".")
    found = {
        "lesson": [*core, *_lessons(DEEPER)],
        "core": core,
        "solutions": _lessons("solutions"),
    }
    slow = metafunc.definition.get_closest_marker("slow")
    for name in found.keys() & set(metafunc.fixturenames):
        values = []
        for path in found[name]:
            long = [pytest.mark.long] if slow and path.parent.name == DEEPER else []
            values.append(pytest.param(path, id=path.stem, marks=long))
        metafunc.parametrize(name, values)


@pytest.fixture
def notebooks() -> Path:
    return NOTEBOOKS


@pytest.fixture(autouse=True)
def kernel_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels run as a reader's would, except that progress bars (stderr) are off."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    # The very first import of matplotlib on a machine builds a font list and says so on stderr.
    import matplotlib.font_manager  # noqa: F401


@dataclass(frozen=True)
class Comparison:
    """What nbval did with a notebook.

    `compared` maps code cells, counted from 0, to the number of output fields it compared;
    `records` are the records that the run made.
    """

    code: int
    text: str
    compared: Mapping[int, int]
    records: Sequence[Mapping[str, Any]]


@pytest.fixture
def run_nbval(tmp_path):
    """Types `pytest --nbval NOTEBOOK` in the root of the repository, and counts comparisons.

    With `replay`, a notebook with the same code that has been executed already, nothing is run:
    its outputs are compared.
    """

    def run(notebook: Path, replay: Path | None = None) -> Comparison:
        counts = tmp_path / "compared.json"
        own = "-q --color=no -p no:cacheprovider -p no:xdist -p no:hypothesispytest -p nbval_count"
        if notebook.is_relative_to(ROOT):
            notebook = notebook.relative_to(ROOT)
        else:  # pytest looks for its configuration beside the notebook
            own += " -c pyproject.toml -p conftest"
        path = filter(None, [str(HERE), str(ROOT), os.environ.get("PYTHONPATH")])
        # CI and BUILD_NUMBER make pytest repeat every failure in its summary.
        here = {k: v for k, v in os.environ.items() if k not in ("CI", "BUILD_NUMBER")}
        environment = {
            **{key: value for key, value in here.items() if not key.startswith("PYTEST_")},
            "PYTEST_ADDOPTS": own,
            "PYTHONPATH": os.pathsep.join(path),
            "NBVAL_COUNT_FILE": str(counts),
            "NBVAL_REPLAY": str(replay or ""),
        }
        program = Path(sys.executable).with_name("pytest")
        done = subprocess.run(
            [program, "--nbval", notebook],
            cwd=ROOT, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        found = json.loads(counts.read_text()) if counts.exists() else {}
        counts.unlink(missing_ok=True)
        return Comparison(
            done.returncode,
            done.stdout + done.stderr,
            {int(cell): fields for cell, fields in found.get("compared", {}).items()},
            found.get("records", []),
        )

    return run


@pytest.fixture
def executed_already():
    """Finds a lesson as it has just been executed, where .ci/run says that it has.

    The variable SS4REC_EXECUTED names folders: one in which `make run` executed the lessons, and
    one in which `make test-browser` did with other parameters. The revision of the library,
    without changes since, and the source of each cell must be the same; otherwise the answer is
    None, and the lesson is executed.
    """

    def find(
        lesson: Path, notebook: NotebookNode | None = None, revision: str | None = REVISION
    ) -> Path | None:
        if revision is None or "+" in revision:
            return None
        wanted = nbformat.read(lesson, as_version=4) if notebook is None else notebook
        for folder in filter(None, os.environ.get("SS4REC_EXECUTED", "").split(os.pathsep)):
            executed = Path(ROOT, folder, lesson.name)
            record = executed.with_suffix(".json")
            if executed.exists() and record.exists():
                found = nbformat.read(executed, as_version=4)
                same = [cell.source for cell in found.cells] == [c.source for c in wanted.cells]
                if same and json.loads(record.read_text())["revision"] == revision:
                    return executed
        return None

    return find


@dataclass(frozen=True)
class Check:
    """Outcomes of one check: on its solution, its hole and wrong answers; None where it passed."""

    first_line: str
    solution: str | None
    hole: str | None
    wrong: list[str | None]


@dataclass(frozen=True)
class Checks:
    """Outcomes of all checks of a notebook, and the time of its setup cells."""

    checks: list[Check]
    setup_seconds: float


def _run_checks(notebook: NotebookNode, folder: Path, timeout: float = 120.0) -> Checks:
    """Run the checks in a fresh kernel whose working directory is `folder`.

    Only the cells tagged `parameters` and `exercise-setup` run first. Each check runs on its own
    solution blanked, on wrong answers (the one in the solution's metadata `wrong`, and nothing
    written where a function has a hole) and on the solution. All earlier ones are filled in, so
    that it cannot fail merely because of another hole.

    Raises:
        ExerciseError: A setup cell or a solution itself fails.
    """
    setup = {"parameters", "exercise-setup"}
    steps: list[tuple[str, str]] = [
        ("setup", cell.source)
        for cell in notebook.cells
        if cell.cell_type == "code" and setup & set(tags(cell))
    ]
    for solution, check in pairs(notebook):
        answers = [("hole", blank(solution.source))]
        if "wrong" in solution.metadata:
            answers.append(("wrong", solution.metadata["wrong"]))
        if re.search(r"^\s+# BEGIN SOLUTION", solution.source, re.MULTILINE):
            answers.append(("wrong", blank(solution.source, nothing=True)))
        for kind, answer in [*answers, ("solution", solution.source)]:
            steps += [(kind, answer), (f"check {kind}", check.source)]
    cells = [nbformat.v4.new_code_cell(source) for _, source in steps]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    reduced = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(reduced, timeout=timeout, allow_errors=True, resources=resources).execute()
    found: dict[str, list[str | None]] = {"hole": [], "wrong": []}
    checks, seconds, answer = [], 0.0, None
    for (kind, source), cell in zip(steps, reduced.cells, strict=True):
        error = next((o for o in cell.outputs if o.output_type == "error"), None)
        said = None if error is None else f"{error.ename}: {error.evalue}"
        if kind in ("setup", "solution") and said is not None:
            raise ExerciseError(f"the {kind} cell of an exercise fails: {said}\n{source}")
        if kind == "setup":
            begin, end = (
                datetime.fromisoformat(cell.metadata.execution[key])
                for key in ("iopub.execute_input", "shell.execute_reply")
            )
            seconds += (end - begin).total_seconds()
        elif kind == "check solution":
            line = source.splitlines()[0] if source else ""
            checks.append(Check(line, said, found["hole"].pop(), found["wrong"]))
            found["wrong"] = []
        elif kind.startswith("check "):
            found[kind.removeprefix("check ")].append(answer or said)
        answer = said  # an answer outside a function fails in its own cell; "Run all" stops there
    return Checks(checks, seconds)


@pytest.fixture
def run_checks():
    """Runs the checks of a notebook's exercises: on solutions, holes and wrong answers."""
    return _run_checks
