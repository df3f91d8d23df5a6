"""The data sets: what is known about each before it is read, and `load_movielens`.

GroupLens publishes the md5 of most archives and the shapes. The sha256 of `ml-latest-small`
(9/2018) is that of TensorFlow Datasets, the md5 of bare `u.data` and `ratings.dat` (ML-1M) that of
several libraries' data loaders, the sha256 of RecBole's wheel that of the package index.
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ss4rec_lib.configuration import did_you_mean
from ss4rec_lib.data.download import Located, existing, locate, locate_here
from ss4rec_lib.data.items import read_items
from ss4rec_lib.data.own import PATH, describe, load_own, load_titles
from ss4rec_lib.data.parsing import read_ratings
from ss4rec_lib.data.planted import planted_items, planted_ratings
from ss4rec_lib.data.validation import DataError, DataWarning, validate_ratings

PLANTED = "planted"  # generated: it has no file and therefore no entry in `CATALOGUE`


class Wheel(NamedTuple):
    """A Python wheel that carries a copy of a data set; fetched as a file, never installed."""

    requirement: str  # what `pip download` is asked for
    file_name: str
    hash: str  # algorithm:digest


@dataclass(frozen=True)
class Dataset:
    """One MovieLens data set."""

    name: str  # used everywhere in this library, and stem of the official archive
    ratings: str  # file name of the ratings inside the archive's folder
    items: str  # and of the items
    shape: tuple[int, int, int]  # ratings, users and rated items of the official file
    archive_hash: str  # `algorithm:digest` of the official archive
    readme: str = "README.html"  # ending of the name of GroupLens' licence and description
    ratings_md5: str | None = None  # of the bare ratings file, where one is known
    wheel: Wheel | None = None  # a Python wheel that carries a copy, where there is one
    folder: str = ""  # top folder inside the official archive, where it is not `name`

    @property
    def archive(self) -> str:
        """Return the file name of the official archive."""
        return f"{self.name}.zip"

    @property
    def archives(self) -> list[tuple[str, str]]:
        """Return the file name and hash of each container that the cache may hold."""
        wheels = [self.wheel[1:]] if self.wheel else []
        return [(self.archive, self.archive_hash), *wheels]

    @property
    def variable(self) -> str:
        """Return the environment variable that names a local copy, such as `SS4REC_ML_1M`."""
        return "SS4REC_" + self.name.upper().replace("-", "_")

    @property
    def licence(self) -> str:
        """Return the address of GroupLens' licence for this data set."""
        return f"https://files.grouplens.org/datasets/movielens/{self.name}-{self.readme}"

    @property
    def licence_notice(self) -> str:
        """Return the lines that are shown when the data set first enters the cache."""
        return (
            f"{self.name} is MovieLens data of GroupLens, University of Minnesota. It is for "
            "research and teaching: do not redistribute it, do not use it commercially without "
            "permission, do not imply endorsement, and cite\n"
            "  F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and "
            "Context. ACM Transactions on Interactive Intelligent Systems 5(4), article 19. "
            f"https://doi.org/10.1145/2827872\nFull licence: {self.licence}"
        )

    def file_names(self, kind: str) -> tuple[str, str]:
        """Return the names that the "ratings" or "items" may have: GroupLens' and RecBole's."""
        rated = kind == "ratings"
        return (self.ratings, f"{self.name}.inter") if rated else (self.items, f"{self.name}.item")


_WHEEL = Wheel(
    "recbole==1.2.1", "recbole-1.2.1-py3-none-any.whl",
    "sha256:9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
)  # fmt: skip
_DAT, _CSV = ("ratings.dat", "movies.dat"), ("ratings.csv", "movies.csv")
_ENTRIES = (
    Dataset("ml-100k", "u.data", "u.item", (100_000, 943, 1_682),
            "md5:0e33842e24a9c977be4e0107933c0723", "README.txt",
            "6e47046882bad158b0efbb84cd5cb987", _WHEEL),
    Dataset("ml-1m", *_DAT, (1_000_209, 6_040, 3_706),
            "md5:c4d9eecfca2ab87c1945afe126590906", "README.txt",
            "a89aa3591bc97d6d4e0c89459ff39362"),
    Dataset("ml-latest-small", *_CSV, (100_836, 610, 9_724),
            "sha256:696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436"),
    Dataset("ml-10m", *_DAT, (10_000_054, 69_878, 10_677),
            "md5:ce571fd55effeba0271552578f2648bd", folder="ml-10M100K"),
    Dataset("ml-20m", *_CSV, (20_000_263, 138_493, 26_744), "md5:cd245b17a1ae2cc31bb14903e1204af3"),
    Dataset("ml-25m", *_CSV, (25_000_095, 162_541, 59_047), "md5:6b51fb2759a8657d3bfcbfc42b592ada"),
    Dataset("ml-32m", *_CSV, (32_000_204, 200_948, 84_432), "md5:d472be332d4daa821edc399621853b57"),
)  # fmt: skip

