"""The machinery that runs the checks of exercises, on a tiny lesson."""

from __future__ import annotations

import nbformat
import pytest

from tools.make_exercises import ExerciseError


@pytest.mark.xdist_group("notebooks")
class TestRunChecks:
    def test_pass_when_filled_and_fail_when_not(self, tiny_lesson, tmp_path, run_checks):
        (filled,) = run_checks(tiny_lesson(), filled=True, folder=tmp_path)
        assert (filled.number, filled.first_line) == (1, "assert total(numbers) == 6")
        assert filled.error is None
        (unfilled,) = run_checks(tiny_lesson(), filled=False, folder=tmp_path)
        assert unfilled.error == "NotImplementedError: add the values up"

    def test_a_check_that_needs_no_answer_is_seen(self, tiny_lesson, tmp_path, run_checks):
        lesson = tiny_lesson()
        lesson.cells[8].source = "assert True"
        (unfilled,) = run_checks(lesson, filled=False, folder=tmp_path)
        assert unfilled.error is None

    def test_each_hole_is_met_alone(self, tiny_lesson, tmp_path, run_checks):
        """The second check must not fail merely because the first solution is missing."""
        lesson = tiny_lesson()
        second = nbformat.v4.new_code_cell(
            "# BEGIN SOLUTION\nhalf = total(numbers) / 2\n# END SOLUTION",
            metadata={"tags": ["solution"]},
        )
        check = nbformat.v4.new_code_cell("assert total([]) == 0", metadata={"tags": ["check"]})
        lesson.cells[9:9] = [second, check]
        outcomes = run_checks(lesson, filled=False, folder=tmp_path)
        assert outcomes[0].error is not None
        assert outcomes[1].error is None, "the first solution was not filled in again"

    def test_a_failing_solution_or_setup_is_an_error(self, tiny_lesson, tmp_path, run_checks):
        lesson = tiny_lesson()
        lesson.cells[3].source = "numbers = undefined"
        with pytest.raises(ExerciseError, match="setup cell of an exercise fails: NameError"):
            run_checks(lesson, filled=True, folder=tmp_path)
