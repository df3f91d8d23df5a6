"""Reading MovieLens ratings files: fast, and with a line number when something is wrong.

The families of files are told apart by the file's name or else by its first line (see
`detect_layout`). The reader is pandas' C parser over blocks of rows. Only when it fails, or returns
a value that no ratings file may hold, a second pass looks for the first line that fails on its own.

Archives are read in place and never extracted. An archive with a member whose name would lead
outside its folder is refused all the same.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from ss4rec_lib.data.validation import COLUMNS, DataError, require_columns

ZIP_SUFFIXES = (".zip", ".whl")
COMPRESSED = {".gz": gzip.open, ".xz": lzma.open}

# What reading a damaged container raises. RuntimeError is zipfile's for a password.
_READ_ERRORS = (zipfile.BadZipFile, EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile)
_READ_ERRORS += (RuntimeError, NotImplementedError)

BLOCK_ROWS = 1 << 20  # parsed at once: enough to be fast, few enough that temporaries do not count

_CSV_NAMES = {"userId": "user_id", "movieId": "item_id"}  # a CSV may also use our names
_MAX_ID = np.iinfo(np.int32).max
_EXPECTED = dict.fromkeys(COLUMNS, f"an integer from 0 to {_MAX_ID}")
_EXPECTED |= {"rating": "a number", "timestamp": "a whole number of seconds"}


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
        with contextlib.ExitStack() as stack:
            stack.enter_context(_readable(self.label))
            if self.member:
                archive = stack.enter_context(zipfile.ZipFile(self.path))
                _check_members(archive, self.path.name)
                stream = archive.open(self.member)
            else:
                stream = COMPRESSED.get(self.path.suffix, open)(self.path, "rb")
            yield cast(io.BufferedIOBase, stack.enter_context(stream))


def member_names(path: Path) -> list[str]:
    """Return the names of the files in a zip archive, after checking all of them."""
    with _readable(path.name), zipfile.ZipFile(path) as archive:
        _check_members(archive, path.name)
        return [info.filename for info in archive.infolist() if not info.is_dir()]


@contextlib.contextmanager
def _readable(label: str) -> Iterator[None]:
    """Turn the errors of a damaged container into a `DataError` that names the file."""
    try:
        yield
    except _READ_ERRORS as error:
        raise DataError(
            f"{label} is truncated or damaged ({type(error).__name__}: {error or 'early end'}); "
            "expected a complete archive. Delete it and fetch or copy it again."
        ) from error


def _check_members(archive: zipfile.ZipFile, label: str) -> None:
    """Refuse an archive with a member that is absolute, climbs upwards or is a symbolic link."""
    for info in archive.infolist():
        name = info.orig_filename  # before zipfile cuts at NUL or changes separators
        outside = re.match(r"[/\\]|[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name)
        if outside or "\0" in name or stat.S_ISLNK(info.external_attr >> 16):
            raise DataError(
                f"{label}: member {name!r} is a link or leads out of its folder; nothing of this "
                "archive is read. It is not an official archive: delete it and fetch it again."
            )


class Layout(NamedTuple):
    """The layout of one ratings file: our name of each field; other columns keep theirs."""

    separator: str
    fields: tuple[str, ...] = COLUMNS
    has_header: bool = False

    def __str__(self) -> str:
        return self.separator.join(self.fields).replace("\t", "<TAB>")


def read_ratings(file: DataFile) -> pd.DataFrame:
    """Read a ratings file of any family; a line that cannot be read is named by its number.

    Return `user_id` int32, `item_id` int32, `rating` float32, `timestamp` int64 (seconds), one row
    per line in the file's order, RangeIndex.
    """
    layout = detect_layout(file)
    try:
        with file.open() as stream:
            blocks = _parse(stream, layout)
    except DataError:
        raise
    except Exception as error:  # pandas raises a dozen kinds
        _find_bad_line(file, layout)
        raise DataError(
            f"{file.label} cannot be read ({type(error).__name__}: {error}), though each line "
            "looks right on its own; look for an unclosed quotation mark."
        ) from error
    if not any(len(block["user_id"]) for block in blocks):
        raise DataError(f"{file.label} has no ratings; expected {layout}.")
    # Column by column, letting go of the blocks: the peak is the table and one column more.
    columns = {name: np.concatenate([block.pop(name) for block in blocks]) for name in COLUMNS}
    return pd.DataFrame(columns, copy=False)


def detect_layout(file: DataFile) -> Layout:
    """Return the layout of a ratings file; raise DataError when it belongs to no known family."""
    with file.open() as stream:
        first = stream.readline(1 << 16)
    text = first.decode("utf-8-sig", errors="replace").rstrip("\r\n")
    if not text.strip():
        raise DataError(f"{file.label}, line 1 is empty; expected ratings.")
    if file.name == "u.data":  # user<TAB>item<TAB>rating<TAB>timestamp
        return Layout("\t")
    if file.name.endswith(".dat") or ("::" in text and "\t" not in text):
        return Layout("::")
    if file.name.endswith(".inter") or text.startswith("user_id:"):  # user_id:token<TAB>...
        names = [name.partition(":")[0] for name in text.split("\t")]
        require_columns(names, COLUMNS, file.label)
        return Layout("\t", tuple(names), has_header=True)
    if file.name.endswith(".csv") or "," in text:  # columns in any order, others ignored
        names = [name.strip() for name in next(csv.reader([text]))]
        theirs = {ours: name for name, ours in _CSV_NAMES.items()}
        expected = [theirs.get(name, name) for name in COLUMNS]
        require_columns([theirs.get(name, name) for name in names], expected, file.label)
        return Layout(",", tuple(_CSV_NAMES.get(name, name) for name in names), has_header=True)
    if len(text.split("\t")) == len(COLUMNS):
        return Layout("\t")
    raise DataError(
        f"{file.label}, line 1: {text[:80]!r}; expected u.data (tabs), ratings.dat (::), "
        "ratings.csv (userId,movieId,rating,timestamp) or RecBole's .inter."
    )


def _parse(stream: Any, layout: Layout) -> list[dict[str, np.ndarray]]:
    """Return the four columns of each block of rows; any fault of a line is an exception."""
    separator = layout.separator
    names = [n if n in COLUMNS else f"other {i}" for i, n in enumerate(layout.fields)]
    if separator == "::":
        # The C parser takes one character: a field between two colons must come out empty.
        separator = ":"
        names = [n for name in names for n in (name, f"gap {name}")][:-1]
    dtypes: Any = {name: str for name in names if name not in COLUMNS}
    dtypes |= {"user_id": np.int64, "item_id": np.int64, "rating": np.float32}
    dtypes["timestamp"] = np.float64  # exact to 2**53, and takes RecBole's "881250949.0"
    # An overflowing rating becomes infinite, which is looked for; numpy need not warn.
    with np.errstate(over="ignore"):
        blocks = pd.read_csv(
            stream, sep=separator, names=names, header=0 if layout.has_header else None,
            dtype=dtypes, chunksize=BLOCK_ROWS, encoding_errors="replace",
            quoting=csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE,
        )  # fmt: skip
        return [_converted(block) for block in blocks]


def _converted(block: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the four columns of a block in their dtypes; refuse values no file may hold."""
    if not isinstance(block.index, pd.RangeIndex):
        raise ValueError("too many fields")  # pandas takes the first ones for an index
    if any(block[name].notna().any() for name in block if name.startswith("gap ")):
        raise ValueError("text between two colons")
    users, items, ratings, times = (block[name].to_numpy() for name in COLUMNS)
    if any(len(ids) and (ids.min() < 0 or ids.max() > _MAX_ID) for ids in (users, items)):
        raise ValueError(f"id below 0 or above {_MAX_ID}")
    if not np.isfinite(ratings).all():
        raise ValueError("rating is not a finite number")
    # NaN compares unequal to itself, so it is caught here as well.
    if not ((times == np.floor(times)) & (np.abs(times) < 2**53)).all():
        raise ValueError("timestamp is not a whole number of seconds")
    columns = (users.astype(np.int32), items.astype(np.int32), ratings, times.astype(np.int64))
    return dict(zip(COLUMNS, columns, strict=True))


