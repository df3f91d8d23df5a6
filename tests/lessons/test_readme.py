"""The README's marked parts, in a checkout made for the test: the recorded runs among them."""

import json

import pytest

from ss4rec_lib.experiments.results import results_folder
from ss4rec_lib.lessons import readme
from ss4rec_lib.lessons.errors import LessonError

PLAIN = "<!-- lessons -->\n<!-- /lessons -->\n<!-- results -->\n<!-- /results -->\n"
MARKS = "<!-- runs -->\nold\n<!-- /runs -->\n"


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "lessons_table", lambda folder: "LESSONS")
    monkeypatch.setattr(readme, "results_table", lambda folder: "RESULTS")
    return tmp_path / "notebooks"


@pytest.fixture
def recorded(notebooks, monkeypatch):
    """One record, whatever is in it."""
    monkeypatch.setattr(readme, "load_records", lambda folder: {folder.name: {}})
    monkeypatch.setattr(readme, "runs_table", lambda records: f"RUNS of {json.dumps(records)}")
    return notebooks


def test_without_recorded_runs_the_mark_is_not_needed(notebooks):
    assert "RESULTS" in readme.filled(PLAIN, notebooks)
    assert "No run is recorded yet." in readme.filled(PLAIN + MARKS, notebooks)


def test_recorded_runs_stand_between_their_marks(recorded):
    text = readme.filled("before\n" + PLAIN + MARKS + "after\n", recorded)
    assert '<!-- runs -->\nRUNS of {"results": {}}\n<!-- /runs -->\nafter\n' in text
    assert "old" not in text and text.startswith("before\n")
    assert readme.filled(text, recorded) == text


def test_recorded_runs_need_their_mark(recorded):
    with pytest.raises(LessonError, match="<!-- runs -->"):
        readme.filled(PLAIN, recorded)


def test_the_folder_of_the_records_is_the_checkouts():
    assert results_folder() == readme.notebooks_folder().parent / "results"
