"""Where a data set's files come from: named by the user, cached, GroupLens, a wheel; in that order.

A path the user named is used or refused, never skipped; it may differ from the published file, with
a warning. A file from the cache or the network must have the published hash. A download goes to a
`.partial-...` folder, is checked and then renamed into place, under one lock per data set. What a
killed process leaves is removed by the next download.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import pooch

from ss4rec_lib.data.parsing import COMPRESSED, ZIP_SUFFIXES, DataFile, member_names
from ss4rec_lib.data.validation import DataError, UnusablePathError
from ss4rec_lib.files import PARTIAL, publish_file

if TYPE_CHECKING:
    from ss4rec_lib.data.datasets import Dataset

PROJECT = "ss4rec-lab"
ROOT = Path(__file__).resolve().parents[2]
GROUPLENS = "https://files.grouplens.org/datasets/movielens"
CONNECT_SECONDS = 10  # without a network the next source must be tried soon
STALL_SECONDS = 60  # a download that brings nothing for this long has failed
PIP_SECONDS = 300  # longest time to fetch a wheel of 2 MB
QUIET_SECONDS = 2  # how long to wait for another process before saying so

pooch.get_logger().setLevel(logging.WARNING)


@dataclass(frozen=True)
class Located:
    """A data set's file, found."""

    file: DataFile
    description: str  # where it came from, without folders of the machine
    doubt: str = ""  # why its content may not be the published one; empty when its hash is right

    @property
    def verified(self) -> bool:
        """Return whether the content is the published one, by hash."""
        return not self.doubt


def locate(
    dataset: Dataset, path: str | os.PathLike | None = None, kind: str = "ratings"
) -> Located:
    """Find the "ratings" or "items" of a data set, fetching it when it is not on this machine.

    Without `path` the environment variable, the cache and the remote sources are tried in turn. A
    DataError tells which file is wrong, or why each source failed.
    """
    if path is not None:
        return _named(dataset, path, "path=", kind)
    folder = cache_dir() / dataset.name
    if not (found := locate_here(dataset, kind)):
        with dataset_lock(folder):
            # Another process may have fetched it while this one waited for the lock.
            if not (found := locate_here(dataset, kind)):
                _fetch_archive(dataset, folder)
                found = locate_here(dataset, kind)
    assert found is not None
    # Once per cache folder, and never for one that cannot be written to.
    with contextlib.suppress(OSError), open(folder / ".licence-shown", "x"):
        print(dataset.licence_notice, file=sys.stderr)
    return found


def locate_here(dataset: Dataset, kind: str = "ratings") -> Located | None:
    """Find a file as `locate` does without a path, on this machine only, or return None."""
    if named := os.environ.get(dataset.variable, "").strip():
        return _named(dataset, named, dataset.variable, kind)
    return _cached(dataset, cache_dir() / dataset.name, kind)


@functools.cache
def checkout(root: Path = ROOT) -> Path | None:
    """Return the repository the package runs from, or None when it is installed without one."""
    with contextlib.suppress(OSError, ValueError):
        text = (root / "pyproject.toml").read_text(encoding="utf-8")
        if tomllib.loads(text).get("project", {}).get("name") == PROJECT:
            return root
    return None


def cache_dir() -> Path:
    """Return `SS4REC_DATA`, the `data/` of a checkout, or the user's cache folder; maybe absent."""
    if named := os.environ.get("SS4REC_DATA", "").strip():
        return Path(os.path.abspath(os.path.expanduser(named)))
    root = checkout()
    return root / "data" if root else Path(pooch.os_cache(PROJECT))


