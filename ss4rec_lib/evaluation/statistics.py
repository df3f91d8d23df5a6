"""Uncertainty of a metric, and of the difference between two models, over users and over seeds.

Glossary
    value       one metric of one user, such as `RankingResult.per_target("ndcg@10")` gives
    U, S        number of users; number of training runs (seeds) of a model
    difference  always a minus b, and paired: the same user under both models

Two things vary. Another sample of users would give another mean (`standard_error`,
`bootstrap_interval`, `paired_difference`), and so would another seed of the same training
(`over_seeds`). `difference_over_seeds` counts both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ss4rec_lib.evaluation.ranking import RankingResult


@dataclass(frozen=True)
class PairedDifference:
    """Model a minus model b on the same users; see `paired_difference`."""

    metric: str | None
    n_users: int
    mean_a: float
    mean_b: float
    difference: float
    standard_error: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class SeedSummary:
    """One metric of several training runs; see `over_seeds`."""

    n_seeds: int
    mean: float
    sd: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class SeedsDifference:
    """Model a minus model b, both over several seeds; see `difference_over_seeds`."""

    metric: str | None
    n_users: int
    seeds_a: int
    seeds_b: int
    mean_a: float
    mean_b: float
    difference: float
    standard_error_users: float
    standard_error_seeds: float
    standard_error: float
    degrees_of_freedom: float
    low: float
    high: float
    level: float


def standard_error(values: np.ndarray) -> float:
    """Return the standard deviation (ddof 1) over sqrt(n); NaN for one value.

    Raises:
        ValueError: No values, more than one axis, NaN or infinity.
    """
    values = _vector("values", values)
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, samples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Return the BCa bootstrap interval of a mean over users (Efron 1987).

    Metrics of rare hits are skewed. Unlike the percentile interval, BCa corrects for skewness.

    Args:
        values: (n,) numbers, at least 2.
        level: Share of intervals that should hold the true mean, between 0 and 1.
        samples: Bootstrap samples.
        seed: Of the resampling.

    Returns:
        Low and high end. If all values are equal, both are that value.

    Raises:
        ValueError: Fewer than 2 values, NaN or infinity, or an argument out of range.
    """
    values, level = _vector("values", values, least=2), _check_level(level)
    if (values == values[0]).all():
        return float(values[0]), float(values[0])
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=samples,
        batch=1 + 1_000_000 // len(values),  # 8 MB at a time
        confidence_level=level,
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def paired_difference(
    a: RankingResult | np.ndarray,
    b: RankingResult | np.ndarray,
    metric: str | None = None,
    *,
    level: float = 0.95,
) -> PairedDifference:
    """Return model a minus model b, user by user, with the interval of the paired t test.

    The interval is about these two sets of weights. It says nothing about other seeds.

    Args:
        a: A result, or (n,) values of one metric.
        b: The same for the other model; row i of two arrays must be the same user.
        metric: Such as `ndcg@10`; needed for results, only a label for arrays.
        level: Of the interval, between 0 and 1.

    Raises:
        ValueError: Different users or numbers of users, fewer than 2 of them, results without a
            metric, or an argument out of range.
    """
    level = _check_level(level)
    values = _values([a, b], metric)  # (2, U)
    by_user = values[0] - values[1]
    n, difference, error = len(by_user), float(by_user.mean()), standard_error(by_user)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    return PairedDifference(
        metric=metric,
        n_users=n,
        mean_a=float(values[0].mean()),
        mean_b=float(values[1].mean()),
        difference=difference,
        standard_error=error,
        low=difference - half,
        high=difference + half,
        level=level,
    )


def over_seeds(values: Sequence[float], level: float = 0.95) -> SeedSummary:
    """Return mean and standard deviation of one metric over training runs, with a t interval.

    The interval is about training noise on **these** users: mean +- t(S - 1) * sd / sqrt(S). It
    takes the seeds' means as normal, and with three seeds it is wide: t is 4.3 at level 0.95. The
    spread of one run is unknown, so its sd, low and high are NaN.

    Args:
        values: (S,) the metric of each run.
        level: Of the interval.

    Raises:
        ValueError: No values, NaN or infinity, or a level that is not between 0 and 1.
    """
    found, level = _vector("values", np.asarray(values)), _check_level(level)
    n, mean = len(found), float(found.mean())
    sd = float(found.std(ddof=1)) if n > 1 else float("nan")
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * sd / np.sqrt(n)) if n > 1 else float("nan")
    return SeedSummary(n, mean, sd, mean - half, mean + half, level)


