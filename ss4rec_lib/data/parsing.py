"""Reading tables from files: containers, encodings, layouts, and the line that is wrong.

A `Layout` (separator, columns, header, quotes) is known for MovieLens' files and found out for
others (`detect_layout`). Ratings go through pandas' C parser in blocks of rows; when that fails, a
second pass looks for the first record that fails on its own. Titles are read record by record
(`records`). Archives are read in place and never extracted.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import itertools
import lzma
import re
import stat
import textwrap
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from ss4rec_lib.data.text import Text
from ss4rec_lib.data.validation import COLUMNS, NEEDED, DataError
from ss4rec_lib.machine import available_memory

ZIP_SUFFIXES = (".zip", ".whl")
COMPRESSED = {".gz": gzip.open, ".xz": lzma.open}

# What reading a damaged file raises. RuntimeError is zipfile's for a password.
_READ_ERRORS = (zipfile.BadZipFile, EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile)
_READ_ERRORS += (RuntimeError, NotImplementedError, UnicodeDecodeError)

BLOCK_ROWS = 1 << 20  # parsed at once: enough to be fast, few enough that temporaries do not count
BLOCK_BYTES = 1 << 28  # and at most about this much, when lines are long
_BYTES_PER_ROW = 100  # peak of loading, measured with 32 million rows
SEPARATORS = (",", "\t", ";", "|", "::")  # or a blank
# How columns may be called, compared without case, punctuation and RecBole's `:type`.
NAMES = {
    "user_id": "user_id, userId, user",
    "item_id": "item_id, movieId, item, asin, parent_asin",
    "rating": "rating, stars, score",
    "timestamp": "timestamp, time, unixReviewTime, date",
    "title": "title, name, movie_title",
    "genres": "genres, class",
    "year": "release_year",
}
_MAX_ID = np.iinfo(np.int32).max


@dataclass(frozen=True)
class DataFile:
    """One readable file: plain, compressed (`.gz`, `.xz`) or the `member` of a zip archive."""

    path: Path
    member: str | None = None

    @property
    def label(self) -> str:
        """Return its name for messages, without folders of the machine."""
        return f"{self.path.name}:{self.member}" if self.member else self.path.name

    @property
    def name(self) -> str:
        """Return the file's name inside its container, without a compression suffix."""
        if self.member:
            return self.member.rsplit("/", 1)[-1]
        return self.path.stem if self.path.suffix in COMPRESSED else self.path.name

    @contextlib.contextmanager
    def open(self) -> Iterator[io.BufferedIOBase]:
        """Open for reading, decompressed; a damaged or unsafe container is a DataError."""
        with _readable(self.label):
            if self.member:
                member_names(self.path)
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                    yield cast(io.BufferedIOBase, stream)
            else:
                with COMPRESSED.get(self.path.suffix, open)(self.path, "rb") as stream:
                    yield cast(io.BufferedIOBase, stream)

    def size(self) -> int:
        """Return the size when decompressed, bytes; estimated from a first part for .gz and .xz."""
        if self.member:
            with zipfile.ZipFile(self.path) as archive:
                return archive.getinfo(self.member).file_size
        size = self.path.stat().st_size
        if unpack := COMPRESSED.get(self.path.suffix):
            with open(self.path, "rb") as raw, unpack(raw) as stream:
                size = size * len(stream.read(1 << 22)) // max(raw.tell(), 1)
        return size


