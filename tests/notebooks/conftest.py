"""Runs of the committed lessons: every test here with the argument `lesson` gets each in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from ss4rec_lib.lessons import LESSON_NAME
from tools.make_exercises import ExerciseError, blank, pairs, tags

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NOTEBOOKS = ROOT / "notebooks"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "lesson" in metafunc.fixturenames:
        found = sorted(p for p in NOTEBOOKS.glob("*.ipynb") if LESSON_NAME.fullmatch(p.stem))
        metafunc.parametrize("lesson", found, ids=[path.stem for path in found])


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

    `compared` maps code cells, counted from 0, to the number of output fields it compared.
    """

    code: int
    text: str
    compared: Mapping[int, int]


@pytest.fixture
def run_nbval(tmp_path):
    """Runs nbval in a process of its own, the way a reader would, and counts comparisons."""

    def run(notebook: Path, cwd: Path) -> Comparison:
        counts = tmp_path / "compared.json"
        command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env"]
        command += ["--nbval-sanitize-with", str(HERE / "sanitize.cfg")]
        command += ["--nbval-cell-timeout", "600", "--timeout", "0", "-x", "-q", "--color", "no"]
        command += ["-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "-p", "no:xdist"]
        command += ["-p", "nbval_count", str(notebook)]
        path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")},
            "PYTHONPATH": path,
            "NBVAL_COUNT_FILE": str(counts),
        }
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        compared = json.loads(counts.read_text()) if counts.exists() else {}
        counts.unlink(missing_ok=True)
        return Comparison(
            done.returncode,
            done.stdout + done.stderr,
            {int(cell): fields for cell, fields in compared.items()},
        )

    return run


@dataclass(frozen=True)
class Check:
    """Outcome of a check cell: its number, its first line, and what it raised (None: passed)."""

    number: int
    first_line: str
    error: str | None


def _run_checks(
    lesson: NotebookNode, filled: bool, folder: Path, timeout: float = 120.0
) -> list[Check]:
    """Run the checks in a fresh kernel whose working directory is `folder`.

    Only the cells tagged `parameters` and `exercise-setup` run first. With `filled=False` each
    check runs on its own solution blanked and all earlier ones filled in, so that it cannot fail
    merely because of another hole.

    Raises:
        ExerciseError: A setup cell or a solution itself fails.
    """
    setup = [
        cell
        for cell in lesson.cells
        if cell.cell_type == "code" and {"parameters", "exercise-setup"} & set(tags(cell))
    ]
    steps: list[tuple[str, NotebookNode, str]] = [("setup", cell, cell.source) for cell in setup]
    for solution, check in pairs(lesson):
        if not filled:
            steps.append(("hole", solution, blank(solution.source)))
            steps.append(("check", check, check.source))
        steps.append(("solution", solution, solution.source))
        if filled:
            steps.append(("check", check, check.source))
    cells = [nbformat.v4.new_code_cell(source) for _, _, source in steps]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    reduced = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(reduced, timeout=timeout, allow_errors=True, resources=resources).execute()
    outcomes: list[Check] = []
    for (kind, original, _), cell in zip(steps, reduced.cells, strict=True):
        error = _error(cell)
        if kind == "check":
            line = original.source.splitlines()[0] if original.source else ""
            outcomes.append(Check(len(outcomes) + 1, line, error))
        elif kind != "hole" and error is not None:
            raise ExerciseError(f"the {kind} cell of an exercise fails: {error}\n{original.source}")
    return outcomes


def _error(cell: NotebookNode) -> str | None:
    for output in cell.outputs:
        if output.output_type == "error":
            return f"{output.ename}: {output.evalue}"
    return None


@pytest.fixture
def run_checks():
    """Runs the checks of a lesson's exercises: on the solutions, or on the holes."""
    return _run_checks
