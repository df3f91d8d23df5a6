"""Results of a lesson as data, kept in the executed notebook itself.

The last code cell of a lesson, tagged `record`, calls `record(...)`. The runner, the README and the
tests read the numbers back with `read_record` instead of parsing printed text.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ss4rec_lib.configuration import did_you_mean
from ss4rec_lib.lessons.parameters import LessonError

RECORD_TYPE = "application/vnd.ss4rec.record+json"
"""Type of the display output that carries the record."""

HIGHLIGHTS = "highlights"
CONTEXT = (HIGHLIGHTS, "protocol", "machine", "versions")
"""Entries of a record that are no results: what to show first, and what the results belong to."""


class RecordError(LessonError):
    """A record that JSON cannot hold, or a notebook with no record or with several."""


def record(*, highlights: Sequence[str] = (), **metrics: Any) -> None:
    """Display results as a table and keep them as data in the notebook.

    Args:
        highlights: Names of the three or four numbers that a summary of all lessons shows. A number
            inside a dictionary is named with a dot, for example `test.hr@10`.
        **metrics: Values that JSON can hold; scalars of NumPy or PyTorch become Python numbers.
            Units belong in the name, for example `train_seconds`. Names that are not Python names
            are given as a dictionary: `record(**{"hr@10": 0.08})`.
    """
    if not metrics:
        raise RecordError("record() was given nothing to record; pass name=value pairs")
    values = {name: _plain(name, value) for name, value in metrics.items()}
    numbers = flatten(values)
    for name in highlights:
        if name not in numbers:
            raise RecordError(
                f"record: the highlight {name!r} is not a recorded number."
                f"{did_you_mean(name, numbers)} Numbers are {', '.join(numbers) or 'none'}."
            )
    from IPython.display import display

    data = values | ({HIGHLIGHTS: list(highlights)} if highlights else {})
    width = max(map(len, values))
    text = "\n".join(f"{name:<{width}}  {shown(value)}" for name, value in values.items())
    display({RECORD_TYPE: data, "text/plain": text, "text/html": _table(values)}, raw=True)


def read_record(notebook: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Read the one record of an executed notebook, given by its path or already read."""
    if isinstance(notebook, str | Path):
        import nbformat

        label, cells = Path(notebook).name, nbformat.read(notebook, as_version=4)["cells"]
    else:
        label, cells = "the notebook", notebook["cells"]
    found = [
        output["data"][RECORD_TYPE]
        for cell in cells
        for output in cell.get("outputs", ())
        if RECORD_TYPE in output.get("data", {})
    ]
    if len(found) != 1:
        raise RecordError(
            f"{label}: found {len(found)} records, expected exactly one; the lesson must be "
            "executed to its end, and its last code cell calls record(...) once"
        )
    return dict(found[0])


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of a record; those inside dictionaries are named like `test.hr@10`."""
    numbers: dict[str, float] = {}
    for name, value in values.items():
        if not prefix and name in CONTEXT:
            continue
        if isinstance(value, Mapping):
            numbers |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[prefix + name] = value
    return numbers


def shown(value: Any) -> str:
    """Return a recorded value as text with at most four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(name: str, value: Any) -> Any:
    """Convert a value to what JSON holds, or refuse it."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                kind = type(key).__name__
                raise RecordError(f"record: {name} has the key {key!r} ({kind}), expected text")
        return {key: _plain(f"{name}[{key!r}]", entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(f"{name}[{i}]", element) for i, element in enumerate(value)]
    if getattr(value, "shape", None) == ():
        value = value.item()  # a scalar of NumPy or PyTorch
    if isinstance(value, float) and not math.isfinite(value):
        raise RecordError(f"record: {name} is {value}, expected a finite number; give None instead")
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise RecordError(
        f"record: {name} is of type {type(value).__name__}, expected text, a number, true/false, "
        "None, or lists and dictionaries of these"
    )


def _table(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td style='text-align:left'>{html.escape(name)}</td>"
        f"<td style='text-align:right'>{html.escape(shown(value))}</td></tr>"
        for name, value in values.items()
    )
    head = "<thead><tr><th>recorded</th><th>value</th></tr></thead>"
    return f"<table>{head}<tbody>{rows}</tbody></table>"
