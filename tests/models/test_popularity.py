"""Popularity: counts, of everything or in a window before a moment, and never later ones."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ss4rec_lib.configuration import ConfigError
from ss4rec_lib.data import eval_batches, leave_one_out, make_batch, planted_ratings
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.models.base import training_interactions
from ss4rec_lib.models.popularity import (
    DAY,
    Popularity,
    RecentPopularity,
    RecentPopularityConfig,
)
from ss4rec_lib.training import TrainingConfig

BATCH = make_batch([[1, 2], [3, 0]], torch.zeros(2, 2), n_items=3)


def recent(split, **options):
    return RecentPopularity.fit(split, RecentPopularityConfig(**options), TrainingConfig()).model


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 400)), min_size=1, max_size=40),
    st.lists(st.integers(-50, 450), min_size=1, max_size=6),
    st.integers(1, 200),
)
def test_counts_are_those_of_the_window_before_each_moment(pairs, moments, window):
    """Days as whole numbers; the window is open at its beginning and closed at its end."""
    items, days = (np.array(column) for column in zip(*pairs, strict=True))
    model = RecentPopularity(items, days * DAY, 5, RecentPopularityConfig(window_days=window))
    scores = model.counts_before(np.array(moments) * DAY)
    assert scores.shape == (len(moments), 6)
    for row, moment in zip(scores.tolist(), moments, strict=True):
        expected = [0] * 6
        for item, day in pairs:
            expected[item] += moment - window < day <= moment
        assert row == expected


def test_scores_are_the_training_counts_for_everybody():
    scores = Popularity(np.array([0, 5, 2, 7])).scores(BATCH)
    assert scores.dtype == torch.float64
    assert scores.tolist() == [[0.0, 5.0, 2.0, 7.0]] * 2


@pytest.mark.parametrize("counts", [np.array([0, -1]), np.zeros((2, 2)), np.array([0])])
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(ValueError, match="train_counts"):
        Popularity(counts)


def test_without_moments_the_list_is_that_of_the_end_of_training():
    items, times = np.array([1, 1, 2, 3]), np.array([0, 5, 90, 100]) * DAY
    model = RecentPopularity(items, times, 4, RecentPopularityConfig(window_days=30))
    assert model.scores(BATCH).tolist() == [[0.0, 0, 1, 1, 0]] * 2


@pytest.mark.parametrize(("part", "back"), [("valid", 2), ("test", 1)])
def test_each_users_list_is_made_at_the_end_of_the_history(part, back):
    split = leave_one_out(planted_ratings(n_users=40, n_items=20, mean_length=12, seed=1))
    _, items, times = training_interactions(split)
    model = recent(split, moments="user", window_days=50.0)
    for batch in eval_batches(split, part, max_tokens=64, max_len=5):
        for user, row in zip(batch.users.tolist(), model.scores(batch).numpy(), strict=True):
            moment = split.sequences.history(user).times[-back - 1]
            inside = (times <= moment) & (times > moment - 50 * DAY)
            assert np.array_equal(row, np.bincount(items[inside], minlength=21))


def test_no_held_out_and_no_later_interaction_is_counted():
    split = leave_one_out(planted_ratings(n_users=40, n_items=20, mean_length=12, seed=1))
    _, items, times = training_interactions(split)
    assert np.array_equal(np.bincount(items, minlength=21), split.train_counts())
    model = recent(split, moments="user", window_days=1e5)
    for batch in eval_batches(split, "test", max_tokens=64):
        for user, row in zip(batch.users.tolist(), model.scores(batch).numpy(), strict=True):
            earlier = times <= split.sequences.history(user).times[-2]
            assert np.array_equal(row, np.bincount(items[earlier], minlength=21))


def test_a_window_over_everything_is_popularity():
    split = leave_one_out(planted_ratings(n_users=40, n_items=20, mean_length=12, seed=1))
    model = recent(split, window_days=1e5)
    assert np.array_equal(model.scores(BATCH)[0].numpy(), split.train_counts())
    assert 0 <= evaluate_ranking(model, split, ks=(10,))["hr@10"] <= 1


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("n_items", 0, "n_items=0"),
        ("config", RecentPopularityConfig(moments="user"), "known_times"),
    ],
)
def test_bad_input_is_refused(name, value, shown):
    good = {"items": np.array([1]), "times": np.array([7]), "n_items": 3}
    with pytest.raises(ValueError) as problem:
        RecentPopularity(**good | {name: value})
    assert shown in str(problem.value)


@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_a_window_of_no_length_is_refused(value):
    with pytest.raises(ConfigError, match=f"window_days={value}"):
        RecentPopularityConfig(window_days=value)
