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


def test_an_exercise_has_holes_and_neither_outputs_nor_answers(tiny_lesson):
    lesson = tiny_lesson()
    lesson.cells[0].source += "\n\n[readme](../README.md) [next](02_x.ipynb)"
    lesson.cells[6].metadata["wrong"] = "def total(values): return 7"
    before = nbformat.writes(lesson)
    exercise = exercises.to_exercise(lesson, "../01_tiny.ipynb")
    nbformat.validate(exercise)
    assert nbformat.writes(lesson) == before, "the lesson itself was changed"
    text = nbformat.writes(exercise)
    assert exercise.cells[0].source.startswith("# A tiny lesson"), "the title comes first"
    assert "[01_tiny.ipynb](../01_tiny.ipynb)" in exercise.cells[1].source
    assert "[readme](../../README.md) [next](02_x.ipynb)" in text
    assert "result += value" not in text and "return 7" not in text
    assert "The answer is six" not in text
    assert 'raise NotImplementedError(\\"add the values up\\")' in text
    code = [cell for cell in exercise.cells if cell.cell_type == "code"]
    assert len(code) == 8
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert len({cell.id for cell in exercise.cells}) == len(exercise.cells)
    same_depth = exercises.to_exercise(lesson, "../solutions/01_tiny.ipynb")
    assert "[readme](../README.md)" in same_depth.cells[0].source


def test_a_check_must_follow_its_solution(tiny_lesson):
    lesson = tiny_lesson()
    assert [check.source for _, check in exercises.pairs(lesson)] == [
        'assert total(numbers) == 6, "1 + 2 + 3 is 6"'
    ]
    code = [cell for cell in lesson.cells if cell.cell_type == "code"]
    code[6].metadata.tags = []
    with pytest.raises(ExerciseError, match="must be tagged 'check'"):
        exercises.pairs(lesson)
    code[6].metadata.tags = ["check"]
    code[5].metadata.tags = []
    with pytest.raises(ExerciseError, match="must directly follow"):
        exercises.pairs(lesson)


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
    path = lessons_folder / "01_first.ipynb"
    assert exercises.exercise_text(path) == exercises.exercise_text(path)


def test_solutions_are_the_source_where_they_exist(lessons_folder, solutions_notebook):
    names = ["01_first.ipynb", "04_second.ipynb"]
    exercises.out_of_date(lessons_folder, write=True)
    (lessons_folder / "solutions").mkdir()
    nbformat.write(solutions_notebook(), lessons_folder / "solutions" / names[0])
    assert exercises.out_of_date(lessons_folder, write=True) == names[:1]
    text = (lessons_folder / "exercises" / names[0]).read_text()
    assert "Exercise 5" in text and "../solutions/01_first.ipynb" in text
    assert "A tiny lesson" not in text


def test_a_lesson_without_solutions_has_no_exercise(lessons_folder, tiny_lesson):
    plain = tiny_lesson()
    for cell in plain.cells:
        cell.metadata.pop("tags", None)
    nbformat.write(plain, lessons_folder / "02_plain.ipynb")
    exercises.out_of_date(lessons_folder, write=True)
    assert not (lessons_folder / "exercises/02_plain.ipynb").exists()


@pytest.fixture
def solutions_notebook():
    """Return a function that builds a notebook of five exercises that keeps every rule."""

    def cell(source: str, tag: str):
        return nbformat.v4.new_code_cell(source, metadata={"tags": [tag]})

    def build():
        cells = [nbformat.v4.new_markdown_cell("# Exercises of lesson 01")]
        cells.append(cell("one = 1", "exercise-setup"))
        for number, level in enumerate(exercises.LEVELS, start=1):
            hint = "<details><summary>Hint</summary>Count.</details>"
            task = f"### Exercise {number} · {level} · 5 min: count\n\n{hint}"
            solution = f"# BEGIN SOLUTION: count\nn = {number}\n# END SOLUTION"
            cells += [nbformat.v4.new_markdown_cell(task), cell(solution, "solution")]
            cells.append(cell(f'assert n == one * {number}, "count again"', "check"))
        return nbformat.v4.new_notebook(cells=cells)

    return build


class TestProblems:
    @staticmethod
    def found(notebook, tmp_path) -> list[str]:
        nbformat.write(notebook, tmp_path / "01_a.ipynb")
        return exercises.problems(tmp_path / "01_a.ipynb")

    def test_a_clean_notebook(self, solutions_notebook, tmp_path):
        assert self.found(solutions_notebook(), tmp_path) == []

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
            (4, {"source": "assert n"}, "an assert without a message: assert n"),
            (4, {"metadata": {}}, "must be tagged 'check'"),
        ],
    )
    def test_every_rule_can_be_broken(self, solutions_notebook, tmp_path, place, change, problem):
        notebook = solutions_notebook()
        notebook.cells[place].update(change)
        found = self.found(notebook, tmp_path)
        assert any(problem in sentence for sentence in found), found

    def test_six_exercises_are_one_too_many(self, solutions_notebook, tmp_path):
        notebook = solutions_notebook()
        notebook.cells += solutions_notebook().cells[2:5]
        assert any("5 project, 1 warm-up, expected" in s for s in self.found(notebook, tmp_path))


def test_command_line(lessons_folder, monkeypatch, capsys):
    monkeypatch.setattr(exercises, "notebooks_folder", lambda: lessons_folder)
    assert exercises.main(["--check"]) == 1
    assert "01_first.ipynb: out of date" in capsys.readouterr().out
    assert exercises.main([]) == 0
    assert exercises.main(["--check"]) == 0
    assert "up to date" in capsys.readouterr().out
    path = lessons_folder / "01_first.ipynb"
    path.write_text(path.read_text().replace("# END SOLUTION", "# END"))
    assert exercises.main(["--check"]) == 2
    assert "01_first.ipynb" in capsys.readouterr().err
