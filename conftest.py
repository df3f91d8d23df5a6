"""What the lessons need under nbval, so that `pytest --nbval` can be typed without more options.

The tests of the library do not need this file. `pytest --nbval` runs all lessons; folders and
notebooks may be named behind it, and `-n 2` runs two lessons at a time.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
WITHOUT_OUTPUTS = (ROOT / "notebooks" / "exercises", ROOT / "notebooks" / "solutions")
"""Folders of notebooks with nothing to compare; tests/notebooks/ runs the checks in them."""


@pytest.hookimpl(tryfirst=True)  # before xdist and pytest-timeout read their options
def pytest_configure(config: pytest.Config) -> None:
    """Set the options of nbval, and the lessons as what is collected by default."""
    option = config.option
    if not getattr(option, "nbval", False):
        return
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        config.args[:] = [str(ROOT / "notebooks")]
    option.nbval_current_env = True  # the kernel is the Python that runs pytest
    option.nbval_sanitize_with = str(ROOT / "tests" / "notebooks" / "sanitize.cfg")
    option.nbval_cell_timeout = 600  # shows the cell, which the limit of a test does not
    option.timeout = 0
    if getattr(option, "dist", "no") == "load":
        option.dist = "loadfile"  # the cells of a notebook share a kernel
    os.environ["TQDM_DISABLE"] = "1"  # progress bars would be compared
    # The very first import of matplotlib on a machine builds a font list and says so on stderr.
    import matplotlib.font_manager  # noqa: F401


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out exercises and solutions; None lets pytest decide about everything else."""
    return True if collection_path.parent in WITHOUT_OUTPUTS else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a cell that nbval would pass without a comparison, because it has never been run."""
    cell = getattr(item, "cell", None)
    if cell is None or item.path.parent in WITHOUT_OUTPUTS:
        return
    if cell.source.strip() and cell.execution_count is None:
        pytest.fail("the cell has no execution count, so nothing would be compared", False)
