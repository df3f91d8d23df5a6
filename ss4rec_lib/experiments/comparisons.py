"""Differences between recorded runs, user by user: SS4Rec minus each other model of its protocol.

Two means with their errors do not say how sure their *difference* is: the same users are easy for
both models. Here the ranks of both are paired (`ss4rec_lib.evaluation.statistics`). Compared are
runs on the same targets with the same budget of epochs, and models that are not trained in epochs
with all of them. With two seeds or more on either side the interval counts users and seeds, else
users alone, at the lowest seed that both have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ss4rec_lib.evaluation import (
    PairedDifference,
    RankingResult,
    SeedsDifference,
    difference_over_seeds,
    paired_difference,
)
from ss4rec_lib.experiments.ranks import read_ranks
from ss4rec_lib.experiments.results import RANKS, Group, changes_of, read_beside
from ss4rec_lib.models import FITTED

Ranks = Mapping[tuple[str, bool], RankingResult]
"""A run's ranks by target time and whether seen items are masked, as `read_ranks` gives them."""

# Of SS4Rec itself these may differ from the published configuration; its other variants are rivals.
_BUDGET = {"epochs", "target_time"}


class Comparison(NamedTuple):
    """One model in one arm minus another in one arm, over the users of the test part."""

    a: Group
    a_time: str
    b: Group
    b_time: str
    masked: bool
    metric: str
    difference: float
    low: float
    high: float
    counts: str
    """What the interval counts: `users and seeds`, or `users (seed 0)`."""


def load_ranks(folder: Path, names: list[str]) -> dict[str, Ranks]:
    """The ranks of recorded runs, by name; records without a file of ranks are left out.

    Args:
        folder: The records' folder.
        names: Of the records.

    Raises:
        ExperimentError: A damaged file.
    """
    return read_beside(folder / RANKS, names, read_ranks)


def compare(
    groups: list[Group], ranks: Mapping[str, Ranks], metric: str = "ndcg@10"
) -> list[Comparison]:
    """SS4Rec, in each arm of target time, minus every other model in its own arm.

    Args:
        groups: As `results.grouped` gives them.
        ranks: By the names of the groups' records; groups without ranks are left out.
        metric: Such as `ndcg@10`.

    Returns:
        Not masked and masked, in the order of the groups.
    """
    groups = [group for group in groups if all(name in ranks for name in group.names)]
    found = []
    for a, b in _pairs(groups):
        for time in dict.fromkeys(arm["target_time"] for arm in a.first["arms"]):
            other = b.first["protocol"]["target_time"]
            for masked in (False, True):
                found.append(_difference(a, time, b, other, masked, metric, ranks))
    return found


def _pairs(groups: list[Group]) -> Iterator[tuple[Group, Group]]:
    for a in groups:
        if not _is_published_ss4rec(a):
            continue
        for b in groups:
            if b is a or _task(a) != _task(b):
                continue
            if b.first["preset"] not in FITTED and _epochs(a) != _epochs(b):
                continue
            # Of two SS4Recs the one that knows the time stands first, once.
            if _is_published_ss4rec(b) and a.first["protocol"]["target_time"] != "known":
                continue
            yield a, b


def _is_published_ss4rec(group: Group) -> bool:
    return group.first["preset"] == "official" and changes_of(group.first).keys() <= _BUDGET


def _epochs(group: Group) -> int:
    return group.first["config"]["training"]["epochs"]


def _task(group: Group) -> str:
    """What two runs must share for their users to be paired."""
    protocol = group.first["protocol"]
    names = ("split", "ordering", "min_interactions", "catalogue", "fingerprint")
    return json.dumps([group.first["dataset"], *(protocol[name] for name in names)])


def _difference(
    a: Group, a_time: str, b: Group, b_time: str, masked: bool, metric: str,
    ranks: Mapping[str, Ranks],
) -> Comparison:  # fmt: skip
    of_a = {s: ranks[n][a_time, masked] for s, n in zip(a.seeds, a.names, strict=True)}
    of_b = {s: ranks[n][b_time, masked] for s, n in zip(b.seeds, b.names, strict=True)}
    found, counts = difference_of_runs(of_a, of_b, metric)
    return Comparison(
        a, a_time, b, b_time, masked, metric,
        found.difference, found.low, found.high, counts,
    )  # fmt: skip


def difference_of_runs(
    of_a: Mapping[int, RankingResult | np.ndarray],
    of_b: Mapping[int, RankingResult | np.ndarray],
    metric: str,
) -> tuple[PairedDifference | SeedsDifference, str]:
    """Runs of one model minus those of another, and what the interval counts.

    Args:
        of_a: By seed, a result or the values of its users or targets, (n,).
        of_b: The same for the other model, of the same users or targets.
        metric: Of results, such as `ndcg@10`; of values, their name.

    Returns:
        With two seeds or more on either side, a difference over users and seeds; else one over
        users, at the lowest seed that both have.
    """
    if len(of_a) > 1 and len(of_b) > 1:
        found = difference_over_seeds(list(of_a.values()), list(of_b.values()), metric)
        return found, "users and seeds"
    shared = sorted(of_a.keys() & of_b.keys())
    seeds = (shared[0], shared[0]) if shared else (next(iter(of_a)), next(iter(of_b)))
    found = paired_difference(of_a[seeds[0]], of_b[seeds[1]], metric)
    return found, f"users (seed {seeds[0]})" if shared else f"users (seeds {seeds[0]}, {seeds[1]})"
