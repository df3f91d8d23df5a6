"""Interactions of one's own: a table whose columns are recognised, or a YAML description of one.

Ids are text, unless every id of a column is an integer in its usual form ("7", never "007"). Times
are seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their magnitude, or
ISO 8601 dates. What was found out or assumed is in `.attrs["source"]`.
"""

from __future__ import annotations

import io
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import Field

from ss4rec_lib.configuration import Config, ConfigError
from ss4rec_lib.data import parsing
from ss4rec_lib.data.items import item_table, read_items
from ss4rec_lib.data.parsing import ZIP_SUFFIXES, DataFile, detect_layout, member_names, read_blocks
from ss4rec_lib.data.validation import (
    LONGEST_ID,
    NEEDED,
    DataError,
    DataWarning,
    UnusablePathError,
    validate_ratings,
)

_TABLE = r"\.(csv|tsv|txt|dat|data|inter|parquet)(\.gz|\.xz)?$"
PATH = re.compile(_TABLE + r"|\.(zip(:.*)?|ya?ml)$", re.IGNORECASE)
_INTEGER = re.compile(r"0|[1-9]\d{0,18}")
_ZONE = r":\d\d.*(?:Z|[+-]\d\d(?::?\d\d)?)$"
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NO_MAGNITUDE = 10**8  # seconds, March 1973: smaller numbers may be anything
# Dates, maybe with hours and minutes, that would pass for seconds or milliseconds of the 1970s.
_DIGITS = re.compile(r"(19|20)\d\d(0\d|1[0-2])([0-2]\d|3[01])(([01]\d|2[0-3])[0-5]\d)?")


class Titles(Config):
    """A table of titles, and what it calls its columns."""

    file: str
    item_id: str | None = None
    title: str | None = None


class DatasetDescription(Config):
    """A YAML description of a data set. Paths are relative to it."""

    interactions: str
    name: str | None = None
    columns: dict[Literal["user_id", "item_id", "rating", "timestamp"], str] = Field(default={})
    timestamp: Literal["s", "ms", "us", "ns", "iso"] | None = None
    duplicates: Literal["refuse", "keep-first", "keep-last"] = "refuse"
    titles: Titles | None = None
    source: str = "not stated"


def describe(path: Path) -> DatasetDescription:
    """Return the description in a YAML file, or of a file of interactions alone."""
    if path.suffix.lower() not in (".yaml", ".yml"):
        return DatasetDescription(interactions=path.name, name=PATH.sub("", path.name))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict):
            raise ConfigError(f"found {type(content).__name__}, expected keys and values")
        description = DatasetDescription(**content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ConfigError, TypeError) as error:
        raise DataError(f"{path.name} cannot be used as a description: {error}") from error
    return description.replace(name=description.name or path.stem)


def load_own(path: Path) -> pd.DataFrame:
    """Return the table of `validate_ratings` from a file of interactions or a description."""
    description = describe(path)
    file = own_file(path.parent / description.interactions)
    table, phrase = _read(file, description)
    if (policy := description.duplicates) != "refuse":
        keep: Any = policy.removeprefix("keep-")
        kept = table.drop_duplicates(list(NEEDED), keep=keep, ignore_index=True)
        phrase += f", {len(table) - len(kept)} duplicate(s) left out ({policy})"
        table = kept
    table = validate_ratings(table, source=file.label)
    table.attrs |= {"dataset": description.name, "source": f"{file.label}, {phrase}"}
    table.attrs |= {"verified": False, "licence": description.source}
    return table


