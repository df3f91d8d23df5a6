"""Parameters of a lesson, and the check that papermill lacks.

A lesson declares its parameters as plain literals, in one cell tagged `parameters`. The next cell
calls `check_parameters(dataset="ml-100k", epochs=8)` with the same defaults; papermill inserts a
cell with the values that it receives between the two.

For papermill, a misspelt name is only a warning, and `-p flag true` becomes the text `"true"`. A
reader who writes `epoch = 3` over `epochs = 8` trains with the old value. `check_parameters`
therefore compares what was run with the published defaults, inside the kernel, and the runner does
the same before a kernel starts.

The type of a parameter is the type of its default. An `int` may be given for a `float`, and a list
for a tuple. A `bool` is not a number. A default of `None` accepts `None`, text or a number. Numbers
are finite; where the default is positive they are positive, where it is 0 they are not negative.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import linecache
import logging
import math
import numbers
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, create_model

from ss4rec_lib.configuration import Config, ConfigError, did_you_mean, from_text

_MARK = "# Parameters"  # first line of the cell that papermill inserts


class LessonError(ValueError):
    """A lesson that cannot be found, read or run as asked."""


class ParameterError(LessonError):
    """A parameter that the lesson does not declare or cannot use, or an unusable declaration."""


@dataclass(frozen=True)
class Parameter:
    """A declared parameter: its default, the trailing comment of its line, and its annotation."""

    default: Any
    help: str
    type: str = "None"  # papermill's word for a parameter without an annotation


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
            default = ast.literal_eval(entry["default"])
            declared[name] = Parameter(default, entry["help"], entry["inferred_type_name"])
        except (ValueError, SyntaxError):
            why = "is not a plain literal; derive it in a later cell, after papermill's"
            raise ParameterError(f"{notebook.name}: {name} = {entry['default']} {why}") from None
    if not declared:
        how = (
            "one code cell must have the tag 'parameters' (right sidebar of JupyterLab, cell tags)"
        )
        raise ParameterError(f"{notebook.name}: no parameters found; {how}, and lines: epochs = 8")
    return declared


def literal_path(path: Path) -> str:
    """Return an absolute path for papermill, which fills parameters into the braces of a path."""
    return str(path.resolve()).replace("{", "{{").replace("}", "}}")


def check_values(values: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> None:
    """Compare values with the defaults that the lesson `where` declares."""
    fields: dict[str, Any] = {n: (_annotation(n, value), value) for n, value in defaults.items()}
    try:
        create_model("Parameters", __base__=Config, **fields)(**values)
    except ConfigError as error:
        hint = ""
        for name, word in values.items():
            default = defaults.get(name)
            if not hint and isinstance(word, str) and not isinstance(default, str | None):
                given = value_from_text(word, default)
                good = str(given if type(given) is type(default) else default).lower()
                hint = ". Papermill's -p passes words as text; with it, give YAML instead: "
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


def check_parameters(**defaults: Any) -> None:
    """Check the values that papermill or a reader gave the parameters of this notebook.

    `defaults` repeats the parameters cell as it is published: `check_parameters(epochs=8)`. In a
    plain script, without a kernel, there is nothing to check.

    Raises:
        ParameterError: Names the parameter, its value, what was expected and the nearest name.
    """
    ipython = sys.modules.get("IPython")  # loaded in every kernel
    shell = None if ipython is None else ipython.get_ipython()
    if shell is not None:
        try:
            checked_parameters(shell.user_ns, defaults)
        except ParameterError as error:
            raise error.with_traceback(None) from None  # readers need the message alone


def checked_parameters(namespace: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters in force, checked; `namespace` has the notebook's variables.

    The input history `In` holds the executed cells, so an edited cell is read as it was written.
    Cells that begin with "# Parameters" are papermill's.
    """
    values = _in_force(namespace, defaults)
    check_values(values, defaults, "this notebook")
    if "dataset" in defaults:
        from ss4rec_lib.data import DATASETS, DataError, dataset_name, is_path, lookup

        name = values["dataset"]
        try:
            if name not in DATASETS:
                dataset_name(name) if is_path(name) else lookup(name)
        except DataError as error:
            raise ParameterError(f"wrong parameter of this notebook: {error}") from None
    return values


