"""Differences between recorded rating runs, target by target: SS4Rec minus each other model.

Both models were asked for the same ratings, so their squared errors are paired, as the ranks are
in `experiments.comparisons`, with the same rule for seeds. The difference of two RMSEs is that of
their mean squared errors over their sum, a^2 - b^2 = (a - b)(a + b); its interval is the interval
of the mean squared errors over the same sum.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ss4rec_lib.experiments.comparisons import difference_of_runs
from ss4rec_lib.experiments.rate_options import SEQUENCE_MODELS
from ss4rec_lib.experiments.rating_results import ERRORS, RatingGroup, read_errors
from ss4rec_lib.experiments.results import read_beside

# Errors have many values, ranks few: a sample of users costs a hundred times more than there.
_SAMPLES = 2_000


class RatingComparison(NamedTuple):
    """The RMSE of one model minus that of another, over the targets of the test part."""

    a: RatingGroup
    b: RatingGroup
    difference: float
    """In stars, of the RMSE over all targets and seeds; below 0 where `a` errs less."""
    low: float
    high: float
    counts: str
    """What the interval counts: `users and seeds`, or `users (seed 0)`."""


def load_errors(folder: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Squared errors of recorded runs, by name; records that kept none are left out.

    Args:
        folder: `results/ratings`.
        names: Of the records.

    Raises:
        ExperimentError: A damaged file.
    """
    return read_beside(folder / ERRORS, names, read_errors)


def compare_ratings(
    groups: Sequence[RatingGroup], errors: Mapping[str, np.ndarray]
) -> list[RatingComparison]:
    """Every SS4Rec minus every other kind of model that was asked for the same ratings.

    Args:
        groups: As `rating_results.rating_groups` gives them.
        errors: Squared errors, (n_targets,), by the names of the groups' records; groups without
            errors are left out.

    Returns:
        In the order of the groups.
    """
    groups = [group for group in groups if all(name in errors for name in group.names)]
    return [
        _difference(a, b, errors)
        for a in groups
        for b in groups
        if a.first["model"] in SEQUENCE_MODELS
        and b.first["model"] not in SEQUENCE_MODELS
        and _task(a) == _task(b)
    ]


def _task(group: RatingGroup) -> str:
    """What two runs must share for their targets to be paired."""
    protocol = {k: v for k, v in group.first["protocol"].items() if k != "target_time"}
    return json.dumps([group.first["dataset"], protocol], sort_keys=True)


def _difference(
    a: RatingGroup, b: RatingGroup, errors: Mapping[str, np.ndarray]
) -> RatingComparison:
    of_a, of_b = (
        {seed: errors[name] for seed, name in zip(g.seeds, g.names, strict=True)} for g in (a, b)
    )
    found, counts = difference_of_runs(of_a, of_b, "squared error", _SAMPLES)
    total = np.sqrt(found.mean_a) + np.sqrt(found.mean_b)
    scaled = (float(x / total) for x in (found.difference, found.low, found.high))
    return RatingComparison(a, b, *scaled, counts)
