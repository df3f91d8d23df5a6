"""What is known about each MovieLens dataset before it is read: names, hashes, shapes, licences.

Where the hashes come from:

* archives: md5, published by GroupLens as `<name>.zip.md5` beside each archive;
* `ml-latest-small`: GroupLens publishes no frozen hash; sha256 of the 9/2018 generation as recorded
  by TensorFlow Datasets (`url_checksums/movielens.txt`);
* bare `u.data` and `ratings.dat` (ML-1M): md5 recorded by the public data loaders of several
  recommender libraries;
* RecBole's wheel: sha256 listed by the package index for recbole 1.2.1.

The shapes (ratings, users, rated items) are those of GroupLens' own descriptions.
"""

from __future__ import annotations

from dataclasses import dataclass

from ss4rec_lib.data.errors import UnknownDatasetError

PLANTED = "planted"
"""The generated dataset: it has no file and therefore no entry in `CATALOGUE`."""

CITATION = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems 5(4), article 19. "
    "https://doi.org/10.1145/2827872"
)


@dataclass(frozen=True)
class Wheel:
    """A Python wheel that carries a copy of a dataset; fetched as a file, never installed.

    Attributes:
        requirement: what `pip download` is asked for.
        file_name: name of the wheel.
        hash: `sha256:` and the hex digest of the wheel.
        ratings: member that holds the ratings (RecBole `.inter`).
        items: member that holds the items (RecBole `.item`).
    """

    requirement: str
    file_name: str
    hash: str
    ratings: str
    items: str


@dataclass(frozen=True)
class Dataset:
    """One MovieLens dataset.

    Attributes:
        name: name used everywhere in this library, and stem of the official archive.
        folder: top folder inside the official archive.
        ratings: file name of the ratings inside that folder.
        items: file name of the items inside that folder.
        n_ratings: number of ratings of the official file.
        n_users: number of users with a rating.
        n_items: number of items with a rating.
        archive_hash: `algorithm:digest` of the official archive.
        readme: file name of GroupLens' licence and description.
        ratings_md5: md5 of the bare ratings file, where one is known.
        wheel: a Python wheel that carries a copy, where there is one.
    """

    name: str
    folder: str
    ratings: str
    items: str
    n_ratings: int
    n_users: int
    n_items: int
    archive_hash: str
    readme: str
    ratings_md5: str | None = None
    wheel: Wheel | None = None

    @property
    def archive(self) -> str:
        """File name of the official archive."""
        return f"{self.name}.zip"

    @property
    def variable(self) -> str:
        """Environment variable that names a local copy, such as `SS4REC_ML_1M`."""
        return "SS4REC_" + self.name.upper().replace("-", "_")

    @property
    def licence(self) -> str:
        """Address of GroupLens' licence for this dataset."""
        return f"https://files.grouplens.org/datasets/movielens/{self.readme}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of ratings, users and rated items of the official file."""
        return self.n_ratings, self.n_users, self.n_items


RECBOLE_WHEEL = Wheel(
    requirement="recbole==1.2.1",
    file_name="recbole-1.2.1-py3-none-any.whl",
    hash="sha256:9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    ratings="recbole/dataset_example/ml-100k/ml-100k.inter",
    items="recbole/dataset_example/ml-100k/ml-100k.item",
)

_ENTRIES = (
    Dataset(
        name="ml-100k",
        folder="ml-100k",
        ratings="u.data",
        items="u.item",
        n_ratings=100_000,
        n_users=943,
        n_items=1_682,
        archive_hash="md5:0e33842e24a9c977be4e0107933c0723",
        readme="ml-100k-README.txt",
        ratings_md5="6e47046882bad158b0efbb84cd5cb987",
        wheel=RECBOLE_WHEEL,
    ),
    Dataset(
        name="ml-1m",
        folder="ml-1m",
        ratings="ratings.dat",
        items="movies.dat",
        n_ratings=1_000_209,
        n_users=6_040,
        n_items=3_706,
        archive_hash="md5:c4d9eecfca2ab87c1945afe126590906",
        readme="ml-1m-README.txt",
        ratings_md5="a89aa3591bc97d6d4e0c89459ff39362",
    ),
    Dataset(
        name="ml-latest-small",
        folder="ml-latest-small",
        ratings="ratings.csv",
        items="movies.csv",
        n_ratings=100_836,
        n_users=610,
        n_items=9_724,
        archive_hash="sha256:696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
        readme="ml-latest-small-README.html",
    ),
    Dataset(
        name="ml-10m",
        folder="ml-10M100K",
        ratings="ratings.dat",
        items="movies.dat",
        n_ratings=10_000_054,
        n_users=69_878,
        n_items=10_677,
        archive_hash="md5:ce571fd55effeba0271552578f2648bd",
        readme="ml-10m-README.html",
    ),
    Dataset(
        name="ml-20m",
        folder="ml-20m",
        ratings="ratings.csv",
        items="movies.csv",
        n_ratings=20_000_263,
        n_users=138_493,
        n_items=26_744,
        archive_hash="md5:cd245b17a1ae2cc31bb14903e1204af3",
        readme="ml-20m-README.html",
    ),
    Dataset(
        name="ml-25m",
        folder="ml-25m",
        ratings="ratings.csv",
        items="movies.csv",
        n_ratings=25_000_095,
        n_users=162_541,
        n_items=59_047,
        archive_hash="md5:6b51fb2759a8657d3bfcbfc42b592ada",
        readme="ml-25m-README.html",
    ),
    Dataset(
        name="ml-32m",
        folder="ml-32m",
        ratings="ratings.csv",
        items="movies.csv",
        n_ratings=32_000_204,
        n_users=200_948,
        n_items=84_432,
        archive_hash="md5:d472be332d4daa821edc399621853b57",
        readme="ml-32m-README.html",
    ),
)

CATALOGUE: dict[str, Dataset] = {entry.name: entry for entry in _ENTRIES}
"""Every dataset that lives in files, by name."""

DATASETS: tuple[str, ...] = (*CATALOGUE, PLANTED)
"""Every name `load_movielens` accepts."""


def lookup(name: str) -> Dataset:
    """The entry of a dataset that lives in files.

    Args:
        name: one of `CATALOGUE`.

    Returns:
        Its entry.

    Raises:
        UnknownDatasetError: no such dataset; suggests the nearest name.
    """
    entry = CATALOGUE.get(name) if isinstance(name, str) else None
    if entry is None:
        raise UnknownDatasetError.for_name(name, DATASETS)
    return entry
