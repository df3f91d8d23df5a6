"""The committed lessons, read but not run."""

from __future__ import annotations

import nbformat
import pytest

from ss4rec_lib.lessons import find_lessons, read_parameters, read_record
from tools import make_exercises
from tools.check_notebooks import NOT_YET, problems

FIRST_LESSONS = ("01_time_intervals", "04_train_ss4rec")


@pytest.mark.parametrize("name", FIRST_LESSONS)
def test_the_lesson_is_there(notebooks, name):
    """Without this every test below would pass on an empty folder."""
    assert (notebooks / f"{name}.ipynb").exists()


def test_the_lesson_keeps_every_rule(lesson):
    assert problems(lesson) == []


def test_the_lesson_can_be_repeated_with_another_seed(core):
    assert type(read_parameters(core)["seed"].default) is int


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


def test_every_converted_core_lesson_has_solutions(core, notebooks):
    tour = core.stem.startswith("00")
    assert tour or core.stem in NOT_YET or (notebooks / "solutions" / core.name).exists()


def test_core_lessons_lead_to_their_neighbours(core, notebooks):
    if core.stem not in NOT_YET:
        names = [path.name for path in find_lessons(folder=notebooks)]
        place = names.index(core.name)
        top = nbformat.read(core, as_version=4).cells[0].source
        neighbours = [names[i] for i in (place - 1, place + 1) if 0 <= i < len(names)]
        assert [name for name in neighbours if f"({name})" not in top] == []


def test_solutions_keep_every_rule(solutions):
    assert make_exercises.problems(solutions) == []


WRONG = ("AssertionError: ", "NameError: name ", "UnboundLocalError: cannot access local ")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_checks_pass_on_the_solution_and_say_what_is_wrong_otherwise(solutions, run_checks):
    """On a hole with the task, on a wrong answer with a sentence (or the name that is missing)."""
    done = run_checks(nbformat.read(solutions, as_version=4), solutions.parent)
    assert [check for check in done.checks if check.solution is not None] == []
    assert done.checks
    unclear = [c for c in done.checks if not (c.hole or "").startswith("NotImplementedError: ")]
    assert unclear == []
    unclear = [(c.first_line, e) for c in done.checks for e in c.wrong if not _clear(e)]
    assert unclear == []
    assert done.setup_seconds < 30, "10 s on a quiet machine"


def _clear(error: str | None) -> bool:
    """Return whether a wrong answer was met with a text."""
    return any((error or "").startswith(name) and error != name for name in WRONG)
