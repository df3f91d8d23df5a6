"""The machinery that runs the checks of exercises, on a tiny lesson."""

from __future__ import annotations

import nbformat
import pytest

from tools.make_exercises import ExerciseError


@pytest.fixture
def one(tiny_solutions):
    """The tiny solutions' first exercise: setup, solution and check are cells 1, 3 and 4."""
    notebook = tiny_solutions()
    del notebook.cells[5:]
    return notebook


class TestRunChecks:
    def test_pass_when_filled_and_fail_when_not(self, one, tmp_path, run_checks):
        one.cells[3].metadata["wrong"] = "def total_1(values):\n    return 7"
        done = run_checks(one, tmp_path)
        (check,) = done.checks
        assert check.first_line == 'assert total_1(numbers) == 6, "1 + 2 + 3 is 6"'
        assert check.solution is None
        assert check.hole == "NotImplementedError: add the values up"
        wrong, nothing = check.wrong
        assert wrong == "AssertionError: 1 + 2 + 3 is 6"
        assert nothing.startswith("NameError: name 'result' is not defined")
        assert 0 < done.setup_seconds < 30

    def test_each_hole_is_met_alone(self, one, tmp_path, run_checks):
        """The second check must not fail merely because the first solution is missing."""
        one.cells += [
            nbformat.v4.new_code_cell(source, metadata={"tags": [tag]})
            for source, tag in (
                (
                    "# BEGIN SOLUTION: halve\nhalf = total_1(numbers) / 2\n# END SOLUTION",
                    "solution",
                ),
                ("assert half", "check"),
            )
        ]
        one.cells[4].source = "pass"
        first, second = run_checks(one, tmp_path).checks
        assert first.hole is None and first.wrong == [None], "a check that needs no answer"
        assert second.hole == "NotImplementedError: halve", "its own cell stops 'Run all'"
        assert second.solution is None and second.wrong == []

    def test_a_failing_solution_or_setup_is_an_error(self, one, tmp_path, run_checks):
        one.cells[1].source = "numbers = undefined"
        with pytest.raises(ExerciseError, match="setup cell of an exercise fails: NameError"):
            run_checks(one, tmp_path)
