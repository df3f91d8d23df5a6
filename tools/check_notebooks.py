"""Check committed lessons without running them.

A lesson is one file that is read, run by papermill and tested by nbval; each rule below protects
one of these uses. `python -m tools.check_notebooks [files]` checks these files, or all lessons.
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

from ss4rec_lib.lessons import (
    LESSON_NAME,
    LessonError,
    find_lessons,
    notebooks_folder,
    read_parameters,
    read_record,
)
from tools.make_exercises import pairs, tags

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
"""Headings of every lesson, in this order; its sections are between Contents and Discussion."""

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
"""Tags with a meaning here. `nbval-skip` is not one: nbval never compares a skipped cell."""

NOT_YET = frozenset(
    {
        "01_time_intervals",
        "02_s5_from_first_principles",
        "03_mamba_block",
        "04_train_ss4rec",
        "05_ranking_vs_rmse",
    }
)
"""Lessons that are not yet converted to the form that the rules from `_limits` on describe."""

LARGEST_BYTES = 3 * 2**20

_MACHINE_PATH = re.compile(r"(?<![\w.:/])(?:/(?:home|root|tmp|work|Users|opt|mnt)/|[A-Z]:\\)\S*")
_INSIDE = re.compile(r"ss4rec_lib\.(?!ssm\.kernels$)\w+\.")
_WARNING = re.compile(r"\b\w*Warning:")
_SENTENCE_WORDS = 6


def problems(path: str | Path) -> list[str]:
    """Return one sentence per problem of a committed lesson."""
    path = Path(path)
    found = []
    if path.stat().st_size > LARGEST_BYTES:
        found.append(f"the file has {path.stat().st_size:,} bytes, more than {LARGEST_BYTES:,}")
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises its own, JSON's and the schema's errors
        return [*found, f"not a valid notebook: {error}"]
    for cell in code_cells(notebook):
        try:
            ast.parse(_python(cell))
        except SyntaxError as error:
            return [*found, f"the cell {_name(cell)} is not Python: line {error.lineno}"]
    for rule in (
        _kernel,
        _skeleton,
        _tags,
        _executed,
        _outputs,
        _paths,
        _imports,
        _parameters_cell,
        _record,
        _pictures,
        _exercises,
    ):
        found += rule(notebook)
    return [*found, *_parameters(notebook, path)]


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the code cells that are not empty."""
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


def _imports(notebook: NotebookNode) -> Iterator[str]:
    # A reader finds a name in the package that the lesson names; modules inside may move.
    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(_python(cell))):
            if isinstance(node, ast.ImportFrom) and _INSIDE.match(node.module or ""):
                yield f"imports from the module {node.module} inside a package"


def _parameters_cell(notebook: NotebookNode) -> Iterator[str]:
    cells = code_cells(notebook)
    tagged = [cell for cell in cells if "parameters" in tags(cell)]
    if len(tagged) != 1:
        yield f"{len(tagged)} code cells are tagged 'parameters', expected exactly one"
        return
    if tagged[0] is not cells[0]:
        yield "the first code cell is not the one tagged 'parameters'"
    # Papermill inserts its cell after the parameters, so the check must be the next cell.
    if len(cells) < 2 or "check_parameters(" not in cells[1].source:
        yield "the code cell after the parameters does not call check_parameters()"
    # The check inside the kernel recognises a cell of plain literals only.
    for statement in ast.parse(tagged[0].source).body:
        if not _is_literal_assignment(statement):
            yield (
                f"line {statement.lineno} of the parameters cell is {ast.unparse(statement)!r}, "
                "expected name = literal; derive values in a later cell, because a value derived "
                "here becomes stale when papermill changes a parameter"
            )


def _is_literal_assignment(statement: ast.stmt) -> bool:
    match statement:
        case ast.Assign(targets=[ast.Name()], value=ast.expr() as value):
            pass
        case ast.AnnAssign(target=ast.Name(), value=ast.expr() as value):
            pass
        case _:
            return False
    try:
        ast.literal_eval(value)
    except ValueError:
        return False
    return True


def _parameters(notebook: NotebookNode, path: Path) -> Iterator[str]:
    try:
        declared = read_parameters(path)
    except LessonError as error:
        yield str(error)
        return
    for name, parameter in declared.items():
        if parameter.help == "":
            yield f"the parameter {name!r} has no trailing comment"
    cells = code_cells(notebook)
    assigned = {
        node.id
        for node in ast.walk(ast.parse(cells[0].source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    if hidden := assigned - set(declared):
        # Its line reads as several assignments to papermill: an "=" in the comment, for example.
        yield f"papermill cannot read the parameters {', '.join(sorted(hidden))}"
    if unread := set(declared) - _names_read(cells[1:]):
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
        # Readers need words: some cannot see the picture, others do not know what to look for.
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
        for node in ast.walk(ast.parse(_python(cell))):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                read.add(node.id)
    return read


def _python(cell: NotebookNode) -> str:
    """Return a code cell without the lines that only IPython understands."""
    lines = cell.source.splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def _texts(output: NotebookNode) -> list[str]:
    """Return everything readable in an output; pictures are left out."""
    texts = [output.text] if "text" in output else []
    for kind, data in output.get("data", {}).items():
        if not kind.startswith("image/"):
            texts.append(data if isinstance(data, str) else str(data))
    return texts


def _name(cell: NotebookNode) -> str:
    lines = [line for line in cell.source.splitlines() if line.strip()]
    return repr(lines[0][:60]) if lines else "(empty)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the problems of lessons; files that are not lessons are skipped.

    Returns:
        0 when all lessons are clean, 1 when there are problems, 2 when there is nothing to check.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.check_notebooks", description="Check the committed lessons."
    )
    parser.add_argument("files", nargs="*", type=Path, help="notebooks; by default all lessons")
    options = parser.parse_args(arguments)
    try:
        paths = options.files or find_lessons(folder=notebooks_folder())
    except LessonError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed = False
    for path in paths:
        # Exercises have the names of lessons; they have holes and no outputs.
        if LESSON_NAME.fullmatch(path.stem) and path.parent.name != "exercises":
            for problem in problems(path):
                print(f"{path}: {problem}")
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
