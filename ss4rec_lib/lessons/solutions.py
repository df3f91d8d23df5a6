"""Solution and check cells of a lesson: holes for solutions, checks that tell them apart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ss4rec_lib.lessons.errors import ExerciseError
from ss4rec_lib.lessons.run import notebooks_folder

_BEGIN = re.compile(r"^(?P<indent>\s*)# BEGIN SOLUTION\b:?\s*(?P<prompt>.*?)\s*$")
_END = re.compile(r"^\s*# END SOLUTION\s*$")


@dataclass(frozen=True)
class Check:
    """Outcome of one check cell.

    Attributes:
        number: Position among the checks of the lesson, from 1.
        first_line: First line of the cell, to recognise it.
        error: Name and text of what the cell raised; None when it passed.
    """

    number: int
    first_line: str
    error: str | None


def tags(cell: NotebookNode) -> list[str]:
    """Returns the tags of a cell.

    Args:
        cell: Any notebook cell.

    Returns:
        Its tags; an empty list when there are none.
    """
    return list(cell.metadata.get("tags", []))


def blank(source: str) -> str:
    """Replaces solutions by holes.

    Args:
        source: Text of a cell tagged `solution`.

    Returns:
        The text with a `raise NotImplementedError(...)` in place of every solution.

    Raises:
        ExerciseError: If no solution is marked, or the marks do not pair up.
    """
    kept: list[str] = []
    inside = False
    holes = 0
    for number, line in enumerate(source.splitlines(), start=1):
        begin = _BEGIN.match(line)
        if begin and not inside:
            prompt = begin["prompt"] or "write this part"
            kept += [
                f"{begin['indent']}# YOUR CODE HERE: {prompt}",
                f"{begin['indent']}raise NotImplementedError({_quoted(prompt)})",
            ]
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
    """Pairs every solution cell with its check.

    Args:
        lesson: The lesson.

    Returns:
        Solution and check cells, in order.

    Raises:
        ExerciseError: If a solution is not followed by a check (as the next code cell), or a check
            does not follow a solution.
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


def run_checks(
    lesson: NotebookNode, filled: bool, folder: Path | None = None, timeout: float = 120.0
) -> list[Check]:
    """Runs the checks of a lesson's exercises in a fresh kernel.

    Only the cells tagged `parameters` and `exercise-setup` run first. With `filled=False` each
    check meets its own solution blanked and all earlier ones filled in, so that it cannot fail
    merely because of another hole.

    Args:
        lesson: The lesson.
        filled: Whether the solutions are left in.
        folder: Working directory of the kernel; by default the notebooks of the checkout.
        timeout: Longest time a cell may take, seconds.

    Returns:
        One outcome a check, in order.

    Raises:
        ExerciseError: If a setup cell or a solution itself fails.
    """
    setup = [
        cell
        for cell in lesson.cells
        if cell.cell_type == "code" and {"parameters", "exercise-setup"} & set(tags(cell))
    ]
    steps: list[tuple[str, NotebookNode, str]] = [("setup", cell, cell.source) for cell in setup]
    for solution, check in pairs(lesson):
        if not filled:
            steps.append(("hole", solution, blank(solution.source)))
            steps.append(("check", check, check.source))
        steps.append(("solution", solution, solution.source))
        if filled:
            steps.append(("check", check, check.source))
    cells = [nbformat.v4.new_code_cell(source) for _, _, source in steps]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    reduced = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    _execute(reduced, notebooks_folder() if folder is None else folder, timeout)
    outcomes: list[Check] = []
    for (kind, original, _), cell in zip(steps, reduced.cells, strict=True):
        error = _error(cell)
        if kind == "check":
            line = original.source.splitlines()[0] if original.source else ""
            outcomes.append(Check(len(outcomes) + 1, line, error))
        elif kind != "hole" and error is not None:
            raise ExerciseError(f"the {kind} cell of an exercise fails: {error}\n{original.source}")
    return outcomes


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _execute(notebook: NotebookNode, folder: Path, timeout: float) -> None:
    from nbclient import NotebookClient

    client = NotebookClient(
        notebook,
        timeout=timeout,
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()


def _error(cell: NotebookNode) -> str | None:
    for output in cell.outputs:
        if output.output_type == "error":
            return f"{output.ename}: {output.evalue}"
    return None
