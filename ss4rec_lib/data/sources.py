"""Where a dataset's files come from: named by the user, cached, GroupLens, a wheel; in that order.

`locate` goes through the sources and stops at the first that has the file. A path the user named is
used or refused, never passed over in silence. A file from the cache or the network is hashed and
refused when it is not the published one; only a file the user named may differ, with a warning.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ss4rec_lib.data import cache, remote
from ss4rec_lib.data.archives import COMPRESSED, ZIP_SUFFIXES, DataFile, member_names
from ss4rec_lib.data.catalogue import CITATION, Dataset
from ss4rec_lib.data.errors import (
    HashMismatchError,
    UnusablePathError,
)


@dataclass(frozen=True)
class Located:
    """A dataset's file, found.

    Attributes:
        file: what to read.
        verified: whether its content is the published one, by hash.
        description: where it came from, without folders of the machine.
        doubt: why it is not verified; empty when it is.
    """

    file: DataFile
    verified: bool
    description: str
    doubt: str = ""


def locate(
    dataset: Dataset, path: str | os.PathLike | None = None, kind: str = "ratings"
) -> Located:
    """Find one file of a dataset, fetching it when it is nowhere on this machine.

    Args:
        dataset: entry of the catalogue.
        path: a folder, ratings file or archive; None to look everywhere.
        kind: `"ratings"` or `"items"`.

    Returns:
        The file and how far it can be trusted.

    Raises:
        UnusablePathError: `path` or the environment variable names nothing usable.
        HashMismatchError: a cached archive is not the published one.
        UnsafeArchiveError, CorruptFileError: an archive cannot be read.
        SourcesExhaustedError: no source has it; lists why each failed.
    """
    if path is not None:
        return _from_user(dataset, _existing(path, "path"), "path=", kind)
    named = os.environ.get(dataset.variable, "").strip()
    if named:
        return _from_user(dataset, _existing(named, dataset.variable), dataset.variable, kind)
    folder = cache.cache_dir() / dataset.name
    return from_cache(dataset, folder, kind) or download(dataset, folder, kind)


def from_cache(dataset: Dataset, folder: Path, kind: str = "ratings") -> Located | None:
    """The file in the dataset's cache folder, checked, or None when the cache has none.

    Raises:
        HashMismatchError: the cached file is not the published one.
        CorruptFileError, UnsafeArchiveError: a cached archive cannot be read.
    """
    if not folder.is_dir():
        return None
    cache.clean_leftovers(folder)
    found = None
    for path, expected in _archives(dataset):
        if (folder / path).is_file():
            found = _archived(dataset, folder / path, expected, kind)
            break
    else:
        bare = _bare_file(dataset, folder, kind)
        if bare is not None:
            found = _hand_placed(dataset, bare, kind)
    if found is not None:
        cache.show_once(folder, licence_notice(dataset))
    return found


def download(dataset: Dataset, folder: Path, kind: str = "ratings") -> Located:
    """Fetch the dataset into its cache folder from the first source that has it.

    One process at a time; a file already there is replaced only by a complete, verified one.

    Args:
        dataset: entry of the catalogue.
        folder: its cache folder.
        kind: the file of it that is wanted.

    Returns:
        The file in the cache.

    Raises:
        SourcesExhaustedError: every source failed.
        DataError: the cache folder cannot be written to.
    """
    with cache.dataset_lock(folder):
        # Another process may have fetched it while this one waited for the lock.
        found = from_cache(dataset, folder, kind)
        if found is None:
            remote.fetch_archive(dataset, folder)
            found = from_cache(dataset, folder, kind)
    return found


def refresh(dataset: Dataset, folder: Path) -> Located:
    """Fetch the dataset again; what is in the cache stays until the new file is complete.

    Raises:
        SourcesExhaustedError: every source failed.
        DataError: the cache folder cannot be written to.
    """
    with cache.dataset_lock(folder):
        path = remote.fetch_archive(dataset, folder)
    return _archived(dataset, path, dict(_archives(dataset))[path.name], "ratings")


def licence_notice(dataset: Dataset) -> str:
    """The few lines shown when a dataset first enters the cache."""
    return (
        f"{dataset.name} is MovieLens data of GroupLens, University of Minnesota. It is for "
        "research and teaching: do not redistribute it, do not use it commercially without "
        "permission, do not imply endorsement, and cite\n"
        f"  {CITATION}\n"
        f"Full licence: {dataset.licence}"
    )


def _archives(dataset: Dataset) -> list[tuple[str, str]]:
    """File name and hash of each container that the cache may hold."""
    known = [(dataset.archive, dataset.archive_hash)]
    if dataset.wheel:
        known.append((dataset.wheel.file_name, dataset.wheel.hash))
    return known


def _existing(named: str | os.PathLike, origin: str) -> Path:
    """The path the user named; a relative one may also start at the repository."""
    path = Path(named).expanduser()
    root = cache.checkout()
    if not path.is_absolute() and not path.exists() and root and (root / path).exists():
        # A lesson runs in notebooks/, its variables were set at the top of the repository.
        path = root / path
    if not path.exists():
        raise UnusablePathError(
            f"{origin} names {os.fspath(named)!r}, which does not exist (working directory: "
            f"{Path.cwd()}). Name an existing folder, ratings file or archive, or leave it out."
        )
    return path


def _from_user(dataset: Dataset, path: Path, origin: str, kind: str) -> Located:
    """The file in a folder, archive or file the user named, accepted even when it differs."""
    if path.is_file() and path.suffix in ZIP_SUFFIXES:
        return _user_archive(dataset, path, origin, kind)
    if path.is_file() and kind == "ratings":
        return _judged(dataset, DataFile(path), f"{cache.shown(path)}, named by {origin}")
    folder = path if path.is_dir() else path.parent
    bare = _bare_file(dataset, folder, kind)
    if bare is not None:
        where = f"{cache.shown(bare.path)}, named by {origin}"
        if kind == "items":
            return Located(bare, False, where, "no hash of this file is published")
        return _judged(dataset, bare, where)
    for name, _ in _archives(dataset):
        if (folder / name).is_file():
            return _user_archive(dataset, folder / name, origin, kind)
    wanted = ", ".join(_names(dataset, kind))
    raise UnusablePathError(
        f"{origin} names {path}, where no {kind} of {dataset.name} were found: expected one of "
        f"{wanted} (also .gz or .xz) or {dataset.archive} in {folder}."
    )


def _user_archive(dataset: Dataset, path: Path, origin: str, kind: str) -> Located:
    file = _member(dataset, path, kind)
    where = f"{cache.shown(path)}, named by {origin}"
    for name, expected in _archives(dataset):
        algorithm, _, digest = expected.partition(":")
        if cache.file_hash(path, algorithm) == digest:
            return Located(file, True, f"{where} ({algorithm} of {name} verified)")
    if kind == "items":
        return Located(file, False, where, "its archive is not the official one")
    return _judged(dataset, file, where)


def _names(dataset: Dataset, kind: str) -> tuple[str, str]:
    """The file's names: GroupLens' own and RecBole's."""
    if kind == "ratings":
        return dataset.ratings, f"{dataset.name}.inter"
    return dataset.items, f"{dataset.name}.item"


