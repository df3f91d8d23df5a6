import json
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ss4rec_lib.data.sequences import ORDERINGS
from ss4rec_lib.data.splits import global_time_split, leave_one_out
from ss4rec_lib.data.validation import (
    DataError,
    InvalidRatingsError,
    NotEnoughInteractionsWarning,
)

BASE = 1_000_000_000


@st.composite
def ratings(draw):
    """Ragged histories, single-interaction users among them, with ties near 1e9 s."""
    times = st.one_of(st.integers(0, 3), st.integers(0, 400))
    rows = draw(
        st.lists(
            st.tuples(st.integers(1, 6), st.integers(11, 18), times),
            min_size=1,
            max_size=60,
            unique=True,
        )
    )
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    table["timestamp"] += BASE
    table["rating"] = 3.0
    return table


def histories(table, ordering):
    """{user: [(protocol time, row, item, original time), ...]} in order."""
    found = {}
    for row in table.itertuples():
        time = row.timestamp
        if ordering == "recbole-float32":
            time = int(np.float32(time))
        found.setdefault(row.user_id, []).append((time, row.Index, row.item_id, row.timestamp))
    return {user: sorted(rows) for user, rows in sorted(found.items())}


def as_rows(targets):
    return [tuple(row) for row in targets.itertuples(index=False)]


def check_counts(split, train):
    """`train` is {user: [item, ...]}: what may be trained on."""
    counts = split.train_counts()
    assert counts.dtype == np.int64
    assert len(counts) == split.sequences.n_items + 1
    items = [item for rows in train.values() for item in rows]
    expected = {item: items.count(item) for item in split.sequences.item_ids[1:].tolist()}
    assert counts[0] == 0
    assert dict(zip(expected, counts[1:].tolist(), strict=True)) == expected
    assert split.train_end.tolist() == [len(rows) for rows in train.values()]
    assert split.report["n_train_targets"] == sum(max(0, len(v) - 1) for v in train.values())


@pytest.mark.parametrize("ordering", ORDERINGS)
@given(table=ratings())
def test_leave_one_out_matches_sorting_each_user_by_hand(ordering, table):
    users = histories(table, ordering)
    long_enough = {user: rows for user, rows in users.items() if len(rows) >= 3}
    assume(long_enough)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        split = leave_one_out(table, ordering=ordering, min_interactions=None)
    # Original ids and original times, whatever the protocol sees.
    assert as_rows(split.targets("test")) == [
        (user, rows[-1][2], rows[-1][3]) for user, rows in long_enough.items()
    ]
    assert as_rows(split.targets("valid")) == [
        (user, rows[-2][2], rows[-2][3]) for user, rows in long_enough.items()
    ]
    train = {
        user: [row[2] for row in (rows[:-2] if len(rows) >= 3 else rows)]
        for user, rows in users.items()
    }
    check_counts(split, train)
    too_short = len(users) - len(long_enough)
    assert split.report["users_too_short"] == too_short
    assert [w.category for w in caught] == [NotEnoughInteractionsWarning] * bool(too_short)
    if too_short:
        message = str(caught[0].message)
        assert f"{too_short} of {len(users)} users" in message
        assert "stay in the training part" in message


@pytest.mark.parametrize("ordering", ORDERINGS)
@given(table=ratings(), cuts=st.tuples(st.integers(1, 400), st.integers(1, 400)))
@pytest.mark.filterwarnings("ignore::ss4rec_lib.data.NotEnoughInteractionsWarning")
def test_global_time_matches_walking_through_each_user(ordering, table, cuts):
    users = histories(table, ordering)
    valid_from, test_from = BASE + min(cuts), BASE + max(cuts)
    expected = {"valid": [], "test": []}
    without = {"valid": 0, "test": 0}
    for user, rows in users.items():
        for part, begin, end in (("valid", valid_from, test_from), ("test", test_from, np.inf)):
            wanted = [row for row in rows if begin <= row[0] < end]
            before = [row for row in rows if row[0] < begin]
            if wanted and before:
                expected[part].append((user, wanted[0][2], wanted[0][3]))
                assert rows.index(wanted[0]) == len(before)
            elif wanted:
                without[part] += 1
    times = [row[0] for rows in users.values() for row in rows]
    possible = min(times) < valid_from < test_from <= max(times) and all(expected.values())
    arguments = {"ordering": ordering, "valid_from": valid_from, "test_from": test_from}
    if not possible:
        with pytest.raises(DataError):
            global_time_split(table, min_interactions=0, **arguments)
        return
    split = global_time_split(table, min_interactions=0, **arguments)
    for part in ("valid", "test"):
        assert as_rows(split.targets(part)) == expected[part]
        assert split.report[f"{part}_without_history"] == without[part]
        assert split.report[f"n_{part}"] == len(expected[part])
        assert (split.held_out[part][1] >= 1).all()
    check_counts(
        split, {u: [row[2] for row in rows if row[0] < valid_from] for u, rows in users.items()}
    )


def table_of(*histories_of_times):
    """A user for each list of times; items 1, 2, 3, ... in the order listed."""
    rows = [
        (user, item, 3.0, BASE + time)
        for user, times in enumerate(histories_of_times, start=1)
        for item, time in enumerate(times, start=1)
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])


