from __future__ import annotations

import json

import nbformat
import pytest

from ss4rec_lib.lessons import run
from ss4rec_lib.lessons.errors import (
    LessonError,
    ParameterTypeError,
    UnknownLessonError,
    UnknownParameterError,
)
from ss4rec_lib.lessons.record import read_record


class TestFindLessons:
    def test_all_in_order_without_other_notebooks(self, lessons_folder):
        found = run.find_lessons(folder=lessons_folder)
        assert [path.stem for path in found] == ["01_first", "04_second"]

    @pytest.mark.parametrize(
        "name", ["04", "4", "second", "04_second", "04_second.ipynb", "notebooks/04_second.ipynb"]
    )
    def test_by_number_name_or_file(self, lessons_folder, name):
        assert [path.stem for path in run.find_lessons([name], lessons_folder)] == ["04_second"]

    def test_order_and_repeats_of_the_names_do_not_matter(self, lessons_folder):
        found = run.find_lessons(["04", "01", "first"], lessons_folder)
        assert [path.stem for path in found] == ["01_first", "04_second"]

    def test_unknown_name_suggests_the_nearest(self, lessons_folder):
        with pytest.raises(UnknownLessonError, match="Did you mean 'second'") as caught:
            run.find_lessons(["secnd"], lessons_folder)
        assert "01_first, 04_second" in str(caught.value)

    def test_no_lessons_at_all(self, tmp_path):
        with pytest.raises(UnknownLessonError, match="no lesson"):
            run.find_lessons(folder=tmp_path)


class TestPlan:
    def test_a_lesson_takes_what_it_declares(self, lessons_folder):
        lessons = run.find_lessons(folder=lessons_folder)
        planned = run.plan(lessons, {"epochs": 3, "seed": 7})
        assert list(planned.values()) == [{"epochs": 3}, {"epochs": 3, "seed": 7}]

    def test_words_of_a_command_line_are_read_by_declared_type(self, lessons_folder):
        lessons = run.find_lessons(["04"], lessons_folder)
        words = {"epochs": "3", "flag": "true", "dataset": "100"}
        (values,) = run.plan(lessons, words, from_text=True).values()
        assert values == {"epochs": 3, "flag": True, "dataset": "100"}

    def test_a_name_that_no_chosen_lesson_declares(self, lessons_folder):
        with pytest.raises(UnknownParameterError, match="none of the chosen lessons"):
            run.plan(run.find_lessons(folder=lessons_folder), {"sed": 1})
        with pytest.raises(UnknownParameterError, match="01_first.ipynb does not declare it"):
            run.plan(run.find_lessons(["01"], lessons_folder), {"seed": 1})

    def test_a_wrong_type(self, lessons_folder):
        lessons = run.find_lessons(folder=lessons_folder)
        with pytest.raises(ParameterTypeError, match="'epochs' of 01_first.ipynb is 'three'"):
            run.plan(lessons, {"epochs": "three"}, from_text=True)