@contextlib.contextmanager
def dataset_lock(folder: Path) -> Iterator[None]:
    """Hold a data set's folder, rid of what interrupted downloads left, for one process."""
    lock = filelock.FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=QUIET_SECONDS)
        except filelock.Timeout:
            print(f"ss4rec: waiting, another process is fetching {folder.name}", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        remedy = "Set SS4REC_DATA to a folder you can write to."
        raise DataError(f"cannot write to the cache folder {folder} ({error}). {remedy}") from error
    try:
        for leftover in folder.glob(PARTIAL + "*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        lock.release()


def _shown(path: Path) -> str:
    """Return a path for records: below the working directory, or the bare file name."""
    path, here = path.resolve(), Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name


def _cached(dataset: Dataset, folder: Path, kind: str) -> Located | None:
    """Return the file in the cache folder, checked, or None when the cache has none."""
    advice = f"Delete it and fetch it again (ss4rec data {dataset.name}); to use it all the same, "
    advice += f"move it and name it with path= or {dataset.variable}."
    for path, known in ((folder / name, known) for name, known in dataset.archives):
        if path.is_file():
            if (found := _hash(path, known)) != known:
                text = f"{path}: {found}, expected {known}: incomplete or altered. {advice}"
                raise DataError(text)
            official = path.name == dataset.archive
            origin = "GroupLens' archive" if official else "the copy in the wheel"
            where = f"{origin} {_shown(path)} ({known.partition(':')[0]} verified)"
            return Located(_member(dataset, path, kind), where)
    if (bare := _find(dataset, folder, kind)) is None:
        return None
    located = _judged(dataset, bare, f"{_shown(bare.path)}, placed in the cache by hand", kind)
    if kind == "ratings" and dataset.ratings_md5 and not located.verified:
        raise DataError(f"{bare.path}: {located.doubt}. {advice}")
    return located


def existing(named: str | os.PathLike, origin: str) -> Path:
    """Return a path that the user named, or raise UnusablePathError if nothing is there."""
    path = Path(named).expanduser()
    # A lesson runs in notebooks/, its variables were set at the top of the repository.
    for place in (path, (checkout() or Path()) / path):
        # `archive.zip:member` is there when the archive is.
        if place.exists() or Path(re.sub(r"(\.zip):.*", r"\1", str(place))).is_file():
            return place
    raise UnusablePathError(
        f"{origin} names {os.fspath(named)!r}, which does not exist (working directory: "
        f"{Path.cwd()}). Name a folder, ratings file or archive, or leave it out."
    )


def _named(dataset: Dataset, named: str | os.PathLike, origin: str, kind: str) -> Located:
    """Return the file in a folder, archive or file the user named, accepted even if it differs."""
    path = existing(named, origin)
    file = _find(dataset, path, kind)
    if file is None:
        raise UnusablePathError(
            f"{origin} names {path}, where no {kind} of {dataset.name} were found: expected "
            f"{', '.join(dataset.file_names(kind))} (also .gz or .xz) or {dataset.archive}."
        )
    return _judged(dataset, file, f"{_shown(file.path)}, named by {origin}", kind)


def _find(dataset: Dataset, path: Path, kind: str) -> DataFile | None:
    """Return the file at a path, or the plain, compressed or archived one in or beside it."""
    folder = path if path.is_dir() else path.parent
    places = (folder, folder / dataset.folder, folder / dataset.name)
    names = itertools.product(dataset.file_names(kind), places, ("", *COMPRESSED))
    candidates = [path] if kind == "ratings" or path.suffix in ZIP_SUFFIXES else []
    candidates += [place / (name + suffix) for name, place, suffix in names]
    candidates += [folder / name for name, _ in dataset.archives]
    found = next(filter(Path.is_file, candidates), None)
    if found is None or found.suffix not in ZIP_SUFFIXES:
        return found and DataFile(found)
    return _member(dataset, found, kind)


def _member(dataset: Dataset, path: Path, kind: str) -> DataFile:
    """Return the ratings or items inside an archive whose members have all been checked."""
    members = member_names(path)
    for name in dataset.file_names(kind):
        if inside := [m for m in members if m.rsplit("/", 1)[-1] == name]:
            return DataFile(path, min(inside, key=len))
    raise UnusablePathError(
        f"{path.name} has no {' or '.join(dataset.file_names(kind))}; it holds {len(members)} "
        f"files, {', '.join(members[:8])}. Expected the archive of {dataset.name}."
    )


def _judged(dataset: Dataset, file: DataFile, where: str, kind: str) -> Located:
    """Return a file: verified when its hash or its archive's is a published one, else in doubt."""
    for name, known in dataset.archives if file.member else ():
        if _hash(file.path, known) == known:
            return Located(file, f"{where} ({known.partition(':')[0]} of {name} verified)")
    if kind == "items" or dataset.ratings_md5 is None:
        return Located(file, where, f"no md5 of the bare {kind} file is published")
    with file.open() as stream:
        if file.name.endswith(".inter"):
            stream.readline()  # RecBole's copy differs from u.data by a header line only
        found = hashlib.file_digest(stream, "md5").hexdigest()
    if found == dataset.ratings_md5:
        return Located(file, f"{where} (md5 of {dataset.ratings} verified)")
    return Located(file, where, f"md5 {found} differs from the official {dataset.ratings_md5}")


def _hash(path: Path, known: str) -> str:
    """Return the hash of a file in the form of a known one, `algorithm:digest`."""
    algorithm = known.partition(":")[0]
    return f"{algorithm}:{pooch.file_hash(str(path), algorithm)}"


def _fetch_archive(dataset: Dataset, folder: Path) -> None:
    """Put the archive into its cache folder, which the caller holds, from the first source."""
    url = f"{GROUPLENS}/{dataset.archive}"
    attempts: list[tuple[str, str, Any]] = [(f"GroupLens {url}", url, _get)]
    if dataset.wheel:
        title = f"package index (pip download {dataset.wheel.requirement})"
        attempts.append((title, dataset.wheel.requirement, _pip_download))
    failures = []
    for (title, address, fetcher), (name, known) in zip(attempts, dataset.archives, strict=True):
        # pooch passes the address, a temporary file to fill and itself.
        downloader: Any = functools.partial(fetcher, name)
        try:
            with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder) as partial:
                pooch.retrieve(address, known, name, partial, downloader=downloader)
                publish_file(Path(partial, name), folder / name)
            return
        except (ValueError, OSError) as error:  # ValueError: pooch found another hash
            reason = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            failures.append(f"  - {title}: {textwrap.shorten(str(reason), 300)}\n")
    raise DataError(
        f"{dataset.name} was not found. Tried in turn:\n  - path=: not given\n"
        f"  - environment variable {dataset.variable}: not set\n"
        f"  - cache {folder}: no {dataset.archive} or {dataset.ratings} there\n"
        + "".join(failures)
        + f"What to do: on any machine that reaches it, download {url} and put it, as it is, into "
        f"{folder}; or set {dataset.variable} to the archive, to its unpacked folder or to "
        f"{dataset.ratings}."
    )


def _get(_: str, url: str, target: str, *__: object) -> None:
    """Download one address to a file: short wait for a connection, one attempt."""
    bar = sys.stderr.isatty() and not os.environ.get("TQDM_DISABLE")
    wait = (CONNECT_SECONDS, STALL_SECONDS)
    pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16, timeout=wait)(url, target, None)


def _pip_download(name: str, requirement: str, target: str, *_: object) -> None:
    """Fetch a wheel as a file with pip; nothing is installed and no dependency is fetched."""
    command = [sys.executable, "-m", "pip", "download", requirement, "-d", os.path.dirname(target)]
    command += "--no-deps --only-binary=:all: --ignore-requires-python --no-input --quiet".split()
    command += "--retries=1 --disable-pip-version-check --progress-bar=off".split()
    command += [f"--timeout={CONNECT_SECONDS}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"pip took longer than {PIP_SECONDS} s") from error
    if done.returncode:
        said = done.stderr.strip() or "no message"
        raise DataError(f"pip failed with status {done.returncode}: {said.splitlines()[-1]}")
    os.replace(Path(target).parent / name, target)
