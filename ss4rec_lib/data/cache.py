"""The cache folder, and how a file gets into it whole or not at all.

A file is downloaded into a `.partial-…` folder beside its place, checked, flushed to the disk and
only then renamed into place, all under one lock per dataset. A process that dies on the way leaves
the old file untouched and a `.partial-…` folder that the next call removes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import filelock
import pooch

from ss4rec_lib.data.errors import DataError
from ss4rec_lib.files import PARTIAL

PROJECT = "ss4rec-lab"
LOCK = ".lock"
LICENCE_MARK = ".licence-shown"
QUIET_SECONDS = 2
"""How long to wait for another process before saying so."""


def checkout() -> Path | None:
    """The repository the package runs from, or None when it is installed without one."""
    return _checkout(Path(__file__).resolve().parents[2])


@functools.cache
def _checkout(root: Path) -> Path | None:
    try:
        text = (root / "pyproject.toml").read_text(encoding="utf-8")
        found = tomllib.loads(text).get("project", {}).get("name") == PROJECT
    except (OSError, ValueError):
        return None
    return root if found else None


def cache_dir() -> Path:
    """Folder that holds one sub-folder per cached dataset.

    Returns:
        The folder named by the environment variable `SS4REC_DATA`; else `data/` of the repository
        when the package runs from a checkout; else the user's cache folder. It need not exist.
    """
    named = os.environ.get("SS4REC_DATA", "").strip()
    if named:
        return Path(os.path.abspath(os.path.expanduser(named)))
    root = checkout()
    return root / "data" if root else Path(pooch.os_cache(PROJECT))


def shown(path: Path) -> str:
    """A path as it may appear in records: below the working directory, or the bare file name."""
    with contextlib.suppress(ValueError, OSError):
        return path.resolve().relative_to(Path.cwd()).as_posix()
    return path.name


def digest(stream: BinaryIO, algorithm: str) -> str:
    """Hex digest of what is left of a binary stream."""
    state = hashlib.new(algorithm, usedforsecurity=False)
    while block := stream.read(1 << 20):
        state.update(block)
    return state.hexdigest()


def file_hash(path: Path, algorithm: str) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as stream:
        return digest(stream, algorithm)


@contextlib.contextmanager
def dataset_lock(folder: Path) -> Iterator[None]:
    """Hold a dataset's folder (made when missing) for one process; others wait, and are told so.

    Entering also removes what interrupted downloads left: under the lock nobody else's can be live.

    Args:
        folder: the dataset's cache folder.

    Raises:
        DataError: the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / LOCK)
        try:
            lock.acquire(timeout=QUIET_SECONDS)
        except filelock.Timeout:
            print(
                f"ss4rec: another process is fetching {folder.name}; waiting for it to finish.",
                file=sys.stderr,
            )
            lock.acquire()
    except OSError as error:
        raise DataError(
            f"cannot write to the cache folder {folder} ({error}). Set SS4REC_DATA to a folder "
            "you can write to."
        ) from error
    try:
        _remove_partials(folder)
        yield
    finally:
        lock.release()


def clean_leftovers(folder: Path) -> None:
    """Remove what interrupted downloads left, unless a download is running just now."""
    if not any(folder.glob(PARTIAL + "*")):
        return
    lock = filelock.FileLock(folder / LOCK)
    with contextlib.suppress(filelock.Timeout, OSError), lock.acquire(timeout=0):
        _remove_partials(folder)


def _remove_partials(folder: Path) -> None:
    for leftover in folder.glob(PARTIAL + "*"):
        shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def partial_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside the final place, removed on leaving."""
    path = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def show_once(folder: Path, text: str) -> None:
    """Print a text to stderr unless it was printed before for this cache folder.

    Args:
        folder: the dataset's cache folder; a folder that cannot be written to prints nothing.
        text: what to print.
    """
    try:
        with open(folder / LICENCE_MARK, "x", encoding="utf-8") as mark:
            mark.write(text + "\n")
    except OSError:
        return
    print(text, file=sys.stderr)
