"""Results of lessons, laid out for a terminal and kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ss4rec_lib.files import write_text

CONTEXT = ("protocol", "machine", "versions")
"""Parts of a record that say what a figure belongs to; in the JSON, not in the terminal's table."""


@dataclass(frozen=True)
class LessonRun:
    """What became of one lesson.

    Attributes:
        name: Lesson, without the file ending.
        notebook: Executed notebook, relative to the working directory where possible.
        seconds: Wall time, kernel start included.
        parameters: Values the lesson was given; its defaults are not repeated.
        record: Recorded metrics; empty when it failed.
        error: What failed and in which cell; None when it succeeded.
    """

    name: str
    notebook: str
    seconds: float
    parameters: dict[str, Any]
    record: dict[str, Any]
    error: str | None


def format_summary(runs: Sequence[LessonRun]) -> str:
    """Lays out results for a terminal.

    Args:
        runs: Results of `run_lessons`.

    Returns:
        Where each notebook is, a table of recorded metrics and wall seconds, and the failures.
    """
    rows = [("lesson", "recorded", "value")]
    for run in runs:
        metrics = [*_flat(run.record), ("wall seconds", f"{run.seconds:.1f}")]
        rows += [
            (run.name if i == 0 else "", name, value) for i, (name, value) in enumerate(metrics)
        ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    rows.insert(1, tuple("-" * width for width in (*widths, max(len(row[2]) for row in rows))))
    lines = ["", "Executed notebooks:"]
    lines += [f"  {run.notebook}" + ("" if run.error is None else "  (failed)") for run in runs]
    lines += ["", *(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows)]
    failures = [f"{run.name} failed: {run.error}" for run in runs if run.error is not None]
    return "\n".join([*lines, *([""] if failures else []), *failures])


def write_summary(path: Path, runs: Sequence[LessonRun]) -> None:
    """Writes results as JSON, atomically.

    Args:
        path: File to write; an older one is replaced only by a complete new one.
        runs: Results of `run_lessons`.
    """
    write_text(path, json.dumps({"lessons": [asdict(run) for run in runs]}, indent=2) + "\n")


def _flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Metrics as text: nested names joined by dots, a standard error behind its figure."""
    rows: list[tuple[str, str]] = []
    for name, value in record.items():
        if name in CONTEXT or name.removesuffix("_se") in record and name.endswith("_se"):
            continue
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
            continue
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        if f"{name}_se" in record:
            text += f" ± {record[f'{name}_se']:.2g}"
        rows.append((prefix + name, text if len(text) <= 60 else text[:57] + "..."))
    return rows
