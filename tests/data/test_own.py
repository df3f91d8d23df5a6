"""Data of one's own: odd files are read with the right numbers, or refused with the true reason."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import lzma
import os
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from ss4rec_lib.data import (
    DataError,
    DataWarning,
    build_sequences,
    dataset_name,
    is_path,
    leave_one_out,
    load_dataset,
    load_items,
    parsing,
    random_holdout,
    train_ratings,
)

pytestmark = pytest.mark.filterwarnings("error::ResourceWarning")
T = 1_600_000_000  # 2020-09-13T12:26:40Z
HEADER = "user_id,item_id,rating,timestamp\n"
PLAIN = [("u1", "a", 3.5, T), ("u2", "b", 4.0, T + 5)]
UNRATED = [("u1", "a", None, T), ("u2", "b", None, T + 5)]
BODY = f"u1,a,3.5,{T}\nu2,b,4,{T + 5}\n"


def rows(ratings: pd.DataFrame) -> list[tuple]:
    if "rating" not in ratings:
        ratings = ratings.assign(rating=None)
    columns = (ratings[name].tolist() for name in ("user_id", "item_id", "rating", "timestamp"))
    return list(zip(*columns, strict=True))


def pack(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return stream.getvalue()


# By name of the file and what is odd about it: its content, and the rows that it holds.
ACCEPTED: dict[str, tuple[str | bytes, list[tuple]]] = {
    "plain.csv": (HEADER + BODY, PLAIN),
    "names of MovieLens.csv": ("userId,movieId,rating,timestamp\n" + BODY, PLAIN),
    "names of Amazon.csv": (
        f"rating,parent_asin,user_id,timestamp\n3.5,a,u1,{T}000\n4,b,u2,{T + 5}123\n",
        PLAIN,
    ),
    "movie_id.csv": ("user_id,movie_id,rating,timestamp\n" + BODY, PLAIN),
    "capitals and spaces.csv": ("User ID, Item ID, Stars, Time\n" + BODY, PLAIN),
    "others ignored.csv": (f"note,user,item,time\nnan,u1,a,{T}\n,u2,b,{T + 5}\n", UNRATED),
    "tabs in.csv": ((HEADER + BODY).replace(",", "\t"), PLAIN),
    "commas in.tsv": (HEADER + BODY, PLAIN),
    "semicolons.csv": ((HEADER + BODY).replace(",", ";"), PLAIN),
    "bars.txt": ((HEADER + BODY).replace(",", "|"), PLAIN),
    "colons.dat": (BODY.replace(",", "::"), PLAIN),
    "blanks.txt": ((HEADER + BODY).replace(",", " "), PLAIN),
    "decimal commas.csv": ((HEADER + BODY).replace(",", ";").replace("3.5", "3,5"), PLAIN),
    "quoted decimal commas.csv": ((HEADER + BODY).replace("3.5", '"3,5"'), PLAIN),
    "a space after each comma.csv": ((HEADER + BODY).replace(",", ", "), PLAIN),
    "a space before each comma.csv": ((HEADER + BODY).replace(",", " ,"), PLAIN),
    "spaces and quotes.csv": (HEADER + BODY.replace("u1,a", '"u1", "a"'), PLAIN),
    "carriage returns.csv": ((HEADER + BODY).replace("\n", "\r"), PLAIN),
    "both line ends.csv": ((HEADER + BODY).replace("\n", "\r\n"), PLAIN),
    "no last line end.csv": ((HEADER + BODY).strip(), PLAIN),
    "blank lines.csv": ((HEADER + BODY).replace("\n", "\n\n"), PLAIN),
    "byte-order mark.csv": ("\ufeff" + HEADER + BODY, PLAIN),
    "UTF-16.csv": ((HEADER + BODY).encode("utf-16"), PLAIN),
    "UTF-16 other order.csv": (
        codecs.BOM_UTF16_BE + (HEADER + BODY).encode("utf-16-be"),
        PLAIN,
    ),
    "UTF-16 tabs CRLF.txt": (
        (HEADER + BODY).replace(",", "\t").replace("\n", "\r\n").encode("utf-16"),
        PLAIN,
    ),
    "UTF-32.csv": ((HEADER + BODY).encode("utf-32"), PLAIN),
    "Windows-1252.csv": (
        (HEADER + BODY.replace("u1", "“é”")).encode("cp1252"),
        [("“é”", *PLAIN[0][1:]), PLAIN[1]],
    ),
    "RecBole.inter": (
        "user_id:token\titem_id:token\ttimestamp:float\n" + f"u1\ta\t{T}.0\nu2\tb\t{T + 5}\n",
        UNRATED,
    ),
    "no header three columns.csv": (f"u1,a,{T}\nu2,b,{T + 5}\n", UNRATED),
    "no header four columns.csv": (BODY, PLAIN),
    "no header decimal commas.csv": (BODY.replace(",", ";").replace("3.5", "3,5"), PLAIN),
    "microseconds.csv": (HEADER + BODY.replace(str(T), f"{T}000000").replace(
        str(T + 5), f"{T + 5}999999"), PLAIN),
    "nanoseconds.csv": (HEADER + BODY.replace(str(T), f"{T}000000000").replace(
        str(T + 5), f"{T + 5}000000000"), PLAIN),
    "fractions of a second.csv": (HEADER + BODY.replace(str(T), f"{T}.25"), PLAIN),
    "exponents.csv": (HEADER + BODY.replace(str(T), "1.6e9"), PLAIN),
    "dates with zone.csv": (
        HEADER + "u1,a,3.5,2020-09-13T14:26:40+02:00\nu2,b,4,2020-09-13 12:26:45.9Z\n",
        PLAIN,
    ),
    "dates without zone.csv": (
        HEADER + "u1,a,3.5,2020-09-13 12:26:40\nu2,b,4,2020-09-13T12:26:45\n",
        PLAIN,
    ),
    "days.csv": (
        HEADER + "u1,a,3.5,2020-09-13\nu2,b,4,2020-09-14\n",
        [("u1", "a", 3.5, 1_599_955_200), ("u2", "b", 4.0, 1_600_041_600)],
    ),
    "leading zeros.csv": (
        HEADER + f"1,007,3,{T}\n2,7,3,{T}\n10,8,3,{T}\n",
        [(1, "007", 3.0, T), (2, "7", 3.0, T), (10, "8", 3.0, T)],
    ),
    "signs and points.csv": (
        HEADER + f"+1,1.0,3,{T}\n1,1,3,{T}\n",
        [("+1", "1.0", 3.0, T), ("1", "1", 3.0, T)],
    ),
    "integers.csv": (
        HEADER + f"0,5,3,{T}\n7,{2**40},3,{T}\n",
        [(0, 5, 3.0, T), (7, 2**40, 3.0, T)],
    ),
    "beyond 64 bits.csv": (
        HEADER + f"1,{2**64},3,{T}\n2,1,3,{T}\n",
        [(1, str(2**64), 3.0, T), (2, "1", 3.0, T)],
    ),
    "text that is not missing.csv": (
        HEADER + f"nan,NA,3,{T}\nnull,None,3,{T}\nNone,-,3,{T}\n",
        [("nan", "NA", 3.0, T), ("null", "None", 3.0, T), ("None", "-", 3.0, T)],
    ),
    "quoted line break.csv": (
        f'note,user,item,time\n"two\nlines, really",u1,a,{T}\n"say ""hi""",u2,b,{T + 5}\n',
        UNRATED,
    ),
    "quoted commas.csv": (HEADER + BODY.replace("u1", '"u,1"'), [("u,1", *PLAIN[0][1:]), PLAIN[1]]),
    "quotes in tabs.tsv": (
        HEADER.replace(",", "\t") + f'"u1"\t"a"\t3.5\t{T}\n"u2"\t"b"\t4\t{T + 5}\n',
        PLAIN,
    ),
    "inches in tabs.tsv": (
        HEADER.replace(",", "\t") + f'"big" u\t5" pipe\t3.5\t{T}\nu2\tb\t4\t{T + 5}\n',
        [('"big" u', '5" pipe', 3.5, T), PLAIN[1]],
    ),
    "repeated header of no use.csv": (
        f"x,x,user_id,item_id,timestamp\n1,2,u1,a,{T}\n1,2,u2,b,{T + 5}\n",
        UNRATED,
    ),
    "compressed.csv.gz": (gzip.compress((HEADER + BODY).encode()), PLAIN),
    "compressed.csv.xz": (lzma.compress((HEADER + BODY).encode()), PLAIN),
    "one table.zip": (pack(readme__md=b"x", shop__csv=(HEADER + BODY).encode()), PLAIN),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::ss4rec_lib.data.DataWarning")
