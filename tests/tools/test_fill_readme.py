"""The README's marked parts, in a checkout made for the test: the recorded runs among them."""

from __future__ import annotations

import pytest

from ss4rec_lib.lessons import LessonError
from tools import fill_readme

MARKS = "a\n<!-- lessons -->\nold\n<!-- /lessons -->\nb\n<!-- results -->\n<!-- /results -->\nc\n"


@pytest.fixture
def results(tmp_path):
    """A results/build_page.py that makes a small table."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "build_page.py").write_text("def readme_table():\n    return 'RESULTS'\n")
    return folder


def test_marked_parts_are_written_and_nothing_else():
    parts = {"lessons": "LESSONS", "results": "RESULTS"}
    text = fill_readme.filled(MARKS, parts)
    assert text.startswith("a\n<!-- lessons -->\nLESSONS\n<!-- /lessons -->\nb\n")
    assert text.endswith("<!-- results -->\nRESULTS\n<!-- /results -->\nc\n")
    assert fill_readme.filled(text, parts) == text
    inline = "In <!-- lessons -->old<!-- /lessons --> words."
    wanted = "In <!-- lessons -->LESSONS<!-- /lessons --> words."
    assert fill_readme.filled(inline, {"lessons": "LESSONS"}) == wanted


@pytest.mark.parametrize("name", ["lessons", "results"])
def test_a_missing_mark_is_named(name):
    text = MARKS.replace(f"<!-- /{name} -->", "")
    with pytest.raises(LessonError, match=f"<!-- {name} -->"):
        fill_readme.filled(text, {"lessons": "LESSONS", "results": "RESULTS"})


def test_without_the_builder_of_results_there_is_no_table(results):
    assert fill_readme.results_table(results) == "RESULTS"
    (results / "build_page.py").unlink()
    with pytest.raises(LessonError, match=r"build_page\.py"):
        fill_readme.results_table(results)


def test_the_recorded_runs_make_a_short_table():
    folder = fill_readme.notebooks_folder().parent / "results"
    head, _, *rows = fill_readme.results_table(folder).splitlines()
    rows = [row for row in rows if row.startswith("|")]
    assert 2 <= len(rows) <= 8
    assert "HR@10" in head
    assert "masked" in head.lower()


def test_lessons_have_their_promise_and_time(tiny_lesson, tmp_path):
    import nbformat

    from ss4rec_lib.lessons import RECORD_TYPE

    folder = tmp_path / "notebooks"
    folder.mkdir()
    lesson = tiny_lesson("01_tiny")
    lesson.cells[-1].outputs[0]["data"][RECORD_TYPE]["lesson_seconds"] = 96.0
    nbformat.write(lesson, folder / "01_tiny.ipynb")
    with pytest.raises(LessonError, match=r"01_tiny\.ipynb"):
        fill_readme.lessons_table(folder)
    lesson.cells[0].source = "# 01 · Tiny\n\n*A promise.*\n"
    nbformat.write(lesson, folder / "01_tiny.ipynb")
    row = "| [01 · Tiny](notebooks/01_tiny.ipynb) | A promise. | 1.6 min |"
    assert fill_readme.lessons_table(folder).splitlines()[-1] == row


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (41.7, "42 s"), (96.0, "1.6 min"), (170, "2.8 min")]
)
def test_the_run_time_of_a_lesson_is_that_of_its_record(seconds, text, tiny_lesson, tmp_path):
    import nbformat

    from ss4rec_lib.lessons import RECORD_TYPE

    lesson, path = tiny_lesson(), tmp_path / "00_tiny.ipynb"
    lesson.cells[-1].outputs[0]["data"][RECORD_TYPE]["lesson_seconds"] = seconds
    nbformat.write(lesson, path)
    before, after = path.read_text(), fill_readme.timed(path)
    assert f"<!-- time -->about {text}<!-- /time -->" in after
    path.write_text(after)
    assert fill_readme.timed(path) == after
    assert after.replace(f"about {text}", "about 1 s") == before, "nothing else is changed"


def test_the_command_line_reports_or_mends(tmp_path, results, monkeypatch, capsys):
    monkeypatch.setattr(fill_readme, "lessons_table", lambda folder: "LESSONS")
    monkeypatch.setattr(fill_readme, "picture", lambda folder: b"png")
    monkeypatch.setattr(fill_readme, "all_lessons", lambda folder: [])
    monkeypatch.setattr(fill_readme, "notebooks_folder", lambda: tmp_path / "notebooks")
    monkeypatch.setattr(fill_readme, "figures", lambda results: {"step": "64 s"})
    (tmp_path / "docs").mkdir()
    (tmp_path / fill_readme.FLOAT32).write_text("<!-- step -->64 s<!-- /step -->")
    (tmp_path / "README.md").write_text(MARKS)
    assert fill_readme.main(["--check"]) == 1
    assert (tmp_path / "README.md").read_text() == MARKS
    assert fill_readme.main([]) == 0
    assert fill_readme.main(["--check"]) == 0
    assert (tmp_path / fill_readme.PICTURE).read_bytes() == b"png"
    (tmp_path / "README.md").write_text("no marks")
    capsys.readouterr()
    assert fill_readme.main([]) == 2
    assert "<!-- lessons -->" in capsys.readouterr().err
