from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

from ss4rec_lib import cli
from ss4rec_lib.lessons import LessonError, LessonRun

RUNNER = "ss4rec_lib.lessons.run_lessons"


def result(name: str, error: str | None) -> LessonRun:
    return LessonRun(name, "A title", f"{name}.ipynb", 1.0, {}, {}, error)


@pytest.fixture
def called(monkeypatch) -> dict:
    """Replaces the runner; holds what it was called with and what it is to return."""
    seen: dict = {"runs": [result("01_a", None)]}

    def run_lessons(names, **options):
        seen.update(names=names, **options)
        return seen["runs"]

    monkeypatch.setattr(RUNNER, run_lessons)
    return seen


def test_lessons_passes_everything_on(called):
    words = "lessons 01 04 --dataset planted -p epochs 2 -p seed 7 --out somewhere --timeout 60"
    assert cli.main(words.split()) == 0
    assert called["names"] == ["01", "04"]
    assert called["parameters"] == {"epochs": "2", "seed": "7", "dataset": "planted"}
    assert called["out"] == "somewhere"
    assert called["timeout"] == 60.0
    assert called["from_text"] is True


def test_lessons_without_names_means_all(called):
    assert cli.main(["lessons"]) == 0
    assert called["names"] == []
    assert called["parameters"] == {}


def test_an_unknown_data_set_starts_no_lesson(called, capsys):
    assert cli.main(["lessons", "--dataset", "ml-1mm"]) == 2
    assert "ml-1m" in capsys.readouterr().err
    assert "names" not in called


def test_a_failed_lesson_is_exit_code_1(called):
    called["runs"] = [result("01_a", None), result("04_b", "cell In [3]: KeyError: 'x'")]
    assert cli.main(["lessons"]) == 1


def test_a_parameter_given_twice_is_refused(called, capsys):
    assert cli.main(["lessons", "--dataset", "a", "-p", "dataset", "b"]) == 2
    assert "more than once" in capsys.readouterr().err


def test_lesson_errors_are_one_message(monkeypatch, capsys):
    def refuse(*_args, **_options):
        raise LessonError("unknown lesson 'x'.")

    monkeypatch.setattr(RUNNER, refuse)
    assert cli.main(["lessons", "x"]) == 2
    assert capsys.readouterr().err == "error: unknown lesson 'x'.\n"


def test_other_value_errors_are_not_hidden(monkeypatch):
    def break_down(*_args, **_options):
        raise ValueError("a bug")

    monkeypatch.setattr(RUNNER, break_down)
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["lessons"])


def test_interrupt_is_exit_code_130(monkeypatch, capsys):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(RUNNER, interrupt)
    assert cli.main(["lessons"]) == 130


def test_data_prints_what_was_loaded(monkeypatch, capsys):
    import ss4rec_lib.data

    ratings = pd.DataFrame({"user_id": [1, 1, 2], "item_id": [5, 6, 5]})
    ratings.attrs["source"] = "a file of mine"
    fetched = []
    monkeypatch.setattr(ss4rec_lib.data, "fetch", fetched.append)
    monkeypatch.setattr(ss4rec_lib.data, "load_movielens", lambda name, path=None: ratings)
    assert cli.main(["data", "ml-100k"]) == 0
    assert fetched == ["ml-100k"]
    shown = capsys.readouterr().out
    assert "ml-100k: 3 ratings, 2 users, 2 items" in shown
    assert "a file of mine" in shown
    assert cli.main(["data", "ml-100k", "--path", "x"]) == 0
    assert fetched == ["ml-100k"], "a path of the user's own needs no download"


def test_data_with_an_unknown_name_is_one_message(capsys):
    assert cli.main(["data", "ml-100kk"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "ml-100k" in message
    assert "Traceback" not in message


def test_help_is_quick_to_import():
    """`ss4rec --help` must not load torch: seconds on a laptop."""
    code = "import sys, ss4rec_lib.cli; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("verb", ["train", "evaluate", "recommend", "record", "compare"])
def test_a_verb_without_its_folder_is_a_usage_error(capsys, verb):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb])
    assert stop.value.code == 2
    assert "required" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("ss4rec_lib.data", "DataError"),
        ("ss4rec_lib.configuration", "ConfigError"),
        ("ss4rec_lib.experiments", "ExperimentError"),
        ("ss4rec_lib.files", "FileError"),
        ("ss4rec_lib.training", "CheckpointError"),
        ("ss4rec_lib.training", "TrainingDiverged"),
    ],
)
def test_errors_of_every_family_are_one_message(monkeypatch, capsys, module, name):
    import importlib

    from ss4rec_lib import experiments

    error = getattr(importlib.import_module(module), name)

    def refuse(*_args, **_options):
        raise error("what is wrong and what to do")

    monkeypatch.setattr(experiments, "record_run", refuse)
    assert cli.main(["record", "somewhere"]) == 2
    assert capsys.readouterr().err == "error: what is wrong and what to do\n"
    # Of several processes, only the first speaks.
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["record", "somewhere"]) == 2
    assert capsys.readouterr().err == ""


def test_errors_of_the_system_are_not_hidden(monkeypatch):
    from ss4rec_lib import experiments

    def break_down(*_args, **_options):
        raise OSError("a bug")

    monkeypatch.setattr(experiments, "record_run", break_down)
    with pytest.raises(OSError, match="a bug"):
        cli.main(["record", "somewhere"])


def test_no_verb_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([])
    assert stop.value.code == 2
    assert "VERB" in capsys.readouterr().err
