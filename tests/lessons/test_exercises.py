"""Copies of the exercises run where they are, and answers in them are safe."""

from __future__ import annotations

import json

import pytest

from ss4rec_lib import cli
from ss4rec_lib.lessons import LessonError, copy_exercises, stop_in_view, unused_folder
from tools import make_exercises


@pytest.fixture
def folder(lessons_folder):
    path = lessons_folder / "solutions" / "01_first.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"][0]["source"] = "# T\n\n[readme](../../README.md) [sibling](04_second.ipynb)"
    notebook["cells"][1]["source"] = "numbers = [1, 2, 3]\nplace = '../pictures/a.svg'"
    path.write_text(json.dumps(notebook))
    make_exercises.out_of_date(lessons_folder, write=True)
    return lessons_folder


def test_links_and_paths_lead_to_the_same_files(folder):
    to = folder.parent / "work"
    made, kept = copy_exercises(folder=folder, to=to)
    assert [path.name for path in made] == ["01_first.ipynb", "04_second.ipynb"]
    assert kept == []
    text = made[0].read_text()
    assert "[readme](../README.md) [sibling](04_second.ipynb)" in text
    assert f"place = '../{folder.name}/pictures/a.svg'" in text
    assert f"](../{folder.name}/solutions/01_first.ipynb)" in text
    deep = folder.parent / "work" / "2"
    copy_exercises(["01"], deep, folder)
    assert "[readme](../../README.md)" in (deep / "01_first.ipynb").read_text()


def test_an_answer_is_never_overwritten(folder, tmp_path):
    (first, second), _ = copy_exercises(folder=folder, to=tmp_path / "work")
    first.write_text("my answer")
    second.unlink()
    made, kept = copy_exercises(folder=folder, to=tmp_path / "work")
    assert (made, kept) == ([second], [first])
    assert first.read_text() == "my answer"
    assert unused_folder(tmp_path / "work") == tmp_path / "work" / "2"


def test_a_folder_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "work").write_text("")
    with pytest.raises(LessonError, match=r"cannot write .*work"):
        copy_exercises(folder=folder, to=tmp_path / "work")


def test_the_command_says_what_it_kept_and_offers_another_place(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["exercises", "01"]) == 0
    assert capsys.readouterr().out == "work/01_time_intervals.ipynb: copied\n"
    assert cli.main(["exercises", "01"]) == 0
    kept, offer = capsys.readouterr().out.splitlines()
    assert kept == "work/01_time_intervals.ipynb: is there and stays as it is"
    assert offer.endswith("ss4rec exercises 01 --to work/2")
    assert cli.main(["exercises", "nine"]) == 2
    assert "'nine'" in capsys.readouterr().err


class Shell:
    """What a kernel's shell has for errors."""

    def __init__(self):
        self.kinds, self.shown = (), []

    def set_custom_exc(self, kinds, handler):
        self.kinds, self.handler = kinds, handler

    def showtraceback(self, error, tb_offset=None):
        self.shown.append(error[1])


@pytest.mark.parametrize("live", [True, False])
def test_a_failed_cell_is_scrolled_into_view_where_somebody_looks(live, monkeypatch):
    shell, displayed = Shell(), []
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: shell)
    monkeypatch.setattr("IPython.display.display", lambda data, raw: displayed.append(data))
    monkeypatch.setattr("ss4rec_lib.lessons.exercises.is_live", lambda: live)
    stop_in_view()
    assert shell.kinds == ((Exception,) if live else ())
    if live:
        error = NotImplementedError("add")
        shell.handler(shell, type(error), error, None)
        assert shell.shown == [error], "the error is shown as ever"
        assert "scrollIntoView" in displayed[0]["application/javascript"]
