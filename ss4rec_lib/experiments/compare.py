"""Differences between finished runs, target by target.

Two means with their errors do not say how sure their *difference* is: the same targets are easy for
both models. Here the values of the same targets are paired (`ss4rec_lib.evaluation`). With two
seeds or more on both sides the interval counts users and seeds, otherwise users alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ss4rec_lib.evaluation import RankingResult, difference_over_seeds, paired_difference
from ss4rec_lib.experiments.record import read_per_target
from ss4rec_lib.experiments.run import RunFolder
from ss4rec_lib.experiments.task import ExperimentError

_TARGETS = ("split", "ordering", "min_interactions", "catalogue", "fingerprint", "n_test")


@dataclass(frozen=True)
class Comparison:
    """A metric over the test targets of model `a` minus that of `b`, with its 95 % interval."""

    metric: str
    a: str
    b: str
    difference: float
    low: float
    high: float
    interval_over: str  # what the interval counts: `users` or `users and seeds`


def compare(
    a: Sequence[str | Path], b: Sequence[str | Path], metric: str = "ndcg@10", *,
    target_time_a: str | None = None, target_time_b: str | None = None, masked: bool = False,
    ranked_by: str = "score",
) -> Comparison:  # fmt: skip
    """Compare two models on the test targets that both were evaluated on.

    `a` and `b` are folders of finished runs, one per seed; `metric` is `rmse` or such as `ndcg@10`.
    `target_time_a` and `target_time_b` are the runs' own by default. Raise an `ExperimentError` if
    a run is not finished or has no such values, or the targets differ.
    """
    condition = f"{ranked_by}.{'masked' if masked else 'unmasked'}"
    runs = [(path, metric, target_time_a, condition) for path in a]
    runs += [(path, metric, target_time_b, condition) for path in b]
    names, targets, users, values = zip(*(_read(*run) for run in runs), strict=True)
    for i, (path, *_) in enumerate(runs):
        if targets[i] != targets[0] or not np.array_equal(users[i], users[0]):
            raise ExperimentError(f"targets differ: {a[0]} {targets[0]}, {path} {targets[i]}")
    of_a, of_b = values[: len(a)], values[len(a) :]
    if len(a) > 1 and len(b) > 1:
        found = difference_over_seeds(np.stack(of_a), np.stack(of_b), metric)
        over = "users and seeds"
    else:
        found, over = paired_difference(of_a[0], of_b[0], metric), "users"
    scale = 1.0
    if metric == "rmse":
        # a - b = (a^2 - b^2) / (a + b): the interval of the squared errors over the same sum.
        scale = 1 / (np.sqrt(found.mean_a) + np.sqrt(found.mean_b))
    difference, low, high = (float(scale * x) for x in (found.difference, found.low, found.high))
    return Comparison(metric, names[0], names[len(a)], difference, low, high, over)


def _read(
    path: str | Path, metric: str, target_time: str | None, condition: str
) -> tuple[str, dict[str, object], np.ndarray, np.ndarray]:
    """Return a run's model, targets and their users, and the metric of each target."""
    folder = RunFolder(path)
    record, arrays = folder.read_record(), read_per_target(folder.per_target)
    protocol = record["protocol"]
    time = target_time or protocol.get("target_time") or "none"
    try:
        if metric == "rmse":
            values = arrays[f"{time}.squared_error"]
        else:
            above, tied = (arrays[f"{time}.{condition}.{name}"] for name in ("above", "tied"))
            values = RankingResult(arrays["users"], above, tied).per_target(metric)
    except (KeyError, ValueError) as error:
        kept = ", ".join(name for name in arrays if name != "users")
        raise ExperimentError(f"{path}: no values of {metric}: {error}; it has {kept}") from None
    targets = {name: protocol.get(name) for name in _TARGETS}
    return record["display_name"], targets, arrays["users"], values
