"""Uncertainty of a metric, and of the difference between two models, over users and over seeds.

Glossary
    value       one metric of one user, such as `RankingResult.per_target("ndcg@10")` gives
    U, S        number of users; number of training runs (seeds) of a model
    difference  always a minus b, and paired: the same user under both models

Another sample of users would give another mean (`standard_error`, `bootstrap_interval`,
`paired_difference`), and so would another seed (`difference_over_seeds` counts both).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # scipy.stats is loaded when first used: it takes a second

from ss4rec_lib.evaluation.ranking import RankingResult


@dataclass(frozen=True)
class PairedDifference:
    """Model a minus model b on the same users, with the 95 % interval from `low` to `high`."""

    metric: str | None
    n_users: int
    mean_a: float
    mean_b: float
    difference: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True)
class SeedsDifference(PairedDifference):
    """Model a minus model b, both over several seeds; see `difference_over_seeds`."""

    seeds_a: int
    seeds_b: int
    standard_error_users: float
    standard_error_seeds: float
    degrees_of_freedom: float


def standard_error(values: np.ndarray) -> float:
    """Return the standard deviation (ddof 1) over sqrt(n); NaN for one value."""
    values = _vector("values", values)
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, samples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Return the BCa bootstrap interval of a mean over users (Efron 1987), low and high end.

    Metrics of rare hits are skewed. Unlike the percentile interval, BCa corrects for skewness. If
    all values are equal, both ends are that value. `level` is the share of intervals that should
    hold the true mean, between 0 and 1; `samples` the number of bootstrap samples.
    """
    values = _vector("values", values, least=2)
    if not 0 < level < 1:
        raise ValueError(f"level={level!r}: expected a number between 0 and 1, such as 0.95")
    if (values == values[0]).all():
        return float(values[0]), float(values[0])
    rng, batch = np.random.default_rng(seed), 1 + 1_000_000 // len(values)  # 8 MB at a time
    found = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=samples, batch=batch, confidence_level=level, rng=rng
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def paired_difference(
    a: RankingResult | np.ndarray, b: RankingResult | np.ndarray, metric: str | None = None
) -> PairedDifference:
    """Return model a minus model b, user by user, with the 95 % interval of the paired t test.

    The interval is about these two sets of weights and says nothing about other seeds. Row i of two
    arrays (U,) must be the same user. Results need a `metric`; for arrays it is only a label.
    """
    of_a, of_b = _values([a, b], metric)  # (U,) each
    by_user = of_a - of_b
    n_users = len(by_user)
    interval = _interval(float(by_user.mean()), standard_error(by_user), n_users - 1)
    return PairedDifference(metric, n_users, float(of_a.mean()), float(of_b.mean()), *interval)


def difference_over_seeds(
    a: Sequence[RankingResult] | np.ndarray,
    b: Sequence[RankingResult] | np.ndarray,
    metric: str | None = None,
) -> SeedsDifference:
    """Return model a minus model b with a 95 % interval that counts users **and** seeds.

    Each model's value of seed s and user u is taken as mean + seed effect + user effect + rest, all
    independent but for the user effects, which the models share (a crossed two-way random effects
    model; Searle, Casella and McCulloch, "Variance Components", 1992). With d_u the difference of
    the two means over seeds for user u, and m_s a model's mean over users for seed s:

        V_users = var(d_u) / U
        V_seeds = var(m_s of a) / S_a + var(m_s of b) / S_b
        standard error = sqrt(V_users + V_seeds)

    Both terms hold the rest's share, var(rest) / (S U), which the unbiased estimate would subtract
    once (as two-way clustering does: Cameron, Gelbach and Miller, "Robust inference with multiway
    clustering", 2011). Left in, the sum is never negative and errs towards too wide. The interval
    uses Student's t with Satterthwaite's degrees of freedom (1946), so it is wide for two or three
    seeds that differ much. Assumed: users are a random sample, seeds of the two models are
    independent, each model's seed means are about normal.

    `a` and `b` hold one result per seed, at least 2, or are arrays (S_a, U) and (S_b, U). A model
    without randomness gives the same result for every seed: pass it twice.
    """
    for name, runs in (("a", a), ("b", b)):
        count = 1 if isinstance(runs, RankingResult) else len(runs)
        if count < 2:
            raise ValueError(f"{name} has {count} run(s): expected at least 2 seeds")
    values = _values([*a, *b], metric)  # (S_a + S_b, U)
    of_a, of_b = values[: len(a)], values[len(a) :]
    n_users = values.shape[1]
    by_user = of_a.mean(axis=0) - of_b.mean(axis=0)  # (U,)
    # (variance of the mean, its degrees of freedom) of each source
    terms = [(by_user.var(ddof=1) / n_users, n_users - 1)]
    terms += [(v.mean(axis=1).var(ddof=1) / len(v), len(v) - 1) for v in (of_a, of_b)]
    variance = sum(v for v, _ in terms)
    weight = sum(v**2 / dof for v, dof in terms)
    dof = float(variance**2 / weight) if weight > 0 else float("inf")
    means = float(of_a.mean()), float(of_b.mean())
    interval = _interval(float(by_user.mean()), float(np.sqrt(variance)), dof)
    errors = float(np.sqrt(terms[0][0])), float(np.sqrt(terms[1][0] + terms[2][0]))
    return SeedsDifference(metric, n_users, *means, *interval, len(a), len(b), *errors, dof)


def _interval(difference: float, error: float, dof: float) -> tuple[float, float, float, float]:
    """Return difference, standard error, and the ends of the 95 % interval of Student's t."""
    half = float(scipy.stats.t.ppf(0.975, dof)) * error
    return difference, error, difference - half, difference + half


def _values(runs: Sequence[RankingResult | np.ndarray], metric: str | None) -> np.ndarray:
    """Return the values of all runs, (runs, U), with the same user in each column."""
    results = [run for run in runs if isinstance(run, RankingResult)]
    if not results:
        vectors = [_vector(f"run {i}", np.asarray(run), least=2) for i, run in enumerate(runs)]
        counts = [len(vector) for vector in vectors]
        if len(set(counts)) > 1:
            raise ValueError(f"the runs have {counts} values: expected the same users in order")
        return np.stack(vectors)
    if len(results) < len(runs):
        raise ValueError("results and arrays are mixed: pass all runs as RankingResult or none")
    if metric is None:
        raise ValueError("metric=None: name the metric to compare, such as 'ndcg@10'")
    first = np.sort(results[0].users)
    if (np.diff(first) == 0).any():
        raise ValueError("a user has several targets: pairing needs one target per user")
    rows = []
    for run in results:
        order = np.argsort(run.users, kind="stable")
        if not np.array_equal(run.users[order], first):
            raise ValueError(
                f"the runs rank different users: {len(first):,} and {len(run.users):,}, of whom "
                f"{len(np.intersect1d(first, run.users)):,} are in both"
            )
        rows.append(_vector("a run", run.per_target(metric)[order], least=2))
    return np.stack(rows)


def _vector(name: str, values: np.ndarray, least: int = 1) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < least:
        raise ValueError(f"{name} has shape {values.shape}: expected (n,) with n >= {least}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: {(~np.isfinite(values)).sum()} of {len(values)} are not finite")
    return values
