import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ss4rec_lib.data.sequences import (
    ORDERINGS,
    PADDING,
    Sequences,
    build_sequences,
    index_ids,
    protocol_times,
    stable_order,
)
from ss4rec_lib.data.validation import DataError, InvalidRatingsError

ARRAYS = ("items", "times", "ratings", "offsets", "user_ids", "item_ids")


@st.composite
def ratings(draw):
    """Ragged histories with ties, times near 1e9 s (inside and beyond float32 buckets), any ids."""
    times = st.one_of(st.integers(0, 3), st.integers(0, 400), st.integers(0, 10**8))
    rows = draw(
        st.lists(
            st.tuples(st.sampled_from([1, 2, 5, 70, 10**6]), st.integers(0, 9), times),
            min_size=1,
            max_size=50,
            unique=True,
        )
    )
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    table["timestamp"] += 1_000_000_000
    table["rating"] = np.arange(len(table)) % 10 / 2
    return table


def histories_by_loops(table, ordering):
    """{user: [(item, time, rating), ...]} with nothing but sorted()."""
    histories = {}
    for row in table.itertuples():
        time = row.timestamp
        if ordering == "recbole-float32":
            time = int(np.float32(time))
        histories.setdefault(row.user_id, []).append((time, row.Index, row.item_id, row.rating))
    return {
        user: [(item, time, rating) for time, _, item, rating in sorted(rows)]
        for user, rows in sorted(histories.items())
    }


@pytest.mark.parametrize("ordering", ORDERINGS)
@given(table=ratings())
def test_histories_match_sorting_each_user_by_hand(ordering, table):
    expected = histories_by_loops(table, ordering)
    sequences = build_sequences(table, ordering)
    assert sequences.user_ids.tolist() == list(expected)
    assert sequences.item_ids.tolist() == [PADDING["i"], *sorted(table["item_id"].unique())]
    for index, rows in enumerate(expected.values()):
        history = sequences.history(index)
        found = zip(
            sequences.item_ids[history.items].tolist(),
            history.times.tolist(),
            history.ratings.tolist(),
            strict=True,
        )
        assert list(found) == rows


@given(table=ratings())
def test_intervals_are_subtracted_as_integers(table):
    sequences = build_sequences(table)
    expected = [
        np.float32(later[1] - earlier[1])
        for rows in histories_by_loops(table, "exact-time").values()
        for earlier, later in itertools.pairwise(rows)
    ]
    every = sequences.intervals()
    assert every.dtype == np.float32
    assert every.tolist() == expected
    assert (every >= 0).all()


def test_float32_ordering_lets_the_file_decide_inside_a_bucket():
    # One ulp at 1e9 is 64 s: 1_000_000_005 and 1_000_000_030 both round to 1_000_000_000.
    table = pd.DataFrame(
        {
            "user_id": 1,
            "item_id": [30, 10, 20],
            "rating": 1.0,
            "timestamp": [1_000_000_030, 1_000_000_005, 1_000_000_100],
        }
    )
    exact = build_sequences(table, "exact-time")
    rounded = build_sequences(table, "recbole-float32")
    assert exact.item_ids[exact.items].tolist() == [10, 30, 20]
    assert rounded.item_ids[rounded.items].tolist() == [30, 10, 20]
    assert rounded.times.tolist() == [1_000_000_000, 1_000_000_000, 1_000_000_128]
    assert rounded.intervals().tolist() == [0, 128]
    assert exact.intervals().tolist() == [25, 70]


@given(st.lists(st.integers(0, 10**11), min_size=1))
def test_protocol_times_round_one_by_one(values):
    times = np.array(values, dtype=np.int64)
    assert protocol_times(times, "exact-time") is times
    assert protocol_times(times, "recbole-float32").tolist() == [int(np.float32(v)) for v in values]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1),
    st.sampled_from([1, 10**9, 2**58]),
)
def test_stable_order_is_lexsort(rows, scale):
    users = np.array([user for user, _ in rows], dtype=np.int32)
    times = np.array([time for _, time in rows], dtype=np.int64) * scale
    np.testing.assert_array_equal(stable_order(users, times), np.lexsort((times, users)))


