"""What every lesson must keep: one file that is lesson, papermill job and nbval test at once.

`problems` reads a committed notebook without running it. Each rule has its reason beside it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ss4rec_lib.lessons.errors import LessonError
from ss4rec_lib.lessons.parameters import read_parameters
from ss4rec_lib.lessons.record import read_record
from ss4rec_lib.lessons.solutions import pairs, tags

HEADINGS = (
    "## Aim",
    "## What you need to know",
    "## Run time and hardware",
    "## Contents",
    "## Discussion",
    "## Exercises",
    "## Quiz",
    "## References",
)
"""Skeleton of a lesson, in this order; its own sections stand between Contents and Discussion."""

TAGS = frozenset(
    {
        "parameters",
        "record",
        "nbval-ignore-output",
        "solution",
        "check",
        "exercise-setup",
        "solution-text",
    }
)
"""Tags with a meaning here. `nbval-skip` is none: a skipped cell is never compared."""

LARGEST_BYTES = 3 * 2**20

_MACHINE_PATH = re.compile(r"(?<![\w.:/])(?:/(?:home|root|tmp|work|Users|opt|mnt)/|[A-Z]:\\)\S*")
_WARNING = re.compile(r"\b\w*Warning:")
_SENTENCE_WORDS = 6


def problems(path: str | Path) -> list[str]:
    """Lists what is wrong with a committed lesson.

    Args:
        path: The notebook file.

    Returns:
        One sentence a problem; empty when the lesson is clean.
    """
    path = Path(path)
    found = []
    if path.stat().st_size > LARGEST_BYTES:
        found.append(f"the file has {path.stat().st_size:,} bytes, more than {LARGEST_BYTES:,}")
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises its own, JSON's and the schema's errors
        return [*found, f"not a valid notebook: {error}"]
    for rule in (
        _kernel,
        _skeleton,
        _tags,
        _executed,
        _outputs,
        _paths,
        _parameters,
        _record,
        _pictures,
        _exercises,
    ):
        found += rule(notebook)
    return found


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Returns the code cells that hold anything."""
    return [
        cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip() != ""
    ]


def _kernel(notebook: NotebookNode) -> Iterator[str]:
    name = notebook.metadata.get("kernelspec", {}).get("name")
    if name != "python3":  # papermill starts the kernel by this name, on every machine
        yield f"the kernel is called {name!r}, expected 'python3'"


def _skeleton(notebook: NotebookNode) -> Iterator[str]:
    lines = [
        line.rstrip()
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
    ]
    if not lines or not lines[0].startswith("# "):
        yield "the first cell does not begin with a title (# ...)"
    places = []
    for heading in HEADINGS:
        if lines.count(heading) == 1:
            places.append(lines.index(heading))
        else:
            yield f"the heading {heading!r} stands {lines.count(heading)} times, expected once"
    if places != sorted(places):
        yield f"the headings are not in the order {', '.join(HEADINGS)}"


def _tags(notebook: NotebookNode) -> Iterator[str]:
    for cell in notebook.cells:
        # A misspelt tag silently does nothing.
        for tag in set(tags(cell)) - TAGS:
            yield f"unknown tag {tag!r} on the cell {_name(cell)}"


def _executed(notebook: NotebookNode) -> Iterator[str]:
    # nbval never compares a cell without an execution count; any other order is no fresh run.
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}, expected 1 to {len(counts)}: run all, then save"


def _outputs(notebook: NotebookNode) -> Iterator[str]:
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"the cell {_name(cell)} has an error as output: {output.ename}"
            if output.get("name") == "stderr":
                yield f"the cell {_name(cell)} writes to stderr: {output.text[:60]!r}"
            for text in _texts(output):
                if warning := _WARNING.search(text):
                    yield f"the cell {_name(cell)} shows a warning: {warning.group()}"


def _paths(notebook: NotebookNode) -> Iterator[str]:
    for cell in notebook.cells:
        texts = [cell.source]
        for output in cell.get("outputs", ()):
            texts += _texts(output)
        for text in texts:
            if path := _MACHINE_PATH.search(text):
                yield f"the cell {_name(cell)} names a path of one machine: {path.group()}"


def _parameters(notebook: NotebookNode) -> Iterator[str]:
    try:
        declared = read_parameters(notebook)
    except LessonError as error:
        yield str(error)
        return
    cells = code_cells(notebook)
    if "parameters" not in tags(cells[0]):
        yield "the first code cell is not the one tagged 'parameters'"
    # Papermill's cell lands behind the parameters, so the guard must be the next one.
    if len(cells) < 2 or "check_parameters(" not in cells[1].source:
        yield "the code cell after the parameters does not call check_parameters()"
    for name, parameter in declared.items():
        if parameter.help == "":
            yield f"the parameter {name!r} has no trailing comment"
    unread = set(declared) - _names_read(cells[1:])
    if unread:
        yield f"parameters never read: {', '.join(sorted(unread))}"


def _record(notebook: NotebookNode) -> Iterator[str]:
    cells = code_cells(notebook)
    tagged = [cell for cell in cells if "record" in tags(cell)]
    if len(tagged) != 1 or tagged[0] is not cells[-1]:
        yield f"{len(tagged)} cells are tagged 'record', expected one: the last code cell"
    for cell in tagged:
        if "nbval-ignore-output" not in tags(cell):  # a record carries times
            yield "the record cell is not tagged 'nbval-ignore-output'"
    try:
        read_record(notebook)
    except LessonError as error:
        yield str(error)


def _pictures(notebook: NotebookNode) -> Iterator[str]:
    for before, cell, after in zip(
        [None, *notebook.cells], notebook.cells, [*notebook.cells[1:], None], strict=False
    ):
        outputs = cell.get("outputs", ())
        if not any("image/png" in output.get("data", {}) for output in outputs):
            continue
        # Who cannot see it, or does not know what to look for, needs words.
        if not _says_something(before) and not _says_something(after):
            yield f"no sentence before or after the picture of the cell {_name(cell)}"


def _exercises(notebook: NotebookNode) -> Iterator[str]:
    try:
        pairs(notebook)
    except LessonError as error:
        yield str(error)


def _says_something(cell: NotebookNode | None) -> bool:
    if cell is None or cell.cell_type != "markdown":
        return False
    prose = [line for line in cell.source.splitlines() if not line.startswith("#")]
    return len(" ".join(prose).split()) >= _SENTENCE_WORDS


def _names_read(cells: list[NotebookNode]) -> set[str]:
    read = set()
    for cell in cells:
        source = "\n".join(
            line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!"))
        )
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                read.add(node.id)
    return read


def _texts(output: NotebookNode) -> list[str]:
    """Everything readable in an output; pictures are left out."""
    texts = [output.text] if "text" in output else []
    for kind, data in output.get("data", {}).items():
        if not kind.startswith("image/"):
            texts.append(data if isinstance(data, str) else str(data))
    return texts


def _name(cell: NotebookNode) -> str:
    lines = [line for line in cell.source.splitlines() if line.strip()]
    return repr(lines[0][:60]) if lines else "(empty)"
