"""Results of a lesson as data, kept in the executed notebook itself.

The last code cell of a lesson, tagged `record`, calls `record(...)`. The runner, the README and the
tests read the numbers back with `read_record` instead of parsing printed text.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ss4rec_lib.configuration import did_you_mean
from ss4rec_lib.lessons.parameters import LessonError

RECORD_TYPE = "application/vnd.ss4rec.record+json"
"""Type of the display output that carries the record."""

HIGHLIGHTS = "highlights"
TOLERANCES = "tolerances"
CONTEXT = (HIGHLIGHTS, TOLERANCES, "protocol", "machine", "versions")
"""Entries of a record that are no results: how to read them, and what they belong to."""

_ROWS = 20  # of the table that is shown
_MEASURED = re.compile(r"(lesson|train|fit|wall|step)_(seconds|ms)|peak_rss_bytes|per_second")
_EXACT = 1e-6  # relative difference of a number without a tolerance


class RecordError(LessonError):
    """A record that JSON cannot hold, or a notebook with no record or with several."""


def record(
    *,
    highlights: Sequence[str] = (),
    tolerances: Mapping[str, float | None] | None = None,
    **metrics: Any,
) -> None:
    """Display a short table of results and keep all of them as data in the notebook.

    Args:
        highlights: Names of the three or four numbers that a summary of all lessons shows. A number
            inside a dictionary is named with a dot, for example `test.hr@10`.
        tolerances: By name or pattern (`test.*`), how far a number may be from that of another run;
            None: it is not compared. See `compare_records`.
        **metrics: Values that JSON can hold; scalars of NumPy or PyTorch become Python numbers.
            Units belong in the name, for example `train_seconds`. Names that are not Python names
            are given as a dictionary: `record(**{"hr@10": 0.08})`.
    """
    if not metrics:
        raise RecordError("record() was given nothing to record; pass name=value pairs")
    values = {name: _plain(name, value) for name, value in metrics.items()}
    numbers, leaves, allowed = flatten(values), _leaves(values), dict(tolerances or {})
    for name in highlights:
        if name not in numbers:
            near = did_you_mean(name, numbers)
            known = f"{near} Numbers are {', '.join(numbers) or 'none'}."
            raise RecordError(f"record: the highlight {name!r} is not a recorded number.{known}")
    for name, by in allowed.items():
        # What a data set lacks is recorded as None, and its tolerance matches nothing.
        absent = values.get(name.partition(".")[0], "") is None
        if not absent and not any(fnmatchcase(leaf, name) for leaf in leaves):
            near = did_you_mean(name, leaves)
            raise RecordError(f"record: the tolerance {name!r} is for no recorded number.{near}")
        if by is not None and not 0 < by < math.inf:
            raise RecordError(f"record: the tolerance {name}={by}, expected a positive number")
    from IPython.display import display

    rows = {
        name: shown(leaves[name]) + (f" ± {by:g}" if (by := _tolerance(name, allowed)) else "")
        for name in dict.fromkeys([*highlights, *leaves])
        if name.partition(".")[0] not in CONTEXT and not re.search(r"\.\d+(\.|$)", name)
    }
    if (more := len(rows) - _ROWS) > 0:
        rows = dict(list(rows.items())[:_ROWS]) | {f"and {more} more": ""}
    width = max(map(len, rows), default=0)
    text = "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in rows.items())
    settings = {HIGHLIGHTS: list(highlights), TOLERANCES: allowed}
    data = values | {name: value for name, value in settings.items() if value}
    display({RECORD_TYPE: data, "text/plain": text, "text/html": _table(rows)}, raw=True)


def compare_records(committed: Mapping[str, Any], fresh: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each result of a fresh run that differs from the committed one.

    A number with a tolerance in the committed record may differ by that much. Times and memory
    (`train_seconds`, `peak_rss_bytes`, ...) and context are not compared; all else must agree.
    """
    allowed, found = committed.get(TOLERANCES, {}), []
    old, new = (
        _leaves({k: v for k, v in r.items() if k not in CONTEXT or k == "protocol"})
        for r in (committed, fresh)
    )
    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new:
            found.append(f"{name} is recorded {'no longer' if name in old else 'newly'}")
            continue
        a, b, by = old[name], new[name], _tolerance(name, allowed, 0.0)
        if by is None or _MEASURED.search(name):
            continue
        numbers = all(type(x) in (int, float) for x in (a, b))
        if a != b and not (numbers and abs(a - b) <= max(by, _EXACT * max(abs(a), abs(b)))):
            apart = f", more than {by:g} apart" if by else ""
            found.append(f"{name} was {a!r} and is {b!r}{apart}")
    return found


def read_record(notebook: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Read the one record of an executed notebook, given by its path or already read."""
    if isinstance(notebook, str | Path):
        import nbformat

        label, cells = Path(notebook).name, nbformat.read(notebook, as_version=4)["cells"]
    else:
        label, cells = "the notebook", notebook["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    found = [data[RECORD_TYPE] for o in outputs if RECORD_TYPE in (data := o.get("data", {}))]
    if len(found) != 1:
        raise RecordError(
            f"{label}: found {len(found)} records, expected exactly one; the lesson must be "
            "executed to its end, and its last code cell calls record(...) once"
        )
    return dict(found[0])


def flatten(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a record; those inside dictionaries are named like `test.hr@10`."""
    leaves = _leaves({k: v for k, v in values.items() if k not in CONTEXT}, inside=Mapping)
    return {name: value for name, value in leaves.items() if type(value) in (int, float)}


def _leaves(values: Any, prefix: str = "", inside: Any = Mapping | list) -> dict[str, Any]:
    """Return every value inside dictionaries and lists by its path, such as `curve.0`."""
    if not isinstance(values, inside):
        return {prefix[:-1]: values}
    pairs = values.items() if isinstance(values, Mapping) else enumerate(values)
    return {n: v for k, x in pairs for n, v in _leaves(x, f"{prefix}{k}.", inside).items()}


def _tolerance(name: str, allowed: Mapping[str, Any], otherwise: Any = None) -> float | None:
    return next((by for pattern, by in allowed.items() if fnmatchcase(name, pattern)), otherwise)


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
    expected = "text, a number, true/false, None, or lists and dictionaries of these"
    raise RecordError(f"record: {name} is of type {type(value).__name__}, expected {expected}")


def _table(values: Mapping[str, str]) -> str:
    rows = "".join(
        f"<tr><td style='text-align:left'>{html.escape(name)}</td>"
        f"<td style='text-align:right'>{html.escape(value)}</td></tr>"
        for name, value in values.items()
    )
    head = "<thead><tr><th>recorded</th><th>value</th></tr></thead>"
    return f"<table>{head}<tbody>{rows}</tbody></table>"
