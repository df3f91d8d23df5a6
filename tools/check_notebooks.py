"""Check committed lessons without running them.

A lesson is one file that is read, run by papermill and tested by nbval; each rule below protects
one of these uses. `python -m tools.check_notebooks [files]` checks these files, or all lessons;
with `--table` it prints their sizes.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import re
import symtable
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat
from nbformat import NotebookNode

from ss4rec_lib.lessons import (
    DEEPER,
    LESSON_NAME,
    LessonError,
    find_lessons,
    flatten,
    lesson_number,
    notebooks_folder,
    read_parameters,
    read_record,
)
from tools.make_exercises import tags

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
"""Headings of a core lesson, in this order; its sections are between Contents and Discussion."""

DEEPER_HEADINGS = ("## Aim", "## Run time and hardware", "## References")
"""Headings of a deeper lesson, in this order."""

MOST_WORDS = 2_500
MOST_LINES = 300  # of visible code
MOST_CELL_LINES = 25  # of one visible cell
MOST_COLUMNS = 88  # of code; of output 100
FIGURES = range(5, 9)
MOST_SECONDS = 180  # of a core lesson

TAGS = frozenset(
    {
        "parameters",
        "record",
        "nbval-ignore-output",
        "solution",
        "check",
        "exercise-setup",
        "solution-text",
        "hide-input",
    }
)
"""Tags with a meaning here. `nbval-skip` is not one: nbval never compares a skipped cell."""

NOT_YET: frozenset[str] = frozenset()
"""Lessons that are not yet converted to the form that the rules `CONVERTED` describe."""

FLOORS = {
    "00_tour": {"test.ndcg@10": "popularity.ndcg@10"},
    "03_mamba_block": {"valid.ndcg@10": "popularity_valid_ndcg10"},
    "04_train_ss4rec": {
        "test.SS4Rec.ndcg@10": "test.popularity.ndcg@10",
        "test.time-blind.ndcg@10": "test.popularity.ndcg@10",
    },
    "05_ranking_vs_rmse": {"with_time": "popularity"},
    "06_what_makes_it_better": {
        "validation.published": "validation.popularity",
        "validation.intervals": "validation.popularity",
    },
}
"""By lesson, metrics of trained models, each with the recorded metric of popularity."""

ABOVE_FLOOR = 0.012  # NDCG@10 on ML-100K: two standard errors over users

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
        _kernel, _tags, _executed, _outputs, _paths, _imports, _parameters_cell, _record, _pictures
    ):  # fmt: skip
        found += rule(notebook)
    found += _skeleton(notebook, DEEPER_HEADINGS if _is_deeper(path) else HEADINGS)
    if path.stem in NOT_YET:
        return [*found, *_parameters(notebook, path)]
    for rule in CONVERTED:
        found += rule(notebook, path)
    if not _is_deeper(path):
        found += [*_limits(notebook), *_core(notebook, path)]
    return [*found, *_parameters(notebook, path)]


def _is_deeper(path: Path) -> bool:
    return path.parent.name == DEEPER


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the code cells that are not empty."""
    return [
        cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip() != ""
    ]


def _kernel(notebook: NotebookNode) -> Iterator[str]:
    name = notebook.metadata.get("kernelspec", {}).get("name")
    if name != "python3":  # papermill starts the kernel by this name, on every machine
        yield f"the kernel is called {name!r}, expected 'python3'"


def _skeleton(notebook: NotebookNode, headings: Sequence[str]) -> Iterator[str]:
    lines = [
        line.rstrip()
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
    ]
    if not lines or not lines[0].startswith("# "):
        yield "the first cell does not begin with a title (# ...)"
    places = []
    for heading in headings:
        if lines.count(heading) == 1:
            places.append(lines.index(heading))
        else:
            yield f"the heading {heading!r} stands {lines.count(heading)} times, expected once"
    if places != sorted(places):
        yield f"the headings are not in the order {', '.join(headings)}"


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
        yield "the code cell after the parameters does not call check_parameters(...)"
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
        # `papermill --help-notebook` shows it; papermill does not understand "int | None = None".
        kind = "int|str|None" if parameter.default is None else type(parameter.default).__name__
        if parameter.type != kind:
            yield f"the type of the parameter {name!r} is {parameter.type}, expected {kind}"
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


