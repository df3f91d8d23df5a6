"""Rating metrics against brute force, simulation and other libraries' regressions."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ss4rec_lib.data import leave_one_out, planted_ratings
from ss4rec_lib.evaluation import (
    evaluate_both,
    evaluate_ranking,
    evaluate_rating,
    rating_metrics,
)
from ss4rec_lib.models import ModelConfig, Recommender

RATINGS = st.lists(st.tuples(st.integers(1, 5), st.floats(1, 5)), min_size=1, max_size=30)


@settings(max_examples=60)
@given(RATINGS, st.floats(1, 5))
def test_metrics_are_their_definitions(pairs, train_mean):
    actual, predicted = (list(column) for column in zip(*pairs, strict=True))
    result = rating_metrics(predicted, actual, train_mean=train_mean)
    errors = [p - r for p, r in zip(predicted, actual, strict=True)]
    n = len(errors)
    assert result["rmse"] == pytest.approx((sum(e * e for e in errors) / n) ** 0.5, abs=1e-9)
    assert result["mae"] == pytest.approx(sum(abs(e) for e in errors) / n, abs=1e-9)
    baseline = sum((train_mean - r) ** 2 for r in actual)
    if baseline > 0:
        expected = 1 - sum(e * e for e in errors) / baseline
        assert result["r2"] == pytest.approx(expected, rel=1e-9)
    else:
        assert np.isnan(result["r2"])
    assert result["mae"] <= result["rmse"] + 1e-9


def test_the_training_mean_explains_nothing_even_where_the_test_mean_would():
    actual = np.array([1.0, 2.0, 5.0, 5.0])
    assert rating_metrics(np.full(4, 3.0), actual, train_mean=3.0)["r2"] == pytest.approx(0)
    assert rating_metrics(np.full(4, actual.mean()), actual, train_mean=3.0)["r2"] > 0
    assert rating_metrics(actual, actual, train_mean=3.0)["r2"] == 1


def test_the_calibration_line_is_that_of_scipy_and_its_error_that_of_white():
    rng = np.random.default_rng(0)
    predicted = rng.uniform(1, 5, 400)
    actual = 0.5 + 0.8 * predicted + rng.normal(size=400) * predicted / 3
    result = rating_metrics(predicted, actual, train_mean=3)
    line = stats.linregress(predicted, actual)
    assert result["calibration_slope"] == pytest.approx(line.slope)
    assert result["calibration_intercept"] == pytest.approx(line.intercept)
    # White's HC0 covariance (X'X)^-1 X' diag(e^2) X (X'X)^-1, with n / (n - 1).
    X = np.stack((np.ones(400), predicted), axis=1)
    e = actual - X @ [line.intercept, line.slope]
    bread = np.linalg.inv(X.T @ X)
    errors = np.sqrt(np.diag(bread @ (X.T * e**2) @ X @ bread) * 400 / 399)
    assert result["calibration_intercept_se"] == pytest.approx(errors[0])
    assert result["calibration_slope_se"] == pytest.approx(errors[1])


def test_equal_predictions_have_no_calibration_line_and_raise_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = rating_metrics(np.full(5, 3.7), [1, 2, 3, 4, 5], train_mean=3.7)
    assert np.isnan(result["calibration_slope"])
    assert np.isnan(result["calibration_intercept_se"])
    assert result["rmse"] > 0


def simulated(rng, n_users, per_user, shared):
    """Errors of which a share is common to all targets of a user."""
    users = np.repeat(np.arange(n_users), per_user)
    error = shared * rng.normal(size=n_users)[users] + rng.normal(size=len(users))
    actual = rng.choice(np.arange(1.0, 6), size=len(users))
    return users, actual + error, actual


@pytest.mark.parametrize(("per_user", "shared"), [(1, 0.0), (8, 1.0)])
def test_standard_errors_are_the_spread_over_repeated_samples(per_user, shared):
    rng = np.random.default_rng(1)
    names = ("rmse", "mae", "r2", "calibration_slope", "calibration_intercept")
    found, errors = [], []
    for _ in range(400):
        users, predicted, actual = simulated(rng, 120, per_user, shared)
        result = rating_metrics(predicted, actual, train_mean=3.0, users=users)
        found.append([result[name] for name in names])
        errors.append([result[f"{name}_se"] for name in names])
    ratio = np.mean(errors, axis=0) / np.std(found, axis=0)
    assert np.all(np.abs(ratio - 1) < 0.15), dict(zip(names, ratio, strict=True))


def test_targets_of_one_user_are_no_independent_evidence():
    users, predicted, actual = simulated(np.random.default_rng(2), 100, 20, 1.5)
    together = rating_metrics(predicted, actual, train_mean=3.0, users=users)
    apart = rating_metrics(predicted, actual, train_mean=3.0)
    assert together["rmse"] == apart["rmse"]
    assert together["rmse_se"] > 2 * apart["rmse_se"]


def test_the_standard_error_is_that_of_a_bootstrap_over_users():
    users, predicted, actual = simulated(np.random.default_rng(4), 40, 5, 1.0)
    users = users * 7 + 100  # ids need not be indices
    result = rating_metrics(predicted, actual, train_mean=3.0, users=users)
    rng, draws = np.random.default_rng(5), []
    rows = [np.flatnonzero(users == user) for user in np.unique(users)]
    for _ in range(2_000):
        drawn = np.concatenate([rows[i] for i in rng.integers(0, 40, 40)])
        draws.append(np.sqrt(np.mean((predicted[drawn] - actual[drawn]) ** 2)))
    assert result["rmse_se"] == pytest.approx(np.std(draws), rel=0.1)


@settings(max_examples=40)
@given(RATINGS, st.integers(1, 12))
def test_the_calibration_table_holds_every_target_once_in_order(pairs, n_bins):
    actual, predicted = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    table = rating_metrics(predicted, actual, train_mean=3.0).calibration_table(n_bins)
    assert table["n"].sum() == len(actual)
    assert 1 <= len(table) <= n_bins
    assert (np.diff(table["mean_predicted"]) > 0).all()
    assert (table["n"] * table["mean_actual"]).sum() == pytest.approx(actual.sum())
    assert (table["n"] * table["mean_predicted"]).sum() == pytest.approx(predicted.sum())


def test_bins_hold_equally_many_distinct_predictions():
    predicted = np.random.default_rng(6).permutation(np.linspace(1, 5, 100))
    table = rating_metrics(predicted, predicted, train_mean=3.0).calibration_table(4)
    assert list(table["n"]) == [25] * 4
    assert table["mean_actual"].to_numpy() == pytest.approx(table["mean_predicted"].to_numpy())


@pytest.mark.parametrize(
    ("predicted", "actual", "message"),
    [
        ([], [], "no targets"),
        ([1.0, np.nan], [1, 2], "predicted holds 1 of 2 .* diverged"),
        ([1.0, 2.0], [1, np.inf], "actual holds 1 of 2"),
        ([1.0], [1, 2], r"predicted has shape \(1,\)"),
        ([[1.0, 2.0]], [1, 2], r"predicted has shape \(1, 2\)"),
    ],
)
def test_what_cannot_be_judged_is_refused(predicted, actual, message):
    with pytest.raises(ValueError, match=message):
        rating_metrics(predicted, actual, train_mean=3.0)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="train_mean=nan"):
        rating_metrics([1.0], [1.0], train_mean=np.nan)
    with pytest.raises(ValueError, match="users has shape"):
        rating_metrics([1.0], [1.0], train_mean=3.0, users=[1, 2])
    result = rating_metrics([1.0, 2.0], [1.0, 3.0], train_mean=3.0)
    with pytest.raises(ValueError, match="'rmse' is unknown"):
        result.per_target("rmse")
    with pytest.raises(ValueError, match="n_bins=0"):
        result.calibration_table(0)


def test_one_user_has_no_standard_error():
    result = rating_metrics([1.0, 2.0], [1.0, 3.0], train_mean=3.0, users=[4, 4])
    assert np.isnan(result["rmse_se"])


class LastRating(Recommender):
    """Predicts what the last item got, plus a hundredth of the target's id; ranks by the item."""

    def __init__(self, n_items: int) -> None:
        super().__init__(n_items, ModelConfig())
        self.ids = torch.arange(n_items + 1.0)

    def forward(self, items, delta, ratings=None):
        return items.float()[..., None]

    def logits(self, hidden):
        return -(self.ids - hidden).abs()

    def rate(self, items, delta, ratings, target_items, hidden=None, users=None):
        return ratings + target_items / 100


