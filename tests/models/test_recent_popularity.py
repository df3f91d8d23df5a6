"""Recent popularity: counts in a window before a moment, by brute force, and never later ones."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ss4rec_lib.data import eval_batches, leave_one_out, planted_ratings
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.models.baselines_config import training_interactions
from ss4rec_lib.models.recent_popularity import DAY, RecentPopularity, moments_of

NO_HISTORY = torch.ones(1, 1, dtype=torch.int64), torch.zeros(1, 1)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 400)), min_size=1, max_size=40),
    st.lists(st.integers(-50, 450), min_size=1, max_size=6),
    st.integers(1, 200),
)
def test_counts_are_those_of_the_window_before_each_moment(pairs, moments, window):
    """Days as whole numbers; the window is open at its beginning and closed at its end."""
    items, days = (np.array(column) for column in zip(*pairs, strict=True))
    model = RecentPopularity(items, days * DAY, 5, window_days=window)
    scores = model.logits(torch.tensor(moments)[:, None] * DAY)
    assert scores.shape == (len(moments), 6)
    for row, moment in zip(scores.tolist(), moments, strict=True):
        expected = [0] * 6
        for item, day in pairs:
            expected[item] += moment - window < day <= moment
        assert row == expected


def test_without_moments_the_list_is_that_of_the_end_of_training():
    items, times = np.array([1, 1, 2, 3]), np.array([0, 5, 90, 100]) * DAY
    model = RecentPopularity(items, times, 4, window_days=30)
    hidden = model(torch.ones(2, 3, dtype=torch.int64), torch.zeros(2, 3))
    assert hidden.shape == (2, 3, 1)
    assert (model.logits(hidden) == torch.tensor([0.0, 0, 1, 1, 0])).all()


def test_each_users_list_is_made_at_the_end_of_the_history_or_just_before_the_target():
    split = leave_one_out(planted_ratings(n_users=40, n_items=20, mean_length=12, seed=1))
    sequences = split.sequences
    for part, back in (("valid", 2), ("test", 1)):
        for known in (False, True):
            moments = moments_of(split, part, target_known=known)
            for user in range(sequences.n_users):
                times = sequences.history(user).times
                target = len(times) - back
                expected = times[target] - 1 if known else times[target - 1]
                assert moments[user] == expected
    with pytest.raises(ValueError, match="part='train'"):
        moments_of(split, "train")


def test_no_held_out_and_no_later_interaction_is_counted():
    split = leave_one_out(planted_ratings(n_users=40, n_items=20, mean_length=12, seed=1))
    users, items, times = training_interactions(split)
    assert np.array_equal(np.bincount(items, minlength=21), split.train_counts())
    moments = moments_of(split, "test")
    model = RecentPopularity(items, times, 20, window_days=1e5, moments=moments)
    for batch in eval_batches(split, "test", max_tokens=64):
        scores = model.logits(model.last_hidden(batch)).numpy()
        for user, row in zip(batch.users.tolist(), scores, strict=True):
            earlier = times <= moments[user]
            assert np.array_equal(row, np.bincount(items[earlier], minlength=21))
    with pytest.raises(ValueError, match="last_hidden"):
        model(*NO_HISTORY)


def test_a_window_over_everything_is_popularity():
    split = leave_one_out(planted_ratings(n_users=40, n_items=20, mean_length=12, seed=1))
    _, items, times = training_interactions(split)
    model = RecentPopularity(items, times, 20, window_days=1e5)
    assert np.array_equal(model.logits(model(*NO_HISTORY))[0, 0].numpy(), split.train_counts())
    assert 0 <= evaluate_ranking(model, split, ks=(10,))["hr@10"] <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": np.array([1, 2])}, "expected two vectors"),
        ({"items": np.array([0])}, "ids outside 1 to 3"),
        ({"items": np.array([4])}, "ids outside 1 to 3"),
        ({"times": np.array([1.5])}, "times has dtype float64"),
        ({"moments": np.array([1.5])}, "moments has dtype float64"),
        ({"window_days": 0}, "window_days=0: expected a number above 0"),
        ({"window_days": float("nan")}, "window_days=nan"),
        ({"n_items": 0}, "n_items=0"),
    ],
)
def test_bad_input_is_refused(change, message):
    good = {"items": np.array([1]), "times": np.array([7]), "n_items": 3}
    with pytest.raises(ValueError, match=message):
        RecentPopularity(**good | change)