def small():
    return pd.DataFrame(
        {
            "user_id": [7, 7, 3, 9, 7],
            "item_id": [50, 40, 50, 60, 60],
            "rating": [1, 2, 3, 4, 5],
            "timestamp": [20, 10, 5, 1, 20],
        }
    )


def test_layout_and_dtypes():
    sequences = build_sequences(small())
    assert (sequences.n_users, sequences.n_items, sequences.n_interactions) == (3, 3, 5)
    assert sequences.offsets.tolist() == [0, 1, 4, 5]
    assert sequences.lengths.tolist() == [1, 3, 1]
    assert sequences.items.tolist() == [2, 1, 2, 3, 3]
    assert sequences.ratings.tolist() == [3, 2, 1, 5, 4]
    per_interaction = (sequences.items, sequences.times, sequences.ratings)
    assert [array.dtype for array in per_interaction] == [np.int32, np.int64, np.float32]
    assert sum(array.itemsize for array in per_interaction) == 16
    assert "3 users" in repr(sequences)
    assert "exact-time" in repr(sequences)


def test_histories_are_views():
    sequences = build_sequences(small())
    for array, whole in zip(
        sequences.history(1), (sequences.items, sequences.times, sequences.ratings), strict=True
    ):
        assert np.shares_memory(array, whole)


def test_a_user_index_beyond_the_last_is_refused():
    sequences = build_sequences(small())
    for index in (-1, 3):
        with pytest.raises(IndexError, match=str(index)):
            sequences.history(index)


def test_original_ids_are_looked_up():
    sequences = build_sequences(small())
    assert sequences.item_index(50) == 2
    assert sequences.item_index([[60, 40]]).tolist() == [[3, 1]]
    assert sequences.user_index([9, 3]).tolist() == [2, 0]


@pytest.mark.parametrize("ids", [-1, 41, 61, [40, 999], 0])
def test_unknown_ids_are_named(ids):
    sequences = build_sequences(small())
    with pytest.raises(DataError, match="item") as caught:
        sequences.item_index(ids)
    assert all(text in str(caught.value) for text in (str(np.max(ids)), "40", "60"))


def test_ids_that_are_no_integers_are_refused():
    with pytest.raises(DataError, match=r"user.*'7'"):
        build_sequences(small()).user_index("7")


@pytest.mark.parametrize("ordering", ["exact", None, "float32"])
def test_unknown_ordering_names_both(ordering):
    with pytest.raises(ValueError, match=f"ordering={ordering!r}.*exact-time.*recbole-float32"):
        build_sequences(small(), ordering)


def test_duplicate_rows_are_refused():
    with pytest.raises(InvalidRatingsError, match="1 duplicate row"):
        build_sequences(pd.concat([small(), small().tail(1)]))


def test_arrays_that_do_not_belong_together_are_refused():
    good = {name: getattr(build_sequences(small()), name) for name in ARRAYS}
    with pytest.raises(ValueError, match=r"items.*users"):
        Sequences(**{**good, "times": good["times"][:-1]})
    with pytest.raises(ValueError, match=r"items.*users"):
        Sequences(**{**good, "offsets": good["offsets"][:-1]})
    with pytest.raises(ValueError, match=r"items.*int64"):
        Sequences(**{**good, "items": good["items"].astype(np.int64)})
    with pytest.raises(ValueError, match=r"item_ids\[0\]"):
        Sequences(**{**good, "item_ids": np.array([5, 6], dtype=np.int64)})


@given(st.lists(st.one_of(st.integers(0, 20), st.integers(0, 2**62)), min_size=1, max_size=50))
def test_index_ids_is_unique_with_inverse(ids):
    array = np.array(ids, dtype=np.int64)
    distinct, index = index_ids(array)
    expected, inverse = np.unique(array, return_inverse=True)
    np.testing.assert_array_equal(distinct, expected)
    np.testing.assert_array_equal(index, inverse)
    assert (distinct.dtype, index.dtype) == (np.int64, np.int32)