@pytest.mark.parametrize("name", ACCEPTED)
def test_an_odd_file_is_read_with_the_right_numbers(tmp_path: Path, name: str) -> None:
    content, expected = ACCEPTED[name]
    ratings = load_dataset(str(placed(tmp_path / name, content)))
    assert rows(ratings) == expected
    assert str(tmp_path) not in str(ratings.attrs), "records hold no folder of the machine"


# What the message must hold beside the name of the file.
REFUSED: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "empty.csv": ("", ("line 1", "user_id")),
    "blank.csv": ("\n\n", ("line 1",)),
    "header only.csv": (HEADER, ("no ratings",)),
    "not a table.txt": ("once upon a time\n", ("user_id", "once, upon")),
    "unknown names.csv": ("who,what,when\nu1,a,1\n", ("line 1", "who, what, when", "YAML")),
    "no item.csv": ("user_id,product,timestamp\nu1,a,1\n", ("item_id", "product", "asin")),
    "two items.csv": (f"user_id,asin,parent_asin,time\nu1,a,b,{T}\n", ("item_id", "asin", "2")),
    "two times.csv": (f"user,item,time,timestamp\nu1,a,{T},{T}\n", ("timestamp", "time", "2")),
    "same name twice.csv": (f"user,user,item,time\nu1,u1,a,{T}\n", ("user_id", "2")),
    "no header no time.csv": ("u1,a,5\nu2,b,4\n", ("line 1", "u1, a, 5", "header")),
    "no header rating last.csv": (f"u1,a,{T},5\nu2,b,{T},4\n", ("line 1", f"u1, a, {T}, 5")),
    "no header time later.csv": (f"u1,a,{T}\nu2,b,4\n", ("no header", "4")),
    "unquoted comma.csv": (
        f"user,item,time\nu1,a,{T}\nu1,Crow, The,{T}\n",
        ("line 3", "Crow, The"),
    ),
    "too few fields.csv": (HEADER + BODY + "u3,c\n", ("line 4", "u3,c")),
    "no user.csv": (HEADER + BODY + f",c,3,{T}\n", ("line 4", f",c,3,{T}", "user_id")),
    "blank item.csv": (HEADER + BODY + f"u3,  ,3,{T}\n", ("line 4", "item_id")),
    "no rating.csv": (HEADER + BODY + f"u3,c,,{T}\n", ("line 4", f"u3,c,,{T}")),
    "no time.csv": (HEADER + BODY + "u3,c,3,\n", ("line 4", "u3,c,3,")),
    "NaN rating.csv": (HEADER + BODY + f"u3,c,nan,{T}\n", ("line 4", "nan")),
    "infinite rating.csv": (HEADER + BODY + f"u3,c,1e99,{T}\n", ("line 4", "1e99")),
    "words for stars.csv": (HEADER + BODY + f"u3,c,five,{T}\n", ("line 4", "five")),
    "truth for stars.csv": (HEADER + f"u1,a,True,{T}\nu2,b,False,{T}\n", ("line 2", "True")),
    "both decimal marks.csv": (
        (HEADER + BODY).replace(",", ";").replace("3.5", "3,5").replace(";4;", ";4.5;"),
        ("line 3", "4.5"),
    ),
    "negative time.csv": (HEADER + BODY + "u3,c,3,-1\n", ("line 4", "-1")),
    "seconds and milliseconds.csv": (
        HEADER + f"u1,a,3,{T}\nu2,b,3,{T}000\n",
        (f"{T}", f"{T}000"),
    ),
    "year 3000 in milliseconds.csv": (HEADER + "u1,a,3,32503680000000\n", ("32503680000000",)),
    "dates without dashes.csv": (
        HEADER + "u1,a,3,20200913\nu2,b,3,20211231\n",
        ("20200913", "2021-03-04"),
    ),
    "dates and minutes without dashes.csv": (
        HEADER + "u1,a,3,202009131226\nu2,b,3,202112311159\n",
        ("202009131226",),
    ),
    "day or month first.csv": (HEADER + "u1,a,3,03/04/2021 10:00\n", ("03/04/2021", "2021-03-04")),
    "names of months.csv": (HEADER + 'u1,a,3,"Mar 4, 2021"\n', ("Mar 4, 2021", "2021-03-04")),
    "no such day.csv": (
        HEADER + "u1,a,3,2021-03-04\nu2,b,3,2021-02-30\n",
        ("line 3", "2021-02-30"),
    ),
    "today.csv": (HEADER + "u1,a,3,2021-03-04\nu2,b,3,today\n", ("line 3", "today")),
    "seconds among dates.csv": (HEADER + f"u1,a,3,2021-03-04\nu2,b,3,{T}\n", ("line 3", f"{T}")),
    "dates among seconds.csv": (HEADER + f"u1,a,3,{T}\nu2,b,3,2021-03-04\n", ("line 3", "2021-03")),
    "before 1970.csv": (HEADER + "u1,a,3,1969-12-31\n", ("line 2", "1969-12-31")),
    "duplicates.csv": (HEADER + BODY + BODY, ("u1", "a", f"{T}", "keep-first")),
    "NUL.csv": (HEADER + BODY + f"u\0,c,3,{T}\n", ("line 4", "NUL")),
    "UTF-16 without a mark.csv": ((HEADER + BODY).encode("utf-16-le"), ("line 1",)),
    "half a character.csv": ((HEADER + BODY).encode("utf-16")[:-1], ("utf-16",)),
    "unclosed quote.csv": (HEADER + BODY + f'"u3,c,3,{T}\n' + BODY, ("line 4", "quotation")),
    "long id.csv": (HEADER + BODY + "x" * 300 + f",c,3,{T}\n", ("line 4", "xxx", "255")),
    "not compressed.csv.gz": (HEADER + BODY, ("damaged",)),
    "two tables.zip": (pack(a__csv=b"x", b__csv=b"x"), ("a.csv, b.csv", ":a.csv")),
    "no table.zip": (pack(readme__md=b"x"), ("0 tables",)),
    "not really.parquet": (b"PAR1 and no more", ("arquet",)),
    "misspelt column.yaml": (
        "interactions: x.csv\ncolumns: {userid: who}\n",
        ("userid", "user_id"),
    ),
    "a list.yaml": ("- interactions\n", ("list",)),
    "broken.yaml": ("interactions: [\n", ("line 2",)),
    "misspelt.yaml": ("interactions: x.csv\nduplicate: refuse\n", ("duplicate", "duplicates")),
    "nothing there.yaml": ("interactions: missing.csv\n", ("missing.csv",)),
}


