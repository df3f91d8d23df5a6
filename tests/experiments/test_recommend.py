"""Recommendations: the model's own scores at a moment, and clear refusals."""

import numpy as np
import pandas as pd
import pytest
import torch

from ss4rec_lib.data import DataError, leave_one_out, load_items, planted_ratings, typical_interval
from ss4rec_lib.experiments import ExperimentError, parse_moment, recommend
from ss4rec_lib.models import SS4Rec, SS4RecConfig

DAY = 86_400
USER = 7


@pytest.fixture(scope="module")
def split():
    return leave_one_out(planted_ratings(n_users=30, n_items=50, mean_length=40, seed=3))


@pytest.fixture(scope="module")
def model(split):
    torch.manual_seed(0)
    config = SS4RecConfig.official(hidden_size=16, d_H=16, d_P=8, d_state=4, dropout_prob=0.5)
    model = SS4Rec(split.sequences.n_items, config)
    with torch.no_grad():  # far enough from the beginning that time matters
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def history(split):
    return split.sequences.history(split.sequences.user_index(USER))


def by_steps(model, history, at, last):
    """Scores after going through the last interactions one at a time."""
    items, delta = history.items, np.diff(history.times, append=at)
    model.eval()
    with torch.no_grad():
        state = model.initial_state(1)
        for item, seconds in list(zip(items, delta, strict=True))[-last:]:
            state = model.step(state, torch.tensor([int(item)]), torch.tensor([float(seconds)]))
        return model.logits(state.hidden)[0].numpy()


@pytest.mark.parametrize("last", [None, 5])
def test_scores_are_those_of_the_streaming_model(model, split, history, last):
    at = int(history.times[-1]) + DAY
    found = recommend(model, split, USER, at, 50, include_seen=True, max_len=last)
    scores = by_steps(model, history, at, last or len(history.items))
    index = split.sequences.item_index(found["item_id"].to_numpy())
    assert sorted(index) == list(range(1, 51)), "every item once, padding never"
    assert found["score"].to_numpy() == pytest.approx(scores[index], abs=1e-5)
    assert found["score"].is_monotonic_decreasing
    assert list(found["rank"]) == list(range(1, 51))


def test_the_default_window_is_that_of_training(split, history):
    assert len(history.items) < 200, "else the two calls below would differ"
    torch.manual_seed(0)
    model = SS4Rec(split.sequences.n_items, SS4RecConfig.official(hidden_size=16, d_H=16))
    at = int(history.times[-1])
    whole = recommend(model, split, USER, at, max_len=None)
    pd.testing.assert_frame_equal(whole, recommend(model, split, USER, at))
    assert not whole.equals(recommend(model, split, USER, at, max_len=3))


def test_the_moment_changes_the_list(model, split, history):
    last = int(history.times[-1])
    found = [recommend(model, split, USER, last + later) for later in (0, 60, DAY)]
    lists, scores = [tuple(f["item_id"]) for f in found], [f["score"][0] for f in found]
    assert len(set(lists)) > 1
    assert len(set(scores)) == 3


@pytest.mark.parametrize("arm", ["hidden", "previous", "none"])
def test_a_model_that_was_not_told_the_targets_time_is_not_told_it_here(model, split, history, arm):
    last = int(history.times[-1])
    now, later = (
        recommend(model, split, USER, last + after, 50, True, target_time=arm) for after in (0, DAY)
    )
    pd.testing.assert_frame_equal(now, later)
    times = history.times
    delta = {
        "hidden": np.append(np.diff(times), typical_interval(split)),
        "previous": np.append(0, np.diff(times)),
        "none": np.ones(len(times)),
    }[arm]
    with torch.no_grad():
        hidden = model.eval()(
            torch.from_numpy(history.items.astype(np.int64))[None],
            torch.from_numpy(delta.astype(np.float32))[None],
        )
        scores = model.logits(hidden[0, -1]).numpy()
    index = split.sequences.item_index(now["item_id"].to_numpy())
    assert now["score"].to_numpy() == pytest.approx(scores[index], abs=1e-5)


