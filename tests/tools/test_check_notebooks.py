"""Every rule is broken once: a rule that no notebook can break is no rule."""

from __future__ import annotations

import nbformat
import pytest

from tools import check_notebooks

PNG = "iVBORw0KGgo="


@pytest.fixture
def found(tiny_lesson, tmp_path):
    """Breaks the tiny lesson with a function of the notebook and returns the problems."""

    def check(breaking=lambda notebook: None):
        notebook = tiny_lesson()
        breaking(notebook)
        path = tmp_path / "01_tiny.ipynb"
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


def picture(notebook):
    output = nbformat.v4.new_output("display_data", data={"image/png": PNG, "text/plain": "x"})
    code(notebook, 3).outputs = [output]


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
        (
            source(5, "from ss4rec_lib.data.splits import Split"),
            "imports from the module ss4rec_lib.data.splits",
        ),
        (source(5, "total = = 6"), "'total = = 6' is not Python: line 1"),
        (source(2, "given = 1"), "does not call check_parameters()"),
        (source(4, "epochs"), "parameters never read: flag"),
        (tagged(8, "nbval-ignore-output"), "0 cells are tagged 'record'"),
        (append, "expected one: the last code cell"),
        (tagged(8, "record"), "not tagged 'nbval-ignore-output'"),
        (outputs(8, list), "found 0 records"),
        (picture, "no sentence before or after the picture"),
        (tagged(7), "must be tagged 'check'"),
        (tagged(6), "must directly follow a cell tagged 'solution'"),
    ],
)
def test_every_rule_can_be_broken(found, breaking, problem):
    assert any(problem in sentence for sentence in found(breaking)), found(breaking)


def test_an_assignment_alone_is_not_reading(found):
    assert any("never read: flag" in p for p in found(source(4, "flag = epochs, dataset")))


def test_the_first_code_cell_must_be_the_parameters(found):
    def insert(notebook):
        notebook.cells.insert(1, nbformat.v4.new_code_cell("import math", execution_count=1))

    assert any("first code cell" in problem for problem in found(insert))


def test_a_picture_with_a_sentence_beside_it_is_fine(found):
    def explained(notebook):
        picture(notebook)
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
    first = lessons_folder / "01_first.ipynb"
    assert check_notebooks.main([str(p) for p in lessons_folder.glob("*.ipynb")]) == 0
    first.write_text(first.read_text().replace("## Quiz", "## Questions"))
    exercise = lessons_folder / "exercises" / "01_first.ipynb"
    exercise.parent.mkdir()
    exercise.write_text("{}")
    (lessons_folder / "scratch.ipynb").write_text("{}")
    assert check_notebooks.main([str(p) for p in lessons_folder.rglob("*.ipynb")]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{first}: ")
    assert "## Quiz" in line


def test_the_command_line_checks_all_lessons_by_default(lessons_folder, monkeypatch, capsys):
    monkeypatch.setattr(check_notebooks, "notebooks_folder", lambda: lessons_folder)
    assert check_notebooks.main([]) == 0
    for path in lessons_folder.glob("0*.ipynb"):
        path.unlink()
    assert check_notebooks.main([]) == 2
    assert lessons_folder.name in capsys.readouterr().err
