import itertools

import numpy as np
import pandas as pd
import pytest

from ss4rec_lib.data.planted import (
    THRESHOLD,
    planted_items,
    planted_ratings,
    planted_truth,
)
from ss4rec_lib.data.sequences import build_sequences
from ss4rec_lib.data.splits import leave_one_out
from ss4rec_lib.data.validation import validate_ratings


def steps(sequences):
    """(current id, next id, seconds between) of every pair of neighbours in a history."""
    ids = sequences.item_ids[sequences.items]
    inside = np.ones(len(ids) - 1, dtype=bool)
    inside[sequences.offsets[1:-1] - 1] = False
    gaps = np.diff(sequences.times)
    return ids[:-1][inside], ids[1:][inside], gaps[inside]


def agreement(ratings, truth, ordering="exact-time"):
    current, following, gaps = steps(build_sequences(ratings, ordering))
    return (truth.successor(current, gaps) == following).mean()


def test_the_rule_holds_everywhere_without_epsilon():
    ratings = planted_ratings(n_users=100, seed=4, epsilon=0)
    assert agreement(ratings, planted_truth(seed=4, epsilon=0)) == 1


def test_the_rule_holds_as_often_as_the_ceiling_says():
    ratings = planted_ratings(n_users=2000, seed=1)
    truth = planted_truth(seed=1)
    n = len(ratings) - 2000
    expected = truth.best_hit_rate(1)
    standard_error = np.sqrt(expected * (1 - expected) / n)
    assert abs(agreement(ratings, truth) - expected) < 4 * standard_error
    # Told nothing about the interval, the best guess is always the sequel.
    current, following, gaps = steps(build_sequences(ratings))
    blind = (truth.short[current] == following).mean()
    expected = truth.best_hit_rate(1, interval_known=False)
    assert abs(blind - expected) < 4 * np.sqrt(expected * (1 - expected) / n)
    assert abs((gaps <= THRESHOLD).mean() - truth.share_within) < 0.01


def test_breaking_ties_otherwise_loses_the_rule():
    ratings = planted_ratings(n_users=300)
    truth = planted_truth()
    exact = agreement(ratings, truth)
    assert agreement(ratings, truth, "recbole-float32") < exact - 0.1
    assert agreement(ratings.sort_values("item_id", kind="stable"), truth) < exact - 0.1


@pytest.mark.parametrize("n_items", [3, 4, 50])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sequels_and_revivals_are_permutations_that_differ(n_items, seed):
    truth = planted_truth(n_items=n_items, seed=seed)
    films = np.arange(1, n_items + 1)
    for permutation in (truth.short, truth.long):
        assert permutation[0] == 0
        assert sorted(permutation[1:]) == films.tolist()
        assert (permutation[1:] != films).all()
    assert (truth.short[1:] != truth.long[1:]).all()
    assert truth.n_items == n_items
    # The sequels form one cycle: none comes back before all were seen.
    film, seen = 1, []
    for _ in films:
        film = truth.short[film]
        seen.append(film)
    assert sorted(seen) == films.tolist()


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.7, 1.0])
@pytest.mark.parametrize("interval_known", [True, False])
def test_the_ceiling_is_that_of_the_full_distribution(epsilon, interval_known):
    truth = planted_truth(n_items=7, seed=3, epsilon=epsilon)
    # How likely an interval is, and the interval.
    cases = [(truth.share_within, 0), (1 - truth.share_within, THRESHOLD + 1)]
    distributions = []
    for share, gap in cases:
        next_film = np.full(8, epsilon / 7)
        next_film[0] = 0
        next_film[truth.successor(np.array(5), gap)] += 1 - epsilon
        distributions.append((share, next_film))
    blind = sum(share * next_film for share, next_film in distributions)
    discounts = 1 / np.log2(np.arange(2, 9))
    for k in range(1, 8):
        for ceiling, gains in (
            (truth.best_hit_rate, np.ones(k)),
            (truth.best_ndcg, discounts[:k]),
        ):
            # Every order of the 7 films as the list, the best of them counted.
            orders = np.array(list(itertools.permutations(range(1, 8), k)))
            if interval_known:
                best = sum(share * (film[orders] @ gains).max() for share, film in distributions)
            else:
                best = (blind[orders] @ gains).max()
            assert ceiling(k, interval_known) == pytest.approx(best)


