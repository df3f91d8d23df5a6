"""A fresh run of every lesson gives the committed outputs, and nbval really compares them."""

from __future__ import annotations

import nbformat
import pytest

from ss4rec_lib.lessons import compare_records, read_record
from tools.check_notebooks import NOT_YET
from tools.make_exercises import tags

PICTURES = {"image/png", "image/jpeg", "application/vnd.jupyter.widget-view+json"}


def comparable_cells(notebook: nbformat.NotebookNode) -> set[int]:
    """Code cells, counted from 0, whose committed outputs hold something nbval can compare."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return {
        number
        for number, cell in enumerate(cells)
        if cell.execution_count is not None
        and "nbval-ignore-output" not in tags(cell)
        and any(
            output.output_type == "stream" or set(output.get("data", {})) - PICTURES
            for output in cell.outputs
        )
    }


def first_text(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The first output that nbval compares as text."""
    first = min(comparable_cells(notebook))
    cell = [cell for cell in notebook.cells if cell.cell_type == "code"][first]
    return cell.outputs[0]


def tamper(output: nbformat.NotebookNode) -> None:
    if output.output_type == "stream":
        output.text += "tampered\n"
    else:
        output.data["text/plain"] += " tampered"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fresh_run_gives_the_committed_outputs_and_record(lesson, run_nbval):
    expected = comparable_cells(nbformat.read(lesson, as_version=4))
    done = run_nbval(lesson, lesson.parent)
    assert done.code == 0, done.text
    assert set(done.compared) == expected
    least = 1 if lesson.parent.name == "deeper" else 2
    assert len(expected) >= least, "a lesson with nothing to compare is not tested"
    (fresh,) = done.records
    assert lesson.stem in NOT_YET or compare_records(read_record(lesson), fresh) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_changed_output_is_noticed(notebooks, run_nbval, tmp_path):
    """In one lesson: that a change in any cell is noticed, the count of compared cells shows."""
    lesson = notebooks / "01_time_intervals.ipynb"
    notebook = nbformat.read(lesson, as_version=4)
    tamper(first_text(notebook))
    copy = tmp_path / lesson.name
    nbformat.write(notebook, copy)
    done = run_nbval(copy, lesson.parent)
    assert done.code == 1, done.text
    assert "Cell outputs differ" in done.text
    assert "tampered" in done.text


class TestOnATinyLesson:
    """The same machinery where a run takes a second."""

    @pytest.fixture
    def path(self, tiny_lesson, tmp_path):
        folder = tmp_path / "tiny"
        folder.mkdir()
        nbformat.write(tiny_lesson(), folder / "00_tiny.ipynb")
        return folder / "00_tiny.ipynb"

    def test_clean(self, path, run_nbval):
        done = run_nbval(path, path.parent)
        assert done.code == 0, done.text
        assert (
            set(done.compared) == comparable_cells(nbformat.read(path, as_version=4)) == {3, 4, 5}
        )
        assert done.records == [read_record(path)], "although its cell is not compared"

    def test_tampered(self, path, run_nbval):
        notebook = nbformat.read(path, as_version=4)
        tamper(first_text(notebook))
        nbformat.write(notebook, path)
        done = run_nbval(path, path.parent)
        assert done.code == 1
        assert "Cell outputs differ" in done.text

    def test_a_cell_without_execution_count_is_not_compared_and_we_notice(self, path, run_nbval):
        """The hole in nbval: it passes, whatever the cell prints; the count shows it."""
        notebook = nbformat.read(path, as_version=4)
        whole = comparable_cells(notebook)
        notebook.cells[4].update(execution_count=None, outputs=[])
        nbformat.write(notebook, path)
        done = run_nbval(path, path.parent)
        assert done.code == 0, done.text
        assert set(done.compared) < whole

    def test_the_guard_works_under_nbval_too(self, path, run_nbval):
        """A notebook prepared by `papermill --prepare-only` can be given to nbval."""
        notebook = nbformat.read(path, as_version=4)
        injected = nbformat.v4.new_code_cell("# Parameters\nepoch = 3\n", execution_count=2)
        notebook.cells.insert(2, injected)
        nbformat.write(notebook, path)
        done = run_nbval(path, path.parent)
        assert done.code == 1
        assert "ParameterError" in done.text
        assert "epoch=3" in done.text
        assert "Cell 2" in done.text

    @pytest.mark.parametrize(
        ("first", "second", "same"),
        [
            ("training took 12.3 s", "training took 4 s", True),
            ("25,000 targets/s", "9,000 targets/s", True),
            ("peak 1.2 GiB", "peak 800 MiB", True),
            ("run on 2026-01-05 10:11", "run on 2031-11-30 09:00:01", True),
            ("<x at 0x7f00aa11>", "<x at 0x7fbbcc22>", True),
            ("a median of 23 s", "a median of 24 s", False),
            ("first rating 1997-09-20", "first rating 1997-09-21", False),
            ("hr@10 0.081", "hr@10 0.082", False),
        ],
    )
    def test_only_times_speeds_memory_and_dates_may_differ(self, first, second, same):
        import re
        from pathlib import Path

        from nbval.plugin import get_sanitize_patterns

        rules = get_sanitize_patterns((Path(__file__).parent / "sanitize.cfg").read_text())
        assert len(rules) == 5
        for pattern, replacement in rules:
            first, second = (re.sub(pattern, replacement, text) for text in (first, second))
        assert (first == second) is same
