"""`load_movielens`, `load_items`, `fetch` and the catalogue."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pandas as pd
import pytest

import ss4rec_lib.data as data
from ss4rec_lib.data import download
from ss4rec_lib.data import validation as errors
from ss4rec_lib.data.datasets import CATALOGUE, DATASETS, lookup

FILES = {
    "ml-100k": ("u.data", "196\t242\t3\t881250949\n186\t302\t3\t891717742\n"),
    "ml-1m": ("ratings.dat", "1::1193::5::978300760\n1::661::3::978302109\n"),
    "ml-10m": ("ratings.dat", "1::122::5::838985046\n1::185::4.5::838983525\n"),
    "ml-latest-small": ("ratings.csv", "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n"),
    "ml-20m": ("ratings.csv", "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n"),
    "ml-25m": ("ratings.csv", "userId,movieId,rating,timestamp\n1,296,5.0,1147880044\n"),
    "ml-32m": ("ratings.csv", "userId,movieId,rating,timestamp\n1,17,4.0,944249077\n"),
}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, no variables of this machine, and no way out."""
    for dataset in CATALOGUE.values():
        monkeypatch.delenv(dataset.variable, raising=False)
    monkeypatch.setenv("SS4REC_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def refuse(*_: object) -> None:
        raise errors.DataError("no network in tests")

    monkeypatch.setattr(download, "_get", refuse)
    monkeypatch.setattr(download, "_pip_download", refuse)


def official(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path) -> Path:
    """An archive of the dataset's two-line file that the catalogue takes for the official one."""
    known = CATALOGUE[name]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / known.archive
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{known.folder or known.name}/{known.ratings}", FILES[name][1])
    digest = "md5:" + hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(CATALOGUE, name, dataclasses.replace(known, archive_hash=digest))
    return path


def test_names_and_variables() -> None:
    assert DATASETS == (
        "ml-100k",
        "ml-1m",
        "ml-latest-small",
        "ml-10m",
        "ml-20m",
        "ml-25m",
        "ml-32m",
        "planted",
    )
    assert lookup("ml-latest-small").variable == "SS4REC_ML_LATEST_SMALL"
    for dataset in CATALOGUE.values():
        algorithm, _, digest = dataset.archive_hash.partition(":")
        assert re.fullmatch("[0-9a-f]*", digest)
        assert len(digest) == 2 * hashlib.new(algorithm).digest_size


@pytest.mark.parametrize(
    ("name", "near"), [("ml1m", "ml-1m"), ("ML-100K", "ml-100k"), ("plantd", "planted")]
)
def test_an_unknown_name_gets_the_nearest_suggested(name: str, near: str) -> None:
    with pytest.raises(errors.DataError, match=f"{name!r}.*{near!r}") as caught:
        lookup(name)
    assert all(known in str(caught.value) for known in DATASETS)


@pytest.mark.parametrize("name", ["", "zzzzzzzz", None, 7, ["ml-1m"]])
def test_a_name_like_no_other_gets_the_list(name: object) -> None:
    with pytest.raises(errors.DataError, match="ml-100k, ml-1m"):
        lookup(name)


@pytest.mark.parametrize("name", FILES)
def test_every_dataset_loads_from_its_archive_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    official(monkeypatch, name, tmp_path / "cache" / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ratings = data.load_movielens(name)
    assert list(ratings.columns) == ["user_id", "item_id", "rating", "timestamp"]
    assert ratings.dtypes.astype(str).tolist() == ["int32", "int32", "float32", "int64"]
    assert {key: ratings.attrs[key] for key in ratings.attrs if key[0] != "_"} == {
        "dataset": name,
        "source": f"{name} from GroupLens' archive cache/{name}/{name}.zip (md5 verified)",
        "verified": True,
        "licence": CATALOGUE[name].licence,
    }


@pytest.mark.parametrize("name", FILES)
def test_every_dataset_loads_from_a_file_named_by_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file, text = FILES[name]
    (tmp_path / file).write_text(text)
    monkeypatch.setenv("SS4REC_" + name.upper().replace("-", "_"), str(tmp_path))
    with pytest.warns(data.DataWarning, match="md5"):
        ratings = data.load_movielens(name)
    assert ratings.attrs["verified"] is False
    assert str(tmp_path) not in ratings.attrs["source"], "records hold no folder of the machine"


def test_rows_come_in_the_files_own_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official(monkeypatch, "ml-100k", tmp_path / "cache" / "ml-100k")
    ratings = data.load_movielens("ml-100k")
    assert ratings.to_numpy().tolist() == [[196, 242, 3, 881250949], [186, 302, 3, 891717742]]
    assert ratings.index.equals(pd.RangeIndex(2))


def test_an_unofficial_file_says_how_it_differs(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text(FILES["ml-1m"][1])
    md5 = hashlib.md5(FILES["ml-1m"][1].encode()).hexdigest()
    with pytest.warns(data.DataWarning) as caught:
        data.load_movielens("ml-1m", path=tmp_path / "ratings.dat")
    (warning,) = caught
    message = str(warning.message)
    assert f"md5 {md5} differs from the official a89aa3591bc97d6d4e0c89459ff39362" in message
    assert "2 ratings, 1 users, 2 items, the official file 1,000,209 ratings" in message
    assert str(tmp_path) not in message
    assert warning.filename == __file__, "the warning points at the caller"


def test_a_file_that_cannot_be_verified_says_whether_its_counts_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dataclasses.replace(CATALOGUE["ml-25m"], shape=(1, 1, 1))
    monkeypatch.setitem(CATALOGUE, "ml-25m", known)
    folder = tmp_path / "cache" / "ml-25m"
    folder.mkdir(parents=True)
    (folder / "ratings.csv").write_text(FILES["ml-25m"][1])
    with pytest.warns(data.DataWarning, match="no md5.*official"):
        ratings = data.load_movielens("ml-25m")
    assert ratings.attrs["verified"] is False
    assert "placed in the cache by hand" in ratings.attrs["source"]


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        (
            "1::661::3::978302109000",
            errors.InvalidRatingsError,
            "ratings.dat: timestamp is 97.*millis",
        ),
        ("1::1193::4::978300760", errors.InvalidRatingsError, "ratings.dat.*978300760"),
        ("1::661::nan::978302109", errors.DataError, "ratings.dat, line 2: .*nan.*: rating"),
    ],
)
def test_values_no_ratings_file_may_hold(
    tmp_path: Path, line: str, error: type, message: str
) -> None:
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n" + line + "\n")
    with pytest.raises(error, match=message):
        data.load_movielens("ml-1m", path=tmp_path)


def test_nothing_anywhere_is_one_error_and_unknown_names_are_told_apart() -> None:
    with pytest.raises(errors.DataError, match="no network in tests"):
        data.load_movielens("ml-1m")
    for function in (data.load_movielens, data.load_items, data.fetch):
        with pytest.raises(errors.DataError, match=r"'ml20m'.*'ml-20m'"):
            function("ml20m")


def test_fetch_gives_the_file_that_will_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = official(monkeypatch, "ml-1m", tmp_path / "cache" / "ml-1m")
    assert data.fetch("ml-1m") == cached
    cached.write_bytes(b"damaged")
    with pytest.raises(errors.DataError, match=str(cached)):
        data.fetch("ml-1m")


def test_planted_needs_no_file() -> None:
    ratings = data.load_movielens("planted")
    items = data.load_items("planted")
    assert ratings.attrs["dataset"] == "planted"
    assert set(ratings["item_id"]) <= set(items.index)
    assert list(items.columns) == ["title", "year", "genres"]
    assert ratings.equals(data.validate_ratings(ratings))
    for function in (data.load_movielens, data.load_items):
        with pytest.raises(errors.DataError, match=r"planted.*'x'"):
            function("planted", path="x")
    with pytest.raises(errors.DataError, match="planted"):
        data.fetch("planted")


def test_items_come_with_the_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("ml-latest-small/ratings.csv", FILES["ml-latest-small"][1])
        text = 'movieId,title,genres\n1,"Matrix, The (1999)",Action\n'
        archive.writestr("ml-latest-small/movies.csv", text)
    items = data.load_items("ml-latest-small", path=tmp_path / "a.zip")
    assert items.loc[1].tolist() == ["The Matrix", 1999, ["Action"]]


@pytest.mark.network
def test_ml_100k_from_whatever_source_this_machine_reaches(tmp_path: Path) -> None:
    code = (
        "from ss4rec_lib.data import load_movielens; r = load_movielens('ml-100k'); "
        "print(len(r), r.iloc[0].tolist(), r.attrs['verified'])"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(download.__file__).parents[2]),
        "SS4REC_DATA": str(tmp_path),
    }
    for _ in range(2):  # from the network, then from the cache
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.stdout.strip() == "100000 [196.0, 242.0, 3.0, 881250949.0] True", done.stderr
