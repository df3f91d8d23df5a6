import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ss4rec_lib.data.splits import k_core
from ss4rec_lib.data.validation import DataError

pairs = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=60)


def frame(rows):
    table = pd.DataFrame(rows, columns=["user_id", "item_id"]).astype(np.int32)
    table["row"] = np.arange(len(table))
    return table


def k_core_by_loops(table, k):
    """Drop one offending user or item at a time until there is none."""
    while True:
        for column in ("user_id", "item_id"):
            counts = table[column].value_counts()
            rare = counts[counts < k]
            if len(rare):
                table = table[table[column] != rare.index[0]]
                break
        else:
            return table


@given(pairs, st.integers(2, 5))
def test_matches_dropping_one_offender_at_a_time(rows, k):
    table = frame(rows)
    expected = k_core_by_loops(table, k)
    if len(expected) == 0:
        with pytest.raises(DataError, match=f"{k}-core"):
            k_core(table, k)
    else:
        # `row` shows that the very same rows are left, in the order given.
        pd.testing.assert_frame_equal(k_core(table, k), expected.reset_index(drop=True))


def test_is_iterated_to_a_fixed_point():
    # One pass drops item 9 only; without it user 3 has one row left, and goes in the second pass.
    rows = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 9)]
    left = k_core(frame(rows), 2)
    assert left["row"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("k", [None, 0, 1])
def test_no_filter_gives_the_table_itself(k):
    table = frame([(1, 1), (2, 5)])
    assert k_core(table, k) is table


def test_a_table_that_already_is_a_core_is_not_copied():
    table = frame([(u, i) for u in range(3) for i in range(3)])
    assert k_core(table, np.int64(3)) is table


def test_attrs_and_other_columns_survive():
    table = frame([(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)])
    table.attrs["dataset"] = "toy"
    left = k_core(table, 2)
    assert left.attrs == {"dataset": "toy"}
    assert left["row"].tolist() == [0, 1, 2, 3]
    assert isinstance(left.index, pd.RangeIndex)
    assert len(table) == 5


@pytest.mark.parametrize("k", [-1, 5.0, "5", True, np.nan])
def test_impossible_k_is_refused(k):
    with pytest.raises(ValueError, match=f"k={k!r}"):
        k_core(frame([(1, 1)]), k)


@given(pairs, st.integers(2, 40))
def test_empty_filter_names_the_largest_k_that_works(rows, k):
    table = frame(rows)
    largest, core = 0, table
    while len(core):  # a larger core lies within a smaller one
        largest += 1
        core = k_core_by_loops(core, largest + 1)
    if k <= largest:
        assert len(k_core(table, k))
        return
    with pytest.raises(DataError) as error:
        k_core(table, k)
    assert f"{k}-core" in str(error.value)
    assert f" {largest};" in str(error.value)
