"""Every core lesson, used in a browser as a reader would; with small parameters, offline."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from ss4rec_lib.experiments import code_revision
from ss4rec_lib.lessons import find_lessons
from tests.browser.checks import problems_after_restart, problems_of_use
from tests.browser.lab import PICTURES
from tests.other_parameters import prepared

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", find_lessons(), ids=lambda path: path.stem)
def test_lesson_runs_moves_and_survives_a_restart(path: Path, lab, open_notebook):
    notebook, place = prepared(path), lab.root / "notebooks" / path.name
    nbformat.write(notebook, place)
    opened = open_notebook(f"notebooks/{path.name}")
    found = problems_of_use(opened, notebook, seconds=600)
    found += problems_after_restart(opened, open_notebook, lab.restart)
    assert not found, "\n".join(found)
    # tests/notebooks/test_papermill.py reads what was executed here.
    shutil.copy(place, PICTURES)
    (PICTURES / f"{path.stem}.json").write_text(json.dumps({"revision": code_revision()}))


def test_exercises_stop_at_the_first_hole_and_scroll_to_it(lab, open_notebook):
    (path,) = find_lessons(["01"], lab.root / "notebooks" / "exercises")
    exercises = nbformat.read(path, as_version=4)
    for cell in exercises.cells:
        cell.source = cell.source.replace('dataset = "ml-100k"', 'dataset = "planted"')
    nbformat.write(exercises, path)
    hole = next(i for i, c in enumerate(exercises.cells) if "NotImplementedError(" in c.source)
    (message,) = re.findall(r'NotImplementedError\("(.+)"\)', exercises.cells[hole].source)
    notebook = open_notebook(f"notebooks/exercises/{path.name}")
    notebook.run_all(120)
    shown = notebook.look()
    failed = [number for number, cell in enumerate(shown) if cell["errors"]]
    assert failed == [hole + 1], "the check under the first hole"
    assert message in shown[hole + 1]["errors"][0]
    assert not any(cell["count"] for cell in shown[hole + 2 :])
    notebook.page.wait_for_timeout(1000)  # the script that scrolls waits half a second
    notebook.photograph("exercises_stopped")
    top = notebook.cells.nth(hole + 1).bounding_box()["y"]
    assert 0 < top < notebook.page.viewport_size["height"]
