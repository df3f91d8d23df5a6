"""Statistics against scipy, against limits in which they are textbook tests, and by coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ss4rec_lib.evaluation import RankingResult
from ss4rec_lib.evaluation.statistics import (
    bootstrap_interval,
    difference_over_seeds,
    paired_difference,
    standard_error,
)


def ranks(above, users=None):
    above = np.asarray(above)
    users = np.arange(len(above)) if users is None else np.asarray(users)
    return RankingResult(users, above, np.ones_like(above))


@pytest.fixture(scope="module")
def models():
    """Two models on 300 users, the first a little better on the same users."""
    rng = np.random.default_rng(0)
    above = rng.geometric(0.02, 300)
    return ranks(above // 2), ranks(above + rng.integers(-3, 4, 300).clip(-above, None))


def test_standard_error_is_the_one_results_carry(models):
    assert standard_error(models[0].per_target("ndcg@10")) == models[0]["ndcg@10_se"]
    assert standard_error(np.array([1.0, 3.0])) == pytest.approx(1.0)
    assert np.isnan(standard_error(np.array([1.0])))


def test_bootstrap_is_scipys_bca_and_not_the_percentile_interval():
    values = np.random.default_rng(3).exponential(size=25) ** 2
    ours = bootstrap_interval(values, samples=20_000)
    error = standard_error(values)
    found = {
        method: stats.bootstrap(
            (values,), np.mean, n_resamples=20_000, method=method, rng=np.random.default_rng(7)
        ).confidence_interval
        for method in ("BCa", "percentile")
    }
    assert ours == pytest.approx(tuple(found["BCa"]), abs=0.12 * error)
    assert abs(ours[1] - found["percentile"].high) > 0.24 * error


def test_bootstrap_of_few_distinct_values_is_scipys_too():
    values = np.repeat([0.0, 0.5, 1.0], [80, 5, 15])
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, rng=np.random.default_rng(7)
    ).confidence_interval
    assert bootstrap_interval(values, samples=20_000) == pytest.approx(tuple(expected), abs=0.006)


def test_bootstrap_intervals_hold_the_true_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    truth, n = 0.08, 300
    covered = dict.fromkeys((0.5, 0.95), 0)
    for i in range(400):
        hits = (rng.random(n) < truth).astype(float)
        for level in covered:
            low, high = bootstrap_interval(hits, level, samples=1000, seed=i)
            covered[level] += low <= truth <= high
    # Three standard errors of a share of 400, and two hits' width for a discrete mean.
    assert 0.91 <= covered[0.95] / 400 <= 0.99
    assert 0.40 <= covered[0.5] / 400 <= 0.60


@settings(max_examples=25)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=30), st.integers(-8, 8))
def test_bootstrap_follows_a_change_of_unit(values, shift):
    values = np.array(values, dtype=float)
    low, high = bootstrap_interval(values, samples=200)
    assert values.min() <= low <= high <= values.max()
    moved = bootstrap_interval(4 * values + shift, samples=200)
    assert moved == pytest.approx((4 * low + shift, 4 * high + shift), abs=1e-9)


def test_bootstrap_of_constants_is_the_constant_and_seeds_are_reproducible():
    assert bootstrap_interval(np.full(5, 0.25)) == (0.25, 0.25)
    values = np.random.default_rng(0).random(50)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_paired_difference_is_that_of_paired_values(models):
    a, b = models
    found = paired_difference(a, b, "ndcg@10")
    values = a.per_target("ndcg@10"), b.per_target("ndcg@10")
    expected = stats.ttest_rel(*values)
    assert found.difference == pytest.approx(a["ndcg@10"] - b["ndcg@10"])
    assert (found.mean_a, found.mean_b) == (a["ndcg@10"], b["ndcg@10"])
    assert found.difference / found.standard_error == pytest.approx(expected.statistic)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.n_users == 300 and found.metric == "ndcg@10"
    # Pairing is what makes it sharper than the two errors side by side.
    assert found.standard_error < np.hypot(a["ndcg@10_se"], b["ndcg@10_se"])
    same = paired_difference(*values, "ndcg@10")
    assert same == found
    back = paired_difference(b, a, "ndcg@10")
    assert back.difference == -found.difference and back.low == pytest.approx(-found.high)


def test_no_difference_and_a_sure_one(models):
    equal = paired_difference(models[0], models[0], "hr@10")
    assert (equal.difference, equal.low, equal.high) == (0, 0, 0)
    sure = paired_difference(np.ones(500), np.zeros(500))
    assert (sure.difference, sure.low, sure.high) == (1, 1, 1)


def test_users_in_another_order_are_paired_by_user(models):
    a, b = models
    order = np.random.default_rng(0).permutation(300)
    shuffled = RankingResult(b.users[order], b.above[order], b.tied[order])
    assert paired_difference(a, shuffled, "mrr@10") == paired_difference(a, b, "mrr@10")


def test_results_of_different_users_are_refused_with_counts(models):
    a, _ = models
    fewer = ranks(np.arange(5), users=[0, 1, 2, 900, 901])
    with pytest.raises(ValueError, match="different users: 300 and 5, of whom 3 are in both"):
        paired_difference(a, fewer, "hr@10")
    with pytest.raises(ValueError, match="4, 5"):
        paired_difference(np.zeros(4), np.zeros(5))
    twice = ranks(np.arange(4), users=[0, 0, 1, 2])
    with pytest.raises(ValueError, match="several targets"):
        paired_difference(twice, twice, "hr@10")


def test_bad_input_is_refused(models):
    a, b = models
    with pytest.raises(ValueError, match="metric=None"):
        paired_difference(a, b)
    with pytest.raises(ValueError, match="mixed"):
        paired_difference(a, b.per_target("hr@10"), "hr@10")
    with pytest.raises(ValueError, match="'map@3' is unknown"):
        paired_difference(a, b, "map@3")
    with pytest.raises(ValueError, match="1 of 3 are not finite"):
        bootstrap_interval(np.array([0.0, np.nan, 1.0]))
    with pytest.raises(ValueError, match=r"shape \(1,\): expected \(n,\) with n >= 2"):
        bootstrap_interval(np.zeros(1))
    for level in (0, 1, 95, float("nan")):
        with pytest.raises(ValueError, match=f"level={level}"):
            bootstrap_interval(np.arange(3.0), level)
    with pytest.raises(ValueError, match="n_resamples"):
        bootstrap_interval(np.arange(3.0), samples=0)
    with pytest.raises(ValueError, match=r"shape \(0,\)"):
        standard_error([])


def test_without_seed_effects_it_is_the_paired_t_test(models):
    a, b = models
    found = difference_over_seeds([a, a, a], [b, b], "ndcg@10")
    paired = paired_difference(a, b, "ndcg@10")
    assert found.standard_error_seeds == pytest.approx(0, abs=1e-12)
    assert found.difference == pytest.approx(paired.difference)
    assert found.standard_error == pytest.approx(paired.standard_error)
    assert found.degrees_of_freedom == pytest.approx(299)
    assert (found.low, found.high) == pytest.approx((paired.low, paired.high))
    assert (found.seeds_a, found.seeds_b, found.n_users) == (3, 2, 300)


def test_without_user_effects_it_is_welchs_test_over_seeds():
    a, b = np.array([0.30, 0.33, 0.32, 0.31]), np.array([0.35, 0.29, 0.36])
    found = difference_over_seeds(np.repeat(a[:, None], 50, 1), np.repeat(b[:, None], 50, 1))
    welch = stats.ttest_ind(a, b, equal_var=False)
    interval = welch.confidence_interval()
    assert found.degrees_of_freedom == pytest.approx(welch.df)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def crossed(rng, seeds, n_users, sd_seed, sd_rest):
    """(seeds, users) of a model without user effects of its own: mean 0, seed effect, rest."""
    effect = sd_seed * rng.standard_normal((seeds, 1))
    return effect + sd_rest * rng.standard_normal((seeds, n_users))


def test_intervals_over_users_and_seeds_hold_the_truth_and_those_over_users_do_not():
    rng = np.random.default_rng(5)
    n_users, seeds, repeats = 100, 3, 600
    sd_user, sd_seed, sd_rest = 1.0, 0.15, 0.5
    inside, inside_users, differences, variances = 0, 0, [], []
    for _ in range(repeats):
        own = sd_user * rng.standard_normal(n_users)  # where the models differ, by user
        a = crossed(rng, seeds, n_users, sd_seed, sd_rest) + own
        b = crossed(rng, seeds, n_users, sd_seed, sd_rest)
        found = difference_over_seeds(a, b)
        inside += found.low <= 0 <= found.high
        inside_users += abs(found.difference) <= 1.96 * found.standard_error_users
        differences.append(found.difference)
        variances.append(found.standard_error**2)
    assert inside / repeats >= 0.93
    assert inside_users / repeats <= 0.88
    # What is estimated, in expectation: the true variance and the rest counted once more.
    rest = 2 * sd_rest**2 / (seeds * n_users)
    truth = sd_user**2 / n_users + 2 * sd_seed**2 / seeds + rest
    assert np.var(differences) == pytest.approx(truth, rel=0.2)
    assert np.mean(variances) == pytest.approx(truth + rest, rel=0.08)


def test_results_and_arrays_over_seeds_agree(models):
    a, b = models
    rng = np.random.default_rng(0)
    more = [ranks(a.above + rng.integers(0, 3, 300)) for _ in range(2)]
    order = rng.permutation(300)
    shuffled = RankingResult(b.users[order], b.above[order], b.tied[order])
    found = difference_over_seeds([a, *more], [b, shuffled], "hr@10")
    values = [np.stack([r.per_target("hr@10") for r in runs]) for runs in ([a, *more], [b, b])]
    assert found == difference_over_seeds(*values, "hr@10")
    assert found.standard_error_seeds > 0


def test_too_few_seeds_or_other_users_are_refused(models):
    a, b = models
    for runs in ([a], a):
        with pytest.raises(ValueError, match=r"a has 1 run.*2 seeds"):
            difference_over_seeds(runs, [b, b], "hr@10")
    with pytest.raises(ValueError, match="different users: 300 and 3, of whom 3"):
        difference_over_seeds([a, a], [b, ranks([1, 2, 3])], "hr@10")
    with pytest.raises(ValueError, match="4, 4, 4, 5"):
        difference_over_seeds(np.zeros((2, 4)), [np.zeros(4), np.zeros(5)])
