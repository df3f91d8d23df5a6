"""`validate_ratings`: what it returns, and every fault it refuses."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ss4rec_lib.data import validation as errors
from ss4rec_lib.data.validation import validate_ratings


def frame(**columns) -> pd.DataFrame:
    base = {
        "user_id": [1, 1, 2],
        "item_id": [10, 20, 10],
        "rating": [3.5, 4.0, 0.5],
        "timestamp": [881_250_949, 881_250_949, 0],
    }
    return pd.DataFrame({**base, **columns})


def test_gives_the_promised_dtypes_and_keeps_rows_and_attrs() -> None:
    ratings = frame(timestamp=[30.0, 20.0, 10.0], note=["a", "b", "c"])
    ratings.index = [7, 5, 3]
    ratings.attrs = {"dataset": "mine"}
    checked = validate_ratings(ratings)
    assert checked.dtypes.astype(str).to_dict() == {
        "user_id": "int32",
        "item_id": "int32",
        "rating": "float32",
        "timestamp": "int64",
    }
    assert checked["timestamp"].tolist() == [30, 20, 10]
    assert checked.index.equals(pd.RangeIndex(3))
    assert checked.attrs["dataset"] == "mine"
    assert ratings.dtypes["timestamp"] == "float64", "the table given must not change"


def test_a_table_that_is_right_already_is_not_copied() -> None:
    once = validate_ratings(frame())
    assert validate_ratings(once) is once


@pytest.mark.parametrize(
    ("row", "column", "value", "error"),
    [
        (1, "timestamp", 10**12, errors.InvalidRatingsError),
        (0, "rating", np.nan, errors.InvalidRatingsError),
        (2, "item_id", -1, errors.InvalidRatingsError),
        (1, "item_id", 10, errors.InvalidRatingsError),
    ],
)
def test_a_checked_table_that_was_changed_since_is_checked_again(row, column, value, error) -> None:
    checked = validate_ratings(frame())
    checked.loc[row, column] = value
    with pytest.raises(error):
        validate_ratings(checked)


def test_a_checked_table_can_be_written_to_without_changing_the_one_given() -> None:
    given = validate_ratings(frame())
    given.attrs = {}
    checked = validate_ratings(given)
    checked.loc[:, "timestamp"] = 7
    assert given["timestamp"].tolist() == [881_250_949, 881_250_949, 0]
    assert given.attrs == {}


def test_a_table_checked_before_is_not_sorted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    once = validate_ratings(frame())
    monkeypatch.delattr(errors, "_refuse_duplicates")
    assert validate_ratings(once) is once
    with pytest.raises(NameError):
        validate_ratings(pd.concat([once, once]))


def test_ids_beyond_32_bits_and_nullable_integers_are_kept_exactly() -> None:
    big = 2**60 + 1
    checked = validate_ratings(
        frame(user_id=pd.array([big, 1, 2], dtype="Int64"), item_id=[2**61 + 1, 0, 1])
    )
    assert checked["user_id"].tolist() == [big, 1, 2]
    assert checked["item_id"].tolist() == [2**61 + 1, 0, 1]


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        (
            {"rating": [3.0, np.nan, 1.0]},
            errors.InvalidRatingsError,
            "NaN in column rating at row 1",
        ),
        (
            {"user_id": pd.array([1, 2, None], dtype="Int64")},
            errors.InvalidRatingsError,
            "NaN in column user_id at row 2",
        ),
        ({"timestamp": [1.0, 2.0, np.nan]}, errors.InvalidRatingsError, "NaN in column timestamp"),
        ({"rating": [3.0, 1.0, np.inf]}, errors.InvalidRatingsError, "rating is inf at row 2"),
        ({"rating": [3.0, 1.0, 1e300]}, errors.InvalidRatingsError, "rating is 1e\\+300 at row 2"),
        (
            {"rating": pd.array([3.0, 1.0, np.inf], dtype="Float64")},
            errors.InvalidRatingsError,
            "rating is inf at row 2",
        ),
        ({"user_id": [1, 2, -3]}, errors.InvalidRatingsError, "user_id is -3 at row 2"),
        ({"item_id": [1.5, 2, 3]}, errors.InvalidRatingsError, "item_id is 1.5 at row 0"),
        ({"item_id": ["a", 7, "c"]}, errors.InvalidRatingsError, r"'a'.*\.astype\(str\)"),
        ({"item_id": ["a", "", "c"]}, errors.InvalidRatingsError, "item_id is '' at row 1"),
        ({"rating": [True, False, True]}, errors.InvalidRatingsError, "dtype bool"),
        (
            {"user_id": [1, 2, 2.0**63]},
            errors.InvalidRatingsError,
            "user_id is 9.2.*e\\+18 at row 2",
        ),
        ({"timestamp": [1, 2, -5]}, errors.InvalidRatingsError, "timestamp is -5 at row 2"),
        ({"timestamp": [1, 2, 2.5]}, errors.InvalidRatingsError, "timestamp is 2.5 at row 2"),
        (
            {"timestamp": [1, 881_250_949_000, 2]},
            errors.InvalidRatingsError,
            "timestamp is 881250949000 at row 1 .*milliseconds.*//= 1000\\.$",
        ),
        (
            {"timestamp": [881_250_949_000_000, 1, 2]},
            errors.InvalidRatingsError,
            "881250949000000 at row 0 .*//= 1000000\\.$",
        ),
        (
            {"timestamp": pd.to_datetime([1, 2, 3], unit="s")},
            errors.InvalidRatingsError,
            "timestamp has dtype datetime64",
        ),
    ],
)
def test_refuses(columns: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        validate_ratings(frame(**columns), source="my table")
    assert str(caught.value).startswith("my table: ")
    assert isinstance(caught.value, errors.DataError)
    assert isinstance(caught.value, ValueError)


DATES = pd.Series(pd.to_datetime([881_250_949, 881_250_950, 1_600_000_000], unit="s"))
SECONDS = [881_250_949, 881_250_950, 1_600_000_000]


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("timestamp", DATES, SECONDS),
        ("timestamp", DATES.astype("datetime64[ns]"), SECONDS),
        ("timestamp", DATES.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"), SECONDS),
        ("timestamp", DATES.dt.strftime("%Y-%m-%d %H:%M:%S"), SECONDS),
        ("timestamp", DATES.dt.strftime("%Y-%m-%dT%H:%M:%SZ").astype(object), SECONDS),
        ("timestamp", ["04/03/2021 10:00", "05/03/2021 10:00", "28/02/2021 10:00"],
         [1_614_852_000, 1_614_938_400, 1_614_506_400]),
        ("timestamp", [str(time) for time in SECONDS], SECONDS),
        ("timestamp", [time * 1000 for time in SECONDS], SECONDS),
        ("timestamp", [time * 10**9 for time in SECONDS], SECONDS),
        ("rating", ["3.5", "4", "5"], [3.5, 4, 5]),
        ("rating", [True, False, True], [1, 0, 1]),
        ("user_id", [7, "7", "x"], ["7", "7", "x"]),
    ],
)  # fmt: skip
def test_the_advice_for_a_column_was_executed(column: str, values: object, expected: list) -> None:
    ratings = frame(item_id=[1, 2, 3], **{column: values})
    with pytest.raises(errors.InvalidRatingsError, match=column) as caught:
        validate_ratings(ratings)
    advice = re.search(r'ratings\["\w+"\] (//)?= .*', str(caught.value))
    assert advice, caught.value
    exec(advice[0].removesuffix("."), {"ratings": ratings, "pandas": pd})
    assert validate_ratings(ratings)[column].tolist() == expected


def test_the_advice_for_missing_values_and_duplicates_was_executed() -> None:
    ratings = pd.concat([frame(), frame().iloc[[1]], frame(rating=[np.nan, 1, 1]).iloc[[0]]])
    for _ in range(2):
        with pytest.raises(errors.InvalidRatingsError) as caught:
            validate_ratings(ratings)
        advice = re.search(r"ratings\.(dropna|drop_duplicates)\(.*?\)", str(caught.value))
        assert advice, caught.value
        ratings = eval(advice[0], {"ratings": ratings})
    assert len(validate_ratings(ratings)) == 3


def test_text_ids_become_a_category_in_ascending_order() -> None:
    unused = pd.Categorical(["b", "a", "b"], categories=["z", "b", "a"])
    unsorted = pd.Categorical(["b", "a", "b"], categories=["b", "a"])
    for ids in (["b", "a", "b"], unused, unsorted, pd.array(["b", "a", "b"], dtype="string")):
        checked = validate_ratings(frame(user_id=ids, item_id=[1, 2, 3]))
        assert checked["user_id"].cat.categories.tolist() == ["a", "b"]
        assert checked["user_id"].tolist() == ["b", "a", "b"]
        assert validate_ratings(checked) is checked
    numbers = pd.Categorical([7, 5, 7])
    assert validate_ratings(frame(user_id=numbers, item_id=[1, 2, 3]))["user_id"].dtype == "int32"
    with pytest.raises(errors.InvalidRatingsError, match=r"user_id b, item_id x.*row 0.*row 2"):
        validate_ratings(frame(user_id=["b", "a", "b"], item_id=["x"] * 3, timestamp=[1, 1, 1]))


def test_ratings_may_be_absent_but_not_under_another_name() -> None:
    checked = validate_ratings(frame().drop(columns="rating"))
    assert list(checked.columns) == ["user_id", "item_id", "timestamp"]
    assert validate_ratings(checked) is checked
    with pytest.raises(errors.DataError, match=r"rating.*stars"):
        validate_ratings(frame().rename(columns={"rating": "stars"}))


def test_refuses_a_missing_column_naming_found_and_expected() -> None:
    with pytest.raises(errors.DataError, match="rating") as caught:
        validate_ratings(frame().rename(columns={"rating": "stars"}))
    assert "found: user_id, item_id, stars, timestamp" in str(caught.value)
    assert "expected: user_id, item_id, rating, timestamp" in str(caught.value)


def test_refuses_a_repeated_column_an_empty_table_and_no_table() -> None:
    with pytest.raises(errors.DataError, match="rating"):
        validate_ratings(pd.concat([frame(), frame()[["rating"]]], axis=1))
    with pytest.raises(errors.InvalidRatingsError, match="no rows"):
        validate_ratings(frame().iloc[:0])
    with pytest.raises(errors.InvalidRatingsError, match="found list"):
        validate_ratings([1, 2])


def test_refuses_duplicate_rows_with_the_first_example_and_the_count() -> None:
    ratings = pd.concat([frame(), frame().iloc[[1, 2, 1]]], ignore_index=True)
    with pytest.raises(errors.InvalidRatingsError, match="3 duplicate row") as caught:
        validate_ratings(ratings)
    assert "user_id 1, item_id 20, timestamp 881250949 is on row 1 and again on row 3" in str(
        caught.value
    )
    again = ratings.drop_duplicates(["user_id", "item_id", "timestamp"])
    assert len(validate_ratings(again)) == 3, "the advice given must work"


def test_the_same_film_twice_at_different_times_is_no_duplicate() -> None:
    assert len(validate_ratings(frame(item_id=[10, 10, 10], timestamp=[1, 2, 1]))) == 3


small = st.integers(0, 3)
huge = st.integers(2**40, 2**40 + 2)


@given(st.lists(st.tuples(st.one_of(small, huge), st.one_of(small, huge), small), min_size=1))
def test_duplicates_are_found_exactly_when_there_are_some(rows: list[tuple]) -> None:
    ratings = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).assign(rating=1)
    n_again = len(rows) - len(set(rows))
    if n_again == 0:
        assert len(validate_ratings(ratings)) == len(rows)
    else:
        with pytest.raises(errors.InvalidRatingsError, match=f"{n_again} duplicate row"):
            validate_ratings(ratings)
