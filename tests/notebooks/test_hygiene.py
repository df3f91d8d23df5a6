"""The committed lessons, read but not run."""

from __future__ import annotations

import nbformat
import pytest

from ss4rec_lib.lessons import exercises
from ss4rec_lib.lessons.hygiene import problems
from ss4rec_lib.lessons.parameters import read_parameters

FIRST_LESSONS = ("01_time_intervals", "04_train_ss4rec")


@pytest.mark.parametrize("name", FIRST_LESSONS)
def test_the_lesson_is_there(notebooks, name):
    """Without this every test below would pass on an empty folder."""
    assert (notebooks / f"{name}.ipynb").exists()


def test_the_lesson_keeps_every_rule(lesson):
    assert problems(lesson) == []


def test_the_lesson_can_be_repeated_with_another_seed(lesson):
    assert read_parameters(lesson)["seed"].type is int


@pytest.mark.parametrize("name", FIRST_LESSONS)
def test_the_lesson_can_be_run_on_other_data(notebooks, name):
    declared = read_parameters(notebooks / f"{name}.ipynb")
    assert declared["dataset"].default == "ml-100k"


def test_training_can_be_shortened(notebooks):
    assert read_parameters(notebooks / "04_train_ss4rec.ipynb")["epochs"].type is int


def test_exercises_are_up_to_date(notebooks):
    assert exercises.out_of_date(notebooks) == []
    assert list((notebooks / "exercises").glob("*.ipynb")), "no lesson has an exercise"


@pytest.mark.slow
def test_checks_pass_on_the_solution_and_fail_on_the_hole(lesson):
    notebook = nbformat.read(lesson, as_version=4)
    if not exercises.has_exercises(notebook):
        pytest.skip("this lesson has no solution cells")
    filled = exercises.run_checks(notebook, filled=True, folder=lesson.parent)
    assert [check for check in filled if check.error is not None] == []
    unfilled = exercises.run_checks(notebook, filled=False, folder=lesson.parent)
    assert [check for check in unfilled if check.error is None] == []
    assert len(unfilled) == len(filled) > 0
