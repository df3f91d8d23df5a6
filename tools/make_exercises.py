"""Generate the exercise notebooks from the notebooks of solutions.

`notebooks/solutions/NN_name.ipynb` is written by hand; `notebooks/exercises/NN_name.ipynb` is the
same notebook with holes. Tags of its cells:

=================  ===============================================================================
`exercise-setup`   One cell of code with everything that is needed (imports, data, weights).
`solution`         Code. The lines between `# BEGIN SOLUTION: what to write` and `# END SOLUTION`
                   become `raise NotImplementedError("what to write")`. The rest, such as the `def`
                   line and its docstring, stays. The metadata `wrong` may hold a wrong answer (the
                   source of the whole cell); a test runs the check on it.
`check`            Code directly after a solution cell. It passes on the solution. On the hole it
                   raises the `NotImplementedError`, on a wrong answer an `AssertionError` that says
                   what is wrong.
`solution-text`    Markdown with an answer; left out of the exercise.
=================  ===============================================================================

Run `python -m tools.make_exercises`; with `--check` it only reports what is out of date.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ss4rec_lib.lessons import LessonError, notebooks_folder

LEVELS = ("warm-up", "standard", "standard", "harder", "project")
"""Levels of the five exercises of a lesson, in their order."""

_IN_VIEW = """

from ss4rec_lib.lessons import stop_in_view

stop_in_view()  # "Run all" stops at the first cell to complete, and scrolls to it"""
_HEADING = re.compile(r"^### Exercise (\d) · ([\w-]+) · (\d+) min: \S", re.MULTILINE)
_BEGIN = re.compile(r"^(?P<indent>\s*)# BEGIN SOLUTION\b:?\s*(?P<prompt>.*?)\s*$")
_END = re.compile(r"^\s*# END SOLUTION\s*$")


class ExerciseError(LessonError):
    """Solution or check cells that cannot be turned into an exercise."""


def tags(cell: NotebookNode) -> list[str]:
    """Return the tags of a cell."""
    return list(cell.metadata.get("tags", []))


def blank(source: str, nothing: bool = False) -> str:
    """Replace every solution in a cell by a `raise NotImplementedError(...)`.

    With `nothing`, replace it by `pass`: a student who deletes the line and writes no answer.

    Raises:
        ExerciseError: No solution is marked, or the marks do not pair up.
    """
    kept: list[str] = []
    inside, holes = False, 0
    for number, line in enumerate(source.splitlines(), start=1):
        begin = _BEGIN.match(line)
        if begin and not inside:
            prompt = begin["prompt"] or "write this part"
            quoted = prompt.replace("\\", "\\\\").replace('"', '\\"')
            hole = "pass" if nothing else f'raise NotImplementedError("{quoted}")'
            kept += [begin["indent"] + line for line in (f"# YOUR CODE HERE: {prompt}", hole)]
            inside, holes = True, holes + 1
        elif begin or (_END.match(line) and not inside):
            raise ExerciseError(
                f"line {number} of a solution cell is {line.strip()!r}, but BEGIN SOLUTION and "
                "END SOLUTION must alternate"
            )
        elif inside:
            inside = not _END.match(line)
        else:
            kept.append(line)
    if inside or not holes:
        missing = "# END SOLUTION" if inside else "# BEGIN SOLUTION and # END SOLUTION"
        raise ExerciseError(f"a cell tagged 'solution' has no {missing} line:\n{source}")
    return "\n".join(kept)


def pairs(lesson: NotebookNode) -> list[tuple[NotebookNode, NotebookNode]]:
    """Pair every solution cell with the check cell that follows it.

    Raises:
        ExerciseError: The next code cell after a solution is not a check, or a check does not
            follow a solution.
    """
    code = [cell for cell in lesson.cells if cell.cell_type == "code"]
    found = []
    for before, cell, after in zip([None, *code], code, [*code[1:], None], strict=False):
        if "solution" in tags(cell):
            if after is None or "check" not in tags(after):
                raise ExerciseError(
                    "the code cell after a cell tagged 'solution' must be tagged 'check':\n"
                    + cell.source
                )
            found.append((cell, after))
        if "check" in tags(cell) and (before is None or "solution" not in tags(before)):
            raise ExerciseError(
                "a cell tagged 'check' must directly follow a cell tagged 'solution':\n"
                + cell.source
            )
    return found