def _find_bad_line(file: DataFile, layout: Layout) -> None:
    """Raise for the first line that cannot be read on its own; return when every line can."""
    with file.open() as stream:
        lines = enumerate(stream, start=1)
        if layout.has_header:
            next(lines)
        while some := list(itertools.islice(lines, 1000)):
            wrong = _fault(b"".join(line for _, line in some), layout)
            for number, line in some if wrong else ():
                if line.strip() and (fault := _fault(line, layout)):
                    text = line.decode("utf-8-sig", errors="replace").rstrip("\r\n")
                    raise DataError(
                        f"{file.label}, line {number}: {text[:80]!r}: "
                        f"{_field_at_fault(text, layout) or fault}; expected {layout}."
                    )


def _fault(content: bytes, layout: Layout) -> str:
    """Return what is wrong with lines below the header, or an empty string."""
    ones = layout.separator.join("1" * len(layout.fields)).encode()
    content = content.rstrip(b"\r\n") + b"\n" + ones  # a `True` on its own would pass for a number
    try:
        _parse(io.BytesIO(content), layout._replace(has_header=False))
    except Exception as error:  # pandas raises a dozen kinds
        return textwrap.shorten(str(error), 100)
    return ""


def _field_at_fault(text: str, layout: Layout) -> str:
    """Say which field keeps a line from being read, if one alone does."""
    fields = text.split(layout.separator)
    if layout.separator == ",":
        rows = csv.reader(io.StringIO(text[: 1 << 16], newline=""))
        fields = [field for row in rows for field in row]
    if len(fields) != len(layout.fields):
        return f"{len(fields)} field(s) instead of {len(layout.fields)}"
    for i, (name, field) in enumerate(zip(layout.fields, fields, strict=True)):
        mended = layout.separator.join([*fields[:i], "1", *fields[i + 1 :]])
        if name in COLUMNS and not _fault(mended.encode(), layout):
            return f"{name} {field!r} is not {_EXPECTED[name]}"
    return ""
