"""Metrics of a lesson as data, kept in the executed notebook itself.

The last code cell of a lesson, tagged `record`, calls `record(...)`. Tests and summaries read the
numbers back with `read_record` instead of parsing printed text.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ss4rec_lib.lessons.errors import RecordError

MIME = "application/vnd.ss4rec.record+json"
"""Type of the display output that carries the record."""


def record(**metrics: Any) -> None:
    """Displays the recorded values as a table and keeps them as data in the notebook.

    Names that are no Python names are given as a dictionary: `record(**{"hr@10": 0.08})`.

    Args:
        **metrics: Values that JSON can hold: text, finite numbers, booleans, None, and lists or
            dictionaries of these. Scalars of NumPy or PyTorch become Python numbers. Units belong
            in the name, for example `train_seconds`.

    Raises:
        RecordError: If nothing is given, or a value is NaN, infinite, or of another type.
    """
    if not metrics:
        raise RecordError("record() was given nothing to record; pass name=value pairs")
    values = {name: _plain(name, value) for name, value in metrics.items()}
    from IPython.display import display

    display({MIME: values, "text/plain": _as_text(values), "text/html": _as_html(values)}, raw=True)


def read_record(notebook: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Reads the record of an executed notebook.

    Args:
        notebook: Path of an .ipynb file, or a notebook already read.

    Returns:
        Recorded values by name.

    Raises:
        RecordError: If the notebook holds no record, or more than one.
    """
    label = "the notebook"
    if isinstance(notebook, str | Path):
        import nbformat

        label = Path(notebook).name
        notebook = nbformat.read(notebook, as_version=4)
    found = [
        output["data"][MIME]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
        if MIME in output.get("data", {})
    ]
    if len(found) != 1:
        raise RecordError(
            f"{label}: found {len(found)} records, expected exactly one; the lesson must be "
            "executed to its end, and its last code cell calls record(...) once"
        )
    return dict(found[0])


def _plain(name: str, value: Any) -> Any:
    """Converts to what JSON holds, or refuses."""
    if isinstance(value, Mapping):
        return {_key(name, key): _plain(f"{name}[{key!r}]", v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(f"{name}[{i}]", element) for i, element in enumerate(value)]
    if (
        not isinstance(value, str | int | float | type(None))
        and getattr(value, "shape", None) == ()
    ):
        value = value.item()  # a scalar of NumPy or PyTorch
    elif isinstance(value, float):
        value = float(value)  # np.float64 is a float by inheritance and prints as one no longer
    if isinstance(value, float) and not math.isfinite(value):
        raise RecordError(
            f"record: {name} is {value}, expected a finite number; a metric without a value must "
            "be left out or recorded as None"
        )
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise RecordError(
        f"record: {name} is of type {type(value).__name__}, expected text, a number, true/false, "
        "None, or lists and dictionaries of these"
    )


def _key(name: str, key: Any) -> str:
    if not isinstance(key, str):
        raise RecordError(
            f"record: {name} has the key {key!r} of type {type(key).__name__}, expected text"
        )
    return key


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _as_text(values: Mapping[str, Any]) -> str:
    width = max(len(name) for name in values)
    return "\n".join(f"{name:<{width}}  {_shown(value)}" for name, value in values.items())


def _as_html(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td style='text-align:left'>{html.escape(name)}</td>"
        f"<td style='text-align:right'>{html.escape(_shown(value))}</td></tr>"
        for name, value in values.items()
    )
    head = "<thead><tr><th>recorded</th><th>value</th></tr></thead>"
    return f"<table>{head}<tbody>{rows}</tbody></table>"
