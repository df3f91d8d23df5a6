"""Exercise notebooks, generated from the lessons.

The lesson holds the solution; the exercise is the same notebook with holes. Tags of its cells:

=================  ===============================================================================
`solution`         Code; what stands between `# BEGIN SOLUTION: what to write` and `# END SOLUTION`
                   becomes `raise NotImplementedError("what to write")`. The rest, such as the `def`
                   line and its docstring, stays.
`check`            Code right behind a solution cell; passes on the solution, fails on the hole.
`exercise-setup`   Code that the solutions and checks need (imports, data).
`solution-text`    Markdown with an answer; left out of the exercise.
=================  ===============================================================================

Regenerate with `python -m ss4rec_lib.lessons.exercises`; `--check` only says what is out of date.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ss4rec_lib.lessons.errors import ExerciseError, LessonError
from ss4rec_lib.lessons.run import find_lessons, notebooks_folder
from ss4rec_lib.lessons.solutions import Check, blank, pairs, run_checks, tags

__all__ = [
    "Check",
    "blank",
    "has_exercises",
    "main",
    "out_of_date",
    "pairs",
    "run_checks",
    "to_exercise",
]


def to_exercise(lesson: NotebookNode, name: str) -> NotebookNode:
    """Turns a lesson into its exercise.

    Args:
        lesson: The lesson; not changed.
        name: Its file name, for the note on top.

    Returns:
        The exercise notebook, without outputs.
    """
    note = nbformat.v4.new_markdown_cell(
        f"> **Exercises.** This file is generated from `../{name}`, where the solutions are. "
        "Fill in the cells that raise `NotImplementedError`; the cell below each of them checks "
        "your answer. Do not edit it to change the lesson: it is written anew by "
        "`python -m ss4rec_lib.lessons.exercises`.",
        id="exercise-note",
    )
    cells = [note]
    for original in lesson.cells:
        if "solution-text" in tags(original):
            continue
        cell = NotebookNode(cell_type=original.cell_type, id=original.id, source=original.source)
        cell.metadata = NotebookNode(tags=tags(original)) if tags(original) else NotebookNode()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if "solution" in tags(original):
                cell.source = blank(cell.source)
        else:
            # One folder deeper: what a lesson calls ../README.md is ../../README.md from here.
            cell.source = cell.source.replace("](../", "](../../")
        cells.append(cell)
    metadata = {key: lesson.metadata[key] for key in ("kernelspec",) if key in lesson.metadata}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def has_exercises(lesson: NotebookNode) -> bool:
    """Says whether a lesson has a solution cell."""
    return any("solution" in tags(cell) for cell in lesson.cells)


def exercise_text(path: Path) -> str | None:
    """Generates the exercise of a lesson.

    Args:
        path: The lesson's notebook.

    Returns:
        Text of the exercise's file, or None for a lesson without solution cells.

    Raises:
        ExerciseError: If its cells cannot be turned into an exercise; names the lesson.
    """
    lesson = nbformat.read(path, as_version=4)
    if not has_exercises(lesson):
        return None
    try:
        pairs(lesson)
        return nbformat.writes(to_exercise(lesson, path.name)) + "\n"
    except ExerciseError as error:
        raise ExerciseError(f"{path.name}: {error}") from error


def out_of_date(folder: Path | None = None, write: bool = False) -> list[str]:
    """Compares the exercises with the lessons, and writes them if asked.

    Args:
        folder: Where the lessons are; exercises lie in its subfolder `exercises`.
        write: Whether to bring the files up to date.

    Returns:
        Names of exercise files that were missing, changed, or without a lesson.
    """
    folder = notebooks_folder() if folder is None else Path(folder)
    target = folder / "exercises"
    expected = {
        path.name: text
        for path in find_lessons(folder=folder)
        if (text := exercise_text(path)) is not None
    }
    present = {path.name: path.read_text(encoding="utf-8") for path in target.glob("*.ipynb")}
    stale = sorted(
        name for name in expected.keys() | present.keys() if expected.get(name) != present.get(name)
    )
    for name in stale if write else ():
        target.mkdir(exist_ok=True)
        if name in expected:
            (target / name).write_text(expected[name], encoding="utf-8")
        else:
            (target / name).unlink()
    return stale


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerates the exercises, or verifies them with `--check`.

    Args:
        arguments: Command line without the program's name; by default that of the process.

    Returns:
        Exit code: 0 when all is up to date (or was made so), 1 when `--check` found differences,
        2 when a lesson cannot be turned into an exercise.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ss4rec_lib.lessons.exercises",
        description="Generate the exercise notebooks from the lessons.",
    )
    parser.add_argument("--check", action="store_true", help="only say what is out of date")
    options = parser.parse_args(arguments)
    try:
        stale = out_of_date(write=not options.check)
    except LessonError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name in stale:
        print(f"notebooks/exercises/{name}: {'out of date' if options.check else 'written'}")
    if not stale:
        print("exercises are up to date")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
