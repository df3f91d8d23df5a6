"""Executing in place gives the committed form of a lesson."""

from __future__ import annotations

import os

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from tools import execute_lessons
from tools.check_notebooks import problems


@pytest.fixture
def path(tiny_lesson, tmp_path):
    nbformat.write(tiny_lesson(), tmp_path / "00_tiny.ipynb")
    return tmp_path / "00_tiny.ipynb"


def test_a_clean_lesson_stays_as_it_is(path):
    before, environment = nbformat.read(path, as_version=4), dict(os.environ)
    execute_lessons.execute(path)
    assert os.environ == environment
    after = nbformat.read(path, as_version=4)
    assert problems(path) == []
    assert after.metadata == before.metadata
    assert [cell.metadata for cell in after.cells] == [cell.metadata for cell in before.cells]
    assert after.cells[4].outputs == before.cells[4].outputs
    assert after.cells[5].outputs == before.cells[5].outputs


def test_outputs_and_counts_are_made(path):
    lesson = nbformat.read(path, as_version=4)
    for cell in lesson.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    nbformat.write(lesson, path)
    assert problems(path) != []
    execute_lessons.execute(path)
    assert problems(path) == []


def test_a_lesson_that_fails_is_left_as_it_was(path):
    lesson = nbformat.read(path, as_version=4)
    lesson.cells[5].source = "1 / 0"
    nbformat.write(lesson, path)
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute_lessons.execute(path)
    assert path.read_bytes() == before


def test_the_command_line(lessons_folder, monkeypatch, capsys):
    executed = []
    monkeypatch.setattr(execute_lessons, "execute", executed.append)
    monkeypatch.setattr(
        execute_lessons, "find_lessons", lambda names: sorted(lessons_folder.glob("0*.ipynb"))
    )
    assert execute_lessons.main([]) == 0
    assert [path.stem for path in executed] == ["01_first", "04_second"]
    monkeypatch.undo()
    assert execute_lessons.main(["99"]) == 2
    assert "'99'" in capsys.readouterr().err
