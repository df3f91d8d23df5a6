"""Lessons as jobs: other parameters reach them, wrong ones are refused, by us and inside them."""

from __future__ import annotations

import nbformat
import papermill
import pytest
from click.testing import CliRunner
from papermill.cli import papermill as papermill_command
from papermill.exceptions import PapermillExecutionError

from ss4rec_lib.lessons import ParameterError, read_parameters, read_record, run_lessons
from tests.other_parameters import other_parameters, prepared
from tools.make_exercises import tags


@pytest.fixture
def declared(core):
    return read_parameters(core)


@pytest.fixture
def misspelt(declared) -> str:
    """The lesson's first parameter with a letter too many."""
    return f"{next(iter(declared))}x"


@pytest.fixture
def number(declared) -> str:
    """A parameter of the lesson that is a number."""
    return next(
        name for name, parameter in declared.items() if type(parameter.default) in (int, float)
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_with_other_parameters(core, tmp_path, executed_already, record_property):
    path = executed_already(core, prepared(core))
    record_property("replayed", path is not None)
    if path is None:
        values, path = other_parameters(core), tmp_path / core.name
        (done,) = run_lessons([core.stem], out=tmp_path, parameters=values, timeout=600)
        assert done.error is None, done.error
    executed = nbformat.read(path, as_version=4)
    (injected,) = (cell for cell in executed.cells if "injected-parameters" in tags(cell))
    assert "seed = 1" in injected.source
    # Same metrics under the same names, other numbers: the parameters were not merely accepted.
    committed, record = read_record(core), read_record(executed)
    assert set(record) == set(committed)
    assert record != committed


def test_papermill_shows_the_type_of_every_parameter(lesson):
    shown = CliRunner().invoke(papermill_command, ["--help-notebook", str(lesson)])
    assert shown.exit_code == 0 and "Unknown type" not in shown.output
    declared = read_parameters(lesson)
    lines = [line.strip() for line in shown.output.splitlines()]
    for name, parameter in declared.items():
        assert [line for line in lines if line.startswith(f"{name}: {parameter.type} (default")]


def test_unknown_parameter_is_refused_before_a_kernel_starts(core, misspelt, tmp_path):
    with pytest.raises(ParameterError, match=f"{misspelt}=1.*'{misspelt[:-1]}'"):
        run_lessons([core.stem], out=tmp_path / "out", parameters={misspelt: 1})
    assert not (tmp_path / "out").exists()


def test_wrong_type_is_refused_before_a_kernel_starts(core, number, tmp_path):
    with pytest.raises(ParameterError, match=f"{number}='one'"):
        run_lessons([core.stem], out=tmp_path / "out", parameters={number: "one"})
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_lesson_itself_refuses_what_papermill_lets_pass(core, misspelt, number, tmp_path):
    with pytest.raises(PapermillExecutionError) as caught:
        papermill.execute_notebook(
            str(core),
            str(tmp_path / core.name),
            {misspelt: 1, number: "1"},
            cwd=str(core.parent),
            progress_bar=False,
        )
    assert caught.value.ename == "ParameterError"
    assert f"{misspelt}=1" in caught.value.evalue
    assert f"{number}='1'" in caught.value.evalue


class TestOnATinyLesson:
    @staticmethod
    def execute(folder, values):
        source, target = folder / "01_first.ipynb", folder / "executed.ipynb"
        # Braces of the folder's name would be filled in by papermill.
        names = [str(path).replace("{", "{{").replace("}", "}}") for path in (source, target)]
        return papermill.execute_notebook(*names, values, progress_bar=False)

    def test_bare_papermill_with_good_values(self, lessons_folder):
        done = self.execute(lessons_folder, {"epochs": 4, "flag": True})
        assert read_record(done)["total"] == 12

    def test_bare_papermill_without_values(self, lessons_folder):
        assert read_record(self.execute(lessons_folder, {}))["total"] == 6

    @pytest.mark.parametrize(
        ("values", "shown", "hint"),
        [
            ({"epoch": 4}, "epoch=4", "'epochs'"),
            ({"flag": "true"}, "flag='true'", '-y "flag: true"'),
            ({"epochs": 2.5}, "epochs=2.5", "integer"),
        ],
    )
    def test_bare_papermill_with_bad_values(self, lessons_folder, values, shown, hint):
        with pytest.raises(PapermillExecutionError) as caught:
            self.execute(lessons_folder, values)
        assert caught.value.ename == "ParameterError"
        assert shown in caught.value.evalue
        assert hint in caught.value.evalue
        assert caught.value.exec_count == 3, "the guard must stop the lesson before its first step"