def load_titles(path: Path, ratings: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the table of `read_items` for data of one's own; empty without a file of titles.

    Its index has the kind of the items of the interactions, which are read unless given.
    """
    description = describe(path)
    ids = (load_own(path) if ratings is None else ratings)["item_id"]
    kind = "int64" if pd.api.types.is_integer_dtype(ids) else "str"
    if description.titles is None:
        return item_table({}, kind)
    file = own_file(path.parent / description.titles.file)
    titles = read_items(file, description.titles.model_dump(exclude={"file"}, exclude_none=True))
    other = [item for item in titles.index if kind == "int64" and not _INTEGER.fullmatch(item)]
    if other:
        text = f"{file.label}: {len(other)} of {len(titles)} titles are left out: the ids of the "
        text += f"interactions are integers, and {other[0]!r} is not."
        warnings.warn(text, DataWarning, stacklevel=3)
    titles = titles.drop(other)
    return titles.set_index(titles.index.astype(kind))


def own_file(path: Path) -> DataFile:
    """Return the file, or the one table in a zip archive (or `archive.zip:member`)."""
    if not path.exists() and (named := re.fullmatch(r"(.*\.zip):(.*)", str(path), re.IGNORECASE)):
        path, member = Path(named[1]), named[2]
    else:
        member = None
    if not path.is_file():
        here = f"(working directory: {Path.cwd()})"
        raise UnusablePathError(f"{str(path)!r} is no file {here}; expected a table.")
    if path.suffix.lower() not in ZIP_SUFFIXES:
        return DataFile(path)
    inside = [m for m in member_names(path) if re.search(_TABLE, m) and "__MACOSX" not in m]
    chosen = [m for m in inside if member in (None, m)]
    if len(chosen) != 1:
        raise DataError(
            f"{path.name} holds {len(inside)} tables ({', '.join(inside[:8])}); expected one, or "
            f"its name after a colon, such as {path.name}:{(inside or ['ratings.csv'])[0]}."
        )
    return DataFile(path, chosen[0])


def _read(file: DataFile, description: DatasetDescription) -> tuple[pd.DataFrame, str]:
    """Return the columns of a file with ids of their kind, and a phrase about its times."""
    if file.name.lower().endswith(".parquet"):
        with tempfile.TemporaryDirectory() as folder:
            return _read(_as_csv(file, folder), description)
    layout = detect_layout(file, NEEDED, {**description.columns})
    if not layout.has_header:
        text = f"{file.label} has no header: its columns are read as {', '.join(layout.columns)}."
        warnings.warn(text, DataWarning, stacklevel=4)
    time = layout.example["timestamp"]
    dates = re.match(r"\d{4}-", time) is not None
    if not dates and not re.fullmatch(r"[\d.eE+-]*", time):
        text = f"{file.label}: timestamp {time!r}: its form does not tell day, month and year apart"
        raise DataError(f"{text}. Write 2021-03-04 or 2021-03-04T10:00:00Z, or seconds since 1970.")
    numbers = {"rating": np.float32} if "rating" in layout.columns else {}
    numbers |= {} if dates else {"timestamp": np.float64}
    known: dict[str, dict[str, int]] = {"user_id": {}, "item_id": {}}
    naive = []

    def convert(block: Any) -> dict[str, Any]:
        if dates:
            block["timestamp"], zoned = _date_seconds(block["timestamp"])
            naive.append(not zoned)
        if (block["timestamp"] < 0).any():
            raise ValueError("timestamp is before 1970")
        codes = {name: _codes(block[name], ids) for name, ids in known.items()}
        return codes | {name: block[name].to_numpy() for name in {*numbers, "timestamp"}}

    table = read_blocks(file, layout, numbers, convert)
    for name, ids in known.items():
        table[name] = _ids(list(ids), table[name].to_numpy())
    unit, times, stated = "iso", table["timestamp"].to_numpy(), description.timestamp
    if not dates:
        unit, times = _seconds(times, layout, stated, file.label)
    if stated not in (None, unit):
        raise DataError(f"{file.label}: timestamp: {stated} is stated, but {time} is {unit}.")
    table["timestamp"] = times.astype(np.int64)
    phrase = "times as ISO 8601 dates" if dates else f"times in {unit}"
    phrase += " without a zone, taken as UTC" if any(naive) else ""
    phrase += ", cut to whole seconds" if (times != np.floor(times)).any() else ""
    return table, phrase


def _codes(column: pd.Series, known: dict[str, int]) -> np.ndarray:
    """Return a number for each id, the same in every block; `known` is filled."""
    codes, distinct = pd.factorize(column)
    ids = [text.strip() for text in distinct]
    if wrong := [text for text in ids if not 0 < len(text) <= LONGEST_ID]:
        raise ValueError(f"{column.name} is {wrong[0][:40]!r}, not 1 to {LONGEST_ID} characters")
    return np.array([known.setdefault(text, len(known)) for text in ids], dtype=np.int32)[codes]


def _ids(ids: list[str], codes: np.ndarray) -> Any:
    """Return the ids of all rows: integers, or a category of strings."""
    if all(map(_INTEGER.fullmatch, ids)) and max(map(int, ids)) <= 2**62:
        return np.array(list(map(int, ids)))[codes]
    return pd.Categorical.from_codes(codes, ids)


def _date_seconds(column: pd.Series) -> tuple[pd.Series, bool]:
    """Return ISO 8601 dates as float64 seconds, and whether all of them have a zone."""
    texts = column.str.strip()
    if not texts.str.match(r"\d{4}-\d\d-\d\d").all():
        raise ValueError("timestamp is no date such as 2021-03-04 or 2021-03-04T10:00:00Z")
    dates = pd.to_datetime(texts, format="ISO8601", utc=True).dt.as_unit("us")
    return dates.astype("int64") / 10**6, bool(texts.str.contains(_ZONE).all())


def _seconds(
    times: np.ndarray, layout: parsing.Layout, stated: str | None, label: str
) -> tuple[str, Any]:
    """Return the unit of numeric times, found out by their magnitude, and the times in seconds."""
    least, most, fault = times.min(), times.max(), ""
    unit = next((unit for unit, n in _UNITS.items() if most < 10**11 * n), "ns")
    # 1e10 s is the year 2286: what lies between two units is in none of them, or in both.
    if unit != "s" and not 10**8 * _UNITS[unit] <= least <= most < 10**10 * _UNITS[unit]:
        fault = "are not all in s, or all in ms, us or ns, since 1970"
    elif stated is None and all(map(_DIGITS.fullmatch, (f"{least:.0f}", f"{most:.0f}"))):
        fault = "look like dates: write 2021-03-04, or timestamp: s in a YAML description"
    elif not layout.has_header and least < _NO_MAGNITUDE:
        fault = "are no times, but the last column; there is no header to say which column is"
    if fault:
        raise DataError(f"{label}: timestamps from {least:.0f} to {most:.0f} {fault}.")
    if most < _NO_MAGNITUDE:
        text = f"{label}: timestamps end at {most:.0f}, before March 1973; taken as seconds."
        warnings.warn(text, DataWarning, stacklevel=5)
    return unit, times / _UNITS[unit]


def _as_csv(file: DataFile, folder: str) -> DataFile:
    """Write a Parquet table as CSV, and return it."""
    try:
        with file.open() as stream:
            table = pd.read_parquet(io.BytesIO(stream.read()))
    except (ImportError, ValueError, OSError) as error:
        text = f"{file.label} cannot be read as Parquet, which needs the package pyarrow ({error})."
        raise DataError(text) from error
    path = Path(folder, file.name + ".csv")
    table.to_csv(path, index=False, date_format="%Y-%m-%dT%H:%M:%S%z")
    return DataFile(path)