def test_nothing_runs_when_a_parameter_is_wrong(lessons_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_run_one", lambda *_: pytest.fail("a lesson was started"))
    out = tmp_path / "out"
    with pytest.raises(UnknownParameterError):
        run.run_lessons(out=out, parameters={"epoch": 1}, folder=lessons_folder)
    with pytest.raises(LessonError, match="timeout is 0"):
        run.run_lessons(out=out, timeout=0, folder=lessons_folder)
    assert not out.exists()


def test_an_output_folder_that_is_a_file_is_refused(lessons_folder, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(LessonError, match="cannot make the output folder"):
        run.run_lessons(out=tmp_path / "out", folder=lessons_folder)


def test_an_interrupt_leaves_nothing_half_written(lessons_folder, tmp_path, monkeypatch):
    def interrupted(_source, target, **_options):
        (tmp_path / "out").joinpath(target.rpartition("/")[2]).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr("papermill.execute_notebook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.run_lessons(["01"], out=tmp_path / "out", folder=lessons_folder)
    assert list((tmp_path / "out").iterdir()) == []


def test_summary_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    good = run.LessonRun("01_a", "01_a.ipynb", 1.0, {}, {"hr@10": 0.1}, None)
    run.write_summary(path, [good])
    bad = run.LessonRun("01_a", "01_a.ipynb", 1.0, {}, {"hr@10": object()}, None)
    with pytest.raises(TypeError):
        run.write_summary(path, [bad])
    assert json.loads(path.read_text())["lessons"][0]["record"] == {"hr@10": 0.1}


def test_table_shows_metrics_seconds_and_failures():
    runs = [
        run.LessonRun(
            "01_a", "out/01_a.ipynb", 12.34, {}, {"n": 3, "test": {"hr@10": 0.12345}}, None
        ),
        run.LessonRun(
            "04_b", "out/04_b.failed.ipynb", 1.0, {}, {}, "cell In [3] (x): KeyError: 'y'"
        ),
    ]
    text = run.format_summary(runs)
    assert "  out/01_a.ipynb\n  out/04_b.failed.ipynb  (failed)" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["01_a", "n", "3"] in lines
    assert ["test.hr@10", "0.1235"] in lines
    assert ["wall", "seconds", "12.3"] in lines
    assert text.endswith("04_b failed: cell In [3] (x): KeyError: 'y'")


@pytest.mark.xdist_group("notebooks")
class TestExecution:
    def test_other_parameters_reach_the_lesson(self, lessons_folder, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        (done,) = run.run_lessons(
            ["01"], out="runs/lessons", parameters={"epochs": 5}, folder=lessons_folder
        )
        assert done.error is None
        assert done.record == {"total": 15, "dataset": "planted", "train_seconds": 0.25}
        assert done.notebook == "runs/lessons/01_first.ipynb"
        assert read_record(tmp_path / done.notebook) == done.record
        names = sorted(path.name for path in (tmp_path / "runs/lessons").iterdir())
        assert names == ["01_first.ipynb", "summary.json"]
        (entry,) = json.loads((tmp_path / "runs/lessons/summary.json").read_text())["lessons"]
        assert entry["parameters"] == {"epochs": 5} and entry["record"]["total"] == 15
        shown = capsys.readouterr().out
        assert "runs/lessons/01_first.ipynb" in shown and "15" in shown

    def test_a_failure_names_its_cell_and_the_next_lesson_runs(self, lessons_folder, tmp_path):
        path = lessons_folder / "01_first.ipynb"
        lesson = nbformat.read(path, as_version=4)
        lesson.cells[5].source = "# half\n1 / 0"
        out = tmp_path / "out"
        out.mkdir()
        (out / path.name).write_text("the last good one")
        nbformat.write(lesson, path)
        first, second = run.run_lessons(out=out, folder=lessons_folder)
        assert first.error == "cell In [5] (1 / 0): ZeroDivisionError: division by zero"
        assert first.notebook.endswith("01_first.failed.ipynb")
        assert (out / path.name).read_text() == "the last good one"
        assert second.error is None and second.record["total"] == 6
        names = sorted(path.name for path in out.iterdir())
        assert names == [
            "01_first.failed.ipynb",
            "01_first.ipynb",
            "04_second.ipynb",
            "summary.json",
        ]

    def test_a_cell_over_its_time_limit(self, lessons_folder, tmp_path):
        path = lessons_folder / "01_first.ipynb"
        lesson = nbformat.read(path, as_version=4)
        lesson.cells[5].source = "import time\ntime.sleep(60)"
        nbformat.write(lesson, path)
        (done,) = run.run_lessons(["01"], out=tmp_path / "out", timeout=2, folder=lessons_folder)
        assert done.error.startswith("cell In [5] (import time): CellTimeoutError")
        assert done.seconds < 60

    def test_a_lesson_without_a_record_fails(self, lessons_folder, tmp_path):
        path = lessons_folder / "01_first.ipynb"
        lesson = nbformat.read(path, as_version=4)
        lesson.cells[-1].source = "1"
        nbformat.write(lesson, path)
        (done,) = run.run_lessons(["01"], out=tmp_path / "out", folder=lessons_folder)
        assert "found 0 records" in done.error


def test_the_table_shows_errors_beside_figures_and_leaves_context_to_the_json():
    record = {
        "test": {"hr@10": 0.14213, "hr@10_se": 0.01138},
        "gain": 0.5,
        "gain_se": 0.25,
        "lonely_se": 3.0,
        "versions": {"torch": "2.13.0"},
    }
    text = run.format_summary([run.LessonRun("04_x", "runs/04_x.ipynb", 2.0, {}, record, None)])
    for line in ("test.hr@10", "gain", "lonely_se"):
        assert line in text
    assert "0.1421 ± 0.011" in text and "0.5 ± 0.25" in text
    assert "hr@10_se" not in text and "gain_se" not in text and "torch" not in text