def check_choice(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Check a parameter that must be one of the values in the data; None is the lesson's choice.

    Raises:
        ParameterError: Names the parameter, its value, the range and the nearest values.
    """
    known = list(allowed)
    if value is None or value in known:
        return
    if all(isinstance(x, numbers.Real) for x in [value, *known]):
        near = sorted(sorted(known, key=lambda x: abs(x - value))[:3])
        hint = f" The nearest are {', '.join(map(str, near))}."
        held = f"{len(known):,} values from {min(known)} to {max(known)}" if known else "none"
    else:
        words = list(map(str, known))
        hint, held = did_you_mean(value, words), f"{len(words):,}: {', '.join(words[:4])}"
        held += ", ..." if len(words) > 4 else ""
    raise ParameterError(
        f"wrong parameter of this notebook: {name}={value!r} is not in the data.{hint} "
        f"The data hold {held}."
    )


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


def _in_force(namespace: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the latest parameters cell and the cells inserted after it assign."""
    cells = _executed_cells(namespace)
    found = [i for i, cell in enumerate(cells) if _declares(cell, defaults)]
    # The published cell itself may begin with papermill's comment.
    place = max([i for i in found if not _is_inserted(cells[i])] or found[:1], default=None)
    if place is None:  # the history is not there
        values, later = {n: namespace[n] for n in defaults if n in namespace}, []
    else:
        values, later = _values(cells[place], defaults), cells[place + 1 :]
    between = True  # no other cell ran since: a cell of assignments was added by hand
    for cell in later:
        names = [name for name, _, _ in _assignments(cell)]
        between = between and "check_parameters(" not in cell and all(names or [""])
        if _is_inserted(cell):
            values |= _values(cell, defaults, namespace)
        elif between:
            values |= _values(cell, defaults)
    missing = [name for name in defaults if name not in values]
    if missing and values.keys() <= defaults.keys():  # a misspelt name is reported as such
        line = f"{missing[0]} = {defaults[missing[0]]!r}"
        how = f"run the cell tagged 'parameters' with a line such as {line}"
        raise ParameterError(f"{missing[0]} is missing: {how}")
    return values


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


def _assignments(cell: str) -> list[tuple[str, Any, str]]:
    """Return name, value and text of each statement; the name is empty unless it assigns to one."""
    found = []
    with contextlib.suppress(SyntaxError):  # a cell that failed, or that only IPython understands
        for statement in ast.parse(cell).body:
            match statement:
                case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(ast.Name(name), _, value):
                    found.append((name, value, ast.unparse(statement)))
                case _:
                    found.append(("", None, ast.unparse(statement)))
    return found


def _declares(cell: str, defaults: Mapping[str, Any]) -> bool:
    """Return whether a cell is the parameters cell, although some of its names may be misspelt."""
    names, known = [name for name, _, _ in _assignments(cell)], list(defaults)
    alike = sum(bool(difflib.get_close_matches(name, known, 1)) for name in names)
    return alike > 0 and 2 * alike >= max(len(names), len(known))


def _is_inserted(cell: str) -> bool:
    return cell.lstrip().startswith(_MARK)


def _values(
    cell: str, defaults: Mapping[str, Any], memory: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what a cell assigns; values such as `float('inf')` come from memory or are refused."""
    values: dict[str, Any] = {}
    for name, value, line in _assignments(cell):
        try:
            values[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            if memory is None:
                example = name if name in defaults else next(iter(defaults))
                near = "" if name in defaults else did_you_mean(name, defaults)
                raise ParameterError(
                    f"wrong parameter of this notebook: {line!r} is not a name with a plain value; "
                    f"write the value itself, such as {example} = {defaults[example]!r}{near}"
                ) from None
            if name:
                values[name] = memory.get(name)
    return values
