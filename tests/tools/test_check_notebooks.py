"""Every rule is broken once: a rule that no notebook can break is no rule."""

from __future__ import annotations

import re

import nbformat
import pytest

from ss4rec_lib.lessons import RECORD_TYPE
from tools import check_notebooks, make_exercises

PNG = "iVBORw0KGgo="


@pytest.fixture
def found(tiny_lesson, tmp_path):
    """Breaks the tiny lesson with a function of the notebook and returns the problems."""

    def check(breaking=lambda notebook: None, name="00_tiny"):
        notebook = tiny_lesson(name)
        breaking(notebook)
        path = tmp_path / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, path)
        return check_notebooks.problems(path)

    return check


def code(notebook, number: int):
    """The code cell with this execution count."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"][number - 1]


def test_the_tiny_lesson_is_clean(found):
    assert found() == []


def stream(name: str, text: str):
    return [nbformat.v4.new_output("stream", name=name, text=text)]


def picture(alt: str | None):
    def change(notebook):
        data, alts = {"image/png": PNG, "text/plain": "x"}, {"image/png": {"alt": alt}}
        output = nbformat.v4.new_output("display_data", data=data, metadata=alts if alt else {})
        code(notebook, 3).outputs = [output]

    return change


def tagged(number: int, *tags: str):
    return lambda notebook: code(notebook, number).metadata.update(tags=list(tags))


def source(number: int, text: str):
    return lambda notebook: code(notebook, number).update(source=text)


def count(number: int, value: int | None):
    return lambda notebook: code(notebook, number).update(execution_count=value)


def outputs(number: int, make):
    return lambda notebook: code(notebook, number).update(outputs=make())


def heading(old: str, new: str):
    return lambda notebook: notebook.cells[0].update(
        source=notebook.cells[0].source.replace(old, new)
    )


def markdown(text: str):
    return lambda notebook: notebook.cells[0].update(
        source=notebook.cells[0].source.replace("## Contents", f"## Contents\n\n{text}")
    )


def widget():
    data = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "IntSlider()"}
    return [nbformat.v4.new_output("display_data", data=data)]


def append(notebook):
    notebook.cells.append(nbformat.v4.new_code_cell("1 + 1", execution_count=9))


def kernel(notebook):
    notebook.metadata.kernelspec.name = "my-env"


def error_output():
    return [nbformat.v4.new_output("error", ename="KeyError", evalue="'x'", traceback=[])]


@pytest.mark.parametrize(
    ("breaking", "problem"),
    [
        (kernel, "'my-env', expected 'python3'"),
        (heading("# A tiny lesson", "A tiny lesson"), "does not begin with a title"),
        (heading("## Quiz", "## Questions"), "'## Quiz' stands 0 times"),
        (heading("## Quiz", "## Quiz\n\n## Quiz"), "'## Quiz' stands 2 times"),
        (heading("## Aim\n\n## What", "## What"), "'## Aim' stands 0 times"),
        (
            lambda notebook: (
                heading("## Aim", "## Swap")(notebook)
                or heading("## Quiz", "## Aim")(notebook)
                or heading("## Swap", "## Quiz")(notebook)
            ),
            "not in the order",
        ),
        (tagged(5, "nbval-skip"), "unknown tag 'nbval-skip'"),
        (tagged(3, "exercise_setup"), "unknown tag 'exercise_setup'"),
        (count(5, None), "execution counts are"),
        (count(5, 17), "execution counts are"),
        (outputs(5, error_output), "has an error as output: KeyError"),
        (outputs(3, lambda: stream("stderr", "100%|####|")), "writes to stderr"),
        (outputs(3, lambda: stream("stdout", "x: UserWarning: slow")), "warning: UserWarning:"),
        (outputs(3, lambda: stream("stdout", "see /home/me/x.csv")), "one machine: /home/me/x.csv"),
        (source(4, 'print(open("/tmp/x").read(), dataset, epochs, flag)'), "one machine: /tmp/x"),
        (source(4, 'print("C:\\\\data", dataset, epochs, flag)'), "one machine: C:"),
        (tagged(1), "0 code cells are tagged 'parameters'"),
        (tagged(3, "parameters"), "2 code cells are tagged 'parameters'"),
        (source(1, "epochs = 1 + 1  # x"), "'epochs = 1 + 1', expected name = literal"),
        (
            source(1, "dataset = 'a'  # x\nimport os"),
            "line 2 of the parameters cell is 'import os'",
        ),
        (
            source(1, "dataset = 'a'  # x = 1\nepochs = 2  # x"),
            "cannot read the parameters dataset",
        ),
        (source(1, "dataset = 'a'  # x\nepochs = 2\nflag = True  # x"), "'epochs' has no trailing"),
        (source(1, "user_id = None  # x"), "'user_id' is None, expected int|str|None"),
        (source(1, "epochs: float = 2  # x"), "'epochs' is float, expected int"),
        (
            source(5, "from ss4rec_lib.data.splits import Split"),
            "imports from the module ss4rec_lib.data.splits",
        ),
        (source(5, "total = = 6"), "'total = = 6' is not Python: line 1"),
        (source(2, "given = 1"), "does not call check_parameters("),
        (source(4, "epochs"), "parameters never read: flag"),
        (tagged(7, "nbval-ignore-output"), "0 cells are tagged 'record'"),
        (append, "expected one: the last code cell"),
        (tagged(7, "record"), "not tagged 'nbval-ignore-output'"),
        (outputs(7, list), "found 0 records"),
        (picture("x"), "no sentence before or after the picture"),
        (picture(None), "has no alternative text"),
        (markdown("![](a.svg)"), "the image a.svg has no alternative text"),
        (markdown('<img src="a.svg">'), "has no alternative text"),
        (markdown("word " * 2_500), "words, more than 2,500"),
        (source(4, "dataset, epochs, flag\n" + "1\n" * 300), "lines of visible code, more than"),
        (source(4, "dataset, epochs, flag\n" + "1\n" * 25), "has 26 lines, more than 25"),
        (source(4, f"dataset, epochs, flag, '{'x' * 80}'"), "more than 88 characters"),
        (outputs(4, lambda: stream("stdout", "x" * 101)), "printed .* more than 100 characters"),
        (outputs(6, list), "0 figures, expected 5 to 8"),
        (tagged(6), "only one of hide-input and jupyter.source_hidden"),
        (tagged(5, "hide-input"), "only one of hide-input and jupyter.source_hidden"),
        (source(7, "record(total=picture)"), "picture, of the collapsed cell .* is read by"),
        (source(7, "f = lambda: picture"), "picture, of the collapsed cell .* is read by"),
        (source(4, "import inspect; dataset, epochs, flag"), "a core lesson imports inspect"),
        (markdown("[a](../gone.md)"), "the link ../gone.md leads nowhere"),
        (markdown("[a](#Gone)"), "the link #Gone leads to no heading of 00_tiny.ipynb"),
        (markdown("See lesson 04."), "lesson 04 is mentioned without a link"),
        (markdown("[a](x) and lesson 02a, too"), "lesson 02a is mentioned without a link"),
        (markdown("The red line is higher."), "names a colour (red line)"),
        (heading("<!-- time -->", ""), "has no <!-- time -->"),
        (heading("<details>", ""), "answers of the quiz are not folded"),
        (lambda notebook: notebook.metadata.update(widgets={}), "the notebook holds widgets"),
        (outputs(5, widget), "shows a widget"),
        (source(2, "check_parameters(dataset='planted')"), "expected check_parameters.*flag=False"),
        (source(2, "check_parameters(dataset='planted', epochs=3, flag=False)"), "not repeat"),
        (tagged(5, "solution"), "'solution' belongs to notebooks/solutions"),
    ],
)
def test_every_rule_can_be_broken(found, breaking, problem):
    problems = found(breaking)
    assert any(problem in p or re.search(problem, p) for p in problems), problems


def test_a_slow_lesson(found):
    def slow(notebook):
        code(notebook, 7).outputs[0].data[RECORD_TYPE]["lesson_seconds"] = 181

    assert any("lesson_seconds is 181" in problem for problem in found(slow))


def test_exercises_and_solutions_are_linked_and_exist(found, tmp_path):
    leads = ["the link exercises/01_tiny.ipynb leads nowhere"]
    leads.append("the link solutions/01_tiny.ipynb leads nowhere")
    assert found(name="01_tiny") == leads
    assert "no link to solutions/01_tiny.ipynb" in found(
        lambda notebook: heading("(solutions/01_tiny.ipynb)", "(x)")(notebook), "01_tiny"
    )


def test_a_deeper_lesson_has_no_limits_but_the_other_rules(found):
    def deeper(notebook):
        for name in ("What you need to know", "Contents", "Discussion", "Quiz", "Exercises"):
            heading(f"## {name}", "")(notebook)
        code(notebook, 6).outputs = []
        code(notebook, 5).source = "sum(numbers)\n" + "1\n" * 30
        notebook.cells[0].source += "\n\nBack to [lesson 00](../deeper/00a_tiny.ipynb#Aim)."

    assert found(deeper, "deeper/00a_tiny") == []
    long = f"dataset, epochs, flag, '{'x' * 80}'"
    broken = found(lambda n: deeper(n) or source(4, long)(n), "deeper/00a_tiny")
    assert len(broken) == 1 and "more than 88" in broken[0]


def test_names_of_a_collapsed_cell_that_are_made_again_are_free(found):
    def change(notebook):
        code(notebook, 4).source = "print(dataset, epochs, flag)\npicture = 1"
        code(notebook, 7).source = "picture = 2\nprint(picture)\ndef f(picture): return picture"

    assert found(change) == []


def test_anchors_of_notebooks_and_pages(tmp_path, found):
    (tmp_path / "page.md").write_text("# A `page`, two\n")
    links = "[a](#What-you-need-to-know) [b](page.md#a-page-two) [c](page.md) [lesson 04](#Aim)"
    assert found(markdown(links)) == []
    assert len(found(markdown("[a](page.md#nothing)"))) == 1


def test_the_table(lessons_folder, monkeypatch, capsys):
    monkeypatch.setattr(check_notebooks, "notebooks_folder", lambda: lessons_folder)
    assert check_notebooks.main(["--table"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].startswith("| lesson | words |") and len(rows) == 4
    assert rows[2] == "| 01_first | 47 | 16 | 7 | 5 | 1 |"


def test_an_assignment_alone_is_not_reading(found):
    assert any("never read: flag" in p for p in found(source(4, "flag = epochs, dataset")))


def test_the_first_code_cell_must_be_the_parameters(found):
    def insert(notebook):
        notebook.cells.insert(1, nbformat.v4.new_code_cell("import math", execution_count=1))

    assert any("first code cell" in problem for problem in found(insert))


def test_a_picture_with_a_sentence_beside_it_is_fine(found):
    def explained(notebook):
        picture("Bars.")(notebook)
        code(notebook, 6).outputs.pop()
        text = "What to see: the bars left of one minute hold half of all intervals."
        notebook.cells.insert(4, nbformat.v4.new_markdown_cell(text))

    assert found(explained) == []


def test_addresses_and_magics_are_fine(found):
    def change(notebook):
        notebook.cells[0].source += "\n\nSee [a page](https://example.org/home/x)."
        code(notebook, 3).source = "%matplotlib inline\nnumbers = [1, 2, 3]"

    assert found(change) == []


def test_a_large_or_broken_file(tmp_path):
    path = tmp_path / "01_broken.ipynb"
    path.write_text("{" + " " * check_notebooks.LARGEST_BYTES)
    (size, broken) = check_notebooks.problems(path)
    assert "bytes, more than" in size
    assert "not a valid notebook" in broken


def test_the_command_line_names_files_and_skips_what_is_no_lesson(lessons_folder, capsys):
    make_exercises.out_of_date(lessons_folder, write=True)
    first = lessons_folder / "01_first.ipynb"
    (lessons_folder / "scratch.ipynb").write_text("{}")
    assert check_notebooks.main([str(p) for p in lessons_folder.rglob("*.ipynb")]) == 0
    first.write_text(first.read_text().replace("## Discussion", "## Questions"))
    assert check_notebooks.main([str(p) for p in lessons_folder.rglob("*.ipynb")]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{first}: ")
    assert "## Discussion" in line


def test_the_command_line_checks_all_lessons_by_default(lessons_folder, monkeypatch, capsys):
    monkeypatch.setattr(check_notebooks, "notebooks_folder", lambda: lessons_folder)
    make_exercises.out_of_date(lessons_folder, write=True)
    assert check_notebooks.main([]) == 0
    for path in lessons_folder.glob("0*.ipynb"):
        path.unlink()
    assert check_notebooks.main([]) == 2
    assert lessons_folder.name in capsys.readouterr().err