def test_ceiling_at_the_defaults():
    truth = planted_truth()
    assert truth.best_hit_rate(1) == pytest.approx(0.9 + 0.1 / 200)
    assert truth.best_hit_rate(1, interval_known=False) == pytest.approx(0.63 + 0.1 / 200)
    assert truth.best_hit_rate(200) == pytest.approx(1)
    assert truth.best_ndcg(1) == pytest.approx(truth.best_hit_rate(1))
    # Blind, the sequel comes first (0.9 x 0.7) and the revival second (0.9 x 0.3).
    assert truth.best_ndcg(2, interval_known=False) == pytest.approx(
        0.63 + 0.27 / np.log2(3) + 0.1 / 200 * (1 + 1 / np.log2(3))
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_table_is_valid_even_when_ties_outlast_the_catalogue(seed):
    ratings = planted_ratings(n_users=50, n_items=4, mean_length=200, seed=seed, epsilon=0.5)
    checked = validate_ratings(ratings)  # refuses duplicate (user, item, timestamp) rows
    pd.testing.assert_frame_equal(checked, ratings)
    assert ratings["item_id"].between(1, 4).all()


def test_separating_repeats_is_rare_and_stays_within_the_hour():
    # With epsilon 0 nothing is separated, and the intervals are drawn from the same numbers.
    def ones(epsilon):
        ratings = planted_ratings(n_users=2000, seed=2, epsilon=epsilon)
        return (steps(build_sequences(ratings))[2] == 1).mean()

    assert 0 <= ones(0.1) - ones(0.0) < 1e-3


def test_shape_types_and_file_order():
    ratings = planted_ratings(n_users=400, mean_length=40, seed=7)
    assert ratings.dtypes.astype(str).to_dict() == {
        "user_id": "int32",
        "item_id": "int32",
        "rating": "float32",
        "timestamp": "int64",
    }
    assert ratings.attrs["dataset"] == "planted"
    assert ratings["user_id"].is_monotonic_increasing
    assert ratings["user_id"].nunique() == 400
    assert set(ratings["rating"]) <= {1, 2, 3, 4, 5}
    lengths = ratings.groupby("user_id").size()
    assert lengths.min() >= 5
    assert abs(lengths.mean() - 40) < 4 * 36 / np.sqrt(400)
    in_time_order = ratings.groupby("user_id")["timestamp"].apply(
        lambda times: times.is_monotonic_increasing
    )
    assert in_time_order.mean() < 0.05


def test_intervals_look_like_movielens():
    gaps = steps(build_sequences(planted_ratings(seed=5)))[2]
    assert abs((gaps == 0).mean() - 0.4) < 0.02
    assert gaps.max() > 60 * 86_400
    assert gaps.max() <= 180 * 86_400
    between = gaps[(gaps > THRESHOLD) & (gaps < 86_400)]
    assert len(between) == 0
    sitting = gaps[(gaps > 0) & (gaps <= THRESHOLD)]
    assert 20 < np.median(sitting) < 45


def test_the_default_passes_the_published_protocol():
    split = leave_one_out(planted_ratings())
    assert split.sequences.n_users == 600
    assert split.sequences.n_items == 200


def test_everything_follows_from_the_seed():
    pd.testing.assert_frame_equal(planted_ratings(seed=3), planted_ratings(seed=3))
    assert not planted_ratings(seed=3).equals(planted_ratings(seed=4))
    assert not np.array_equal(planted_truth(seed=3).long, planted_truth(seed=4).long)
    pd.testing.assert_frame_equal(planted_items(seed=3), planted_items(seed=3))


def test_the_truth_does_not_depend_on_the_number_of_users():
    few = planted_ratings(n_users=50, seed=9, epsilon=0)
    many = planted_ratings(n_users=300, seed=9, epsilon=0)
    truth = planted_truth(seed=9, epsilon=0)
    assert agreement(few, truth) == agreement(many, truth) == 1


def test_items_have_titles_years_and_genres():
    items = planted_items(n_items=30)
    assert items.index.name == "item_id"
    assert items.index.tolist() == list(range(1, 31))
    assert items["title"].is_unique
    assert items["year"].dtype == "Int64"
    assert all(isinstance(genres, list) and genres for genres in items["genres"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_users": 0},
        {"n_users": 5.5},
        {"n_items": 2},
        {"mean_length": 5},
        {"mean_length": np.inf},
        {"mean_length": np.nan},
        {"seed": -1},
        {"seed": None},
        {"epsilon": 1.1},
        {"epsilon": -0.1},
        {"epsilon": np.nan},
    ],
)
def test_arguments_out_of_range_are_refused(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name}="):
        planted_ratings(**arguments)


@pytest.mark.parametrize("k", [0, 201, 1.0])
def test_a_list_longer_than_the_catalogue_has_no_ceiling(k):
    with pytest.raises(ValueError, match=r"k=.* 1 .* 200"):
        planted_truth().best_hit_rate(k)