@pytest.mark.filterwarnings("ignore::ss4rec_lib.data.DataWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_an_odd_file_is_refused_with_the_true_reason(tmp_path: Path, name: str) -> None:
    content, words = REFUSED[name]
    path = placed(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        load_dataset(str(path))
    message = str(caught.value)
    for word in words if "missing.csv" in words else (name, *words):
        assert word in message, message


def write(folder: Path, **files: str | bytes) -> Path:
    """Write files whose names have __ for a dot, and return the path of the last one."""
    for name, content in files.items():
        path = placed(folder / name.replace("__", "."), content)
    return path


def placed(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


SHOP = "reviewer\tasin\twhen\n" + "".join(
    f"u{u}\tB0{(u * i) % 7}\t2020-09-1{i}T10:00:0{u}\n" for u in range(3) for i in range(5)
)
SHOP_YAML = """
name: grocery
interactions: shop.tsv.gz
columns: {user_id: reviewer, timestamp: when}
timestamp: iso
titles: {file: items.csv, item_id: asin, title: name}
source: generated, licence CC0
"""
TITLES = 'asin,price,name\nB00,1,"Tea, green"\nB01,2,Café\nB99,3,nan\n'


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write(
        tmp_path,
        items__csv=TITLES,
        shop__tsv__gz=gzip.compress(SHOP.encode()),
        shop__yaml=SHOP_YAML,
    )


def test_a_description_names_columns_titles_and_source(shop: Path, monkeypatch) -> None:
    ratings = load_dataset(shop)
    assert list(ratings.columns) == ["user_id", "item_id", "timestamp"]
    assert ratings["user_id"].cat.categories.tolist() == ["u0", "u1", "u2"]
    assert ratings["timestamp"][6] == 1_599_818_401 + 0 * 86_400
    attrs = {key: value for key, value in ratings.attrs.items() if key[0] != "_"}
    assert attrs == {
        "dataset": "grocery",
        "source": "shop.tsv.gz, times as ISO 8601 dates without a zone, taken as UTC",
        "verified": False,
        "licence": "generated, licence CC0",
    }
    assert dataset_name(shop) == "grocery"
    items = load_items(shop)
    assert items["title"].to_dict() == {"B00": "Tea, green", "B01": "Café", "B99": "nan"}
    assert items["year"].isna().all() and items["genres"].tolist() == [[], [], []]
    joined = ratings.join(items, on="item_id")
    assert joined["title"].notna().sum() == ratings["item_id"].isin(["B00", "B01"]).sum()
    monkeypatch.chdir(shop.parent)
    assert load_dataset("shop.yaml").equals(ratings)


def test_data_without_titles_have_an_empty_table_of_items(tmp_path: Path) -> None:
    for name, ids, dtype in (("a.csv", "ab", "str"), ("b.csv", "12", "int64")):
        path = tmp_path / name
        path.write_text(HEADER + f"1,{ids[0]},3,{T}\n2,{ids[1]},3,{T}\n")
        items = load_items(path)
        assert items.empty and list(items.columns) == ["title", "year", "genres"]
        assert items.index.dtype == dtype
        assert load_items(path, ratings=load_dataset(path)).equals(items)
        table = load_dataset(path).join(items, on="item_id")
        assert table["title"].isna().all()
        assert dataset_name(path) == name[0]


def test_titles_have_the_kind_of_ids_that_the_interactions_have(tmp_path: Path) -> None:
    description = "interactions: a.csv\ntitles: {file: t.csv}\n"
    titles = "item,title\n1,One\n007,Bond\n"
    path = write(tmp_path, t__csv=titles, a__csv=HEADER + f"1,1,3,{T}\n", a__yaml=description)
    with pytest.warns(DataWarning, match=r"t\.csv: 1 of 2.*'007'"):
        assert load_items(path)["title"].to_dict() == {1: "One"}
    write(tmp_path, a__csv=HEADER + f"1,1,3,{T}\n1,x,3,{T}\n")
    os.utime(tmp_path / "a.csv", ns=(1, 1))
    assert load_items(path)["title"].to_dict() == {"1": "One", "007": "Bond"}


ODD_TITLES: dict[str, tuple[str | bytes, dict | str]] = {
    "quoted line break": ('item,title\na,"two\nlines"\n', {"a": "two lines"}),
    "carriage returns": ("item,title\ra,One\rb,Two\r", {"a": "One", "b": "Two"}),
    "semicolons": ('item;title\na;"One; two"\nb;3,5\n', {"a": "One; two", "b": "3,5"}),
    "tabs": ('item\ttitle\na\t"Great" film\nb\t5" pipe\n', {"a": '"Great" film', "b": '5" pipe'}),
    "a space after each comma": ('item, title\na, "One, two"\n', {"a": "One, two"}),
    "UTF-16": ("item\ttitle\na\tCafé\n".encode("utf-16"), {"a": "Café"}),
    "mark": ("\ufeffitem,title\na,Café\n", {"a": "Café"}),
    "text that is not missing": ("item,title\nnan,NA\nnull,nan\n", {"nan": "NA", "null": "nan"}),
    "unquoted comma": ("item,title\na,Crow, The\n", "line 2.*Crow, The.*3 fields.*2.*quotation"),
    "missing field": ("item,title\na\n", "line 2.*1 fields"),
    "unclosed quote": ('item,title\nb,Two\na,"One\n', "line 3.*quot"),
    "twice": ("item,title\na,One\na,Two\n", "line 3.*item a"),
    "no id": ("item,title\n,One\n", "line 2.*no id"),
    "no column": ("item,label\na,One\n", r"title.*item, label"),
    "NUL": ("item,title\na,O\0ne\n", "line 2.*NUL"),
    "header only": ("item,title\n", "no items"),
    "empty": ("", "line 1"),
}


@pytest.mark.parametrize("name", ODD_TITLES)
def test_odd_titles_are_read_or_refused(tmp_path: Path, name: str) -> None:
    content, expected = ODD_TITLES[name]
    description = "interactions: a.csv\ntitles: {file: t.csv}\n"
    path = write(tmp_path, t__csv=content, a__csv=HEADER + BODY, a__yaml=description)
    if isinstance(expected, dict):
        assert load_items(path)["title"].to_dict() == expected
    else:
        with pytest.raises(DataError, match=f"(?s)t\\.csv.*{expected}"):
            load_items(path)


def test_lines_that_are_not_utf_8_are_counted_in_one_warning(tmp_path: Path) -> None:
    lines = ["item,title", "a,Café", *(f"i{n},“{n}” naïve" for n in range(300))]
    content = [line.encode("cp1252" if n in (7, 250) else "utf-8") for n, line in enumerate(lines)]
    files = {"a__csv": HEADER + BODY, "a__yaml": "interactions: a.csv\ntitles: {file: t.csv}\n"}
    path = write(tmp_path, t__csv=b"\n".join(content), **files)
    with pytest.warns(DataWarning, match=r"t\.csv: 2 line.*line 8, .i5,“5” naïve") as caught:
        titles = load_items(path)["title"]
    assert len(caught) == 1
    assert titles.tolist() == ["Café", *(f"“{n}” naïve" for n in range(300))]
    write(tmp_path, t__csv="\n".join(lines).encode("cp1252"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # all lines alike: nothing to say
        assert load_items(path)["title"].equals(titles)


def test_what_is_assumed_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, a__csv=BODY)
    with pytest.warns(DataWarning, match="no header.*user_id, item_id, rating, timestamp"):
        load_dataset(path)
    path = write(tmp_path, a__csv=HEADER + "a,b,3,1\na,c,3,2\n")
    with pytest.warns(DataWarning, match="end at 2"):
        assert load_dataset(path)["timestamp"].tolist() == [1, 2]
    for time, unit in ((f"{T}", "in s"), (f"{T}001", "in ms, cut"), (f"{T}000001", "in us, cut")):
        path = write(tmp_path, a__csv=HEADER + f"a,b,3,{time}\n")
        assert unit in load_dataset(path).attrs["source"]
    for time, cut in (("2021-03-04T10:00:00.5Z", True), ("2021-03-04T10:00:00.000Z", False)):
        path = write(tmp_path, a__csv=HEADER + f"a,b,3,{time}\n")
        assert ("cut to whole seconds" in load_dataset(path).attrs["source"]) == cut


@pytest.mark.parametrize(
    ("stated", "time"), [("ms", T), ("s", T * 1000), ("iso", T), ("s", "2021-03-04")]
)
def test_a_stated_unit_is_checked(tmp_path: Path, stated: str, time: object) -> None:
    text = f"interactions: a.csv\ntimestamp: {stated}\n"
    path = write(tmp_path, a__csv=HEADER + f"a,b,3,{time}\n", a__yaml=text)
    with pytest.raises(DataError, match=f"timestamp: {stated}.*{time}"):
        load_dataset(path)


@pytest.mark.parametrize(("policy", "stars"), [("keep-first", [3, 5]), ("keep-last", [5, 4])])
def test_duplicates_are_kept_as_described(tmp_path: Path, policy: str, stars: list) -> None:
    text = HEADER + f"a,b,3,{T}\na,c,5,{T}\na,b,4,{T}\n"
    path = write(tmp_path, a__csv=text, a__yaml=f"interactions: a.csv\nduplicates: {policy}\n")
    ratings = load_dataset(path)
    assert ratings["rating"].tolist() == stars
    assert "1 duplicate" in ratings.attrs["source"]
    with pytest.raises(DataError, match=r"duplicate.*keep-first"):
        load_dataset(tmp_path / "a.csv")


def test_data_larger_than_memory_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch
) -> None:
    text = HEADER + BODY * 1000
    monkeypatch.setattr(parsing, "available_memory", lambda: 100_000)
    for name, content in (
        ("a.csv", text.encode()),
        ("a.csv.gz", gzip.compress(text.encode())),
        ("a.zip", pack(a__csv=text.encode())),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=r"rows need about 0\.\d+ GB.*0\.00 GB"):
            load_dataset(tmp_path / name)
    monkeypatch.undo()
    assert parsing.available_memory() is None or parsing.available_memory() > 10**6


def test_a_member_of_an_archive_and_another_place_can_be_named(tmp_path: Path) -> None:
    content = pack(a__csv=(HEADER + BODY).encode(), b__csv=b"no table")
    path = write(tmp_path, shop__zip=content)
    ratings = load_dataset(f"{path}:a.csv")
    assert rows(ratings) == PLAIN
    with pytest.raises(DataError, match=r"shop\.zip:a\.csv"):
        load_dataset(path)
    moved = tmp_path / "moved"
    moved.mkdir()
    write(moved, shop__csv=HEADER + BODY)
    for place in (moved, moved / "shop.csv"):
        assert rows(load_dataset("elsewhere/shop.csv", path=place)) == PLAIN
    with pytest.raises(DataError, match=r"elsewhere/shop\.csv"):
        load_dataset("elsewhere/shop.csv")


def test_what_counts_as_a_path(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, planted="", plain=HEADER + BODY)
    paths = ("a.csv", "A.CSV.gz", "x.inter", "x.yml", "a.zip", "a.zip:b.csv", "dir/ml-1m", "plain")
    assert all(map(is_path, (*paths, Path("ml-1m"))))
    assert not any(map(is_path, ("ml-1m", "planted", "shop", "", None, 7, ["a.csv"])))
    assert rows(load_dataset("plain")) == PLAIN
    assert dataset_name("planted") == "planted"


def test_parquet_is_read_where_pyarrow_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"user": ["u1", "u2"], "asin": ["007", "b"]})
    table["date"] = pd.to_datetime([T, T + 5], unit="s", utc=True)
    table.to_parquet(tmp_path / "a.parquet")
    expected = [("u1", "007", None, T), ("u2", "b", None, T + 5)]
    assert rows(load_dataset(tmp_path / "a.parquet")) == expected


def test_text_ids_go_through_the_split_and_back(shop: Path) -> None:
    split = leave_one_out(load_dataset(shop), min_interactions=0)
    sequences = split.sequences
    assert sequences.user_ids.tolist() == ["u0", "u1", "u2"]
    assert sequences.item_ids.tolist() == ["", *sorted(set(sequences.item_ids[1:].tolist()))]
    assert sequences.user_index("u1") == 1 and sequences.item_index(["B00"]).tolist() == [1]
    table = load_dataset(shop)
    table["user_id"] = table["user_id"].cat.rename_categories({"u1": "17", "u2": "017"})
    numbered = build_sequences(table)
    assert numbered.user_ids[numbered.user_index(17)] == "17"
    assert not sequences.has_ratings and np.isnan(sequences.ratings).all()
    assert split.targets("test")["item_id"].tolist() == ["B00", "B04", "B01"]
    assert (
        split.fingerprint() == leave_one_out(load_dataset(shop), min_interactions=0).fingerprint()
    )
    for unknown in ("zzz", "", 7):
        with pytest.raises(DataError, match=f"{unknown!r}"):
            sequences.item_index(unknown)
    for needs_stars in (lambda: train_ratings(split), lambda: random_holdout(load_dataset(shop))):
        with pytest.raises(DataError, match="no ratings"):
            needs_stars()


@pytest.mark.parametrize(
    ("name", "near"), [("ml-2m", ["ml-20m", "ml-1m"]), ("shop.csw", []), ("", [])]
)
def test_a_name_that_is_no_path_gets_suggestions(name: str, near: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(name)
    assert all(word in str(caught.value) for word in (repr(name), *near))


# ------------------------------------------------------------------------------- mutations

EXAMPLES = int(os.environ.get("SS4REC_MUTATIONS", "150"))  # 5,000 take some minutes
BASE = HEADER + "".join(
    f"u{u},{'é' if i == 3 else 'i'}{i},{1 + i / 2},{T + 977 * u * i}\n"
    for u in (1, 2)
    for i in range(4)
)
BASE_TITLES = 'item,title\ni0,"Zero, the first"\né3,Amélie\ni1,One\n'
ALIASES = {"user_id": "userid user", "item_id": "itemid movieid item asin parentasin"} | {
    "rating": "rating stars score", "timestamp": "timestamp time unixreviewtime date"
}  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, text: str) -> bytes:
    """Bytes flipped or lost, lines cut, doubled or reordered, columns swapped."""
    content = text.encode()
    for kind in draw(
        st.lists(st.sampled_from("flip set lose cut line swap".split()), min_size=1, max_size=3)
    ):
        if not content:
            break
        at = draw(st.integers(0, len(content) - 1))
        lines = content.split(b"\n")
        if kind == "flip":
            bit = 1 << draw(st.integers(0, 7))
            content = content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]
        elif kind == "set":
            new = draw(st.sampled_from(b"\"\r\n\0,;\t.-e+ '0\xff\xe9:"))
            content = content[:at] + bytes([new]) + content[at + draw(st.integers(0, 1)) :]
        elif kind == "lose":
            content = content[:at] + content[at + draw(st.integers(1, 5)) :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "line":
            which = draw(st.integers(0, len(lines) - 1))
            lines[which : which + 1] = draw(
                st.sampled_from([[], [lines[which][:5]], [lines[which]] * 2])
            )
            content = b"\n".join(lines)
        else:
            first, second = draw(st.permutations(range(4)))[:2]
            begin = draw(st.integers(0, 1))  # 1: the header stays as it is
            for n in range(begin, len(lines)):
                fields = lines[n].split(b",")
                if max(first, second) < len(fields):
                    fields[first], fields[second] = fields[second], fields[first]
                    lines[n] = b",".join(fields)
            content = b"\n".join(lines)
    return content


def decoded(content: bytes) -> str:
    """Decode as UTF-8, and what is not UTF-8 as Windows-1252; every line ends in a line feed."""
    content, text = content.removeprefix(codecs.BOM_UTF8), ""
    while content:
        try:
            text, content = text + content.decode(), b""
        except UnicodeDecodeError as error:
            text += content[: error.start].decode()
            for byte in content[error.start : error.end]:
                defined = byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
                text += bytes([byte]).decode("cp1252" if defined else "latin-1")
            content = content[error.end :]
    return text.replace("\r\n", "\n").replace("\r", "\n")


def column_of(name: str) -> str | None:
    plain = re.sub(r"[\W_]", "", name.partition(":")[0]).lower()
    return next((ours for ours, names in ALIASES.items() if plain in names.split()), None)


def read_plainly(content: bytes) -> list[tuple]:
    """Return the rows of a ratings file with nothing but `csv`, `int` and `float`."""
    tables = {}
    for separator in ",\t;| ":
        stream = io.StringIO(decoded(content), newline="")
        reader = csv.reader(stream, delimiter=separator, skipinitialspace=separator in ",;")
        table = [[field.strip() for field in row] for row in reader]
        tables[separator] = [row for row in table if any(row)]
    names = {s: list(map(column_of, table[0])) for s, table in tables.items()}
    best = max(names, key=lambda s: len({*names[s]} - {None}))
    table = tables[best]
    if any(names[best]):
        columns = names[best]
        table = table[1:]
    else:
        four = ["user_id", "item_id", "rating", "timestamp"]
        table = next(t for t in tables.values() if len(t[0]) in (3, 4))
        columns = four if len(table[0]) == 4 else [*four[:2], four[3]]
    found = {name: [row[columns.index(name)] for row in table] for name in columns if name}
    for name in ("user_id", "item_id"):
        if all(re.fullmatch("0|[1-9][0-9]*", text) for text in found[name]):
            found[name] = list(map(int, found[name]))
    times = [float(text) for text in found["timestamp"]]
    unit = next(n for n in (1, 10**3, 10**6, 10**9) if max(times) < 10**11 * n)
    stars = [float(np.float32(t.replace(",", "."))) for t in found.get("rating", [])]
    seconds = [int(time // unit) for time in times]
    stars = stars or [None] * len(times)
    return list(zip(found["user_id"], found["item_id"], stars, seconds, strict=True))


@pytest.mark.filterwarnings("ignore::ss4rec_lib.data.DataWarning")
@settings(max_examples=EXAMPLES)
@given(content=mutated(BASE))
def test_a_mutated_file_of_interactions_is_read_rightly_or_refused(
    tmp_path_factory, content
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.csv"
    path.write_bytes(content)
    try:
        ratings = load_dataset(path)
    except DataError:
        return
    assert rows(ratings) == read_plainly(content)


@pytest.mark.filterwarnings("ignore::ss4rec_lib.data.DataWarning")
@settings(max_examples=EXAMPLES)
@given(content=mutated(BASE_TITLES))
def test_a_mutated_file_of_titles_is_read_rightly_or_refused(tmp_path_factory, content) -> None:
    folder = tmp_path_factory.getbasetemp()
    description = "interactions: base.csv\ntitles: {file: mutated.csv}\n"
    path = write(folder, base__csv=BASE, mutated__csv=content, base__yaml=description)
    try:
        titles = load_items(path)["title"].to_dict()
    except DataError:
        return
    readings = []
    for separator in ",\t;| ":
        stream = io.StringIO(decoded(content), newline="")
        reader = csv.reader(stream, delimiter=separator, skipinitialspace=separator in ",;")
        table = [row for row in reader if "".join(row).strip()]
        header = [re.sub(r"[\W_]", "", name.partition(":")[0]).lower() for name in table[0]]
        ids = [n for n, name in enumerate(header) if name in ALIASES["item_id"].split()]
        text = [n for n, name in enumerate(header) if name in ("title", "name", "movietitle")]
        if len(ids) == len(text) == 1 and all(len(row) == len(header) for row in table):
            readings.append(
                {row[ids[0]].strip(): " ".join(row[text[0]].split()) for row in table[1:]}
            )
    assert titles in readings


def is_read(content: bytes, folder) -> bool:
    path = folder / "mutated.csv"
    path.write_bytes(content)
    try:
        load_dataset(path)
    except DataError:
        return False
    return True


@pytest.mark.filterwarnings("ignore::ss4rec_lib.data.DataWarning")
def test_some_mutations_are_read_and_some_refused(tmp_path) -> None:
    """Without both the tests above would show little."""
    seek = settings(database=None)
    assert is_read(find(mutated(BASE), lambda c: c != BASE and is_read(c, tmp_path), settings=seek), tmp_path)
    assert not is_read(find(mutated(BASE), lambda c: not is_read(c, tmp_path), settings=seek), tmp_path)
