"""Reading the cell tagged `parameters` of a notebook: plain literals, each with its help.

dataset = "ml-100k"  # MovieLens data set, or "planted"
epochs = 8  # passes over the training data
"""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ss4rec_lib.lessons.errors import ParametersCellError


@dataclass(frozen=True)
class Parameter:
    """One declared parameter of a lesson.

    Attributes:
        default: The literal in the parameters cell.
        type: Python type of the default.
        help: The trailing comment of its line, without the `#`; empty when there is none.
    """

    default: Any
    type: type
    help: str


def read_parameters(notebook: str | Path | Mapping[str, Any]) -> dict[str, Parameter]:
    """Reads a lesson's parameters without running it.

    Args:
        notebook: Path of an .ipynb file, or a notebook already read.

    Returns:
        Declared parameters by name, in the order of the cell.

    Raises:
        ParametersCellError: If there is not exactly one code cell tagged `parameters`, or it holds
            anything but assignments of plain literals to names.
    """
    label = "the notebook"
    if isinstance(notebook, str | Path):
        path = Path(notebook)
        label = path.name
        notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [
        cell
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and "parameters" in cell["metadata"].get("tags", ())
    ]
    if len(cells) != 1:
        raise ParametersCellError(
            f"{label}: {len(cells)} code cells are tagged 'parameters', expected exactly one; set "
            "the tag in JupyterLab's property inspector (right sidebar, cell tags)"
        )
    source = cells[0]["source"]
    return parse_parameters(source if isinstance(source, str) else "".join(source), label)


def parse_parameters(source: str, label: str = "the parameters cell") -> dict[str, Parameter]:
    """Reads `name = literal  # help` lines.

    Args:
        source: Text of the cell.
        label: How error messages call it.

    Returns:
        Declared parameters by name.

    Raises:
        ParametersCellError: Naming the line that is not an assignment of a plain literal.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ParametersCellError(
            f"{label}: line {error.lineno} of the parameters cell is not Python: {error.msg}"
        ) from error
    comments = _comments(source)
    declared: dict[str, Parameter] = {}
    for statement in tree.body:
        name, value = _literal_assignment(statement, label)
        if name in declared:
            raise ParametersCellError(
                f"{label}: line {statement.lineno} assigns {name!r} a second time; declare every "
                "parameter once"
            )
        declared[name] = Parameter(value, type(value), comments.get(statement.end_lineno, ""))
    if not declared:
        raise ParametersCellError(f"{label}: the parameters cell declares no parameter")
    return declared


def _literal_assignment(statement: ast.stmt, label: str) -> tuple[str, Any]:
    target: ast.expr | None = None
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    value = getattr(statement, "value", None)
    if isinstance(target, ast.Name) and value is not None:
        try:
            return target.id, ast.literal_eval(value)
        except ValueError:
            pass
    raise ParametersCellError(
        f"{label}: line {statement.lineno} of the parameters cell is "
        f"{ast.unparse(statement)!r}, expected name = literal; derive values in a later cell, "
        "because a value derived here goes stale when papermill changes a parameter"
    )


def _comments(source: str) -> dict[int, str]:
    """Comments by 1-based line number."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokens
        if token.type == tokenize.COMMENT
    }