CATALOGUE = {entry.name: entry for entry in _ENTRIES}
DATASETS: tuple[str, ...] = (*CATALOGUE, PLANTED)  # every name `load_movielens` accepts


def lookup(name: str) -> Dataset:
    """Return the entry of a data set that lives in files; an unknown name is a DataError."""
    if isinstance(name, str) and name in CATALOGUE:
        return CATALOGUE[name]
    near = did_you_mean(str(name).strip().lower(), DATASETS, 4)
    known = f"Known datasets: {', '.join(DATASETS)}; or the path of a file."
    raise DataError(f"unknown dataset {name!r}.{near} {known}")


def load_movielens(name: str, path: str | os.PathLike | None = None) -> pd.DataFrame:
    """Load the ratings of a data set, fetching it the first time.

    `name` is one of `DATASETS`. `path`, or a variable such as `SS4REC_ML_1M` in the environment,
    is a folder, a ratings file (also `.gz`, `.xz`) or an archive to read instead of the cache. A
    file that is not known to be the published one, by hash, is a DataWarning.

    Return the table that `validate_ratings` describes, rows in the file's own order. `.attrs` holds
    `dataset` (name), `source` (one sentence), `verified` (by hash) and `licence` (address).
    """
    if name == PLANTED:
        _refuse_path(path)
        return validate_ratings(planted_ratings(), source=PLANTED)
    dataset = lookup(name)
    located = locate(dataset, path)
    ratings = validate_ratings(read_ratings(located.file), source=located.file.label)
    if located.doubt:
        found = (len(ratings), ratings["user_id"].nunique(), ratings["item_id"].nunique())
        counts = "{:,} ratings, {:,} users, {:,} items".format
        text = f"{located.file.label} ({name}): {located.doubt}; results may differ from published "
        text += f"ones. It has {counts(*found)}, the official file {counts(*dataset.shape)}."
        warnings.warn(text, DataWarning, stacklevel=2)
    ratings.attrs |= {"dataset": name, "source": f"{name} from {located.description}"}
    ratings.attrs |= {"verified": located.verified, "licence": dataset.licence}
    return ratings


def load_dataset(dataset: str, path: str | os.PathLike | None = None) -> pd.DataFrame:
    """Load interactions: of a name in `DATASETS`, or of a file of one's own.

    `dataset` is a name, for `load_movielens`, or the path of a table of interactions or of a YAML
    description (see `own`). `path` is then another place of that file, or the folder it is in.
    """
    return load_own(_place(dataset, path)) if is_path(dataset) else load_movielens(dataset, path)


def is_path(dataset: object) -> bool:
    """Return whether a data set is named by the path of a file, not by its name."""
    if not isinstance(dataset, str) or not dataset or dataset in DATASETS:
        return isinstance(dataset, os.PathLike)
    return bool(re.search(r"[/\\]", dataset) or PATH.search(dataset)) or Path(dataset).is_file()


def dataset_name(dataset: str, path: str | os.PathLike | None = None) -> str:
    """Return the short name of a data set, for tables and records; it holds no folder."""
    return str(describe(_place(dataset, path)).name) if is_path(dataset) else dataset


def load_items(
    name: str, path: str | os.PathLike | None = None, ratings: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Load the table of `read_items`, fetching the data set the first time.

    `path` is as for `load_dataset`, or a ratings file beside which the items are. Some items have
    no rating. Data of one's own may have no titles: then the table is empty. Their ids are of the
    kind in the interactions, which are read again unless `ratings`, their table, is given.
    """
    if is_path(name):
        return load_titles(_place(name, path), ratings)
    if name == PLANTED:
        _refuse_path(path)
        return planted_items()
    return read_items(locate(lookup(name), path, kind="items").file)


def fetch(name: str) -> Path:
    """Put a data set into the cache unless it is there, and return the file that will be read."""
    if name == PLANTED:
        raise DataError(f"{PLANTED} is generated and has no file to fetch.")
    return locate(lookup(name)).file.path


def find_local(name: str) -> Located | None:
    """Return where the ratings of a data set are on this machine, or None; never fetch."""
    return locate_here(lookup(name))


def _place(dataset: str | os.PathLike, path: str | os.PathLike | None) -> Path:
    """Return where a file of one's own is: as named, or at another path."""
    if path is None:
        return existing(dataset, "dataset")
    place = existing(path, "path=")
    return place / Path(dataset).name if place.is_dir() else place


def _refuse_path(path: str | os.PathLike | None) -> None:
    if path is not None:
        raise DataError(f"planted is generated and takes no path, found path={os.fspath(path)!r}.")
