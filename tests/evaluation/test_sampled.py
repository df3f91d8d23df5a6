"""Sampled metrics: the closed form against enumeration, simulation and known limits; the flip."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ss4rec_lib.evaluation import (
    expected_gain,
    expected_sampled,
    ranks_of_targets,
    sampled_gain,
)

METRICS = ("hr@1", "hr@2", "ndcg@2", "mrr@3")


def gain(name: str, rank: int) -> float:
    metric, k = name.split("@")
    return {"hr": 1.0, "ndcg": 1 / np.log2(rank + 1), "mrr": 1 / rank}[metric] * (rank <= int(k))


def enumerated(name, scores, target, n_negatives, replacement):
    """The mean over all orders of the catalogue that the scores allow, and all draws."""
    others = [i for i in range(len(scores)) if i != target]
    draws = (
        list(itertools.product(others, repeat=n_negatives))
        if replacement
        else list(itertools.combinations(others, n_negatives))
    )
    values = []
    for order in itertools.permutations(range(len(scores))):
        ranking = sorted(order, key=lambda item: -scores[item])  # stable: keeps this order
        before = set(ranking[: ranking.index(target)])
        values += [gain(name, 1 + sum(i in before for i in draw)) for draw in draws]
    return np.mean(values)


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 2), min_size=3, max_size=5),
    st.sampled_from(METRICS),
    st.booleans(),
    st.data(),
)
def test_closed_form_is_the_mean_over_all_draws_and_all_ways_to_break_ties(
    scores, name, replacement, data
):
    target = data.draw(st.integers(0, len(scores) - 1))
    m = data.draw(st.integers(max(1, int(name[-1]) - 1), min(3, len(scores) - 1)))
    above, tied = ranks_of_targets(
        torch.tensor([[9.0, *scores]], dtype=torch.float32), torch.tensor([target + 1])
    )
    found = expected_sampled(name, above, tied, len(scores), m, replacement=replacement)
    assert found[0] == pytest.approx(enumerated(name, scores, target, m, replacement), abs=1e-12)


@pytest.mark.parametrize("name", ["hr@10", "ndcg@10", "mrr@5"])
def test_all_negatives_without_replacement_are_the_full_ranking(name):
    rng = np.random.default_rng(0)
    above, tied = rng.integers(0, 60, 50), rng.integers(1, 20, 50)
    metric, k = name.split("@")
    full = expected_gain(metric, int(k), above, tied)
    assert expected_sampled(name, above, tied, 80, 79) == pytest.approx(full, abs=1e-12)


@pytest.mark.parametrize("replacement", [False, True])
def test_one_negative_is_the_auc(replacement):
    n = 41
    auc = 1 - np.arange(n) / (n - 1)  # share of the other items that a target of rank r beats
    assert sampled_gain("hr@1", n, 1, replacement=replacement) == pytest.approx(auc)


@settings(max_examples=30)
@given(st.integers(3, 60), st.data())
def test_gain_of_a_random_rank_is_that_of_a_random_place_among_those_ranked(n, data):
    m = data.draw(st.integers(1, n - 1))
    k = data.draw(st.integers(1, m + 1))
    # A uniformly random target is equally likely at each of the m + 1 places.
    for metric in ("hr", "ndcg", "mrr"):
        h = sampled_gain(f"{metric}@{k}", n, m)
        place = sum(gain(f"{metric}@{k}", r) for r in range(1, k + 1)) / (m + 1)
        assert h.mean() == pytest.approx(place)
        assert (np.diff(h) <= 1e-12).all() and h[0] == pytest.approx(1)


def simulate_sampled(name, above, tied, sizes, m, replacement=False, draws=1, seed=0):
    """The sampled metric with negatives really drawn, (draws, n); ties are broken beforehand."""
    metric, k = name.split("@")
    rng = np.random.default_rng(seed)
    before = above + rng.integers(0, tied, (draws, len(above)))  # items that outrank the target
    if replacement:
        found = rng.binomial(m, before / (np.asarray(sizes) - 1))
    else:
        found = rng.hypergeometric(before, np.asarray(sizes) - 1 - before, m)
    return expected_gain(metric, int(k), found, np.ones_like(found))


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("name", ["hr@5", "ndcg@10"])
def test_simulation_agrees_with_the_closed_form(name, replacement):
    rng = np.random.default_rng(4)
    sizes = rng.integers(120, 300, 40)
    above, tied = rng.integers(0, 60, 40), rng.integers(1, 40, 40)
    arguments = (name, above, tied, sizes, 50)
    expected = expected_sampled(*arguments, replacement=replacement)
    drawn = simulate_sampled(*arguments, replacement=replacement, draws=4000)
    error = drawn.std(axis=0, ddof=1) / np.sqrt(4000)
    assert drawn.shape == (4000, 40)
    assert (np.abs(drawn.mean(axis=0) - expected) <= 4.5 * error + 1e-3).all()
    assert drawn.mean() == pytest.approx(expected.mean(), abs=4 * np.sqrt((error**2).sum()) / 40)


def test_catalogues_that_differ_by_target_are_computed_one_by_one():
    above, tied, sizes = np.array([0, 7, 7, 30]), np.array([1, 3, 1, 9]), np.array([60, 50, 60, 39])
    found = expected_sampled("ndcg@5", above, tied, sizes, 20)
    for i, size in enumerate(sizes.tolist()):
        alone = expected_sampled("ndcg@5", above[i : i + 1], tied[i : i + 1], size, 20)
        h = sampled_gain("ndcg@5", size, 20)
        assert found[i] == pytest.approx(alone[0])
        assert found[i] == pytest.approx(h[above[i] : above[i] + tied[i]].mean())


@pytest.mark.parametrize("replacement", [False, True])
def test_sampling_turns_the_order_of_two_models_round(replacement):
    n_items, n_users, m = 3416, 1000, 100
    once = np.ones(n_users, dtype=int)
    sharp = np.where(np.arange(n_users) % 2, 0, n_items // 2)  # first, or lost
    dull = np.full(n_users, 49)  # rank 50 for everyone: never in the top 10
    full = [expected_gain("ndcg", 10, above, once).mean() for above in (sharp, dull)]
    sampled = [
        expected_sampled("ndcg@10", above, once, n_items, m, replacement=replacement).mean()
        for above in (sharp, dull)
    ]
    assert full == [0.5, 0.0]
    assert sampled[0] < sampled[1]
    drawn = [
        simulate_sampled("ndcg@10", above, once, n_items, m, replacement=replacement).mean()
        for above in (sharp, dull)
    ]
    assert drawn == pytest.approx(sampled, abs=0.05)
    # HR@10, too, and the better model on HR@1 is not in doubt: only sampling hides it.
    hits = [
        expected_sampled("hr@10", above, once, n_items, m, replacement=replacement).mean()
        for above in (sharp, dull)
    ]
    assert hits[0] < hits[1]


def test_bad_input_is_refused():
    one = np.ones(3, dtype=int)
    for name in ("map@10", "hr", "hr@0", "hr@x"):
        with pytest.raises(ValueError, match="is unknown"):
            expected_sampled(name, one, one, 50, 20)
    with pytest.raises(ValueError, match="hr@10: expected K of at most 6"):
        expected_sampled("hr@10", one, one, 50, 5)
    with pytest.raises(ValueError, match="n_negatives=50"):
        sampled_gain("hr@10", 50, 50)
    assert len(sampled_gain("hr@10", 50, 50, replacement=True)) == 50
    with pytest.raises(ValueError, match="n_negatives=0"):
        expected_sampled("hr@1", one, one, 50, 0)
    with pytest.raises(ValueError, match="target 1 has 49 items above it and 2 tied"):
        expected_sampled("hr@1", np.array([0, 49]), np.array([1, 2]), 50, 5)
    with pytest.raises(ValueError, match=r"n_items has shape \(2,\)"):
        expected_sampled("hr@1", one, one, np.array([50, 50]), 5)
