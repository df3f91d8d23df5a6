from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import nbformat
import pytest

from ss4rec_lib.data import DataError
from ss4rec_lib.files import write_json
from ss4rec_lib.lessons import LessonError, ParameterError, read_parameters, read_record, runner


class TestFindLessons:
    def test_all_in_order_without_other_notebooks(self, lessons_folder):
        found = runner.find_lessons(folder=lessons_folder)
        assert [path.stem for path in found] == ["01_first", "04_second"]

    @pytest.mark.parametrize(
        "name", ["04", "4", "second", "04_second", "04_second.ipynb", "notebooks/04_second.ipynb"]
    )
    def test_by_number_name_or_file(self, lessons_folder, name):
        assert [path.stem for path in runner.find_lessons([name], lessons_folder)] == ["04_second"]

    def test_order_and_repeats_of_the_names_do_not_matter(self, lessons_folder):
        found = runner.find_lessons(["04", "01", "first"], lessons_folder)
        assert [path.stem for path in found] == ["01_first", "04_second"]

    def test_unknown_name_suggests_the_nearest(self, lessons_folder):
        with pytest.raises(LessonError, match=r"'secnd'.*'second'") as caught:
            runner.find_lessons(["secnd"], lessons_folder)
        assert "01_first, 04_second" in str(caught.value)

    def test_deeper_lessons_only_when_named(self, lessons_folder):
        deeper = lessons_folder / "deeper"
        deeper.mkdir()
        for name in ("04a_more", "01a_less"):
            (deeper / f"{name}.ipynb").write_bytes((lessons_folder / "01_first.ipynb").read_bytes())

        def found(*names):
            return [path.stem for path in runner.find_lessons(names, lessons_folder)]

        assert found() == ["01_first", "04_second"]
        assert found("04a") == found("4a") == found("more") == ["04a_more"]
        assert found("04") == ["04_second"]
        assert found("deeper") == ["01a_less", "04a_more"]
        assert found("04a", "01") == ["01_first", "04a_more"]

    def test_no_lessons_at_all(self, tmp_path):
        with pytest.raises(LessonError, match=tmp_path.name):
            runner.find_lessons(folder=tmp_path)


class TestAssign:
    @staticmethod
    def declared(folder, *names):
        return {
            path: {name: entry.default for name, entry in read_parameters(path).items()}
            for path in runner.find_lessons(names, folder)
        }

    def test_a_lesson_takes_what_it_declares(self, lessons_folder):
        assigned = runner.assign(self.declared(lessons_folder), {"epochs": 3, "seed": 7})
        assert list(assigned.values()) == [{"epochs": 3}, {"epochs": 3, "seed": 7}]

    def test_words_of_a_command_line_are_read_by_declared_type(self, lessons_folder):
        words = {"epochs": "3", "flag": "true", "dataset": "100"}
        (values,) = runner.assign(self.declared(lessons_folder, "04"), words, True).values()
        assert values == {"epochs": 3, "flag": True, "dataset": "100"}

    def test_a_name_that_no_chosen_lesson_declares(self, lessons_folder):
        both = self.declared(lessons_folder)
        with pytest.raises(ParameterError, match=r"01_first.*04_second.* sed=1.*'seed'"):
            runner.assign(both, {"sed": 1})
        with pytest.raises(ParameterError, match=r"01_first.* seed=1"):
            runner.assign(self.declared(lessons_folder, "01"), {"seed": 1})

    def test_a_wrong_type(self, lessons_folder):
        with pytest.raises(ParameterError, match=r"01_first\.ipynb.*epochs='three'"):
            runner.assign(self.declared(lessons_folder), {"epochs": "three"}, from_text=True)