def problems(path: Path) -> list[str]:
    """Return one sentence per rule that a notebook of solutions breaks."""
    notebook = nbformat.read(path, as_version=4)
    return [f"{path.name}: {problem}" for problem in _problems(notebook)]


def _problems(notebook: NotebookNode) -> Iterator[str]:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if any(cell.outputs or cell.execution_count is not None for cell in code):
        yield "solutions are committed without outputs and execution counts"
    if (n := sum("exercise-setup" in tags(cell) for cell in code)) != 1:
        yield f"{n} code cells are tagged 'exercise-setup', expected exactly one"
    text, found = "", []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text += cell.source + "\n"
        elif "solution" in tags(cell):
            headings = _HEADING.findall(text)
            found += [heading[:2] for heading in headings[-1:]]
            if "<details>" not in text.rpartition("### Exercise")[2]:
                yield f"exercise {headings[-1][0] if headings else '?'} has no folded hint"
            text = ""
        elif "check" in tags(cell):
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Assert) and node.msg is None:
                    yield f"an assert without a message: {ast.unparse(node)}"
    expected = [(str(i), level) for i, level in enumerate(LEVELS, start=1)]
    if found != expected:
        yield (
            "the exercises are "
            + (", ".join(" ".join(pair) for pair in found) or "without headings")
            + ", expected a heading '### Exercise N · level · M min: title' each, with the levels "
            + ", ".join(LEVELS)
        )
    try:
        pairs(notebook)
    except ExerciseError as error:
        yield str(error)


def to_exercise(source: NotebookNode, name: str) -> NotebookNode:
    """Return the exercise without outputs; `name` is the file name of the solutions."""
    note = nbformat.v4.new_markdown_cell(
        "> Work on a copy: `make exercises-copy` puts one into `work/`, and never overwrites an "
        "answer. Each cell that raises `NotImplementedError` is yours to fill in. The cell below "
        f"it checks your answer. The solutions are in [{name}](../solutions/{name}). This file is "
        "generated from them (`python -m tools.make_exercises`).",
        id="exercise-note",
    )
    cells = []
    for original in source.cells:
        if "solution-text" in tags(original):
            continue
        cell = NotebookNode(cell_type=original.cell_type, id=original.id, source=original.source)
        cell.metadata = NotebookNode(tags=tags(original)) if tags(original) else NotebookNode()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if "solution" in tags(original):
                cell.source = blank(cell.source)
            elif "exercise-setup" in tags(original):
                cell.source += _IN_VIEW
        cells.append(cell)
    cells.insert(min(1, len(cells)), note)
    metadata = {key: source.metadata[key] for key in ("kernelspec",) if key in source.metadata}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def exercise_text(path: Path) -> str:
    """Return the text of the exercise file that is made from a notebook.

    Raises:
        ExerciseError: Names the notebook whose cells cannot be turned into an exercise.
    """
    notebook = nbformat.read(path, as_version=4)
    try:
        pairs(notebook)
        return nbformat.writes(to_exercise(notebook, path.name)) + "\n"
    except ExerciseError as error:
        raise ExerciseError(f"{path.name}: {error}") from error


def out_of_date(folder: Path | None = None, write: bool = False) -> list[str]:
    """Name the exercise files that are missing, changed or without a lesson; mend them if asked.

    Args:
        folder: Folder of the lessons; the exercises lie in its subfolder `exercises`.
        write: Bring the files up to date.
    """
    folder = notebooks_folder() if folder is None else Path(folder)
    target = folder / "exercises"
    expected = {path.name: exercise_text(path) for path in (folder / "solutions").glob("*.ipynb")}
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
    """Regenerate the exercises, or only compare them with `--check`.

    Returns:
        0 when all files are or were made up to date, 1 when `--check` found differences, 2 when a
        lesson cannot be turned into an exercise.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_exercises",
        description="Generate the exercise notebooks from the solutions.",
    )
    parser.add_argument("--check", action="store_true", help="only report what is out of date")
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
