"""Checks on a table of ratings, the same for files and for frames made by the user.

The checks are ordered so that the first message is the most basic fault, and written so that 32
million rows need little more memory than the table itself.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from pandas.api import types

from ss4rec_lib.data.errors import (
    DuplicateRatingsError,
    InvalidRatingsError,
    MissingColumnError,
)

COLUMNS = ("user_id", "item_id", "rating", "timestamp")
"""The columns of a ratings table, in order."""

MILLISECONDS_FROM = 10**11
"""Seconds since 1970 beyond this lie in the year 5138: such a value is in milliseconds or finer."""

_INT32_MAX = np.iinfo(np.int32).max
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def validate_ratings(df: pd.DataFrame, source: str = "ratings") -> pd.DataFrame:
    """Check a table of ratings and give it the dtypes the rest of the library relies on.

    Args:
        df: a table with at least the columns `user_id`, `item_id`, `rating`, `timestamp` (seconds
            since 1970-01-01 UTC). Other columns are left out of the result. It is not changed.
        source: what the table is called in error messages, such as a file name.

    Returns:
        The four columns in that order, rows in the order given, RangeIndex: `user_id` and
        `item_id` int32 (int64 when an id does not fit), `rating` float32, `timestamp` int64
        seconds. `.attrs` are kept. Columns that already have these dtypes are not copied.

    Raises:
        MissingColumnError: a column is missing.
        InvalidRatingsError: no rows, NaN or infinity, ids that are not integers of at least 0,
            timestamps that are fractional, negative or look like milliseconds.
        DuplicateRatingsError: a (user, item, timestamp) occurs on more than one row.
    """
    if not isinstance(df, pd.DataFrame):
        raise InvalidRatingsError(
            f"{source}: expected a pandas DataFrame with the columns {', '.join(COLUMNS)}, "
            f"found {type(df).__name__}."
        )
    require_columns(df.columns, COLUMNS, source)
    if len(df) == 0:
        raise InvalidRatingsError(f"{source}: the table has no rows; at least one is needed.")
    checked = {
        "user_id": _ids(df["user_id"], "user_id", source),
        "item_id": _ids(df["item_id"], "item_id", source),
        "rating": _ratings(df["rating"], source),
        "timestamp": _timestamps(df["timestamp"], source),
    }
    _refuse_duplicates(checked, source)
    if _is_canonical(df, checked):
        return df
    # copy=False: the arrays are handed over, not duplicated (640 MB for 32 million rows).
    result = pd.DataFrame(checked, copy=False)
    result.attrs = dict(df.attrs)
    return result


def require_columns(found, expected, source: str) -> None:
    """Raise `MissingColumnError` unless every expected column is among those found, exactly once.

    Args:
        found: names of the columns that are there.
        expected: names of the columns that are needed.
        source: what the table is called in the message.

    Raises:
        MissingColumnError: naming the missing columns, those found and those expected.
    """
    found = [str(name) for name in found]
    missing = [name for name in expected if name not in found]
    listed = f"found: {', '.join(found) or 'none'}; expected: {', '.join(expected)}"
    if missing:
        raise MissingColumnError(
            f"{source}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)} ({listed}). "
            f"Rename or add the column{'s' * (len(missing) > 1)}."
        )
    repeated = [name for name in expected if found.count(name) > 1]
    if repeated:
        raise MissingColumnError(
            f"{source}: column {repeated[0]} appears {found.count(repeated[0])} times ({listed}). "
            "Keep one of them."
        )


def _is_canonical(df: pd.DataFrame, checked: dict[str, np.ndarray]) -> bool:
    """Whether `df` already is what `validate_ratings` would return."""
    return (
        tuple(df.columns) == COLUMNS
        and isinstance(df.index, pd.RangeIndex)
        and df.index.equals(pd.RangeIndex(len(df)))
        and all(df[name].dtype == checked[name].dtype for name in COLUMNS)
    )


def _numbers(column: pd.Series, name: str, source: str) -> np.ndarray:
    """The column as a plain integer or float array without NaN or infinity."""
    if types.is_datetime64_any_dtype(column.dtype):
        raise InvalidRatingsError(
            f"{source}: {name} holds dates ({column.dtype}); expected seconds since 1970. Convert "
            f'with ratings["{name}"].astype("datetime64[s]").astype("int64").'
        )
    missing = column.isna().to_numpy()
    if missing.any():
        raise InvalidRatingsError(
            f"{source}: NaN in column {name} at row {int(missing.argmax())} (counted from 0; "
            f"{int(missing.sum())} such row(s)). Drop or repair them first, for instance with "
            f'ratings.dropna(subset=["{name}"]).'
        )
    if types.is_bool_dtype(column.dtype) or not types.is_numeric_dtype(column.dtype):
        raise InvalidRatingsError(
            f"{source}: column {name} has dtype {column.dtype} (first value {column.iloc[0]!r}); "
            f"expected numbers. Convert it first, for instance with pandas.to_numeric or, for "
            f"identifiers, pandas.factorize."
        )
    if types.is_complex_dtype(column.dtype):
        raise InvalidRatingsError(f"{source}: column {name} is complex; expected real numbers.")
    if types.is_extension_array_dtype(column.dtype):
        integral = types.is_integer_dtype(column.dtype)
        values = column.to_numpy(dtype=np.int64 if integral else np.float64)
    else:
        values = column.to_numpy()
    if values.dtype.kind == "f":
        infinite = np.isinf(values)
        if infinite.any():
            row = int(infinite.argmax())
            raise InvalidRatingsError(
                f"{source}: {name} is {values[row]} at row {row} (counted from 0); expected a "
                "finite number."
            )
    return values


def _integers(column: pd.Series, name: str, source: str, unit: str) -> np.ndarray:
    """The column as integers; whole floats are converted, fractions and negatives refused."""
    values = _numbers(column, name, source)
    if values.dtype.kind == "f":
        fractional = values != np.floor(values)
        if fractional.any():
            row = int(fractional.argmax())
            raise InvalidRatingsError(
                f"{source}: {name} is {values[row]} at row {row} (counted from 0); expected whole "
                f"{unit}."
            )
    low = values.min()
    if low < 0:
        row = int(values.argmin())
        raise InvalidRatingsError(
            f"{source}: {name} is {_plain(low)} at row {row} (counted from 0); expected {unit} of "
            "at least 0."
        )
    return values


def _ids(column: pd.Series, name: str, source: str) -> np.ndarray:
    values = _integers(column, name, source, "integer ids")
    high = values.max()
    # 2**62 keeps both the conversion from float and sums of two ids inside int64.
    if high > 2**62:
        raise InvalidRatingsError(
            f"{source}: {name} {_plain(high)} is too large for a 64-bit id; renumber the ids, for "
            "instance with pandas.factorize."
        )
    return values.astype(np.int32 if high <= _INT32_MAX else np.int64, copy=False)


def _ratings(column: pd.Series, source: str) -> np.ndarray:
    values = _numbers(column, "rating", source)
    too_large = np.abs(values) > _FLOAT32_MAX if values.dtype == np.float64 else np.zeros(1, bool)
    if too_large.any():
        row = int(too_large.argmax())
        raise InvalidRatingsError(
            f"{source}: rating is {values[row]} at row {row} (counted from 0); expected a number "
            "that fits float32."
        )
    return values.astype(np.float32, copy=False)


def _timestamps(column: pd.Series, source: str) -> np.ndarray:
    values = _integers(column, "timestamp", source, "seconds since 1970")
    late = values > MILLISECONDS_FROM
    if late.any():
        row = int(late.argmax())
        value = _plain(values[row])
        scale = 1000
        while value // scale > MILLISECONDS_FROM:
            scale *= 1000
        unit = {1000: "milliseconds", 10**6: "microseconds"}.get(scale, "nanoseconds")
        raise InvalidRatingsError(
            f"{source}: timestamp {value} at row {row} (counted from 0) looks like {unit}; "
            f"expected seconds since 1970. Divide by {scale}: "
            f'ratings["timestamp"] //= {scale}.'
        )
    return values.astype(np.int64, copy=False)


def _plain(value) -> int | float:
    """A numpy number as the Python number that prints without its type."""
    value = value.item()
    return int(value) if float(value).is_integer() else value


def _refuse_duplicates(columns: dict[str, np.ndarray], source: str) -> None:
    """Raise when a (user, item, timestamp) occurs twice.

    Sorting one packed int64 key a row finds the repeated (user, item) pairs in 8 bytes a row; a
    hash table of the rows would take ten times that. MovieLens repeats no pair, so the times are
    looked at for the few rows of repeated pairs only.
    """
    keys = _pair_keys(columns["user_id"], columns["item_id"])
    keys.sort()
    equal = keys[1:] == keys[:-1]
    if not equal.any():
        return
    repeated = np.unique(keys[1:][equal])
    del keys, equal
    keys = _pair_keys(columns["user_id"], columns["item_id"])
    place = np.searchsorted(repeated, keys)
    place[place == len(repeated)] = 0
    rows = np.flatnonzero(repeated[place] == keys)
    del keys, place
    subset = pd.DataFrame(
        {name: columns[name][rows] for name in ("user_id", "item_id", "timestamp")}
    )
    again = subset.duplicated().to_numpy()
    if not again.any():
        return
    example = subset[again].iloc[0]
    same = (subset == example).all(axis=1).to_numpy()
    first, second = rows[same][:2]
    raise DuplicateRatingsError(
        f"{source}: {int(again.sum())} duplicate row(s): user_id {example['user_id']}, item_id "
        f"{example['item_id']}, timestamp {example['timestamp']} is on row {first} and again on "
        f"row {second} (counted from 0). Keep one of each, for instance with "
        'ratings.drop_duplicates(["user_id", "item_id", "timestamp"]).'
    )


def _pair_keys(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """One int64 a row (new array), equal exactly when user and item are."""
    width = int(items.max()) + 1
    if (int(users.max()) + 1) * width > np.iinfo(np.int64).max:
        # Ids too large to be packed as they are: their ranks are not.
        users, items = pd.factorize(users)[0], pd.factorize(items)[0]
        width = int(items.max()) + 1
    keys = users.astype(np.int64)
    keys *= width
    keys += items
    return keys
