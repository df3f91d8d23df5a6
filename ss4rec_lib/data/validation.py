"""Errors of this package, and the checks of a ratings table, from a file or made by the user.

The checks are written so that 32 million rows need little more memory than the table itself.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
import pandas as pd
from pandas.api import types

COLUMNS = ("user_id", "item_id", "rating", "timestamp")  # of a ratings table, in order
NEEDED = ("user_id", "item_id", "timestamp")  # `rating` is left out where there are no ratings
LONGEST_ID = 255  # characters of a text id: arrays of ids have the width of the longest one
MILLISECONDS_FROM = 10**11  # seconds beyond this, the year 5138, are milliseconds or finer
_MARK = "_checked"  # in .attrs: digest of the content that was checked


class DataError(ValueError):
    """Data, a file of data or a source of files that cannot be used."""


class InvalidRatingsError(DataError):
    """A value no ratings table may hold: NaN, a fractional id, a time in milliseconds, ..."""


class UnusablePathError(DataError):
    """A path named by the user (argument or environment variable) that holds no usable data."""


class DataWarning(UserWarning):
    """Data that is usable but not what one would assume, such as an unofficial file."""


class NotEnoughInteractionsWarning(DataWarning):
    """Users with too few interactions for a split, counted and kept in training only."""


def check_choice(name: str, value: str, choices: Iterable[str]) -> str:
    """Return an argument that is one of several names, or raise ValueError."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: choose one of {', '.join(choices)}.")
    return value


