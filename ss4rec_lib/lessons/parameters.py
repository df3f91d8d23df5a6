"""Parameters of a lesson, and the check that papermill lacks.

A lesson declares its parameters in one cell tagged `parameters`, as plain literals:

    dataset = "ml-100k"  # MovieLens data set, or "planted"
    epochs = 8  # passes over the training data
    ----------------------------------------------------------- (papermill inserts its cell here)
    from ss4rec_lib.lessons import check_parameters

    given = check_parameters()

Papermill writes any values it receives into a cell of its own after this one. A misspelt name is
only a warning, and `-p flag true` becomes the text `"true"`. `check_parameters` therefore compares
the inserted cell with the declaration inside the running kernel, and the runner does the same
before a kernel starts.

The type of a parameter is the type of its default. An `int` may be given for a `float`, and a list
for a tuple. A `bool` is not a number. A default of `None` accepts `None`, text or a number. Numbers
are finite; where the default is positive they are positive, where it is 0 they are not negative.
"""

from __future__ import annotations

import ast
import contextlib
import linecache
import logging
import math
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, create_model

from ss4rec_lib.configuration import Config, ConfigError, from_text

_MARK = "# Parameters"  # first line of the cell that papermill inserts


class LessonError(ValueError):
    """A lesson that cannot be found, read or run as asked."""


class ParameterError(LessonError):
    """A parameter that the lesson does not declare or cannot use, or an unusable declaration."""


@dataclass(frozen=True)
class Parameter:
    """A declared parameter: its default, and the trailing comment of its line."""

    default: Any
    help: str


def read_parameters(notebook: str | Path) -> dict[str, Parameter]:
    """Read the declared parameters of a lesson without running it."""
    import papermill

    notebook = Path(notebook)
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # every finding is raised below
    try:
        found = papermill.inspect_notebook(literal_path(notebook))
    except ValueError as error:  # the notebook names no kernel
        raise ParameterError(f"{notebook.name}: {error}") from error
    declared = {}
    for name, entry in found.items():
        try:
            declared[name] = Parameter(ast.literal_eval(entry["default"]), entry["help"])
        except (ValueError, SyntaxError):
            raise ParameterError(
                f"{notebook.name}: {name} = {entry['default']} is not a plain literal; derive it "
                "in a later cell, which runs after papermill has changed a parameter"
            ) from None
    if not declared:
        raise ParameterError(
            f"{notebook.name}: no parameters found; one code cell must have the tag 'parameters' "
            "(right sidebar of JupyterLab, cell tags) and hold lines such as: epochs = 8  # passes"
        )
    return declared


def literal_path(path: Path) -> str:
    """Return an absolute path for papermill, which fills parameters into the braces of a path."""
    return str(path.resolve()).replace("{", "{{").replace("}", "}}")


def literals(source: str) -> dict[str, Any] | None:
    """Return the values of a cell that assigns literals to distinct names and does nothing else."""
    values: dict[str, Any] = {}
    try:
        for name, value in _assignments(source):
            if name in values:
                return None
            values[name] = ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return None
    return values or None


def _assignments(source: str) -> Iterator[tuple[str, Any]]:
    """Yield name and value of each statement; `"", None` where it is no assignment to one name."""
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(ast.Name(name), _, value):
                yield name, value
            case _:
                yield "", None


