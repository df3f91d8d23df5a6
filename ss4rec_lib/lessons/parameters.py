r"""The guard that papermill lacks: unknown and wrong-typed parameters are refused.

Papermill writes whatever it is given into a cell of its own, right behind the lesson's cell tagged
`parameters`: a misspelt name is a warning and exit code 0, and `-p flag true` becomes the string
`"true"`. A lesson therefore calls `check_parameters()` in the cell that follows its parameters:

    dataset = "ml-100k"  # MovieLens data set, or "planted"
    epochs = 8  # passes over the training data
    ----------------------------------------------------------- (papermill's cell lands here)
    from ss4rec_lib.lessons.parameters import check_parameters

    parameters = check_parameters()

The same rules are applied *before* a kernel starts by `validate`, which reads the notebook file.

The type of a parameter is the type of its default. An `int` is accepted where a `float` is
expected, a `bool` is never a number, a list is accepted for a tuple (papermill knows no tuples),
and a default of `None` accepts `None`, a string or a number.
"""

from __future__ import annotations

import ast
import difflib
import linecache
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ss4rec_lib.lessons.declarations import Parameter, parse_parameters, read_parameters
from ss4rec_lib.lessons.errors import (
    ParametersCellError,
    ParameterTypeError,
    UnknownParameterError,
)

__all__ = [
    "Parameter",
    "check_parameters",
    "parse_parameters",
    "read_parameters",
    "unknown_parameter",
    "validate",
    "value_from_text",
]

INJECTED_MARK = "# Parameters"
"""First line of the cell that papermill injects."""


def check_parameters(namespace: Mapping[str, Any] | None = None) -> types.SimpleNamespace | None:
    """Checks what papermill (or a reader) put behind the parameters cell of this kernel.

    Reads IPython's input history: the first executed cell that consists of literal assignments only
    declares the names; the latest cell with exactly these names holds the defaults (a reader may
    edit and run it again); the cells after it that begin with "# Parameters" are papermill's.

    Args:
        namespace: The notebook's variables, holding `In`; by default those of the running kernel.

    Returns:
        The parameters in force as attributes, or None where there is no kernel (a plain script).

    Raises:
        ParametersCellError: If no executed cell consists of literal assignments only.
        UnknownParameterError: If a parameter was injected that the lesson does not declare.
        ParameterTypeError: If an injected value has another type than the default.
    """
    if namespace is None:
        namespace = _kernel_namespace()
        if namespace is None:
            return None
    declared, injected = _split_history(_executed_cells(namespace), namespace)
    values = {name: parameter.default for name, parameter in declared.items()}
    for name, value in injected.items():
        _check_one(name, value, declared, where="this notebook")
        values[name] = value
    return types.SimpleNamespace(**values)