def _bare_file(dataset: Dataset, folder: Path, kind: str) -> DataFile | None:
    """The ratings or items file lying open or compressed in a folder or the archive's folder."""
    for name in _names(dataset, kind):
        for place in dict.fromkeys((folder, folder / dataset.folder, folder / dataset.name)):
            for suffix in ("", *COMPRESSED):
                if (place / (name + suffix)).is_file():
                    return DataFile(place / (name + suffix))
    return None


def _member(dataset: Dataset, path: Path, kind: str) -> DataFile:
    """The ratings or items inside an archive whose members have all been checked."""
    members = member_names(path)
    for name in _names(dataset, kind):
        inside = [m for m in members if m.rsplit("/", 1)[-1] == name]
        if inside:
            return DataFile(path, min(inside, key=len))
    raise UnusablePathError(
        f"{path.name} has no {' or '.join(_names(dataset, kind))}; its members are "
        f"{', '.join(members[:8]) or 'none'}{', …' if len(members) > 8 else ''}. Expected the "
        f"archive of {dataset.name}."
    )


def _bare_md5(file: DataFile) -> str:
    """The md5 GroupLens' file would have: RecBole's differs from u.data by a header line only."""
    return file.hash("md5", skip_header=file.name.endswith(".inter"))


def _judged(dataset: Dataset, file: DataFile, where: str) -> Located:
    """A bare file the user named: verified when its hash is the known one, else in doubt."""
    if dataset.ratings_md5 is None:
        return Located(file, False, where, "no md5 of the bare file is published")
    found = _bare_md5(file)
    if found == dataset.ratings_md5:
        return Located(file, True, f"{where} (md5 of {dataset.ratings} verified)")
    doubt = f"md5 {found} differs from the official {dataset.ratings_md5}"
    return Located(file, False, where, doubt)


def _hand_placed(dataset: Dataset, file: DataFile, kind: str) -> Located:
    """A bare file in the cache: refused when it could be verified and is not the official one."""
    where = f"{cache.shown(file.path)}, placed in the cache by hand"
    if kind == "items":
        return Located(file, False, where, "no hash of this file is published")
    located = _judged(dataset, file, where)
    if dataset.ratings_md5 and not located.verified:
        raise HashMismatchError(
            f"{file.path}: {located.doubt}, so it is not the official {dataset.ratings} of "
            f"{dataset.name}. Delete it; or, to use it all the same, keep it elsewhere and name it "
            f"with path= or {dataset.variable}."
        )
    return located


def _archived(dataset: Dataset, path: Path, expected: str, kind: str) -> Located:
    """A container from the cache, never read unless its hash is the published one."""
    remote.check_hash(
        path,
        expected,
        f"Delete it and fetch it again (ss4rec data {dataset.name}); to use it all the same, keep "
        f"it elsewhere and name it with path= or {dataset.variable}.",
    )
    algorithm = expected.partition(":")[0]
    where = f"{cache.shown(path)} ({algorithm} verified)"
    if dataset.wheel and path.name == dataset.wheel.file_name:
        return _from_wheel(dataset, path, where, kind)
    return Located(_member(dataset, path, kind), True, f"GroupLens' archive {where}")


def _from_wheel(dataset: Dataset, path: Path, where: str, kind: str) -> Located:
    """The copy inside a wheel, which must be the official file to the byte."""
    wheel = dataset.wheel
    member_names(path)
    ratings = DataFile(path, wheel.ratings)
    found = _bare_md5(ratings)
    if found != dataset.ratings_md5:
        raise HashMismatchError(
            f"{ratings.label}: md5 {found} (without its header line), expected "
            f"{dataset.ratings_md5} of {dataset.ratings}. Delete {path}."
        )
    file = ratings if kind == "ratings" else DataFile(path, wheel.items)
    return Located(file, True, f"the copy inside the wheel {where}")
