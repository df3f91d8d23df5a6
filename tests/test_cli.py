from __future__ import annotations

import os
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


@pytest.mark.parametrize("number", ["-1", "-1e3", "-.5", "-inf", "-.nan", "-1_000"])
def test_a_negative_number_reaches_the_check_of_the_lesson(called, number):
    assert cli.main(["lessons", "-p", "gap_minutes", number, "-p", "seed", "3"]) == 0
    assert called["parameters"] == {"gap_minutes": number, "seed": "3"}


@pytest.mark.parametrize("seconds", ["0", "-1e3", "nan", "inf", "-inf"])
def test_a_time_limit_that_is_none_is_refused(seconds, capsys):
    assert cli.main(["lessons", "01", "--timeout", seconds]) == 2
    assert str(float(seconds)) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("train --dataset planted --out {} --seed -1", "seed", "-1"),
        ("train --dataset planted --out {} --seed 4294967296", "seed", "4294967296"),
        ("train --dataset planted --out {} --min-interactions -1", "min_interactions", "-1"),
        ("train --dataset planted --out {} --task rating --split 5-fold --folds 0", "folds", "0"),
        ("train --dataset planted --out {} --set learning_rate=nan", "learning_rate", "nan"),
        ("train --dataset planted --out {} --set learning_rate=-1e3", "learning_rate", "-1000"),
        ("recommend {} --user 1 --at -5", "", "-5"),
        ("recommend {} --user 1 --at -1e3", "", "-1e3"),
        ("recommend {} --user 1 --at nan", "", "nan"),
        ("evaluate {} --max-len -3", "max_len", "-3"),
        ("evaluate {} --max-len 0", "max_len", "0"),
        ("evaluate {} --max-len -.inf", "max_len", "inf"),
        ("evaluate {} --target-time nan", "target_time", "nan"),
    ],
)
def test_numbers_out_of_range_are_one_message_with_name_and_value(
    words, name, value, tmp_path, capsys
):
    assert cli.main(words.format(tmp_path / "run").split()) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert name in shown
    assert value in shown
    assert not (tmp_path / "run").exists()


def test_lessons_without_names_means_all(called):
    assert cli.main(["lessons"]) == 0
    assert called["names"] == []
    assert called["parameters"] == {}


def test_an_unusable_data_set_starts_no_lesson(monkeypatch, tmp_path, capsys):
    from ss4rec_lib.lessons import runner

    monkeypatch.delattr(runner, "_run_one")
    for dataset, expected in [("ml-1mm", "'ml-1m'"), (str(tmp_path / "a.csv"), "a.csv")]:
        assert cli.main(["lessons", "--dataset", dataset, "--out", str(tmp_path)]) == 2
        assert expected in capsys.readouterr().err
    (tmp_path / "a.csv").write_text("user,item\n1,2\n")
    assert cli.main(["lessons", "-p", "dataset", str(tmp_path / "a.csv")]) == 2
    assert "timestamp" in capsys.readouterr().err


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


@pytest.mark.parametrize("rated", [True, False])
def test_data_prints_what_was_loaded(monkeypatch, capsys, rated):
    import ss4rec_lib.data

    table = pd.DataFrame({"user_id": [1, 1, 2, 2], "item_id": [5, 6, 5, 7], "rating": 4.0})
    table["timestamp"] = [0, 86_400, 5, 5]
    table = table if rated else table.drop(columns="rating")
    table.attrs = {"dataset": "ml-100k", "source": "a file of mine"}
    titles = pd.DataFrame({"title": ["A", "B"]}, index=[5, 7])
    asked = []
    load = lambda name, path=None: asked.append((name, path)) or table  # noqa: E731
    monkeypatch.setattr(ss4rec_lib.data, "load_dataset", load)
    monkeypatch.setattr(ss4rec_lib.data, "load_items", lambda *_, **__: titles)
    assert cli.main(["data", "ml-100k", "--path", "x"]) == 0
    assert asked == [("ml-100k", "x")]
    shown = capsys.readouterr().out
    for expected in ("ml-100k: 4 ", "2 users", "3 items", "1970-01-02", "50.0%", "of 2 of"):
        assert expected in shown
    assert ("without ratings" in shown) is not rated
    assert "a file of mine" in shown


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


def test_the_library_imports_no_compiler_of_torch():
    """Loading torch._dynamo takes about as long as loading the rest of torch."""
    code = "import sys, ss4rec_lib.training; sys.exit('torch._dynamo' in sys.modules)"
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


def test_a_reader_that_stops_early_is_no_error():
    """As in `ss4rec data planted | head -1`, but nobody reads at all."""
    reads, writes = os.pipe()
    os.close(reads)
    words = ["-m", "ss4rec_lib.cli", "data", "planted"]
    done = subprocess.run([sys.executable, *words], stdout=writes, stderr=subprocess.PIPE)
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, b"")


def test_no_verb_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([])
    assert stop.value.code == 2
    assert "VERB" in capsys.readouterr().err