def validate(notebook: str | Path | Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Refuses values that a lesson's parameters cell does not declare, before anything runs.

    Args:
        notebook: Path of an .ipynb file, or a notebook already read.
        values: Parameter values by name.

    Raises:
        ParametersCellError: If the parameters cell itself is unusable.
        UnknownParameterError: If a name is not declared.
        ParameterTypeError: If a value has another type than the default.
    """
    declared = read_parameters(notebook)
    where = Path(notebook).name if isinstance(notebook, str | Path) else "this notebook"
    for name, value in values.items():
        _check_one(name, value, declared, where)


def value_from_text(name: str, text: str, parameter: Parameter) -> Any:
    """Turns a word of a command line into a value of the declared type.

    Args:
        name: The parameter's name, for the message.
        text: What was typed.
        parameter: Its declaration; numbers, lists and None are read as Python literals, booleans
            as `true` or `false`, strings are taken as they are.

    Returns:
        The value. Its type may still be wrong for the declaration; `validate` says so.
    """
    if parameter.type is str:
        return text
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def unknown_parameter(name: str, declared: Sequence[str], where: str) -> UnknownParameterError:
    """Builds the error for an undeclared name: nearest suggestion, then all names.

    Args:
        name: What was given.
        declared: Names that exist.
        where: Where they are declared, for example a notebook's file name.

    Returns:
        The error, not raised.
    """
    near = difflib.get_close_matches(name, declared, n=1, cutoff=0.5)
    suggestion = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownParameterError(
        f"unknown parameter {name!r}: {where} does not declare it.{suggestion} "
        f"Its parameters are {', '.join(declared)}."
    )


def _check_one(name: str, value: Any, declared: Mapping[str, Parameter], where: str) -> None:
    if name not in declared:
        raise unknown_parameter(name, list(declared), where)
    default = declared[name].default
    if _fits(default, value):
        return
    message = (
        f"parameter {name!r} of {where} is {value!r} ({type(value).__name__}), expected "
        f"{_expectation(default)} like its default {default!r}."
    )
    if isinstance(value, str) and not isinstance(default, str):
        message += f" {_text_hint(name, value, default)}"
    raise ParameterTypeError(message)


def _fits(default: Any, value: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if default is None:
        return value is None or isinstance(value, str | int | float)
    if isinstance(default, float):
        return isinstance(value, int | float)
    if isinstance(default, list | tuple):
        # The first element of the default speaks for all; an empty default says nothing.
        return isinstance(value, list | tuple) and all(
            _fits(default[0], element) for element in (value if default else ())
        )
    return isinstance(value, type(default))


def _expectation(default: Any) -> str:
    if default is None:
        return "None, a string or a number"
    if isinstance(default, list | tuple):
        return f"a list of {type(default[0]).__name__}" if default else "a list"
    return {bool: "true or false (bool)", float: "a number (float)", str: "text (str)"}.get(
        type(default), type(default).__name__
    )


def _text_hint(name: str, value: str, default: Any) -> str:
    if isinstance(default, bool):
        word = value.strip().lower()
        word = word if word in ("true", "false") else str(default).lower()
        return f'Papermill\'s -p passes words as text; give it as YAML instead: -y "{name}: {word}"'
    return f'With papermill give it as YAML, like -y "{name}: {default}"'


def _kernel_namespace() -> Mapping[str, Any] | None:
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    return None if shell is None else shell.user_ns


def _executed_cells(namespace: Mapping[str, Any]) -> list[str]:
    """Sources of the cells run so far, oldest first.

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


def _split_history(
    cells: Sequence[str], namespace: Mapping[str, Any]
) -> tuple[dict[str, Parameter], dict[str, Any]]:
    literal = {index: found for index, cell in enumerate(cells) if (found := _try_parse(cell))}
    if not literal:
        raise ParametersCellError(
            "check_parameters() found no parameters cell: run the cell tagged 'parameters' first; "
            "it must hold nothing but assignments of plain literals such as epochs = 8"
        )
    names = literal[min(literal)].keys()
    place = max(
        i for i, found in literal.items() if found.keys() == names and not _injected(cells, i)
    )
    injected: dict[str, Any] = {}
    for cell in cells[place + 1 :]:
        if cell.lstrip().startswith(INJECTED_MARK):
            injected.update(_injected_values(cell, namespace))
    return literal[place], injected


def _injected(cells: Sequence[str], index: int) -> bool:
    """Whether a cell is papermill's. The very first one cannot be: it follows the declaration."""
    mine = cells[index].lstrip().startswith(INJECTED_MARK)
    return mine and any(_try_parse(cell) for cell in cells[:index])


def _try_parse(cell: str) -> dict[str, Parameter] | None:
    try:
        return parse_parameters(cell)
    except ParametersCellError:
        return None


def _injected_values(cell: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Values of papermill's cell; it writes `float('nan')` where Python has no literal."""
    values: dict[str, Any] = {}
    for statement in ast.parse(cell).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
            try:
                values[name] = ast.literal_eval(statement.value)
            except ValueError:
                values[name] = namespace.get(name)
    return values