def test_nothing_runs_when_a_parameter_is_wrong(lessons_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_run_one", lambda *_: pytest.fail("a lesson was started"))
    out = tmp_path / "out"
    with pytest.raises(ParameterError, match=r"epoch=1.*'epochs'"):
        runner.run_lessons(out=out, parameters={"epoch": 1}, folder=lessons_folder)
    with pytest.raises(LessonError, match=r"timeout.* 0"):
        runner.run_lessons(out=out, timeout=0, folder=lessons_folder)
    assert not out.exists()


def test_an_output_folder_that_is_a_file_is_refused(lessons_folder, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(LessonError, match="out"):
        runner.run_lessons(out=tmp_path / "out", folder=lessons_folder)


def test_an_interrupt_leaves_nothing_half_written(lessons_folder, tmp_path, monkeypatch):
    def interrupted(_source, target, **_options):
        Path(target).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr("papermill.execute_notebook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.run_lessons(["01"], out=tmp_path / "out", folder=lessons_folder)
    assert list((tmp_path / "out").iterdir()) == []


def outcome(record: dict, error: str | None = None, name: str = "04_x") -> runner.LessonRun:
    file = f"out/{name}{'' if error is None else '.failed'}.ipynb"
    return runner.LessonRun(name, f"{name[:2]} · A title", file, 12.34, {}, record, error)


def test_summary_is_replaced_whole(tmp_path):
    path = tmp_path / "summary.json"
    write_json(path, {"lessons": [asdict(outcome({"hr@10": 0.1}))]})
    for bad in (object(), float("nan")):
        with pytest.raises((TypeError, ValueError)):
            write_json(path, {"lessons": [asdict(outcome({"hr@10": bad}))]})
    assert json.loads(path.read_text())["lessons"][0]["record"] == {"hr@10": 0.1}


def test_the_screen_shows_times_highlights_with_errors_and_where_to_look(tmp_path):
    record = {
        "test": {"hr@10": 0.14213, "hr@10_se": 0.01138, "other": 7},
        "gain": 0.5,
        "versions": {"torch": "2.13.0"},
        "highlights": ["gain", "test.hr@10"],
    }
    failed = outcome({}, "cell In [3] (x): KeyError: 'y'", "05_y")
    text = runner.format_summary([outcome(record), failed], tmp_path / "summary.json")
    lines = text.splitlines()
    assert lines[1] == "04 · A title  (12 s)  out/04_x.ipynb"
    assert lines[2] == "    gain 0.5 · test.hr@10 0.1421 ± 0.011"
    assert lines[3].endswith("out/05_y.failed.ipynb")
    assert "KeyError: 'y'" in lines[4]
    assert lines[-1].endswith("summary.json")


def test_five_lessons_fit_one_screen(tmp_path):
    numbers = {f"a_rather_long_name_of_a_number_{i}": 0.123456 for i in range(4)}
    runs = [outcome(numbers | {"highlights": list(numbers)}) for _ in range(5)]
    lines = runner.format_summary(runs, tmp_path / "summary.json").splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines[:-1])) <= 100


def test_a_lesson_without_highlights_shows_its_first_numbers(tmp_path):
    record = {"name": "x", **{f"n{i}": i for i in range(9)}}
    text = runner.format_summary([outcome(record)], tmp_path / "summary.json")
    assert "n0 0 · n1 1 · n2 2" in text
    assert "n3" not in text


class TestExecution:
    def test_other_parameters_reach_the_lesson(self, lessons_folder, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        (done,) = runner.run_lessons(
            ["01"], out="runs/lessons", parameters={"epochs": 5}, folder=lessons_folder
        )
        assert done.error is None
        values = {"total": 15, "dataset": "planted", "train_seconds": 0.25, "lesson_seconds": 1.0}
        assert done.record == values | {"highlights": ["total"]}
        assert done.notebook == "runs/lessons/01_first.ipynb"
        assert read_record(tmp_path / done.notebook) == done.record
        names = sorted(path.name for path in (tmp_path / "runs/lessons").iterdir())
        assert names == ["01_first.ipynb", "01_first.json", "summary.json"]
        (entry,) = json.loads((tmp_path / "runs/lessons/summary.json").read_text())["lessons"]
        assert entry["parameters"] == {"epochs": 5}
        assert entry["record"]["total"] == 15
        shown = capsys.readouterr().out
        assert "runs/lessons/01_first.ipynb" in shown
        assert "total 15" in shown
        record = json.loads((tmp_path / "runs/lessons/01_first.json").read_text())
        expected = {
            "format": 2,
            "task": "lesson",
            "dataset": "planted",
            "model": "01_first",
            "display_name": "A tiny lesson",
            "overrides": {"epochs": 5},
            "seed": None,
            "curve": [],
            "command": "ss4rec lessons 01 -p epochs 5",
        }
        assert {name: record[name] for name in expected} == expected
        (evaluation,) = record["evaluations"]
        assert evaluation["part"] == "lesson"
        assert evaluation["metrics"] == {
            "total": 15,
            "train_seconds": 0.25,
            "lesson_seconds": 1.0,
        }
        assert record["config"]["parameters"] == {"dataset": "planted", "epochs": 5, "flag": False}
        assert record["seconds"]["train"] == 0.25
        assert record["seconds"]["wall"] > 0
        assert record["machine"]["cores"] >= 1
        assert "python" in record["versions"]

    def test_a_failure_names_its_cell_and_the_next_lesson_runs(self, lessons_folder, tmp_path):
        path = lessons_folder / "01_first.ipynb"
        lesson = nbformat.read(path, as_version=4)
        lesson.cells[5].source = "# half\n1 / 0"
        out = tmp_path / "out"
        out.mkdir()
        (out / path.name).write_text("the last good one")
        nbformat.write(lesson, path)
        first, second = runner.run_lessons(out=out, folder=lessons_folder)
        assert first.error == "cell In [5] (1 / 0): ZeroDivisionError: division by zero"
        assert first.notebook.endswith("01_first.failed.ipynb")
        assert (out / path.name).read_text() == "the last good one"
        assert second.error is None
        assert second.record["total"] == 6
        names = sorted(path.name for path in out.iterdir())
        assert names == [
            "01_first.failed.ipynb",
            "01_first.ipynb",
            "04_second.ipynb",
            "04_second.json",
            "summary.json",
        ]

    def test_a_cell_over_its_time_limit(self, lessons_folder, tmp_path):
        path = lessons_folder / "01_first.ipynb"
        lesson = nbformat.read(path, as_version=4)
        lesson.cells[2].source = "pass"  # a busy machine needs its two seconds for the imports
        lesson.cells[5].source = "import time\ntime.sleep(60)"
        nbformat.write(lesson, path)
        (done,) = runner.run_lessons(["01"], out=tmp_path / "out", timeout=2, folder=lessons_folder)
        assert done.error.startswith("cell In [5] (import time): CellTimeoutError")
        assert done.seconds < 60

    def test_a_lesson_without_a_record_fails(self, lessons_folder, tmp_path):
        path = lessons_folder / "01_first.ipynb"
        lesson = nbformat.read(path, as_version=4)
        lesson.cells[-1].source = "1"
        nbformat.write(lesson, path)
        (done,) = runner.run_lessons(["01"], out=tmp_path / "out", folder=lessons_folder)
        assert "01_first" in done.error
        assert "0 records" in done.error


def test_data_are_fetched_before_a_kernel_starts(lessons_folder, tmp_path, monkeypatch):
    """Also those of a default value; a data set that cannot be had stops everything."""
    asked = []

    def fetch(name):
        asked.append(name)
        raise DataError(f"{name} is not here")

    monkeypatch.setattr("ss4rec_lib.data.fetch", fetch)
    path = lessons_folder / "01_first.ipynb"
    path.write_text(path.read_text().replace("planted", "ml-1m"))
    how = {"folder": lessons_folder, "out": tmp_path / "out"}
    with pytest.raises(DataError, match="ml-1m"):
        runner.run_lessons(["01", "04"], **how)
    assert asked == ["ml-1m"]
    assert not (tmp_path / "out").exists()
