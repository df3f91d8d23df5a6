"""Splits of ratings, and ratings beside batches, against loops over the table."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ss4rec_lib.data import (
    eval_batches,
    global_time_split,
    leave_one_out,
    planted_ratings,
    train_batches,
)
from ss4rec_lib.data.rating_splits import (
    held_out_ratings,
    k_fold,
    random_holdout,
    random_split,
    train_ratings,
)
from ss4rec_lib.data.validation import DataError


@pytest.fixture(scope="module")
def ratings():
    return planted_ratings(n_users=40, n_items=30, mean_length=15, seed=2)


@settings(max_examples=50)
@given(st.integers(2, 200), st.integers(2, 12), st.integers(0, 5))
def test_every_row_is_tested_in_exactly_one_fold(n, k, seed):
    k = min(k, n)
    folds = k_fold(n, k, seed)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(n))
    for fold in folds:
        assert sorted([*fold.train, *fold.test]) == list(range(n))
        assert n // k <= len(fold.test) <= -(-n // k)
        assert (np.diff(fold.test) > 0).all()


@settings(max_examples=50)
@given(st.integers(2, 300), st.floats(0.01, 0.99), st.integers(0, 5))
def test_a_random_split_holds_out_the_share_asked_for(n, share, seed):
    train, test = random_split(n, share, seed)
    assert sorted([*train, *test]) == list(range(n))
    assert len(train) and len(test)
    assert abs(len(test) - n * share) <= 1


def test_splits_depend_on_the_seed_alone():
    again = zip(k_fold(99, 3, 4), k_fold(99, 3, 4), strict=True)
    assert all(np.array_equal(first.test, second.test) for first, second in again)
    assert not np.array_equal(k_fold(99, 3, 4)[0].test, k_fold(99, 3, 5)[0].test)
    assert not np.array_equal(random_split(99, seed=0).test, random_split(99, seed=1).test)


@pytest.mark.parametrize("arguments", [(3, 4), (9, 1), (9, 2, -1), (9.0, 2)])
def test_impossible_folds_are_refused(arguments):
    with pytest.raises(ValueError, match="expected an integer of at least"):
        k_fold(*arguments)


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1, float("nan"), True, "half"])
def test_impossible_shares_are_refused(share, ratings):
    with pytest.raises(ValueError, match="test_share="):
        random_split(10, share)
    with pytest.raises(ValueError, match="valid_share="):
        random_holdout(ratings, valid_share=share)


def make(kind, ratings):
    if kind == "leave-one-out":
        return leave_one_out(ratings)
    if kind == "random":
        return random_holdout(ratings, 0.2, 0.1, max_len=6)[0]
    with pytest.warns(UserWarning, match="validation.*test"):
        return global_time_split(ratings)


@pytest.mark.parametrize("kind", ["leave-one-out", "global-time", "random"])
def test_training_and_held_out_ratings_are_those_of_the_table(kind, ratings):
    split = make(kind, ratings)
    sequences = split.sequences
    known = {(row.user_id, row.item_id, row.rating) for row in ratings.itertuples(index=False)}
    for triples in (train_ratings(split), *(held_out_ratings(split, p) for p in ("valid", "test"))):
        assert len(triples.users) == len(triples.items) == len(triples.ratings) > 0
        users, items = sequences.user_ids[triples.users], sequences.item_ids[triples.items]
        assert set(zip(users, items, triples.ratings, strict=True)) <= known
    expected = []
    for user in range(sequences.n_users):
        history = sequences.history(user)
        expected += [
            (user, history.items[k], history.ratings[k]) for k in range(split.train_end[user])
        ]
    assert list(zip(*train_ratings(split), strict=True)) == expected
    with pytest.raises(ValueError, match="part='train'"):
        held_out_ratings(split, "train")


@pytest.mark.parametrize("kind", ["leave-one-out", "random"])
@pytest.mark.parametrize("max_len", [4, None])
def test_a_batch_has_each_items_rating_and_each_targets(kind, max_len, ratings):
    split = make(kind, ratings)
    unique = split.sequences
    # Give every interaction a rating of its own: equal ones would hide a shift.
    numbered = np.arange(1, unique.n_interactions + 1, dtype=np.float32)
    object.__setattr__(unique, "ratings", numbered)
    train = train_batches(split, max_tokens=60, max_len=max_len, seed=3)
    seen = []
    for plan in (train, eval_batches(split, "test", max_tokens=60, max_len=max_len)):
        for batch in plan:
            assert ((batch.ratings > 0) == (batch.items > 0)).all()
            assert (batch.target_ratings.isnan() == (batch.targets == 0)).all()
            for row, user in enumerate(batch.users.tolist()):
                length = int(batch.lengths[row])
                begin = int(batch.ratings[row, 0]) - 1  # the number says which entry it is
                entries = np.arange(begin, begin + length)
                assert np.array_equal(batch.ratings[row, :length], numbered[entries])
                assert np.array_equal(batch.items[row, :length], unique.items[entries])
                wanted = (batch.targets[row] > 0).nonzero()[:, 0].numpy()
                assert np.array_equal(
                    batch.target_ratings[row, wanted], numbered[begin + wanted + 1]
                )
                assert unique.offsets[user] <= begin
                assert begin + length < unique.offsets[user + 1]
                if plan is train:
                    seen.extend((begin + wanted + 1).tolist())
    inside = np.arange(unique.n_interactions)
    owner = np.repeat(np.arange(unique.n_users), unique.lengths)
    position = inside - unique.offsets[owner]
    assert sorted(seen) == inside[(position >= 1) & (position < split.train_end[owner])].tolist()


@pytest.mark.parametrize("max_len", [5, None])
@pytest.mark.parametrize("ordering", ["exact-time", "recbole-float32"])
def test_a_random_holdout_shows_each_target_its_users_earlier_training(ratings, max_len, ordering):
    split, rows = random_holdout(ratings, 0.25, 0.1, 7, ordering, max_len)
    sequences = split.sequences
    train = set(rows["train"].tolist())
    assert not train & {*rows["valid"].tolist(), *rows["test"].tolist()}
    assert not {*rows["valid"].tolist()} & {*rows["test"].tolist()}
    assert {*rows["test"].tolist()} <= {*random_split(len(ratings), 0.25, 7).test.tolist()}
    n_held_out = sum(split.report[f"{p}_without_history"] for p in ("valid", "test"))
    assert sum(map(len, rows.values())) + n_held_out == len(ratings)
    # A loop over the table: order of a user's rows by (rounded) time, ties by row.
    seconds = ratings["timestamp"].to_numpy()
    if ordering == "recbole-float32":
        seconds = seconds.astype(np.float32)
    place = np.lexsort((np.arange(len(ratings)), seconds))
    rank = np.empty(len(ratings), dtype=int)
    rank[place] = np.arange(len(ratings))
    table = ratings.assign(rank=rank)
    for part in ("valid", "test"):
        users, positions = split.held_out[part]
        for row, user, position in zip(rows[part], users, positions, strict=True):
            target = table.iloc[row]
            of_user = table[(table.user_id == target.user_id) & (table["rank"] < target["rank"])]
            earlier = of_user[of_user.index.isin(train)].sort_values("rank")
            if max_len is not None:
                earlier = earlier.tail(max_len)
            history = sequences.history(user)
            assert position == len(history.items) - 1 == len(earlier)
            items = sequences.item_ids[history.items]
            assert list(items) == [*earlier.item_id, target.item_id]
            assert list(history.ratings) == [*earlier.rating, target.rating]
            assert sequences.user_ids[user] == target.user_id
        assert list(split.targets(part)["timestamp"]) == list(ratings["timestamp"].iloc[rows[part]])
    assert np.array_equal(train_ratings(split).ratings, ratings["rating"].to_numpy()[rows["train"]])


def test_a_random_holdout_without_any_history_is_refused():
    table = pd.DataFrame(
        {"user_id": [1, 2, 3, 4], "item_id": 1, "rating": 3.0, "timestamp": [1, 2, 3, 4]}
    )
    with pytest.raises(DataError, match="valid"):
        random_holdout(table, 0.5, 0.5)
    with pytest.raises(DataError, match="too few"):
        random_holdout(table.head(2), 0.5, 0.5)