def check_values(values: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> None:
    """Compare values with the defaults that the lesson `where` declares."""
    fields: dict[str, Any] = {n: (_annotation(n, value), value) for n, value in defaults.items()}
    model = create_model("Parameters", __base__=Config, **fields)
    try:
        model(**values)
    except ConfigError as error:
        hint = ""
        words = {n: value for n, value in values.items() if isinstance(value, str)}
        for name, word in words.items():
            default = defaults.get(name)
            if not hint and not isinstance(default, str | None):
                given = value_from_text(word, default)
                good = str(given if type(given) is type(default) else default).lower()
                hint = " Papermill's -p passes words as text; give YAML instead, such as "
                hint += f'-y "{name}: {good}".'
        raise ParameterError(f"wrong parameter of {where}: {error}{hint}") from None


def value_from_text(text: str, default: Any) -> Any:
    """Read a word of a command line: text stays text where the default is text.

    With a default of `None` only none and numbers in their usual form are read: 007 is an id.
    """
    if isinstance(default, str):
        return text
    value = from_text(text)
    if default is None:
        number = type(value) in (int, float) and math.isfinite(value) and str(value) == text
        return value if value is None or number else text
    with contextlib.suppress(ValueError, SyntaxError):
        if isinstance(value, str):  # a list in Python's spelling
            return ast.literal_eval(value)
    return value


def check_parameters(namespace: Mapping[str, Any] | None = None) -> types.SimpleNamespace | None:
    """Check the values that papermill or a reader put after the parameters cell of this kernel.

    IPython's input history holds the executed cells. The first cell of literal assignments only
    declares the names. The latest cell with exactly these names holds the defaults, because a
    reader may edit and run it again. Later cells that begin with "# Parameters" are papermill's.
    `namespace` has the variables of the notebook, with `In`, by default those of this kernel.
    Return the parameters in force as attributes, or None in a plain script without a kernel.
    """
    if namespace is None:
        ipython = sys.modules.get("IPython")  # loaded in every kernel
        shell = None if ipython is None else ipython.get_ipython()
        return None if shell is None else check_parameters(shell.user_ns)
    cells = _executed_cells(namespace)
    found = {i: values for i, cell in enumerate(cells) if (values := literals(cell)) is not None}
    if not found:
        raise ParameterError(
            "check_parameters() found no parameters cell: run the cell tagged 'parameters' first; "
            "it must hold nothing but assignments of plain literals such as epochs = 8"
        )
    first = min(found)
    # The declaration itself may begin with papermill's comment.
    inserted = [i for i in range(first + 1, len(cells)) if cells[i].lstrip().startswith(_MARK)]
    same = [i for i, values in found.items() if values.keys() == found[first].keys()]
    place = max(set(same) - set(inserted))
    given: dict[str, Any] = {}
    for i in inserted:
        given |= _assigned(cells[i], namespace) if i > place else {}
    in_force = found[place] | given
    check_values(in_force, found[place], "this notebook")
    return types.SimpleNamespace(**in_force)


def _annotation(name: str, default: Any) -> Any:
    """Return the values that are allowed; the first element speaks for a whole list."""
    if default is None:
        return None | str | int | float
    if isinstance(default, list | tuple):
        return tuple[_annotation(name, default[0]) if default else Any, ...]
    if name == "seed":
        return Annotated[int, Field(ge=0, lt=2**32)]
    if isinstance(default, int | float) and not isinstance(default, bool) and default >= 0:
        return Annotated[type(default), Field(gt=0) if default > 0 else Field(ge=0)]
    return type(default)


def _executed_cells(namespace: Mapping[str, Any]) -> Sequence[str]:
    """Return the sources of the cells run so far, oldest first.

    nbval runs cells without storing them in the history. IPython keeps their sources for tracebacks
    nevertheless, in the order of their first run, and nbval runs every cell once.
    """
    cells = [str(cell) for cell in namespace.get("In", ())]
    if any(cells):
        return cells
    return [
        "".join(entry[2])
        for name, entry in linecache.cache.items()
        if len(entry) == 4 and ("ipykernel_" in name or name.startswith("<ipython-input"))
    ]


def _assigned(cell: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an inserted cell assigns; a value such as `float('inf')` is read from memory."""
    values: dict[str, Any] = {}
    for name, value in _assignments(cell):
        try:
            values[name] = ast.literal_eval(value)
        except ValueError:
            values[name] = namespace.get(name)
    return {name: value for name, value in values.items() if name}
