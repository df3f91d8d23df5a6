"""Eight faults, each made in the committed notebooks, and what notices it.

A fault counts as noticed when the checks name it in a copy and name nothing else that they do not
name in a faultless copy. nbval compares here with the committed outputs, replayed, as fresh ones;
that a fresh run gives these is shown in test_nbval.py.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbval.plugin import get_sanitize_patterns

from ss4rec_lib.lessons import RECORD_TYPE, compare_records, read_parameters, read_record
from tools import make_exercises
from tools.check_notebooks import FLOORS, below_floor, problems
from tools.make_exercises import tags

Change = Callable[[NotebookNode], object]
RULES = get_sanitize_patterns(Path(__file__).with_name("sanitize.cfg").read_text())


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def mutated(lesson: Path, folder: Path, change: Change) -> Path:
    """Write a changed copy of a lesson, under its name and in a folder of the same name."""
    notebook = nbformat.read(lesson, as_version=4)
    change(notebook)
    copy = folder / lesson.parent.name / lesson.name
    copy.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, copy)
    return copy


@pytest.fixture
def noticed(tmp_path):
    """Returns what the rules say of a changed lesson and do not say of a copy of it as it is."""

    def check(lesson: Path, change: Change) -> list[str]:
        before = problems(mutated(lesson, tmp_path, lambda notebook: None))
        return [p for p in problems(mutated(lesson, tmp_path, change)) if p not in before]

    return check


def sanitized(text: str) -> str:
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    return text


def change_a_number(cell: NotebookNode) -> bool:
    """Raise the last digit of an output that nbval compares; return whether there is one."""
    if "nbval-ignore-output" in tags(cell):
        return False
    for output in cell.outputs:
        holder, key = (output, "text") if "text" in output else (output.get("data"), "text/plain")
        for digit in reversed(list(re.finditer(r"\d", holder.get(key, "")))):
            text = holder[key]
            new = f"{text[: digit.start()]}{(int(digit[0]) + 1) % 10}{text[digit.end() :]}"
            if sanitized(new) != sanitized(text):
                holder[key] = new
                return True
    return False


def test_a_number_changed_by_hand_in_an_output(core, run_nbval, tmp_path):
    """In every cell that shows a number: nbval fails in each of these cells and in no other."""
    changed = set()

    def change(notebook):
        changed.update(n for n, cell in enumerate(code(notebook)) if change_a_number(cell))

    done = run_nbval(mutated(core, tmp_path, change), replay=core)
    failed = {int(n) for n in re.findall(r"^Cell (\d+): Cell outputs differ$", done.text, re.M)}
    assert len(changed) > 3
    assert (done.code, failed) == (1, changed), done.text


def test_a_number_changed_by_hand_in_a_record(lesson):
    """The outputs of its cell are not compared as text, because it has times."""
    committed = read_record(lesson)
    numbers = {name: 1.5 for name in committed["highlights"] if "." not in name}
    changed = committed | {name: committed[name] * 1.5 for name in numbers}
    found = {sentence.split(" was ")[0] for sentence in compare_records(changed, committed)}
    assert found == {name for name in numbers if not name.endswith(("_seconds", "_ms"))}


def strip(notebook: NotebookNode) -> None:
    for cell in code(notebook):
        cell.update(execution_count=None, outputs=[])


def test_execution_counts_stripped(lesson, noticed):
    assert any(text.startswith("execution counts are [None") for text in noticed(lesson, strip))


def test_execution_counts_stripped_before_nbval(notebooks, run_nbval, tmp_path):
    """nbval itself passes such a cell, whatever it prints."""
    lesson = notebooks / "01_time_intervals.ipynb"
    done = run_nbval(mutated(lesson, tmp_path, strip), replay=lesson)
    assert done.code == 1 and done.compared == {}
    cells = code(nbformat.read(lesson, as_version=4))
    assert done.text.count("Failed: the cell has no execution count") == len(cells)


STDERR = nbformat.v4.new_output("stream", name="stderr", text="x.py:3: UserWarning: slow\n")
STDOUT = nbformat.v4.new_output("stream", name="stdout", text="x.py:3: FutureWarning: old\n")


def warn(notebook: NotebookNode) -> None:
    code(notebook)[1].outputs.append(STDERR)
    code(notebook)[2].outputs.append(STDOUT)


def test_a_warning_left_in(lesson, noticed):
    found = noticed(lesson, warn)
    said = ("writes to stderr", "shows a warning: UserWarning:", "shows a warning: FutureWarning:")
    assert [problem for problem in found if not any(text in problem for text in said)] == []
    assert len(found) == len(said)


def test_a_warning_in_a_fresh_run(notebooks, run_nbval, tmp_path):
    lesson = notebooks / "01_time_intervals.ipynb"
    done = run_nbval(lesson, replay=mutated(lesson, tmp_path, warn))
    failed = re.findall(r"^Cell (\d+): Cell outputs differ$", done.text, re.MULTILINE)
    assert (done.code, failed) == (1, ["1", "2"]), done.text


def place(record: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """Return the dictionary inside a record, and the key in it, of a name such as test.hr@10."""
    *path, last = name.split(".")
    for key in path:
        record = record[key]
    return record, last


@pytest.mark.parametrize("stem", FLOORS)
def test_a_metric_below_its_floor(stem, notebooks, noticed):
    lesson = notebooks / f"{stem}.ipynb"
    for metric, popularity in FLOORS[stem].items():

        def lower(notebook, metric=metric, popularity=popularity):
            (data,) = (o.data for o in code(notebook)[-1].outputs if RECORD_TYPE in o.data)
            floor, key = place(data[RECORD_TYPE], popularity)
            holder, name = place(data[RECORD_TYPE], metric)
            holder[name] = floor[key] + 0.01

        (problem,) = noticed(lesson, lower)
        assert problem.startswith(f"{metric} is ") and popularity in problem
    assert list(below_floor(stem, read_record(lesson))) == []
    assert len(list(below_floor(stem, {}))) == len(FLOORS[stem]), "a metric that is not recorded"


def test_a_parameter_that_is_no_longer_read(lesson, noticed):
    """Each in turn: its value is written where the lesson read it."""
    for name, parameter in read_parameters(lesson).items():

        class Written(ast.NodeTransformer):
            def visit_Name(self, node, name=name, value=parameter.default):
                read = node.id == name and isinstance(node.ctx, ast.Load)
                return ast.Constant(value) if read else node

        def write(notebook, written=Written):
            for cell in code(notebook)[1:]:
                tree = ast.parse(re.sub(r"(?m)^[%!].*", "", cell.source))
                cell.source = ast.unparse(written().visit(tree))

        assert f"parameters never read: {name}" in noticed(lesson, write)


def test_a_stale_exercise(solutions, notebooks, tmp_path):
    """The task was changed in the solutions, and the exercises were not written again."""
    folder = tmp_path / "notebooks"
    for name in ("solutions", "exercises"):
        shutil.copytree(notebooks / name, folder / name, ignore=shutil.ignore_patterns(".*"))
    assert make_exercises.out_of_date(folder) == []
    notebook = nbformat.read(solutions, as_version=4)
    task = next(cell for cell in notebook.cells if "### Exercise 2" in cell.source)
    task.source += " Use the median."
    nbformat.write(notebook, folder / "solutions" / solutions.name)
    assert make_exercises.out_of_date(folder) == [solutions.name]


def test_an_image_without_alt_text(lesson, noticed):
    def silence(notebook):
        outputs = [output for cell in code(notebook) for output in cell.outputs]
        pictures = [output for output in outputs if "image/png" in output.get("data", {})]
        for output in pictures:
            del output.metadata["image/png"]["alt"]
        assert pictures

    found = noticed(lesson, silence)
    assert found
    assert [problem for problem in found if "has no alternative text" not in problem] == []


def test_a_widgets_state_committed(lesson, noticed):
    def show(notebook):
        view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "x"}
        code(notebook)[1].outputs.append(nbformat.v4.new_output("display_data", data=view))
        notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {}}

    held, shown = noticed(lesson, show)
    assert held.startswith("the notebook holds widgets")
    assert "shows a widget" in shown
