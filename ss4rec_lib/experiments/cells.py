"""Figures and tables as Markdown text."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ss4rec_lib.experiments.record import with_error


def over_seeds(metrics: Sequence[Mapping[str, Any]], name: str) -> str:
    """One metric of several runs as text: mean and standard deviation over seeds.

    Args:
        metrics: The metrics of each run, with `name` and `name_se`.
        name: Which one.

    Returns:
        `0.2067 ± 0.0026 sd`; of a single run its standard error over users, `... se`.
    """
    if len(metrics) == 1:
        text = with_error(metrics[0], name)
        return f"{text} se" if "±" in text else text
    values = [each[name] for each in metrics]
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f} sd"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