def below_floor(stem: str, record: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each trained model of a lesson that does not clearly beat popularity.

    The tolerance of a metric follows it when the lesson is executed again. This limit does not.
    """
    numbers = flatten(record)
    for metric, popularity in FLOORS.get(stem, {}).items():
        value, floor = numbers.get(metric), numbers.get(popularity)
        if value is None or floor is None or value < floor + ABOVE_FLOOR:
            yield f"{metric} is {value}, expected {ABOVE_FLOOR} more than {popularity}, {floor}"


def _floors(notebook: NotebookNode, path: Path) -> Iterator[str]:
    with contextlib.suppress(LessonError):  # reported elsewhere
        yield from below_floor(path.stem, read_record(notebook))


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


@dataclass(frozen=True)
class Size:
    """How large a lesson is."""

    words: int  # of all markdown
    lines: int  # of the code that is not collapsed
    longest: int  # lines of the longest visible cell
    figures: int
    seconds: float | None  # recorded


def size(notebook: NotebookNode) -> Size:
    """Measure a lesson."""
    text = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    code = code_cells(notebook)
    lines = [len(cell.source.splitlines()) for cell in code if "hide-input" not in tags(cell)]
    try:
        seconds = read_record(notebook).get("lesson_seconds")
    except LessonError:
        seconds = None
    figures = sum(1 for _ in _images(notebook))
    return Size(len(" ".join(text).split()), sum(lines), max(lines, default=0), figures, seconds)


def _images(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, dict[str, Any]]]:
    """Yield the cell of each picture among the outputs, and the picture's metadata."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            for kind in output.get("data", {}):
                if kind.startswith("image/"):
                    yield cell, output.get("metadata", {}).get(kind, {})


def _limits(notebook: NotebookNode) -> Iterator[str]:
    # A core lesson is read in one sitting of half an hour.
    found = size(notebook)
    if found.words > MOST_WORDS:
        yield f"{found.words:,} words, more than {MOST_WORDS:,}"
    if found.lines > MOST_LINES:
        yield f"{found.lines} lines of visible code, more than {MOST_LINES}"
    for cell in code_cells(notebook):
        lines = len(cell.source.splitlines())
        if "hide-input" not in tags(cell) and lines > MOST_CELL_LINES:
            yield f"the cell {_name(cell)} has {lines} lines, more than {MOST_CELL_LINES}"
    if found.figures not in FIGURES:
        yield f"{found.figures} figures, expected {FIGURES.start} to {FIGURES.stop - 1}"
    if found.seconds is None or found.seconds > MOST_SECONDS:
        yield f"lesson_seconds is {found.seconds}, expected at most {MOST_SECONDS} in the record"


def _core(notebook: NotebookNode, path: Path) -> Iterator[str]:
    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(_python(cell))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {a.name for a in node.names} | {str(getattr(node, "module", ""))}
                for name in sorted(names & {"ast", "inspect"}):
                    yield f"a core lesson imports {name}"
    text = _markdown(notebook)
    quiz = text.partition("\n## Quiz\n")[2].partition("\n## ")[0]
    if "<details>" not in quiz:
        yield "the answers of the quiz are not folded (<details>)"
    if path.stem.startswith("00"):  # the tour has no exercises of its own
        return
    for folder in ("exercises", "solutions"):
        if f"({folder}/{path.name})" not in text:
            yield f"no link to {folder}/{path.name}"


def _readable(notebook: NotebookNode, path: Path) -> Iterator[str]:
    # On a projector, or 1280 pixels at 150 %, a longer line has a scroll bar.
    for cell in code_cells(notebook):
        if any(len(line) > MOST_COLUMNS for line in cell.source.splitlines()):
            yield f"a line of the cell {_name(cell)} has more than {MOST_COLUMNS} characters"
        for output in cell.outputs:
            shown = [output.text] if "text" in output else []
            data = output.get("data", {})
            shown += [data.get("text/plain", "")] if data.keys() <= {"text/plain"} else []
            if any(len(line) > 100 for text in shown for line in text.splitlines()):
                yield f"a line printed by the cell {_name(cell)} has more than 100 characters"


def _alternative_texts(notebook: NotebookNode, path: Path) -> Iterator[str]:
    for cell, metadata in _images(notebook):
        if not metadata.get("alt", "").strip():
            yield f"a picture of the cell {_name(cell)} has no alternative text: show(fig, alt=...)"
    for alt, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", _markdown(notebook)):
        if not alt.strip():
            yield f"the image {target} has no alternative text"
    for image in re.findall(r"<img\b[^>]*>", _markdown(notebook)):
        if not re.search(r"\balt=\"[^\"]+\"", image):
            yield f"{image} has no alternative text"


def _hidden_cells(notebook: NotebookNode, path: Path) -> Iterator[str]:
    made_by: dict[str, NotebookNode] = {}
    for cell in code_cells(notebook):
        hidden = "hide-input" in tags(cell)
        if hidden is not bool(cell.metadata.get("jupyter", {}).get("source_hidden", False)):
            yield f"the cell {_name(cell)} has only one of hide-input and jupyter.source_hidden"
        stored, read = _stored_and_read(_python(cell))
        for name in sorted(read - stored):
            maker = made_by.get(name)
            if maker is not None and "hide-input" in tags(maker):
                yield f"{name}, of the collapsed cell {_name(maker)}, is read by {_name(cell)}"
        made_by |= dict.fromkeys(stored, cell)


def _stored_and_read(source: str) -> tuple[set[str], set[str]]:
    """Return the global names that a cell assigns, and those that it or its functions read."""
    top = symtable.symtable(source, "cell", "exec")
    stored = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    read, tables = set(), [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        read |= {
            s.get_name()
            for s in table.get_symbols()
            if s.is_referenced() and (table is top or s.is_global())
        }
    return stored, read


def _links(notebook: NotebookNode, path: Path) -> Iterator[str]:
    text = _markdown(notebook)
    for target in _LINK.findall(text):
        if re.match(r"https?:|mailto:", target):
            continue
        name, _, anchor = unquote(target).partition("#")
        place = path.parent / name if name else path
        if not place.exists():
            yield f"the link {target} leads nowhere"
        elif anchor and place.suffix in (".ipynb", ".md") and anchor not in _anchors(place):
            yield f"the link {target} leads to no heading of {place.name}"
    for number in _LESSON.findall(_LINKED.sub("", text)):
        if number != lesson_number(path.stem):
            yield f"lesson {number} is mentioned without a link to it"


_TARGET = r"\(((?:[^()\s]|\([^()\s]*\))+)\)"
_LINK = re.compile(r"\]" + _TARGET)
_LINKED = re.compile(r"\[[^\]]*\]" + _TARGET)
_LESSON = re.compile(r"\b[Ll]essons?\s+(\d\d[a-z]?)\b")


def _anchors(path: Path) -> set[str]:
    """Return what a link may name after #: headings, as JupyterLab or GitHub writes them."""
    is_notebook = path.suffix == ".ipynb"
    text = _markdown(nbformat.read(path, as_version=4)) if is_notebook else path.read_text("utf-8")
    headings = [re.sub(r"[`*]", "", found) for found in re.findall(r"(?m)^#+ +(.+?) *$", text)]
    found = set(re.findall(r"<\w+ id=\"([^\"]+)\"", text))
    if is_notebook:
        return found | {heading.replace(" ", "-") for heading in headings}
    return found | {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def _colours(notebook: NotebookNode, path: Path) -> Iterator[str]:
    # Some readers do not see them, and a palette's "red" is orange.
    for found in _COLOUR.finditer(_markdown(notebook)):
        yield f"the text names a colour ({found[0]}): name a label or a marker"


_COLOUR = re.compile(
    r"\b(red|orange|blue|green|purple|yellow|gr[ae]y) (lines?|curves?|bars?|dots?|points?|bands?)\b"
)


def _time_mark(notebook: NotebookNode, path: Path) -> Iterator[str]:
    section = _markdown(notebook).partition("\n## Run time and hardware\n")[2].partition("\n## ")[0]
    if len(re.findall(r"<!-- time -->[^<]*<!-- /time -->", section)) != 1:
        yield "the section on the run time has no <!-- time -->about N s<!-- /time -->"


def _widgets(notebook: NotebookNode, path: Path) -> Iterator[str]:
    # A widget of another day shows "model not found".
    if "widgets" in notebook.metadata:
        yield "the notebook holds widgets (metadata.widgets): run tools.execute_lessons"
    for cell in code_cells(notebook):
        if any(
            "application/vnd.jupyter.widget-view+json" in o.get("data", {}) for o in cell.outputs
        ):
            yield f"the cell {_name(cell)} shows a widget: run tools.execute_lessons"


def _published_defaults(notebook: NotebookNode, path: Path) -> Iterator[str]:
    # The check knows the published values only from its own call.
    cells = code_cells(notebook)
    calls = [
        node
        for cell in cells[1:2]
        for node in ast.walk(ast.parse(_python(cell)))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check_parameters"
    ]
    try:
        declared = {name: entry.default for name, entry in read_parameters(path).items()}
    except LessonError:  # reported elsewhere
        return
    given = {k.arg: ast.unparse(k.value) for call in calls for k in call.keywords}
    wanted = {
        name: ast.unparse(ast.parse(repr(value), mode="eval")) for name, value in declared.items()
    }
    if calls and list(given.items()) != list(wanted.items()):
        call = ", ".join(f"{name}={text}" for name, text in wanted.items())
        yield f"the check does not repeat the parameters: expected check_parameters({call})"


def _no_solutions(notebook: NotebookNode, path: Path) -> Iterator[str]:
    for cell in notebook.cells:
        for tag in {"solution", "check", "exercise-setup", "solution-text"} & set(tags(cell)):
            yield f"the tag {tag!r} belongs to notebooks/solutions, not to the cell {_name(cell)}"


CONVERTED = (
    _readable, _alternative_texts, _hidden_cells, _links, _colours, _time_mark, _widgets,
    _published_defaults, _no_solutions, _floors,
)  # fmt: skip
"""Rules of every lesson that is not in `NOT_YET`; a core lesson also keeps `_limits`."""


def _markdown(notebook: NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


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


def all_lessons(folder: Path) -> list[Path]:
    """Return the core lessons, then the deeper ones."""
    core = find_lessons(folder=folder)
    return core + (find_lessons([DEEPER], folder) if list((folder / DEEPER).glob("*_*")) else [])


def table(paths: Sequence[Path]) -> str:
    """Return the sizes of lessons as a Markdown table."""
    rows = ["| lesson | words | visible code lines | longest visible cell | figures | seconds |"]
    rows.append("|---|---|---|---|---|---|")
    for path in paths:
        found = size(nbformat.read(path, as_version=4))
        seconds = "" if found.seconds is None else f"{found.seconds:.0f}"
        rows.append(
            f"| {path.stem} | {found.words:,} | {found.lines} | {found.longest} | {found.figures} "
            f"| {seconds} |"
        )
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the problems of lessons; files that are not lessons are skipped.

    Returns:
        0 when all lessons are clean, 1 when there are problems, 2 when there is nothing to check.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.check_notebooks", description="Check the committed lessons."
    )
    parser.add_argument("files", nargs="*", type=Path, help="notebooks; by default all lessons")
    parser.add_argument("--table", action="store_true", help="print the sizes of the lessons")
    options = parser.parse_args(arguments)
    try:
        paths = options.files or all_lessons(notebooks_folder())
    except LessonError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.table:
        print(table(paths))
        return 0
    failed = False
    for path in paths:
        # Exercises have the names of lessons; they have holes and no outputs.
        if LESSON_NAME.fullmatch(path.stem) and path.parent.name not in (
            "exercises",
            "solutions",
        ):
            for problem in problems(path):
                print(f"{path}: {problem}")
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
