"""Runs of the committed lessons: every test here with the argument `lesson` gets each in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from ss4rec_lib.lessons.run import LESSON_NAME

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