def difference_over_seeds(
    a: Sequence[RankingResult] | np.ndarray,
    b: Sequence[RankingResult] | np.ndarray,
    metric: str | None = None,
    *,
    level: float = 0.95,
) -> SeedsDifference:
    """Return model a minus model b, each trained with several seeds, counting users **and** seeds.

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
    seeds that differ much.

    Assumed: users are a random sample, seeds of the two models are independent, each model's seed
    means are about normal. Runs that share a seed number share the order of batches, too; if that
    makes their results rise and fall together the interval is too wide.

    Args:
        a: One result per seed, at least 2, or an array (S_a, U). A model without randomness gives
            the same result for every seed: pass it twice.
        b: The same for the other model; the number of seeds may differ.
        metric: Such as `ndcg@10`; needed for results, only a label for arrays.
        level: Of the interval.

    Raises:
        ValueError: Fewer than 2 seeds of a model or 2 users, different users, results without a
            metric, NaN, or a level that is not between 0 and 1.
    """
    level = _check_level(level)
    for name, runs in (("a", a), ("b", b)):
        if isinstance(runs, RankingResult) or len(runs) < 2:
            count = 1 if isinstance(runs, RankingResult) else len(runs)
            raise ValueError(
                f"{name} has {count} run(s): at least 2 seeds are needed to know what a seed "
                "changes; compare single runs with paired_difference"
            )
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
    difference, error = float(by_user.mean()), float(np.sqrt(variance))
    half = float(stats.t.ppf((1 + level) / 2, dof)) * error
    return SeedsDifference(
        metric=metric,
        n_users=n_users,
        seeds_a=len(a),
        seeds_b=len(b),
        mean_a=float(of_a.mean()),
        mean_b=float(of_b.mean()),
        difference=difference,
        standard_error_users=float(np.sqrt(terms[0][0])),
        standard_error_seeds=float(np.sqrt(terms[1][0] + terms[2][0])),
        standard_error=error,
        degrees_of_freedom=dof,
        low=difference - half,
        high=difference + half,
        level=level,
    )


def _values(runs: Sequence[RankingResult | np.ndarray], metric: str | None) -> np.ndarray:
    """Return the values of all runs, (runs, U), with the same user in each column."""
    results = [run for run in runs if isinstance(run, RankingResult)]
    arrays = [run for run in runs if not isinstance(run, RankingResult)]
    if results and arrays:
        raise ValueError("results and arrays are mixed: pass all runs as RankingResult or none")
    if arrays:
        vectors = [_vector(f"run {i}", run, least=2) for i, run in enumerate(arrays)]
        if len({len(v) for v in vectors}) > 1:
            raise ValueError(
                f"the runs have {', '.join(f'{len(v):,}' for v in vectors)} values: expected the "
                "same users in the same order"
            )
        return np.stack(vectors)
    if metric is None:
        raise ValueError("metric=None: name the metric to compare, such as 'ndcg@10'")
    orders = [np.argsort(run.users, kind="stable") for run in results]
    first = results[0].users[orders[0]]
    if (np.diff(first) == 0).any():
        raise ValueError("a user has several targets: pairing needs one target per user")
    for run, order in zip(results, orders, strict=True):
        if not np.array_equal(run.users[order], first):
            raise ValueError(
                f"the runs rank different users: {len(first):,} and {len(run.users):,}, of whom "
                f"{len(np.intersect1d(first, run.users)):,} are in both; compare runs on the same "
                "split and part"
            )
    pairs = zip(results, orders, strict=True)
    return np.stack([_vector("a", run.per_target(metric)[o], least=2) for run, o in pairs])


def _vector(name: str, values: np.ndarray, least: int = 1) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < least:
        raise ValueError(f"{name} has shape {values.shape}: expected (n,) with n >= {least}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: {(~np.isfinite(values)).sum()} of {len(values)} are not finite")
    return values


def _check_level(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level={level!r}: expected a number between 0 and 1, such as 0.95")
    return float(level)