def test_seen_items_are_left_out_unless_asked_for(model, split, history):
    at = int(history.times[-1])
    seen = set(split.sequences.item_ids[history.items])
    unseen = 50 - len(seen)
    assert 0 < unseen < 50
    found = recommend(model, split, USER, at, 50)
    assert len(found) == unseen
    assert not seen & set(found["item_id"])
    everything = recommend(model, split, USER, at, 50, include_seen=True)
    assert len(everything) == 50
    again = everything[~everything["item_id"].isin(seen)]
    assert list(again["item_id"]) == list(found["item_id"])


def test_titles_and_years_when_there_is_a_table(model, split, history):
    at = int(history.times[-1])
    plain = recommend(model, split, USER, at, 3)
    assert list(plain.columns) == ["rank", "item_id", "score"]
    assert len(plain) == 3
    named = recommend(model, split, USER, at, 3, items=load_items("planted"))
    assert list(named.columns) == ["rank", "item_id", "score", "title", "year"]
    expected = [f"Planted Film {item}" for item in named["item_id"]]
    assert list(named["title"]) == expected


def test_the_model_is_left_as_it_was(model, split, history):
    for training in (True, False):
        model.train(training)
        recommend(model, split, USER, int(history.times[-1]))
        assert model.training is training


def test_before_the_last_interaction_is_refused_with_both_times(model, split, history):
    last = int(history.times[-1])
    with pytest.raises(ExperimentError) as refusal:
        recommend(model, split, USER, last - 1)
    assert f"({last - 1} s)" in str(refusal.value)
    assert f"({last} s)" in str(refusal.value)
    assert "UTC" in str(refusal.value)
    recommend(model, split, USER, last)


def test_rounded_times_are_compared_with_rounded_times(model):
    """The true last moment is never "before" what the protocol made of it."""
    ratings = planted_ratings(n_users=30, n_items=50, mean_length=40, seed=3)
    rounded = leave_one_out(ratings, ordering="recbole-float32")
    true_last = ratings.groupby("user_id")["timestamp"].max()
    moved = 0
    for user in rounded.sequences.user_ids:
        history = rounded.sequences.history(rounded.sequences.user_index(user))
        moved += history.times[-1] > true_last[user]
        recommend(model, rounded, int(user), int(true_last[user]))
    assert moved > 5


@pytest.mark.parametrize(("given", "message"), [
    ({"k": 0}, "k=0: expected an integer of at least 1 and at most 50"), ({"k": 51}, "k=51"),
    ({"k": 2.5}, "k=2.5"), ({"max_len": 0}, "max_len=0"),
    ({"at": 1.5}, "at=1.5: expected an integer"), ({"at": -1}, "at=-1"),
    ({"at": 1_000_000_000_000}, "at=1000000000000: "),
])  # fmt: skip
def test_arguments_out_of_range_are_named(model, split, given, message):
    arguments = {"user_id": USER, "at": 2_000_000_000} | given
    with pytest.raises(ExperimentError, match=message):
        recommend(model, split, **arguments)


def test_an_unknown_user_and_an_unknown_arm_are_named(model, split):
    with pytest.raises(DataError, match=r"user.*4711"):
        recommend(model, split, 4711, 2_000_000_000)
    with pytest.raises(ValueError, match="target_time='later'"):
        recommend(model, split, USER, 2_000_000_000, target_time="later")


def test_a_diverged_model_recommends_nothing(split):
    model = SS4Rec(split.sequences.n_items)
    with torch.no_grad():
        model.item_embedding.weight.fill_(torch.nan)
    with pytest.raises(ExperimentError, match="NaN"):
        recommend(model, split, USER, 2_000_000_000)


@pytest.mark.parametrize(("text", "seconds"), [
    ("988747200", 988_747_200), ("2001-05-01T20:00", 988_747_200), ("0", 0),
    ("2001-05-01 20:00:00", 988_747_200), ("2001-05-01", 988_675_200),
    ("2001-05-01T22:00+02:00", 988_747_200), ("2001-05-01T20:00:00Z", 988_747_200),
])  # fmt: skip
def test_moments_are_read_as_utc(text, seconds):
    assert parse_moment(text) == seconds


@pytest.mark.parametrize("text", ["tomorrow", "", "-5", "1969-12-31", "2001-13-01", "1e9", "--5"])
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(ExperimentError, match="is no moment since 1970"):
        parse_moment(text)
