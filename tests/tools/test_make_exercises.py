from __future__ import annotations

import nbformat
import pytest

from tools import make_exercises as exercises
from tools.make_exercises import ExerciseError

SOLUTION = '''\
def total(values):
    """Adds them up."""
    # BEGIN SOLUTION: add "them" up
    result = sum(values)
    return result
    # END SOLUTION

# a remark that stays'''


def test_blank_keeps_everything_around_the_hole():
    assert exercises.blank(SOLUTION) == (
        "def total(values):\n"
        '    """Adds them up."""\n'
        '    # YOUR CODE HERE: add "them" up\n'
        '    raise NotImplementedError("add \\"them\\" up")\n'
        "\n"
        "# a remark that stays"
    )


def test_the_hole_is_python_that_raises_its_prompt():
    names: dict = {}
    exec(exercises.blank(SOLUTION), names)
    with pytest.raises(NotImplementedError, match='add "them" up'):
        names["total"]([1])


def test_two_holes_and_no_prompt():
    source = (
        "# BEGIN SOLUTION\na = 1\n# END SOLUTION\nb = 2\n# BEGIN SOLUTION x\nc = 3\n# END SOLUTION"
    )
    assert exercises.blank(source) == (
        '# YOUR CODE HERE: write this part\nraise NotImplementedError("write this part")\n'
        'b = 2\n# YOUR CODE HERE: x\nraise NotImplementedError("x")'
    )


def test_nothing_written_in_place_of_the_hole():
    blank = exercises.blank(SOLUTION, nothing=True)
    assert '# YOUR CODE HERE: add "them" up\n    pass\n' in blank


@pytest.mark.parametrize(
    "source",
    [
        "a = 1",
        "# BEGIN SOLUTION\na = 1",
        "a = 1\n# END SOLUTION",
        "# BEGIN SOLUTION\n# BEGIN SOLUTION\n# END SOLUTION",
    ],
)
def test_marks_must_pair_up(source):
    with pytest.raises(ExerciseError, match="SOLUTION"):
        exercises.blank(source)


def test_an_exercise_has_holes_and_neither_outputs_nor_answers(tiny_solutions):
    solutions = tiny_solutions()
    solutions.cells[3].metadata["wrong"] = "def total_1(values): return 7"
    before = nbformat.writes(solutions)
    exercise = exercises.to_exercise(solutions, "01_tiny.ipynb")
    nbformat.validate(exercise)
    assert nbformat.writes(solutions) == before, "the solutions themselves were changed"
    text = nbformat.writes(exercise)
    assert exercise.cells[0].source.startswith("# Exercises"), "the title comes first"
    assert "[01_tiny.ipynb](../solutions/01_tiny.ipynb)" in exercise.cells[1].source
    assert "[readme](../../README.md) [next](02_x.ipynb)" in text, "the same depth"
    assert "result += value" not in text and "return 7" not in text
    assert text.count("stop_in_view()") == 1
    assert "The answer is six" not in text
    assert 'raise NotImplementedError(\\"add the values up\\")' in text
    code = [cell for cell in exercise.cells if cell.cell_type == "code"]
    assert len(code) == 11
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert len({cell.id for cell in exercise.cells}) == len(exercise.cells)


def test_a_check_must_follow_its_solution(tiny_solutions):
    solutions = tiny_solutions()
    found = [check.source for _, check in exercises.pairs(solutions)]
    assert found[0] == 'assert total_1(numbers) == 6, "1 + 2 + 3 is 6"'
    assert len(found) == 5
    solutions.cells[4].metadata.tags = []
    with pytest.raises(ExerciseError, match="must be tagged 'check'"):
        exercises.pairs(solutions)
    solutions.cells[4].metadata.tags = ["check"]
    solutions.cells[3].metadata.tags = []
    with pytest.raises(ExerciseError, match="must directly follow"):
        exercises.pairs(solutions)


def test_out_of_date_writes_verifies_and_removes(lessons_folder):
    target = lessons_folder / "exercises"
    names = ["01_first.ipynb", "04_second.ipynb"]
    assert exercises.out_of_date(lessons_folder) == names
    assert not target.exists(), "verifying must not write"
    assert exercises.out_of_date(lessons_folder, write=True) == names
    assert exercises.out_of_date(lessons_folder) == []
    first = target / names[0]
    first.write_text(first.read_text().replace("YOUR CODE HERE", "edited by hand"))
    (target / "02_gone.ipynb").write_text("{}")
    assert exercises.out_of_date(lessons_folder, write=True) == [names[0], "02_gone.ipynb"]
    assert sorted(path.name for path in target.iterdir()) == names
    assert "edited by hand" not in first.read_text()


def test_generating_twice_gives_the_same_bytes(lessons_folder):
    path = lessons_folder / "solutions" / "01_first.ipynb"
    assert exercises.exercise_text(path) == exercises.exercise_text(path)


class TestProblems:
    @staticmethod
    def found(notebook, tmp_path) -> list[str]:
        nbformat.write(notebook, tmp_path / "01_a.ipynb")
        return exercises.problems(tmp_path / "01_a.ipynb")

    def test_a_clean_notebook(self, tiny_solutions, tmp_path):
        assert self.found(tiny_solutions(), tmp_path) == []

    @pytest.mark.parametrize(
        ("place", "change", "problem"),
        [
            (1, {"metadata": {}}, "0 code cells are tagged 'exercise-setup'"),
            (1, {"execution_count": 1}, "without outputs and execution counts"),
            (2, {"source": "### Exercise 1: count <details>"}, "'### Exercise N · level"),
            (2, {"source": "### Exercise 1 · hard · 5 min: a <details>"}, "are 1 hard, 2 standard"),
            (
                5,
                {"source": "### Exercise 2 · standard · 5 min: a"},
                "exercise 2 has no folded hint",
            ),
            (4, {"source": "assert one"}, "an assert without a message: assert one"),
            (4, {"metadata": {}}, "must be tagged 'check'"),
        ],
    )
    def test_every_rule_can_be_broken(self, tiny_solutions, tmp_path, place, change, problem):
        notebook = tiny_solutions()
        notebook.cells[place].update(change)
        found = self.found(notebook, tmp_path)
        assert any(problem in sentence for sentence in found), found

    def test_six_exercises_are_one_too_many(self, tiny_solutions, tmp_path):
        notebook = tiny_solutions()
        notebook.cells += tiny_solutions().cells[2:5]
        assert any("5 project, 1 warm-up, expected" in s for s in self.found(notebook, tmp_path))


def test_command_line(lessons_folder, monkeypatch, capsys):
    monkeypatch.setattr(exercises, "notebooks_folder", lambda: lessons_folder)
    assert exercises.main(["--check"]) == 1
    assert "01_first.ipynb: out of date" in capsys.readouterr().out
    assert exercises.main([]) == 0
    assert exercises.main(["--check"]) == 0
    assert "up to date" in capsys.readouterr().out
    path = lessons_folder / "solutions" / "01_first.ipynb"
    path.write_text(path.read_text().replace("# END SOLUTION", "# END"))
    assert exercises.main(["--check"]) == 2
    assert "01_first.ipynb" in capsys.readouterr().err
