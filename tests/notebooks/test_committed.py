"""The committed lessons, read but not run."""

from __future__ import annotations

import nbformat
import pytest

from ss4rec_lib.lessons import read_parameters, read_record
from tools import make_exercises
from tools.check_notebooks import problems

FIRST_LESSONS = ("01_time_intervals", "04_train_ss4rec")


@pytest.mark.parametrize("name", FIRST_LESSONS)
def test_the_lesson_is_there(notebooks, name):
    """Without this every test below would pass on an empty folder."""
    assert (notebooks / f"{name}.ipynb").exists()


def test_the_lesson_keeps_every_rule(lesson):
    assert problems(lesson) == []


def test_the_lesson_can_be_repeated_with_another_seed(lesson):
    assert type(read_parameters(lesson)["seed"].default) is int


@pytest.mark.parametrize("name", FIRST_LESSONS)
def test_the_lesson_can_be_run_on_other_data(notebooks, name):
    declared = read_parameters(notebooks / f"{name}.ipynb")
    assert declared["dataset"].default == "ml-100k"


def test_the_lesson_says_which_numbers_matter(lesson):
    assert 3 <= len(read_record(lesson)["highlights"]) <= 4


def test_training_can_be_shortened(notebooks):
    assert type(read_parameters(notebooks / "04_train_ss4rec.ipynb")["epochs"].default) is int


def test_exercises_are_up_to_date(notebooks):
    assert make_exercises.out_of_date(notebooks) == []
    assert list((notebooks / "exercises").glob("*.ipynb")), "no lesson has an exercise"


@pytest.mark.slow
def test_checks_pass_on_the_solution_and_fail_on_the_hole(lesson, run_checks):
    notebook = nbformat.read(lesson, as_version=4)
    filled = run_checks(notebook, filled=True, folder=lesson.parent)
    assert [check for check in filled if check.error is not None] == []
    unfilled = run_checks(notebook, filled=False, folder=lesson.parent)
    assert [check for check in unfilled if check.error is None] == []
    assert len(unfilled) == len(filled) > 0