def check_integer(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return an integer argument (Python's or NumPy's, no bool) as an int, if it is in range."""
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not integer or value < least or (most is not None and value > most):
        upper = "" if most is None else f" and at most {most}"
        raise ValueError(f"{name}={value!r}: expected an integer of at least {least}{upper}.")
    return int(value)


def validate_ratings(df: pd.DataFrame, source: str = "ratings") -> pd.DataFrame:
    """Check a table of ratings and give it the dtypes the rest of the library relies on.

    Return the columns `user_id`, `item_id` (int32, int64 when an id does not fit, or a category of
    strings in ascending order when the ids are text), `rating` (float32, absent when the table has
    none) and `timestamp` (int64 seconds since 1970-01-01 UTC), rows in the order given, RangeIndex,
    `.attrs` kept; columns that have these dtypes already are not copied. A table that was checked
    before is recognised by a digest and returned at once. `source` is what errors call the table.
    """
    if not isinstance(df, pd.DataFrame):
        raise InvalidRatingsError(f"{source}: expected a DataFrame, found {type(df).__name__}.")
    if _MARK in df.attrs and df.attrs[_MARK] == _digest(df):
        return df
    rated = {"rating", "ratings", "stars", "score"} & {str(name).lower() for name in df.columns}
    names = COLUMNS if rated else NEEDED
    found = [str(name) for name in df.columns]
    for name in names:
        if (count := found.count(name)) != 1:
            state = f"{count} columns" if count else "missing column"
            listed = f"found: {', '.join(found) or 'none'}; expected: {', '.join(names)}"
            raise DataError(f"{source}: {state} {name} ({listed}).")
    if len(df) == 0:
        raise InvalidRatingsError(f"{source}: the table has no rows; at least one is needed.")
    checked = {name: _checked(cast(pd.Series, df[name]), source) for name in names}
    _refuse_duplicates(checked, source)
    # Unchanged columns are shared until somebody writes to them (640 MB for 32 million rows).
    rows = df.reset_index(drop=True)
    numbers = [name for name in names if isinstance(checked[name], np.ndarray)]
    kept = {name: rows[name] for name in numbers if rows[name].dtype == checked[name].dtype}
    result = pd.DataFrame(checked | kept, copy=False)
    result.attrs = {**df.attrs, _MARK: _digest(result)}
    return result


def _digest(df: pd.DataFrame) -> tuple[str, int]:
    """Return names, dtypes and index, and a checksum of the values at 1 GB/s (10 ms for ML-1M)."""
    checksum = 0
    for name in df:
        column: Any = df[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            text = "\0".join(map(str, column.cat.categories))
            checksum, column = zlib.crc32(text.encode(), checksum), column.cat.codes
        if isinstance(column.dtype, np.dtype) and column.dtype.kind in "if":
            checksum = zlib.crc32(np.ascontiguousarray(column).data, checksum)
    return repr((df.index, *df.dtypes.items())), checksum


def _numbers(column: pd.Series, source: str) -> np.ndarray:
    """Return the column as a plain integer or float array."""
    dtype, first, whole = column.dtype, column.iloc[0], types.is_integer_dtype(column.dtype)
    if not (whole or types.is_float_dtype(dtype)):
        raise InvalidRatingsError(
            f"{source}: column {column.name} has dtype {dtype} (first value {first!r}); expected "
            f"numbers. Convert it: {_conversion(str(column.name), first)}"
        )
    wide = np.int64 if whole else np.float64
    return column.to_numpy(wide if types.is_extension_array_dtype(dtype) else None)


def _conversion(name: str, value: Any) -> str:
    """Return the statement that makes numbers of a column with such a value."""
    column, text = f'ratings["{name}"]', isinstance(value, str)
    how = f"pandas.to_numeric({column})"
    if types.is_bool(value):
        how = f'{column}.astype("int64")'
    elif name in ("user_id", "item_id"):
        how = f"{column}.astype(str)"
    elif name == "timestamp" and not (text and re.fullmatch(r"[\d.]+", value)):
        iso = not text or re.match(r"\d{4}-\d\d", value)
        form = "ISO8601" if iso else "%d/%m/%Y %H:%M"
        how = f'pandas.to_datetime({column}, format="{form}", utc=True)'
        how += '.astype("datetime64[s, UTC]").astype("int64")'
        how += "" if iso else "  # with the format that your dates have"
    return f"{column} = {how}"


def _text_ids(column: pd.Series, source: str) -> pd.Categorical:
    """Return text ids as a category of strings in ascending order, without unused ones."""
    ids = pd.Categorical(column).remove_unused_categories()
    ids = ids.reorder_categories(sorted(ids.categories))
    for wrong in (text for text in ids.categories if not 0 < len(text) <= LONGEST_ID):
        raise InvalidRatingsError(
            f"{source}: {column.name} is {wrong[:40]!r} at row {int((ids == wrong).argmax())} "
            f"(counted from 0); expected text ids of 1 to {LONGEST_ID} characters."
        )
    return ids


def _fractional(values: np.ndarray) -> np.ndarray:
    return values != np.floor(values) if values.dtype.kind == "f" else np.zeros(1, dtype=bool)


# Of which columns, what makes values wrong, and what is expected instead. 2**62 keeps both the
# conversion from float and sums of two ids inside int64.
_CHECKS: tuple[tuple[tuple[str, ...], Callable[[np.ndarray], np.ndarray], str], ...] = (
    (NEEDED, _fractional, "whole numbers (ids, or seconds since 1970)"),
    (NEEDED, lambda values: values < 0, "a number of at least 0"),
    (NEEDED[:2], lambda values: values > 2**62, "an id of at most 2**62, or ids of text"),
    (("rating",), lambda values: np.abs(values) > np.finfo(np.float32).max,
     "a finite number that fits float32"),
    (("timestamp",), lambda values: values > MILLISECONDS_FROM,
     'seconds, not milliseconds or finer: ratings["timestamp"] //= {factor}'),
)  # fmt: skip


def _checked(column: pd.Series, source: str) -> Any:
    """Return a column in its dtype; raise for the first value that is wrong."""
    name = str(column.name)
    missing = column.isna().to_numpy()
    if missing.any():
        raise InvalidRatingsError(
            f"{source}: NaN in column {name} at row {int(missing.argmax())} (counted from 0; "
            f'{int(missing.sum())} such row(s)). Drop them: ratings.dropna(subset=["{name}"]).'
        )
    if isinstance(column.dtype, pd.CategoricalDtype):
        known: Any = column.cat.categories
        if types.infer_dtype(known) != "string":  # a category of numbers is a column of numbers
            column = column.astype(known.dtype)
    if name in NEEDED[:2] and types.infer_dtype(column) in ("string", "categorical"):
        return _text_ids(column, source)
    values = _numbers(column, source)
    for names, find, expected in _CHECKS:
        if name in names and (wrong := find(values)).any():
            row = int(wrong.argmax())
            finer = (n for n in (10**3, 10**6) if values[row] / n <= MILLISECONDS_FROM)
            raise InvalidRatingsError(
                f"{source}: {name} is {values[row]} at row {row} (counted from 0); expected "
                f"{expected.format(factor=next(finer, 10**9))}."
            )
    narrow = name != "timestamp" and values.max() <= np.iinfo(np.int32).max
    dtype = np.float32 if name == "rating" else np.int32 if narrow else np.int64
    return values.astype(dtype, copy=False)


def _refuse_duplicates(columns: dict[str, Any], source: str) -> None:
    """Raise when a (user, item, timestamp) occurs twice.

    Sorting one packed int64 key per row finds the repeated (user, item) pairs in 8 bytes per row,
    a tenth of a hash table. The times are read for the few rows of repeated pairs only.
    """
    keys = _pair_keys(columns["user_id"], columns["item_id"])
    keys.sort()
    repeated = keys[1:][keys[1:] == keys[:-1]]
    if len(repeated) == 0:
        return
    rows = np.flatnonzero(np.isin(_pair_keys(columns["user_id"], columns["item_id"]), repeated))
    found = {name: np.asarray(columns[name][rows]) for name in NEEDED}
    subset = pd.DataFrame(found, index=rows)
    again = subset[subset.duplicated()]
    if again.empty:
        return
    example = again.iloc[0]
    first, second = subset.index[(subset == example).all(axis=1)][:2]
    shown = ", ".join(f"{name} {value}" for name, value in example.items())
    raise InvalidRatingsError(
        f"{source}: {len(again)} duplicate row(s): {shown} is on row {first} and again on "
        f"row {second} (counted from 0). Keep one of each: "
        'ratings.drop_duplicates(["user_id", "item_id", "timestamp"]), or of a file of your own '
        "with `duplicates: keep-first` in its YAML description."
    )


def _pair_keys(users: Any, items: Any) -> np.ndarray:
    """Return one int64 per row, equal exactly when user and item are."""
    keys, items = pd.factorize(users)[0], pd.factorize(items)[0]  # ids may be too large to pack
    keys *= items.max() + 1
    keys += items
    return keys
