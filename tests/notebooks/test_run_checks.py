"""The machinery that runs the checks of exercises, on a tiny lesson."""

from __future__ import annotations

import nbformat
import pytest

from tools.make_exercises import ExerciseError


@pytest.mark.xdist_group("notebooks")
class TestRunChecks:
    def test_pass_when_filled_and_fail_when_not(self, tiny_lesson, tmp_path, run_checks):
        lesson = tiny_lesson()
        lesson.cells[6].metadata["wrong"] = "def total(values):\n    return 7"
        done = run_checks(lesson, tmp_path)
        (check,) = done.checks
        assert check.first_line == 'assert total(numbers) == 6, "1 + 2 + 3 is 6"'
        assert check.solution is None
        assert check.hole == "NotImplementedError: add the values up"
        wrong, nothing = check.wrong
        assert wrong == "AssertionError: 1 + 2 + 3 is 6"
        assert nothing.startswith("NameError: name 'result' is not defined")
        assert 0 < done.setup_seconds < 30

    def test_a_check_that_needs_no_answer_is_seen(self, tiny_lesson, tmp_path, run_checks):
        lesson = tiny_lesson()
        lesson.cells[8].source = "assert True"
        (check,) = run_checks(lesson, tmp_path).checks
        assert check.hole is None and check.wrong == [None]

    def test_each_hole_is_met_alone(self, tiny_lesson, tmp_path, run_checks):
        """The second check must not fail merely because the first solution is missing."""
        lesson = tiny_lesson()
        second = nbformat.v4.new_code_cell(
            "# BEGIN SOLUTION: halve\nhalf = total(numbers) / 2\n# END SOLUTION",
            metadata={"tags": ["solution"]},
        )
        check = nbformat.v4.new_code_cell("assert total([]) == 0", metadata={"tags": ["check"]})
        lesson.cells[9:9] = [second, check]
        first, second = run_checks(lesson, tmp_path).checks
        assert first.hole.startswith("NotImplementedError")
        assert second.hole == "NotImplementedError: halve", "its own cell stops 'Run all'"
        assert second.solution is None and second.wrong == []

    def test_a_failing_solution_or_setup_is_an_error(self, tiny_lesson, tmp_path, run_checks):
        lesson = tiny_lesson()
        lesson.cells[3].source = "numbers = undefined"
        with pytest.raises(ExerciseError, match="setup cell of an exercise fails: NameError"):
            run_checks(lesson, tmp_path)