def member_names(path: Path) -> list[str]:
    """Return the names of the files in a zip archive.

    One with a member that is absolute, climbs upwards or is a symbolic link is refused.
    """
    with _readable(path.name), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for info in members:
        name = info.orig_filename  # before zipfile cuts at NUL or changes separators
        outside = re.match(r"[/\\]|[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name)
        if outside or "\0" in name or stat.S_ISLNK(info.external_attr >> 16):
            raise DataError(
                f"{path.name}: member {name!r} is a link or leads out of its folder; nothing of "
                "this archive is read. It is not an official one: delete it and fetch it again."
            )
    return [info.filename for info in members if not info.is_dir()]


@contextlib.contextmanager
def _readable(label: str) -> Iterator[None]:
    """Turn the errors of a damaged file into a `DataError` that names it."""
    try:
        yield
    except _READ_ERRORS as error:
        raise DataError(
            f"{label} is truncated or damaged ({type(error).__name__}: {error or 'early end'}); "
            "expected a complete file. Delete it and fetch or copy it again."
        ) from error


class Layout(NamedTuple):
    """How the records of a table are written."""

    separator: str
    columns: tuple[str, ...] = COLUMNS  # as in `NAMES`; others have a number
    has_header: bool = False
    quoted: bool = False  # a field may be in quotation marks
    example: Mapping[str, str] = {}  # the first record, by column
    line_bytes: int = 1  # of a record, on average

    def __str__(self) -> str:
        return self.separator.join(self.columns).replace("\t", "<TAB>")

    def fields(self, lines: Iterable[str], strict: bool = True) -> Iterator[list[str]]:
        """Split lines; with quotation marks a record may reach over several of them."""
        if not self.quoted:
            return (line.rstrip("\n").split(self.separator) for line in lines)
        space = self.separator in ",;"
        return csv.reader(lines, delimiter=self.separator, skipinitialspace=space, strict=strict)


def detect_layout(
    file: DataFile, needed: Sequence[str], given: Mapping[str, str] | None = None
) -> Layout:
    """Return the layout of a table with the columns that are needed, or raise DataError.

    `given` is what the file calls some of its columns. Without a header the columns are user, item,
    maybe rating, and timestamp, which is recognised by its value.
    """
    given, expected, label = given or {}, {*needed, *(given or {})}, file.label
    with file.open() as stream:  # csv refuses lines that are longer
        lines = [line[:100_000] for line in itertools.islice(Text(stream), 100)]
    if not lines or not lines[0].strip():
        raise DataError(f"{label}, line 1 is empty; expected a table of {', '.join(needed)}.")
    if nul := next((number for number, line in enumerate(lines, start=1) if "\0" in line), None):
        raise DataError(f"{label}, line {nul}: NUL character; expected text, such as UTF-8.")
    separator = max(SEPARATORS, key=lines[0].count)
    separator = separator if separator in lines[0] else " "
    layout = Layout(separator, quoted=separator in ",;" or _well_quoted(lines, separator))
    header, *below = ([f.strip() for f in fields] for fields in layout.fields(lines, strict=False))
    columns = tuple(_column(name, given) or f"column {n}" for n, name in enumerate(header, start=1))
    has_header = "timestamp" not in needed or bool({*columns} & {*NAMES})
    if not has_header and len(header) in (3, 4) and is_time(header[-1]):
        columns, below = COLUMNS if len(header) == 4 else NEEDED, [header]
    for column in NAMES:
        if columns.count(column) > 1 or (column in expected and column not in columns):
            names = given.get(column, NAMES[column])
            state = f"{columns.count(column)} columns" if column in columns else "missing column"
            raise DataError(
                f"{label}, line 1: {state} {column} (found: {', '.join(header)[:200]}; "
                f"expected one of: {names}). Change the header, or name "
                "the column in a YAML description. Without a header the columns must be user, "
                "item, [rating,] timestamp."
            )
    values = next(filter(any, below), [])[: len(columns)]
    example = dict(itertools.zip_longest(columns, values, fillvalue=""))
    average = sum(map(len, lines)) // len(lines) + 1
    return Layout(separator, columns, has_header, layout.quoted, example, average)


def is_time(text: str) -> bool:
    """Return whether a text is a time by itself: a date, or seconds since at least 1973."""
    with contextlib.suppress(ValueError):
        return float(text) >= 10**8
    return re.match(r"\d{4}-\d\d-\d\d", text) is not None


def _column(name: str, given: Mapping[str, str]) -> str:
    """Return our name of a column, or an empty text."""

    def plain(text: str) -> str:
        return re.sub(r"[\W_]", "", text.partition(":")[0]).lower()

    for ours, names in NAMES.items():
        if name == given[ours] if ours in given else plain(name) in map(plain, names.split(",")):
            return ours
    return ""


def _well_quoted(lines: list[str], separator: str) -> bool:
    """Return whether fields are in quotation marks, and not just text that begins with one."""
    if separator == "::" or not any(p[:1] == '"' for s in lines for p in s.split(separator)):
        return False
    with contextlib.suppress(csv.Error):
        return bool(list(Layout(separator, quoted=True).fields(lines)))
    return False


def records(file: DataFile, layout: Layout) -> Generator[tuple[int, str, list[str]]]:
    """Yield the first line's number, the text and the fields of each record below the header."""
    with file.open() as stream:
        text, taken = Text(stream), list[str]()
        lines = (taken.append(line) or line for line in text)
        number = 1
        try:
            for fields in layout.fields(lines):
                if (number > 1 or not layout.has_header) and "".join(fields).strip():
                    yield number, "".join(taken), fields
                number += len(taken)
                taken.clear()
        except csv.Error as error:
            raise DataError(
                f"{file.label}, line {number}: {taken[0][:80]!r}: {error}; look for an unclosed "
                "quotation mark."
            ) from error
        text.warn(file.label)


def read_blocks(
    file: DataFile, layout: Layout, dtypes: Mapping[str, Any], convert: Callable[[Any], Any]
) -> pd.DataFrame:
    """Return the table of the columns that `convert` makes of each block of rows.

    `dtypes` are those of numbers, other columns are text. An exception of the parser or of
    `convert` becomes a DataError that names the first line which raises one on its own. A table
    that is too large for the memory is refused before it is read.
    """
    label = file.label

    def parse(stream: Any, has_header: bool = False) -> list[Any]:
        return list(map(convert, _parse(stream, layout, has_header, dtypes)))

    try:
        with file.open() as stream:
            text = Text(stream)
            rows, free = file.size() // layout.line_bytes, available_memory()
            if free is not None and (needed := rows * _BYTES_PER_ROW) > free:
                raise DataError(
                    f"{label}: about {rows:,} rows need about {needed / 1e9:.2f} GB of memory, but "
                    f"{free / 1e9:.2f} GB are available. Use a part of it, or a larger machine."
                )
            blocks = parse(text, layout.has_header)
            text.warn(label)
    except DataError:
        raise
    except Exception as error:  # pandas raises a dozen kinds
        _find_bad_line(file, layout, parse)
        raise DataError(
            f"{label} cannot be read ({type(error).__name__}: {error}), though each line looks "
            "right on its own; look for an unclosed quotation mark."
        ) from error
    if not any(len(block["user_id"]) for block in blocks):
        raise DataError(f"{label} has no ratings; expected {layout}.")
    # Column by column, letting go of the blocks: the peak is the table and one column more.
    names = [name for name in COLUMNS if name in blocks[0]]
    columns = {name: np.concatenate([block.pop(name) for block in blocks]) for name in names}
    return pd.DataFrame(columns, copy=False)


def _parse(stream: Any, layout: Layout, has_header: bool, dtypes: Any) -> Iterator[pd.DataFrame]:
    """Yield the blocks of a table; a record with too many fields is a ValueError."""
    separator, names, gaps = layout.separator, list(layout.columns), []
    if {layout.example.get(name, "").lower() for name in dtypes} & {"true", "false"}:
        raise ValueError("True or False where a number is expected")  # pandas takes 1 and 0
    if separator == "::":
        # The C parser takes one character: a field between two colons must come out empty.
        separator, gaps = ":", [f"gap {name}" for name in names[1:]]
        names = [n for pair in itertools.zip_longest(names, gaps) for n in pair if n]
    numbers = dict.fromkeys(gaps, np.float64) | dtypes
    comma = re.fullmatch(r"-?\d+,\d+", layout.example.get("rating", ""))
    # An overflowing rating becomes infinite, which is looked for; numpy need not warn.
    with np.errstate(over="ignore"):
        blocks = pd.read_csv(
            stream, sep=separator, names=names, header=0 if has_header else None,
            dtype=dict.fromkeys(names, str) | numbers, decimal="," if comma else ".",
            chunksize=min(BLOCK_ROWS, max(1000, BLOCK_BYTES // layout.line_bytes)),
            quoting=csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE,
            skipinitialspace=separator in ",;", keep_default_na=False,
            na_values={name: ["", "nan"] for name in numbers},
        )  # fmt: skip
        for block in blocks:
            if not isinstance(block.index, pd.RangeIndex):
                raise ValueError("too many fields")  # pandas takes the first ones for an index
            if any(block[name].notna().any() for name in gaps):
                raise ValueError("text between two colons")
            for name in dtypes:
                if not np.isfinite(block[name]).all():
                    raise ValueError(f"{name} is not a finite number")
            yield block


def _find_bad_line(file: DataFile, layout: Layout, parse: Callable[[Any], object]) -> None:
    """Raise for the first record that cannot be read on its own; return when every one can."""

    def fault(text: str) -> str:
        if "\0" in text:
            return "NUL character"
        try:
            parse(io.StringIO(first + text))
        except Exception as error:  # pandas raises a dozen kinds
            unclear = str(error).startswith("cannot safely convert")  # names no value
            reason = "another value where a number is expected" if unclear else str(error)
            return textwrap.shorten(reason, 100)
        return ""

    def named(fields: list[str]) -> str:
        """Return the name and text of the field without which a record can be read, if one is."""
        if len(fields) != (expected := len(layout.columns)):
            return f"{len(fields)} field(s) instead of {expected}: "
        for i, (name, field) in enumerate(zip(layout.columns, fields, strict=True)):
            mended = layout.separator.join([*fields[:i], "1", *fields[i + 1 :]])
            if name in COLUMNS and not fault(mended):
                return f"{name} {field!r}: "
        return ""

    first, below = "", records(file, layout)
    with contextlib.closing(below):
        while some := list(itertools.islice(below, 1000)):
            first = first or some[0][1].rstrip("\n") + "\n"  # pandas takes True alone for 1
            # Thousands at once, and one by one where some are wrong.
            for number, text, fields in some if fault("".join(text for _, text, _ in some)) else ():
                if reason := fault(text):
                    raise DataError(
                        f"{file.label}, line {number}: {text.rstrip()[:80]!r}: "
                        f"{named(fields)}{reason}; expected {layout}."
                    )


def read_ratings(file: DataFile) -> pd.DataFrame:
    """Read a MovieLens ratings file; a line that cannot be read is named by its number.

    Return `user_id` int32, `item_id` int32, `rating` float32, `timestamp` int64 (seconds), one row
    per line in the file's order, RangeIndex.
    """
    known = "\t" if file.name == "u.data" else "::" if file.name.endswith(".dat") else None
    layout = Layout(known) if known else detect_layout(file, COLUMNS)
    dtypes = {"user_id": np.int64, "item_id": np.int64, "rating": np.float32}
    dtypes["timestamp"] = np.float64  # exact to 2**53, and takes RecBole's "881250949.0"
    return read_blocks(file, layout, dtypes, _converted)


def _converted(block: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the four columns of a block in their dtypes; refuse values no file may hold."""
    users, items, ratings, times = (block[name].to_numpy() for name in COLUMNS)
    if any(len(ids) and (ids.min() < 0 or ids.max() > _MAX_ID) for ids in (users, items)):
        raise ValueError(f"id below 0 or above {_MAX_ID}")
    if not ((times == np.floor(times)) & (np.abs(times) < 2**53)).all():
        raise ValueError("timestamp is not a whole number of seconds")
    columns = (users.astype(np.int32), items.astype(np.int32), ratings, times.astype(np.int64))
    return dict(zip(COLUMNS, columns, strict=True))
