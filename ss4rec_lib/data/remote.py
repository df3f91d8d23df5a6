"""Fetching a dataset from elsewhere: GroupLens, or a wheel in the package index.

Every source is tried once and briefly. What it brings is checked before it is renamed into place.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pooch
import requests

from ss4rec_lib.data import cache
from ss4rec_lib.data.catalogue import Dataset
from ss4rec_lib.data.errors import (
    DownloadError,
    HashMismatchError,
    SourcesExhaustedError,
    UnverifiedSourcesError,
)
from ss4rec_lib.files import publish_file

GROUPLENS = "https://files.grouplens.org/datasets/movielens"
"""Folder of the official archives."""

CONNECT_SECONDS = 10
"""A machine without a way out must not wait for minutes before the next source is tried."""

STALL_SECONDS = 60
"""A download that brings nothing for this long has failed."""

PIP_SECONDS = 300
"""Longest time the package installer may take to fetch a wheel of 2 MB."""


def check_hash(path: Path, expected: str, advice: str) -> None:
    """Refuse a file that is not the published one.

    Args:
        path: the file.
        expected: `algorithm:hexdigest`.
        advice: what the reader should do, for the message.

    Raises:
        HashMismatchError: naming the file, both digests and the advice.
    """
    algorithm, _, digest = expected.partition(":")
    found = cache.file_hash(path, algorithm)
    if found != digest:
        raise HashMismatchError(
            f"{path}: {algorithm} {found}, expected {digest} ({path.stat().st_size:,} bytes "
            f"found). The file is not the published one, probably incomplete or altered. {advice}"
        )


def fetch_archive(dataset: Dataset, folder: Path) -> Path:
    """Put the dataset's archive into its cache folder, from the first source that has it.

    The caller holds the folder (`cache.dataset_lock`). A file already there is replaced only by a
    complete one with the published hash.

    Args:
        dataset: entry of the catalogue.
        folder: its cache folder.

    Returns:
        The archive or wheel, in the cache folder.

    Raises:
        SourcesExhaustedError: every source failed (UnverifiedSourcesError when one of them
            delivered a file that is not the published one).
    """
    failures: list[tuple[str, Exception]] = []
    for title, name, expected, fetcher in _attempts(dataset):
        try:
            with cache.partial_folder(folder) as partial:
                fetcher(partial / name)
                check_hash(partial / name, expected, "It was thrown away.")
                publish_file(partial / name, folder / name)
        except (DownloadError, HashMismatchError, OSError) as error:
            failures.append((title, error))
        else:
            return folder / name
    raise _exhausted(dataset, folder, failures)


def _attempts(dataset: Dataset) -> list[tuple[str, str, str, Callable[[Path], None]]]:
    """Title, file name, expected hash and fetcher of each remote source, in turn."""
    url = f"{GROUPLENS}/{dataset.archive}"
    attempts = [
        (f"GroupLens {url}", dataset.archive, dataset.archive_hash, lambda to: _get(url, to))
    ]
    if wheel := dataset.wheel:
        attempts.append(
            (
                f"package index (pip download {wheel.requirement})",
                wheel.file_name,
                wheel.hash,
                lambda to: _pip_download(wheel.requirement, to),
            )
        )
    return attempts


def _exhausted(
    dataset: Dataset, folder: Path, failures: list[tuple[str, Exception]]
) -> SourcesExhaustedError:
    wanted = f"{dataset.archive} or {dataset.ratings}"
    lines = [
        f"{dataset.name} was not found. Tried in turn:",
        "  - path=: not given",
        f"  - environment variable {dataset.variable}: not set",
        f"  - cache {folder}: no {wanted} there",
        *(f"  - {title}: {error}" for title, error in failures),
        "What to do: on any machine that reaches it, download "
        f"{GROUPLENS}/{dataset.archive} and put it, as it is, into {folder}; or set "
        f"{dataset.variable} to the archive, to its unpacked folder or to {dataset.ratings}.",
    ]
    bad_hash = any(isinstance(error, HashMismatchError) for _, error in failures)
    return (UnverifiedSourcesError if bad_hash else SourcesExhaustedError)("\n".join(lines))


def _get(url: str, target: Path) -> None:
    """Download one address to a file: short wait for a connection, one attempt."""
    bar = sys.stderr.isatty() and not os.environ.get("TQDM_DISABLE")
    downloader = pooch.HTTPDownloader(
        progressbar=bar, chunk_size=1 << 16, timeout=(CONNECT_SECONDS, STALL_SECONDS)
    )
    try:
        downloader(url, str(target), None)
    except requests.ConnectTimeout as error:
        raise DownloadError(f"no connection within {CONNECT_SECONDS} s") from error
    except requests.RequestException as error:
        raise DownloadError(f"{type(error).__name__}: {_short(error)}") from error


def _pip_download(requirement: str, target: Path) -> None:
    """Fetch a wheel as a file with pip; nothing is installed and no dependency is fetched."""
    command = [sys.executable, "-m", "pip", "download", requirement, "--no-deps"]
    command += ["--only-binary=:all:", "--ignore-requires-python", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--quiet", "--retries=1"]
    command += [f"--timeout={CONNECT_SECONDS}", "-d", str(target.parent)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PIP_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise DownloadError(f"pip took longer than {PIP_SECONDS} s") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise DownloadError(f"pip failed with exit status {done.returncode}: {_short(said[-1])}")
    if not target.is_file():
        got = ", ".join(sorted(path.name for path in target.parent.iterdir())) or "nothing"
        raise DownloadError(f"pip brought {got}, expected {target.name}")


def _short(text: object, limit: int = 300) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
