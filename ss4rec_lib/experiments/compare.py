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

from ss4rec_lib.evaluation import (
    difference_over_seeds,
    expected_gain,
    paired_difference,
)
from ss4rec_lib.experiments.record import read_per_target
from ss4rec_lib.experiments.run import RunFolder
from ss4rec_lib.experiments.task import ExperimentError


@dataclass(frozen=True)
class Comparison:
    """A metric over the test targets of model `a` minus that of `b`, with its 95 % interval.

    `interval_over` says what the interval counts: `users` or `users and seeds`.
    """

    metric: str
    a: str
    b: str
    difference: float
    low: float
    high: float
    interval_over: str


def compare(
    a: Sequence[str | Path],
    b: Sequence[str | Path],
    metric: str = "ndcg@10",
    *,
    target_time_a: str | None = None,
    target_time_b: str | None = None,
    masked: bool = False,
    ranked_by: str = "score",
) -> Comparison:
    """Compare two models on the test targets that both were evaluated on.

    `a` and `b` are folders of finished runs, one per seed; `metric` is `rmse` or such as `ndcg@10`.
    `target_time_a` and `target_time_b` are the runs' own by default. Raise an `ExperimentError` if
    a run is not finished or has no such values, or the targets differ.
    """
    runs_a, runs_b = ([_Run(path) for path in paths] for paths in (a, b))
    if not runs_a or not runs_b:
        raise ExperimentError("nothing to compare: expected at least one run on each side")
    _check_same_targets([*runs_a, *runs_b])
    values_a = [run.values(metric, target_time_a, masked, ranked_by) for run in runs_a]
    values_b = [run.values(metric, target_time_b, masked, ranked_by) for run in runs_b]
    if len(values_a) > 1 and len(values_b) > 1:
        found = difference_over_seeds(np.stack(values_a), np.stack(values_b), metric)
        over = "users and seeds"
    else:
        found, over = paired_difference(values_a[0], values_b[0], metric), "users"
    scale = 1.0
    if metric == "rmse":
        # a - b = (a^2 - b^2) / (a + b): the interval of the squared errors over the same sum.
        scale = 1 / (np.sqrt(found.mean_a) + np.sqrt(found.mean_b))
    difference, low, high = (float(scale * x) for x in (found.difference, found.low, found.high))
    return Comparison(metric, runs_a[0].name, runs_b[0].name, difference, low, high, over)


class _Run:
    """Record and per-target values of a finished run."""

    def __init__(self, path: str | Path) -> None:
        folder = RunFolder(path)
        self.path, self.record = folder.path, folder.read_record()
        self.arrays = read_per_target(folder.per_target)
        self.name: str = self.record["display_name"]

    def values(
        self, metric: str, target_time: str | None, masked: bool, ranked_by: str
    ) -> np.ndarray:
        """Return the metric of every target; for `rmse` the squared error."""
        time = target_time or self.record["protocol"].get("target_time") or "none"
        if metric == "rmse":
            return self._array(f"{time}.squared_error")
        condition = f"{time}.{ranked_by}.{'masked' if masked else 'unmasked'}"
        above, tied = (self._array(f"{condition}.{name}") for name in ("above", "tied"))
        name, _, k = metric.partition("@")
        if not k.isdigit():
            raise ExperimentError(f"metric={metric!r}: expected rmse, or such as ndcg@10")
        return expected_gain(name, int(k), above, tied)

    def _array(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            conditions = ", ".join(key for key in self.arrays if key != "users")
            raise ExperimentError(f"{self.path} has no values {name!r}: it has {conditions}")
        return self.arrays[name]


def _check_same_targets(runs: Sequence[_Run]) -> None:
    names = ("split", "ordering", "min_interactions", "catalogue", "fingerprint", "n_test")
    first, *others = [{name: run.record["protocol"].get(name) for name in names} for run in runs]
    for run, targets in zip(runs[1:], others, strict=True):
        same_users = np.array_equal(run.arrays["users"], runs[0].arrays["users"])
        if targets != first or not same_users:
            raise ExperimentError(
                f"{runs[0].path} and {run.path} were not evaluated on the same targets: {first} "
                f"and {targets}"
            )
