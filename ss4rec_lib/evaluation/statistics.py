"""How sure a metric, or a difference between two models, is: over users and over seeds.

Glossary
    value       one metric of one user, such as `RankingResult.per_target("ndcg@10")` gives
    U, S        number of users; number of training runs (seeds) of a model
    difference  always a minus b, and paired: the same user under both models

Two things vary. Another sample of users would give another mean (`standard_error`,
`bootstrap_interval`, `paired_difference`), and so would another seed of the same training
(`over_seeds`). An error bar that counts one of them says nothing of the other;
`difference_over_seeds` counts both. No p value here is corrected for the number of comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ss4rec_lib.data import check_integer
from ss4rec_lib.evaluation.ranking import RankingResult

_CELLS = 4_000_000  # numbers drawn at a time: 32 MB, whatever the number of users


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
    p_value: float
    """Of the sign-flip permutation test, two-sided."""
    p_value_t: float
    """Of the paired t test, two-sided; NaN when all differences are equal."""


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
    p_value: float
    """Of the t test with these degrees of freedom, two-sided."""


def standard_error(values: np.ndarray) -> float:
    """Standard error of a mean: the standard deviation (ddof 1) over sqrt(n); NaN for one value.

    Args:
        values: (n,) numbers.

    Raises:
        ValueError: No values, more than one axis, NaN or infinity.
    """
    values = _vector("values", values)
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, samples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """BCa bootstrap interval of a mean over users (Efron 1987).

    BCa and not the percentile interval, because it corrects for skewness to second order, and the
    values of a rare hit are skewed; for a mean its correction is in closed form. Resampling n users
    with replacement is drawn as how often each *distinct* value occurs, which is multinomial: the
    same distribution as drawing users, and a metric at K without ties has only K + 1 values
    (`scipy.stats.bootstrap` draws all samples * n indices, and n * n for BCa).

    Args:
        values: (n,) numbers, at least 2.
        level: Share of intervals that should hold the true mean, between 0 and 1.
        samples: Bootstrap samples.
        seed: Of the resampling.

    Returns:
        Low and high end. If all values are equal both are that value: nothing varies to resample.

    Raises:
        ValueError: Fewer than 2 values, NaN or infinity, or an argument out of range.
    """
    values = _vector("values", values, least=2)
    level = _check_level(level)
    check_integer("samples", samples, 1)
    distinct, counts = np.unique(values, return_counts=True)
    n, mean = len(values), float(values.mean())
    if len(distinct) == 1:
        return mean, mean
    rng = np.random.default_rng(check_integer("seed", seed, 0))
    means = np.concatenate(
        [
            rng.multinomial(n, counts / n, size=size) @ distinct / n
            for size in _batches(samples, len(distinct))
        ]
    )  # (samples,)
    # Means that equal the observed one but for rounding count half, as in scipy.
    close = np.abs(means - mean) <= 1e-12 * np.abs(values).max()
    below = (((means < mean) & ~close).sum() + close.sum() / 2) / samples
    # One sample below or above at least: the correction would otherwise be infinite.
    bias = stats.norm.ppf(np.clip(below, 0.5 / samples, 1 - 0.5 / samples))
    deviation = values - mean
    acceleration = (deviation**3).sum() / (6 * (deviation**2).sum() ** 1.5)
    z = bias + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(means, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def paired_difference(
    a: RankingResult | np.ndarray,
    b: RankingResult | np.ndarray,
    metric: str | None = None,
    *,
    level: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
) -> PairedDifference:
    """Model a minus model b, user by user, with an interval and a test.

    The test is the sign-flip permutation test (Fisher's randomization test): if the models were
    equal, each user's difference would be as likely with the other sign. It tests the mean, which
    is what is reported, and needs no normal distribution. Wilcoxon's test looks at ranks of
    differences, most of which are tied at 0 here, and Smucker, Allan and Carterette ("A comparison
    of statistical significance tests for information retrieval evaluation", CIKM 2007) advise
    against it; they find the paired t test close to the permutation test, so its p value is given
    as a check. A p value of `samples` drawn flips is at least 1 / (samples + 1) (Phipson and Smyth
    2010). Nothing here knows of seeds: the claim is about these two sets of weights.

    Args:
        a: A result, or (n,) values of one metric.
        b: The same for the other model; of two arrays, row i must be the same user.
        metric: Such as `ndcg@10`; needed for results, only a label for arrays.
        level: Of the interval, which is `bootstrap_interval` of the differences.
        samples: Bootstrap samples, and sign flips.
        seed: Of both.

    Raises:
        ValueError: Different users or numbers of users, fewer than 2 of them, results without a
            metric, or what `bootstrap_interval` refuses.
    """
    values = _values([a, b], metric)  # (2, n)
    difference = values[0] - values[1]
    low, high = bootstrap_interval(difference, level, samples, seed)
    error = standard_error(difference)
    mean = float(difference.mean())
    constant = bool((difference == difference[0]).all())
    p_t = float("nan") if constant else float(stats.ttest_rel(values[0], values[1]).pvalue)
    return PairedDifference(
        metric=metric, n_users=len(difference),
        mean_a=float(values[0].mean()), mean_b=float(values[1].mean()),
        difference=mean, standard_error=error, low=low, high=high, level=level,
        p_value=_sign_flip(difference, samples, seed), p_value_t=p_t,
    )  # fmt: skip


def over_seeds(values: Sequence[float], level: float = 0.95) -> SeedSummary:
    """Mean and standard deviation of one metric over training runs, with a t interval of the mean.

    The interval is about training noise on **these** users: mean +- t(S - 1) * sd / sqrt(S). It
    takes the seeds' means as normal, and with three seeds it is wide: t is 4.3 at level 0.95. Of
    one run the spread is unknown, and sd, low and high are NaN.

    Args:
        values: (S,) the metric of each run.
        level: Of the interval.

    Raises:
        ValueError: No values, NaN or infinity, or a level that is not between 0 and 1.
    """
    values = _vector("values", values)
    level = _check_level(level)
    n, mean = len(values), float(values.mean())
    sd = float(values.std(ddof=1)) if n > 1 else float("nan")
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * sd / np.sqrt(n)) if n > 1 else float("nan")
    return SeedSummary(n, mean, sd, mean - half, mean + half, level)


def difference_over_seeds(
    a: Sequence[RankingResult] | np.ndarray,
    b: Sequence[RankingResult] | np.ndarray,
    metric: str | None = None,
    *,
    level: float = 0.95,
) -> SeedsDifference:
    """Model a minus model b, each trained with several seeds, counting users **and** seeds.

    Each model's value of seed s and user u is taken as mean + seed effect + user effect + rest, all
    independent but for the user effects, which the models share (a crossed two-way random effects
    model; Searle, Casella and McCulloch, "Variance Components", 1992). With d_u the difference of
    the two means over seeds for user u, and m_s a model's mean over users for seed s:

        V_users = var(d_u) / U
        V_seeds = var(m_s of a) / S_a + var(m_s of b) / S_b
        standard error = sqrt(V_users + V_seeds)

    Both terms hold the rest's share, var(rest) / (S U), which the unbiased estimate would subtract
    once (as two-way clustering does: Cameron, Gelbach and Miller, "Robust inference with multiway
    clustering", 2011). Left in, the sum is never negative and errs towards too wide. Interval and
    test use Student's t with Satterthwaite's degrees of freedom (1946), so two or three seeds that
    differ much give the wide interval they deserve.

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
    per_model = values[: len(a)], values[len(a) :]
    n_users = values.shape[1]
    by_user = per_model[0].mean(axis=0) - per_model[1].mean(axis=0)  # (U,)
    # (variance of the mean, its degrees of freedom) of each source
    terms = [(by_user.var(ddof=1) / n_users, n_users - 1)]
    terms += [(v.mean(axis=1).var(ddof=1) / len(v), len(v) - 1) for v in per_model]
    variance = sum(v for v, _ in terms)
    error = float(np.sqrt(variance))
    weight = sum(v**2 / dof for v, dof in terms)
    dof = float(variance**2 / weight) if weight > 0 else float("inf")
    mean = float(by_user.mean())
    half = float(stats.t.ppf((1 + level) / 2, dof)) * error
    p_value = float(2 * stats.t.sf(abs(mean) / error, dof)) if error > 0 else float(mean == 0)
    return SeedsDifference(
        metric=metric, n_users=n_users, seeds_a=len(a), seeds_b=len(b),
        mean_a=float(per_model[0].mean()), mean_b=float(per_model[1].mean()), difference=mean,
        standard_error_users=float(np.sqrt(terms[0][0])),
        standard_error_seeds=float(np.sqrt(terms[1][0] + terms[2][0])),
        standard_error=error, degrees_of_freedom=dof,
        low=mean - half, high=mean + half, level=level, p_value=p_value,
    )  # fmt: skip


def _sign_flip(difference: np.ndarray, samples: int, seed: int) -> float:
    """P value of the sign-flip test of mean 0; of c equal magnitudes a binomial number stay +."""
    size, counts = np.unique(np.abs(difference[difference != 0]), return_counts=True)
    observed = abs(float(difference.sum()))
    # A second stream: the bootstrap of the same call uses (seed,).
    rng = np.random.default_rng([check_integer("seed", seed, 0), 1])
    extreme = 0
    for batch in _batches(samples, max(1, len(size))):
        signs = 2 * rng.binomial(counts, 0.5, size=(batch, len(size))) - counts  # (batch, distinct)
        extreme += int((np.abs(signs @ size) >= observed * (1 - 1e-12)).sum())
    return (extreme + 1) / (samples + 1)


def _batches(samples: int, width: int) -> list[int]:
    """Sizes that sum to `samples`, each times `width` at most about `_CELLS`."""
    size = max(1, _CELLS // width)
    return [min(size, samples - done) for done in range(0, samples, size)]


def _values(runs: Sequence[RankingResult | np.ndarray], metric: str | None) -> np.ndarray:
    """Values of all runs, (runs, U), with the same user in a column."""
    results = [isinstance(run, RankingResult) for run in runs]
    if not any(results):
        vectors = [_vector(f"run {i}", run, least=2) for i, run in enumerate(runs)]
        if len({len(v) for v in vectors}) > 1:
            raise ValueError(
                f"the runs have {', '.join(f'{len(v):,}' for v in vectors)} values: expected the "
                "same users in the same order"
            )
        return np.stack(vectors)
    if not all(results):
        raise ValueError("results and arrays are mixed: pass all runs as RankingResult or none")
    if metric is None:
        raise ValueError("metric=None: name the metric to compare, such as 'ndcg@10'")
    orders = [np.argsort(run.users, kind="stable") for run in runs]
    first = runs[0].users[orders[0]]
    if (np.diff(first) == 0).any():
        raise ValueError("a user has several targets: pairing needs one target a user")
    for run, order in zip(runs, orders, strict=True):
        if not np.array_equal(run.users[order], first):
            raise ValueError(
                f"the runs rank different users: {len(first):,} and {len(run.users):,}, of whom "
                f"{len(np.intersect1d(first, run.users)):,} are in both; compare runs on the same "
                "split and part"
            )
    pairs = zip(runs, orders, strict=True)
    return np.stack([_vector("a", r.per_target(metric)[o], least=2) for r, o in pairs])


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