def test_the_filter_comes_first_and_is_reported():
    # Item 4 and user 3 fall to the 2-core, so user 1's last interaction is item 3.
    table = table_of([1, 2, 3, 4], [1, 2, 3], [9])
    split = leave_one_out(table, min_interactions=2)
    assert as_rows(split.targets("test")) == [(1, 3, BASE + 3), (2, 3, BASE + 3)]
    assert split.report == {
        "rows_before_filter": 8,
        "users_before_filter": 3,
        "items_before_filter": 4,
        "rows": 6,
        "users": 2,
        "items": 3,
        "users_too_short": 0,
        "n_train_targets": 0,
        "n_valid": 2,
        "n_test": 2,
    }
    assert split.min_interactions == 2


def test_tied_rows_keep_the_file_order():
    table = table_of([5, 5, 5, 5])
    assert leave_one_out(table, min_interactions=0).targets("test")["item_id"].tolist() == [4]
    backwards = table.iloc[::-1]
    assert leave_one_out(backwards, min_interactions=0).targets("test")["item_id"].tolist() == [1]


def test_default_cuts_hold_out_the_last_fifth_and_tenth():
    table = table_of(*[range(user, 1000, 10) for user in range(10)])
    split = global_time_split(table)
    assert (split.report["valid_from"], split.report["test_from"]) == (BASE + 800, BASE + 900)
    assert split.train_end.tolist() == [80] * 10
    assert split.targets("valid")["timestamp"].tolist() == [BASE + 800 + user for user in range(10)]
    assert split.targets("test")["timestamp"].tolist() == [BASE + 900 + user for user in range(10)]


def test_users_without_history_are_counted_and_warned_about():
    table = table_of([1, 2, 30, 60], [31, 32, 61], [70])
    with pytest.warns(NotEnoughInteractionsWarning, match=r"1 for validation, 1 for test \(of 3"):
        split = global_time_split(
            table, min_interactions=None, valid_from=BASE + 20, test_from=BASE + 50
        )
    # User 2 has no history before the first cut, but has one before the second.
    assert split.targets("valid")["user_id"].tolist() == [1]
    assert split.targets("test")["user_id"].tolist() == [1, 2]
    assert split.held_out["test"][1].tolist() == [3, 2]


@pytest.mark.parametrize(
    ("valid_from", "test_from"),
    [(50, 20), (50, 50), (0, 50), (20, 100), (-5, 50), (2_000_000_000_000, None)],
)
def test_inconsistent_cuts_are_refused(valid_from, test_from):
    table = table_of([0, 30, 60], [1, 31, 61])
    with pytest.raises(DataError, match=r"valid_from=.*test_from="):
        global_time_split(
            table,
            min_interactions=None,
            valid_from=BASE + valid_from,
            test_from=None if test_from is None else BASE + test_from,
        )


@pytest.mark.parametrize("cut", ["2001-09-09", np.nan, True, pd.Timestamp("2001-09-09")])
def test_cuts_that_are_no_numbers_are_refused(cut):
    with pytest.raises(ValueError, match="valid_from="):
        global_time_split(table_of([0, 30, 60]), min_interactions=None, valid_from=cut)


def test_cuts_that_leave_a_part_empty_are_refused():
    table = table_of([0, 1, 60], [0, 1, 61])
    with pytest.raises(DataError, match=r"valid.*valid_from="):
        global_time_split(table, min_interactions=0, valid_from=BASE + 20, test_from=BASE + 30)


def test_no_user_long_enough_is_an_error():
    with pytest.raises(DataError, match="2 users"):
        leave_one_out(table_of([1, 2], [3]), min_interactions=None)


@pytest.mark.parametrize("split", [leave_one_out, global_time_split])
def test_bad_arguments_and_tables_are_refused(split):
    table = table_of([1, 2, 3], [1, 2, 3])
    with pytest.raises(ValueError, match="ordering='newest'"):
        split(table, ordering="newest")
    with pytest.raises(ValueError, match="min_interactions=-1"):
        split(table, min_interactions=-1)
    with pytest.raises(DataError, match="5-core"):
        split(table)
    with pytest.raises(DataError, match="timestamp"):
        split(table.drop(columns="timestamp"))
    with pytest.raises(InvalidRatingsError, match="timestamp"):
        split(table.assign(timestamp=table["timestamp"] * 1000))


def test_unknown_part_is_refused():
    split = leave_one_out(table_of([1, 2, 3]), min_interactions=None)
    for part in ("train", "Test", None):
        with pytest.raises(ValueError, match=r"part=.*valid.*test"):
            split.targets(part)


def test_description_is_json_and_names_the_protocol():
    table = table_of([1, 2, 30, 60], [3, 31, 61])
    for split in (
        leave_one_out(table, ordering="recbole-float32", min_interactions=2),
        global_time_split(table, min_interactions=None, valid_from=BASE + 9, test_from=BASE + 50),
    ):
        described = json.loads(json.dumps(split.describe()))
        assert described["split"] == split.kind
        assert described["ordering"] == split.ordering
        assert described["min_interactions"] == split.min_interactions
        assert described["catalogue"] == split.sequences.n_items
        assert split.kind in repr(split)
        assert f"{split.report['n_test']} test targets" in repr(split)


def test_the_ratings_given_are_not_changed():
    table = table_of([3, 1, 2, 4], [3, 1, 2])
    before = table.copy()
    leave_one_out(table, ordering="recbole-float32", min_interactions=2)
    pd.testing.assert_frame_equal(table, before)
