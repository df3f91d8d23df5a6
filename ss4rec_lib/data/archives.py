"""Reading one file out of a plain, compressed or zipped container, without unpacking it to disk.

Nothing is ever extracted, so no member can be written outside the cache; an archive with a member
whose name says it would be is refused all the same, since it is not what it claims to be.
"""

from __future__ import annotations

import contextlib
import gzip
import lzma
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ss4rec_lib.data.cache import digest
from ss4rec_lib.data.errors import CorruptFileError, UnsafeArchiveError

ZIP_SUFFIXES = (".zip", ".whl")
COMPRESSED = {".gz": gzip.open, ".xz": lzma.open}

# What reading a damaged container raises: wrong magic, early end, bad checksum, bad stream; and
# from zipfile a RuntimeError for a password and NotImplementedError for an unknown method.
READ_ERRORS = (
    zipfile.BadZipFile,
    EOFError,
    lzma.LZMAError,
    zlib.error,
    gzip.BadGzipFile,
    RuntimeError,
    NotImplementedError,
)


@dataclass(frozen=True)
class DataFile:
    """One readable file: plain, compressed (`.gz`, `.xz`) or a member of a zip archive.

    Attributes:
        path: the file on disk.
        member: name inside the archive; None when `path` is not an archive.
    """

    path: Path
    member: str | None = None

    @property
    def label(self) -> str:
        """What it is called in messages, without folders of the machine."""
        return f"{self.path.name}:{self.member}" if self.member else self.path.name

    @property
    def name(self) -> str:
        """Name of the file inside its container, without a compression suffix."""
        if self.member:
            return self.member.rsplit("/", 1)[-1]
        return self.path.stem if self.path.suffix in COMPRESSED else self.path.name

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open for reading, decompressed.

        Raises:
            CorruptFileError: the container is truncated or damaged; raised while reading, too.
            UnsafeArchiveError: the archive has a member that would land outside its folder.
        """
        with readable(self.label):
            if self.member:
                with zipfile.ZipFile(self.path) as archive:
                    check_members(archive, self.path.name)
                    with archive.open(self.member) as stream:
                        yield stream
            else:
                opener = COMPRESSED.get(self.path.suffix, open)
                with opener(self.path, "rb") as stream:
                    yield stream

    def hash(self, algorithm: str, skip_header: bool = False) -> str:
        """Hex digest of the decompressed content.

        Args:
            algorithm: a name `hashlib` knows.
            skip_header: leave out the first line.

        Returns:
            The digest.

        Raises:
            CorruptFileError: the container is truncated or damaged.
        """
        with self.open() as stream:
            if skip_header:
                stream.readline()
            return digest(stream, algorithm)


@contextlib.contextmanager
def readable(label: str) -> Iterator[None]:
    """Turn what a damaged container raises into a `CorruptFileError` that names the file."""
    try:
        yield
    except READ_ERRORS as error:
        raise CorruptFileError(
            f"{label} is truncated or damaged ({type(error).__name__}: {error or 'early end'}); "
            "expected a complete archive. Delete it and fetch or copy it again."
        ) from error


def member_names(path: Path) -> list[str]:
    """Names of the files in a zip archive, after checking all of them.

    Args:
        path: the archive.

    Returns:
        Names of its members without folders, in the archive's order.

    Raises:
        CorruptFileError: it is not a complete zip archive.
        UnsafeArchiveError: a member would land outside the archive's folder.
    """
    with readable(path.name), zipfile.ZipFile(path) as archive:
        check_members(archive, path.name)
        return [info.filename for info in archive.infolist() if not info.is_dir()]


def check_members(archive: zipfile.ZipFile, label: str) -> None:
    """Refuse an archive with a member that is absolute, climbs upwards or is a symbolic link.

    Args:
        archive: an open archive.
        label: what it is called in the message.

    Raises:
        UnsafeArchiveError: naming the member.
    """
    for info in archive.infolist():
        # orig_filename: before zipfile cuts at NUL or changes separators.
        name = info.orig_filename
        parts = re.split(r"[/\\]", name)
        if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
            fault = "an absolute path"
        elif ".." in parts:
            fault = "a path that climbs out of its folder"
        elif stat.S_ISLNK(info.external_attr >> 16):
            fault = "a symbolic link"
        elif "\0" in name:
            fault = "a name with a NUL character"
        else:
            continue
        raise UnsafeArchiveError(
            f"{label}: member {name!r} is {fault}; nothing of this archive is read. It is not an "
            "official MovieLens archive: delete it and fetch it again."
        )
