"""The README's marked parts, in a checkout made for the test: the recorded runs among them."""

from __future__ import annotations

import pandas as pd
import pytest

from ss4rec_lib.lessons import LessonError
from tools import fill_readme

MARKS = "a\n<!-- lessons -->\nold\n<!-- /lessons -->\nb\n<!-- results -->\n<!-- /results -->\nc\n"


@pytest.fixture
def runs(tmp_path):
    """A results/runs.csv with the rows of the README, others among them."""
    rows = []
    for number, (model, target_time) in enumerate(fill_readme.ROWS):
        for masked in (False, True):
            row = fill_readme.PROTOCOL | {
                "display_name": model,
                "target_time": target_time,
                "masked": masked,
                "ranked_by": "score",
                "n_seeds": 3,
                "hr@10": 0.1 * (number + 1) + 0.05 * masked,
                "ndcg@10": 0.01 * (number + 1),
                "epochs": fill_readme.EPOCHS if number < 6 else 0,
            }
            rows += [row, row | {"dataset": "ml-100k", "hr@10": 0.99}, row | {"epochs": 3}]
            rows += [row | {"split": "global-time"}, row | {"part": "valid"}]
    path = tmp_path / "results" / "runs.csv"
    path.parent.mkdir()
    pd.DataFrame(rows[::-1]).to_csv(path, index=False)
    return path


def test_both_parts_are_written_and_nothing_else(tmp_path, runs, monkeypatch):
    monkeypatch.setattr(fill_readme, "lessons_table", lambda folder: f"LESSONS of {folder.name}")
    text = fill_readme.filled(MARKS, tmp_path / "notebooks")
    assert text.startswith("a\n<!-- lessons -->\nLESSONS of notebooks\n<!-- /lessons -->\nb\n")
    assert text.endswith("<!-- /results -->\nc\n")
    assert fill_readme.filled(text, tmp_path / "notebooks") == text


@pytest.mark.parametrize("name", ["lessons", "results"])
def test_a_missing_mark_is_named(tmp_path, runs, monkeypatch, name):
    monkeypatch.setattr(fill_readme, "lessons_table", lambda folder: "LESSONS")
    text = MARKS.replace(f"<!-- /{name} -->", "")
    with pytest.raises(LessonError, match=f"<!-- {name} -->"):
        fill_readme.filled(text, tmp_path / "notebooks")


def test_at_most_eight_rows_masked_and_not(runs):
    head, _, *rows = fill_readme.results_table(runs).splitlines()
    assert len(rows) == len(fill_readme.ROWS) <= 8
    assert rows[0] == "| SS4Rec | known | 3 | 0.1000 | 0.0100 | 0.1500 | 0.0100 |"
    assert all(row.count("|") == head.count("|") for row in rows)


def test_a_model_without_recorded_runs_is_named(runs):
    table = pd.read_csv(runs, keep_default_na=False)
    table[table["display_name"] != "Mamba4Rec"].to_csv(runs, index=False)
    with pytest.raises(LessonError, match=r"runs\.csv.*Mamba4Rec"):
        fill_readme.results_table(runs)
    runs.unlink()
    with pytest.raises(LessonError, match=r"runs\.csv"):
        fill_readme.results_table(runs)


def test_lessons_have_their_promise_and_time(tiny_lesson, tmp_path):
    import nbformat

    from ss4rec_lib.lessons import RECORD_TYPE

    folder = tmp_path / "notebooks"
    folder.mkdir()
    lesson = tiny_lesson()
    lesson.cells[-1].outputs[0]["data"][RECORD_TYPE]["lesson_seconds"] = 96.0
    nbformat.write(lesson, folder / "01_tiny.ipynb")
    with pytest.raises(LessonError, match=r"01_tiny\.ipynb"):
        fill_readme.lessons_table(folder)
    lesson.cells[0].source = "# 01 · Tiny\n\n*A promise.*\n"
    nbformat.write(lesson, folder / "01_tiny.ipynb")
    row = "| [01 · Tiny](notebooks/01_tiny.ipynb) | A promise. | 1.6 min |"
    assert fill_readme.lessons_table(folder).splitlines()[-1] == row


def test_the_command_line_reports_or_mends(tmp_path, runs, monkeypatch, capsys):
    monkeypatch.setattr(fill_readme, "lessons_table", lambda folder: "LESSONS")
    monkeypatch.setattr(fill_readme, "picture", lambda folder: b"png")
    monkeypatch.setattr(fill_readme, "notebooks_folder", lambda: tmp_path / "notebooks")
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
