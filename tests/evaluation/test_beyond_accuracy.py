"""Lists against plain sorting and against HR@K; their measures in cases with a known answer."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ss4rec_lib.data import leave_one_out, planted_ratings
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.evaluation.beyond_accuracy import (
    best_items,
    beyond_accuracy,
    catalogue_coverage,
    gini,
    mean_popularity,
    mean_popularity_percentile,
    mean_rank,
    top_k,
)
from ss4rec_lib.models import Popularity, SS4Rec, SS4RecConfig


@pytest.fixture(scope="module")
def split():
    return leave_one_out(planted_ratings(n_users=50, n_items=60, mean_length=20, seed=1))


@pytest.fixture(scope="module")
def model(split):
    torch.manual_seed(0)
    return SS4Rec(split.sequences.n_items, SS4RecConfig.official(hidden_size=8, d_H=8, d_P=4))


class Flat(torch.nn.Module):
    """One score for all items."""

    def __init__(self, n_items, score=0.0):
        super().__init__()
        self.n_items, self.score = n_items, score

    def forward(self, items, delta):
        return items[..., None].float()

    def logits(self, hidden):
        return torch.full((*hidden.shape[:-1], self.n_items + 1), self.score)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 10_000), st.data())
def test_best_items_are_those_of_a_sort_with_ties_in_the_given_order(n_items, rows, seed, data):
    k = data.draw(st.integers(1, n_items))
    rng = np.random.default_rng(seed)
    scores = rng.integers(-1, 3, (rows, n_items + 1)).astype(np.float32)
    scores[scores == -1] = -np.inf
    scores[:, 0] = 9
    order = rng.permutation(n_items) + 1
    found = best_items(torch.from_numpy(scores), k, torch.from_numpy(order)).numpy()
    for row, items in zip(scores, found, strict=True):
        ranking = sorted(order.tolist(), key=lambda item: -row[item])  # stable
        assert items.tolist() == [i if row[i] > -np.inf else 0 for i in ranking[:k]]


@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize("mask_seen", [False, True])
def test_the_share_of_lists_with_the_target_is_the_hit_rate(split, model, part, mask_seen):
    result = evaluate_ranking(model, split, part, mask_seen=mask_seen)
    lists = top_k(model, split, part, 10, mask_seen=mask_seen)
    users, positions = split.held_out[part]
    targets = split.sequences.items[split.sequences.offsets[users] + positions]
    assert (result.tied == 1).all()
    assert np.array_equal((lists == targets[:, None]).any(axis=1), result.per_target("hr@10") == 1)
    # The place in the list is the rank.
    row, place = np.nonzero(lists == targets[:, None])
    assert np.array_equal(place, result.above[row]) and len(row) > 0


def test_lists_do_not_depend_on_batching_and_shorter_ones_begin_longer_ones(split, model):
    lists = top_k(model, split, "test", 20, max_tokens=60)
    assert np.array_equal(lists, top_k(model, split, "test", 20, max_tokens=100_000))
    assert np.array_equal(lists[:, :5], top_k(model, split, "test", 5))


def test_seen_items_are_masked_and_an_exhausted_catalogue_leaves_zeros(split, model):
    n_items = split.sequences.n_items
    lists = top_k(model, split, "test", n_items, mask_seen=True)
    for row, user, position in zip(lists, *split.held_out["test"], strict=True):
        history = split.sequences.history(user).items
        target = history[position]
        expected = set(range(1, n_items + 1)) - set(history[:position].tolist()) | {int(target)}
        assert set(row.tolist()) - {0} == expected
        assert (row[len(expected) :] == 0).all()
    whole = top_k(model, split, "test", n_items)
    assert (np.sort(whole, axis=1) == np.arange(1, n_items + 1)).all()


def test_equal_scores_come_in_one_order_for_all_users_drawn_from_the_seed(split):
    flat = Flat(split.sequences.n_items)
    lists = top_k(flat, split, "test", 10, max_tokens=40)
    assert (lists == lists[0]).all()
    firsts = [int(top_k(flat, split, "test", 1, seed=seed)[0, 0]) for seed in range(30)]
    assert len(set(firsts)) > 10  # 30 draws of 60 items; fewer than 11 different is no chance
    counts = split.train_counts()
    by_count = top_k(Popularity(counts), split, "test", 10, seed=3)
    assert (np.diff(counts[by_count], axis=1) <= 0).all()
    assert counts[by_count].sum() == len(by_count) * np.sort(counts)[-10:].sum()


def test_the_model_is_left_in_its_mode_and_bad_calls_are_refused(split, model):
    model.train()
    top_k(model, split, "valid", 3)
    assert model.training
    n_items = split.sequences.n_items
    for k in (0, n_items + 1, 2.5):
        with pytest.raises(ValueError, match=f"k={k}: expected an integer of at least 1"):
            top_k(model, split, "test", k)
    with pytest.raises(ValueError, match="'train'"):
        top_k(model, split, "train")
    with pytest.raises(ValueError, match="NaN"):
        top_k(Flat(n_items, float("nan")), split)


@pytest.mark.gpu
def test_lists_are_the_same_on_a_gpu(split):
    counts = split.train_counts()  # exact scores with ties: nothing may depend on the device
    for mask_seen in (False, True):
        here = top_k(Popularity(counts), split, "test", 10, mask_seen=mask_seen)
        there = top_k(Popularity(counts).cuda(), split, "test", 10, mask_seen=mask_seen)
        assert np.array_equal(here, there)


def test_one_list_for_everyone_is_as_concentrated_as_can_be():
    counts = np.array([0, 1, 2, 3, 10])
    lists = np.full((7, 1), 4)
    assert catalogue_coverage(lists, 4) == 0.25
    assert gini(lists, 4) == pytest.approx(1 - 1 / 4)
    assert mean_popularity(lists, counts) == 10
    assert mean_popularity_percentile(lists, counts) == 1
    assert mean_popularity_percentile(np.full((7, 1), 1), counts) == 0


@pytest.mark.parametrize("seed", range(3))
def test_every_item_alike_is_all_of_the_catalogue_and_half_the_percentiles(seed):
    rng = np.random.default_rng(seed)
    counts = np.concatenate(([0], rng.integers(0, 4, 30)))  # many items equally popular
    lists = rng.permutation(np.arange(1, 31)).reshape(6, 5)
    assert catalogue_coverage(lists, 30) == 1
    assert gini(lists, 30) == pytest.approx(0)
    assert mean_popularity(lists, counts) == pytest.approx(counts[1:].mean())
    assert mean_popularity_percentile(lists, counts) == pytest.approx(0.5)


def test_percentiles_do_not_change_with_the_size_of_the_data():
    rng = np.random.default_rng(0)
    counts = np.concatenate(([0], rng.integers(0, 50, 20)))
    lists = np.stack([rng.permutation(20)[:4] + 1 for _ in range(9)])
    assert mean_popularity_percentile(lists, counts) == mean_popularity_percentile(
        lists, 1000 * counts
    )
    assert mean_popularity(lists, 1000 * counts) == pytest.approx(
        1000 * mean_popularity(lists, counts)
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 15), st.integers(1, 8), st.integers(0, 10_000))
def test_gini_is_half_the_relative_mean_difference(n_items, rows, seed):
    rng = np.random.default_rng(seed)
    lists = np.stack([rng.permutation(n_items)[:2] + 1 for _ in range(rows)])
    times = [int((lists == item).sum()) for item in range(1, n_items + 1)]
    differences = np.mean([abs(x - y) for x in times for y in times])
    assert gini(lists, n_items) == pytest.approx(differences / (2 * np.mean(times)))


def test_zeros_recommend_nothing():
    counts = np.array([0, 4, 2, 8, 1])
    lists = np.array([[1, 3], [2, 0], [0, 0]])
    assert catalogue_coverage(lists, 4) == 0.75
    assert mean_popularity(lists, counts) == (6 + 2) / 2
    assert mean_popularity_percentile(lists, counts) == pytest.approx(((2 + 3) / 6 + 1 / 3) / 2)
    assert gini(lists, 4) == gini(np.array([[1], [3], [2]]), 4)


def test_all_measures_by_name():
    counts = np.array([0, 4, 2, 8, 1])
    lists = np.array([[1, 3], [3, 2]])
    assert beyond_accuracy(lists, counts) == {
        "coverage@2": catalogue_coverage(lists, 4),
        "gini@2": gini(lists, 4),
        "popularity@2": mean_popularity(lists, counts),
        "popularity_percentile@2": mean_popularity_percentile(lists, counts),
    }


def test_mean_rank_of_a_model_without_preferences_is_the_middle(split):
    n_items = split.sequences.n_items
    assert mean_rank(evaluate_ranking(Flat(n_items), split)) == (n_items + 1) / 2


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (np.array([1, 2]), "shape"),
        (np.array([[1.0, 2.0]]), "float64"),
        (np.zeros((3, 2), dtype=int), "recommend nothing"),
        (np.zeros((0, 2), dtype=int), "recommend nothing"),
        (np.array([[1, 5]]), "ids 1 to 5: expected 1 to 4"),
        (np.array([[1, -1]]), "ids -1 to 1"),
        (np.array([[1, 2], [3, 3]]), "twice in 1 of 2 lists"),
    ],
)
def test_bad_lists_are_refused(lists, message):
    counts = np.ones(5)
    for call in (
        lambda: catalogue_coverage(lists, 4),
        lambda: gini(lists, 4),
        lambda: mean_popularity(lists, counts),
        lambda: beyond_accuracy(lists, counts),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_bad_counts_are_refused():
    for counts in (np.ones((2, 5)), np.array([0, -1, 2]), np.array([0, np.nan]), np.ones(1)):
        with pytest.raises(ValueError, match="train_counts"):
            mean_popularity(np.array([[1]]), counts)