@pytest.fixture(scope="module")
def split():
    return leave_one_out(planted_ratings(n_users=50, n_items=40, mean_length=20, seed=1))


@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize("max_len", [3, None])
def test_evaluation_equals_a_loop_over_users(split, part, max_len):
    model = LastRating(split.sequences.n_items).train()
    result = evaluate_rating(model, split, part, max_len=max_len, max_tokens=200)
    assert model.training
    training = []
    for row, (user, position) in enumerate(zip(*split.held_out[part], strict=True)):
        history = split.sequences.history(user)
        training.extend(history.ratings[: split.train_end[user]].tolist())
        expected = history.ratings[position - 1] + history.items[position] / 100
        assert result.predicted[row] == pytest.approx(expected, rel=1e-6)
        assert result.actual[row] == history.ratings[position]
        assert result.users[row] == split.sequences.user_ids[user]
    assert result.train_mean == pytest.approx(np.mean(training))


def test_both_are_what_each_is_alone(split):
    model = LastRating(split.sequences.n_items)
    rating, ranking = evaluate_both(model, split)
    alone = evaluate_ranking(model, split)
    assert dict(rating) == dict(evaluate_rating(model, split))
    assert dict(ranking) == dict(alone)
    assert np.array_equal(ranking.users, alone.users)


def test_a_model_that_knows_users_is_told_whose_histories_they_are(split):
    class Knows(LastRating):
        def rate(self, items, delta, ratings, target_items, hidden=None, users=None):
            return users[:, None] + 0 * ratings

    model = Knows(split.sequences.n_items)
    wanted = split.held_out["test"][0]
    assert np.array_equal(evaluate_rating(model, split).predicted, wanted)
    assert np.array_equal(evaluate_both(model, split)[0].predicted, wanted)


def test_unknown_parts_and_impossible_cut_offs_are_refused(split):
    model = LastRating(split.sequences.n_items)
    with pytest.raises(ValueError, match="'train' of the split holds no targets"):
        evaluate_rating(model, split, "train")
    with pytest.raises(ValueError, match="K=41"):
        evaluate_both(model, split, ks=(41,))


def test_a_model_that_has_diverged_is_an_error(split):
    model = LastRating(split.sequences.n_items)
    model.rate = lambda items, delta, ratings, *_: ratings * torch.nan
    with pytest.raises(ValueError, match="diverged"):
        evaluate_rating(model, split)
