"""A fresh run of every lesson gives the committed outputs, and nbval really compares them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbval.plugin import get_sanitize_patterns

from ss4rec_lib.lessons import compare_records, read_record
from tools.check_notebooks import NOT_YET, below_floor
from tools.make_exercises import tags

ROOT = Path(__file__).resolve().parents[2]
ONE_LINE = ("pytest", "--nbval")

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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fresh_run_gives_the_committed_outputs_and_record(
    lesson, run_nbval, executed_already, record_property
):
    expected = comparable_cells(nbformat.read(lesson, as_version=4))
    executed = executed_already(lesson)
    record_property("replayed", executed is not None)
    done = run_nbval(lesson, replay=executed)
    assert done.code == 0, done.text
    assert set(done.compared) == expected
    least = 1 if lesson.parent.name == "deeper" else 2
    assert len(expected) >= least, "a lesson with nothing to compare is not tested"
    (fresh,) = done.records
    assert lesson.stem in NOT_YET or compare_records(read_record(lesson), fresh) == []
    assert list(below_floor(lesson.stem, fresh)) == []


def test_the_documented_line_collects_every_lesson_and_nothing_else(notebooks):
    """What `run_nbval` types, with a notebook behind it."""
    text = (notebooks.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"| `{' '.join(ONE_LINE)}` |" in text
    words = [*ONE_LINE, "--collect-only", "-q"]
    program = Path(sys.executable).with_name(words[0])
    done = subprocess.run([program, *words[1:]], cwd=ROOT, capture_output=True, text=True)
    found = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    lessons = [*notebooks.glob("*.ipynb"), *(notebooks / "deeper").glob("*.ipynb")]
    assert found == {path.relative_to(ROOT).as_posix() for path in lessons}


class TestOnATinyLesson:
    """The same machinery where a run takes a second."""

    @pytest.fixture
    def path(self, tiny_lesson, tmp_path):
        folder = tmp_path / "tiny"
        folder.mkdir()
        nbformat.write(tiny_lesson(), folder / "00_tiny.ipynb")
        return folder / "00_tiny.ipynb"

    def test_clean(self, path, run_nbval):
        done = run_nbval(path)
        assert done.code == 0, done.text
        assert (
            set(done.compared) == comparable_cells(nbformat.read(path, as_version=4)) == {3, 4, 5}
        )
        assert done.records == [read_record(path)], "although its cell is not compared"

    def test_a_changed_output_is_noticed(self, path, run_nbval):
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[4].outputs[0].text += "tampered\n"
        nbformat.write(notebook, path)
        done = run_nbval(path)
        assert done.code == 1
        assert "Cell outputs differ" in done.text and "tampered" in done.text

    def test_a_cell_without_execution_count_fails(self, path, run_nbval):
        """The hole in nbval: it would pass, whatever the cell prints."""
        clean = shutil.copy(path, path.with_name("clean.ipynb"))
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[4].update(execution_count=None, outputs=[])
        nbformat.write(notebook, path)
        done = run_nbval(path, replay=clean)
        assert done.code == 1 and set(done.compared) == {4, 5}
        assert "no execution count" in done.text

    def test_the_guard_works_under_nbval_too(self, path, run_nbval):
        """A notebook prepared by `papermill --prepare-only` can be given to nbval."""
        notebook = nbformat.read(path, as_version=4)
        injected = nbformat.v4.new_code_cell("# Parameters\nepoch = 3\n", execution_count=2)
        notebook.cells.insert(2, injected)
        nbformat.write(notebook, path)
        done = run_nbval(path)
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
        rules = get_sanitize_patterns((Path(__file__).parent / "sanitize.cfg").read_text())
        assert len(rules) == 5
        for pattern, replacement in rules:
            first, second = (re.sub(pattern, replacement, text) for text in (first, second))
        assert (first == second) is same


class TestALessonThatMakeRunHasExecuted:
    """Its outputs are compared, and it is not run again, if it is the same lesson and library."""

    @pytest.fixture
    def first(self, lessons_folder, tmp_path, monkeypatch):
        """A lesson with an executed copy in the folder that .ci/run names."""
        lesson, out = lessons_folder / "01_first.ipynb", tmp_path / "executed"
        out.mkdir()
        shutil.copy(lesson, out)
        (out / "01_first.json").write_text('{"revision": "abc"}')
        monkeypatch.setenv("SS4REC_EXECUTED", str(out))
        return lesson

    def test_nbval_compares_what_it_holds(self, first, executed_already, run_nbval):
        executed = executed_already(first, revision="abc")
        assert executed is not None and executed.name == first.name
        assert run_nbval(first, replay=executed).code == 0
        notebook = nbformat.read(executed, as_version=4)
        notebook.cells[4].outputs[0].text += "other\n"
        nbformat.write(notebook, executed)
        done = run_nbval(first, replay=executed)
        assert done.code == 1 and "other" in done.text, "it was read, not executed"

    @pytest.mark.parametrize("revision", [None, "def", "abc+changes"])
    def test_another_revision_is_executed(self, first, executed_already, revision):
        assert executed_already(first, revision=revision) is None

    def test_changed_code_is_executed(self, first, executed_already, run_nbval):
        executed = executed_already(first, revision="abc")
        notebook = nbformat.read(first, as_version=4)
        notebook.cells[5].source = "sum(numbers) + 0"
        nbformat.write(notebook, first)
        assert executed_already(first, revision="abc") is None
        done = run_nbval(first, replay=executed)
        assert done.code == 1 and "the executed notebook has other code" in done.text

    def test_without_the_variable_everything_is_executed(
        self, first, executed_already, monkeypatch
    ):
        monkeypatch.delenv("SS4REC_EXECUTED")
        assert executed_already(first, revision="abc") is None
