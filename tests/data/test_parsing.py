"""Every family of ratings and items files, and the line number of what is wrong in one."""

from __future__ import annotations

import gzip
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ss4rec_lib.data import parsing
from ss4rec_lib.data import validation as errors
from ss4rec_lib.data.items import U_ITEM_GENRES, read_items, split_title
from ss4rec_lib.data.parsing import DataFile, read_ratings

ROWS = [(196, 242, 3.0, 881_250_949), (1, 9, 3.5, 5), (1, 7, 0.5, 5), (2, 9, 5.0, 978_300_760)]
CSV_HEADER = "userId,movieId,rating,timestamp\n"


def lines(separator: str, rows=ROWS) -> str:
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


def write(folder: Path, name: str, text: str | bytes) -> DataFile:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return DataFile(folder / name)


FAMILIES = {
    "u.data": lines("\t"),
    "ratings.dat": lines("::"),
    "ratings.csv": CSV_HEADER + lines(","),
    "ml-1m.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + lines("\t"),
    "any name tab": lines("\t"),
    "any name colons": lines("::"),
    "any name csv": CSV_HEADER + lines(","),
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_gives_the_rows_in_file_order(tmp_path: Path, name: str, newline: str) -> None:
    ratings = read_ratings(write(tmp_path, name, FAMILIES[name].replace("\n", newline)))
    assert list(ratings.itertuples(index=False, name=None)) == ROWS
    assert ratings.dtypes.astype(str).tolist() == ["int32", "int32", "float32", "int64"]
    assert ratings.index.equals(pd.RangeIndex(len(ROWS)))


@pytest.mark.parametrize("name", list(FAMILIES)[:4])
def test_compressed_and_zipped_files_read_the_same(tmp_path: Path, name: str) -> None:
    content = FAMILIES[name].encode()
    plain = read_ratings(write(tmp_path, name, content))
    for suffix, pack in ((".gz", gzip.compress), (".xz", lzma.compress)):
        packed = read_ratings(write(tmp_path, name + suffix, pack(content)))
        pd.testing.assert_frame_equal(packed, plain)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/" + name, content)
    zipped = read_ratings(DataFile(tmp_path / "a.zip", "folder/" + name))
    pd.testing.assert_frame_equal(zipped, plain)


def test_blocks_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = [(int(u), i, i % 10 / 2, 10**9 + i) for i, u in enumerate(rng.integers(1, 50, 1000))]
    file = write(tmp_path, "ratings.dat", lines("::", rows))
    monkeypatch.setattr(parsing, "BLOCK_ROWS", 7)
    assert list(read_ratings(file).itertuples(index=False, name=None)) == rows


def test_csv_columns_in_any_order_with_others_a_byte_order_mark_and_quotes(tmp_path: Path) -> None:
    text = '\ufefftimestamp,title,"rating",movieId,userId\n7,"Crow, The",3.5,2,1\n8,,4,3,"1"\n'
    ratings = read_ratings(write(tmp_path, "ratings.csv", text))
    assert ratings.to_numpy().tolist() == [[1, 2, 3.5, 7], [1, 3, 4, 8]]


def test_whole_float_timestamps_of_recbole_are_exact(tmp_path: Path) -> None:
    text = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t881250949.0\n"
    assert read_ratings(write(tmp_path, "x.inter", text))["timestamp"].tolist() == [881_250_949]


GOOD = "1::2::3.5::10\n"
BAD_LINES = {
    "too few fields": "1::2::3",
    "too many fields": "1::2::3::4::5",
    "text between the colons": "1:x:2::3::4",
    "one colon": "1:2:3:4",
    "words": "not a rating",
    "no user": "::2::3::4",
    "no timestamp": "1::2::3::",
    "negative id": "-1::2::3::4",
    "fraction of an id": "1.5::2::3::4",
    "id beyond 32 bits": "99999999999::2::3::4",
    "id beyond 64 bits": "9999999999999999999999::2::3::4",
    "NaN": "1::2::nan::4",
    "infinite": "1::2::inf::4",
    "overflowing": "1::2::1e99::4",
    "fraction of a second": "1::2::3::4.5",
    "quotation mark": '1::"2::3::4',
    "NUL": "1::2\x00::3::4",
    "undecodable": b"\xff\xfe::2::3::4",
}


@pytest.mark.parametrize("place", [1, 2, 1500])
@pytest.mark.parametrize("fault", BAD_LINES)
def test_a_bad_line_is_named_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, place: int
) -> None:
    monkeypatch.setattr(parsing, "BLOCK_ROWS", 1000)
    bad = BAD_LINES[fault]
    bad = bad if isinstance(bad, bytes) else bad.encode()
    content = GOOD.encode() * (place - 1) + bad + b"\n" + GOOD.encode() * 3
    with pytest.raises(errors.DataError, match=rf"^ratings\.dat, line {place}: ") as caught:
        read_ratings(write(tmp_path, "ratings.dat", content))
    assert "expected user_id::item_id::rating::timestamp" in str(caught.value)


@pytest.mark.parametrize("place", [2, 3, 40])
@pytest.mark.parametrize(
    "bad", ["1,2,3", "1,2,3,4,5", "1,2,,4", "1,2,True,4", "a,2,3,4", '1,"2,3,4']
)
def test_a_bad_csv_line_is_named_counting_the_header(tmp_path: Path, bad: str, place: int) -> None:
    text = CSV_HEADER + "1,2,3,4\n" * (place - 2) + bad + "\n" + "1,2,3,4\n" * 3
    with pytest.raises(errors.DataError, match=rf"ratings\.csv, line {place}: "):
        read_ratings(write(tmp_path, "ratings.csv", text))


def test_a_bad_line_inside_an_archive_names_archive_and_member(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ml-1m.zip", "w") as archive:
        archive.writestr("ml-1m/ratings.dat", GOOD + "broken\n")
    with pytest.raises(errors.DataError, match=r"ml-1m.zip:ml-1m/ratings.dat, line 2: 'bro"):
        read_ratings(DataFile(tmp_path / "ml-1m.zip", "ml-1m/ratings.dat"))


def test_a_long_bad_line_is_shortened(tmp_path: Path) -> None:
    with pytest.raises(errors.DataError) as caught:
        read_ratings(write(tmp_path, "ratings.dat", GOOD + "x" * 10_000))
    assert "x" * 70 in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["", "\n", "hello\n"])
def test_a_file_of_no_family_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(errors.DataError, match="line 1"):
        read_ratings(write(tmp_path, "ratings.txt", text))


def test_a_header_without_ratings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.DataError, match="no ratings"):
        read_ratings(write(tmp_path, "ratings.csv", CSV_HEADER))


def test_a_missing_column_is_named_with_those_found_and_expected(tmp_path: Path) -> None:
    file = write(tmp_path, "ratings.csv", "userId,rating,timestamp,tag\n1,2,3,x\n")
    with pytest.raises(errors.DataError, match="movieId") as caught:
        read_ratings(file)
    assert "item_id" in str(caught.value)
    assert "found: userId, rating, timestamp, tag" in str(caught.value)
    file = write(tmp_path, "a.inter", "user_id:token\titem_id:token\n1\t2\n")
    with pytest.raises(errors.DataError, match=r"rating.*found: user_id:token, item_id:token"):
        read_ratings(file)


def big_zip(folder: Path) -> Path:
    path = folder / "ml-1m.zip"
    rows = [(u, i, 3, u * i) for u in range(1, 100) for i in range(1, 100)]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml-1m/ratings.dat", lines("::", rows))
    return path


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_zip_is_corrupt(tmp_path: Path, share: float) -> None:
    path = big_zip(tmp_path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(errors.DataError, match=r"ml-1m.zip"):
        read_ratings(DataFile(path, "ml-1m/ratings.dat"))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_with_a_damaged_byte_is_corrupt_although_every_line_parses(
    tmp_path: Path, method: int
) -> None:
    path = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("ml-1m/ratings.dat", "1::2::3::1234567\n")
    content = bytearray(path.read_bytes())
    at = 30 + len("ml-1m/ratings.dat") + 6  # within the member's data: a digit when stored
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(errors.DataError, match=r"ml-1m.zip:ml-1m/ratings.dat"):
        read_ratings(DataFile(path, "ml-1m/ratings.dat"))


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
@pytest.mark.parametrize("keep", [0.6, 0.99])
def test_a_truncated_compressed_file_is_corrupt(
    tmp_path: Path, suffix: str, pack, keep: float
) -> None:
    rows = [(u, i, 3, u * i) for u in range(1, 100) for i in range(1, 100)]
    content = pack(lines("::", rows).encode())
    file = write(tmp_path, "ratings.dat" + suffix, content[: int(keep * len(content))])
    with pytest.raises(errors.DataError, match=f"ratings.dat{suffix}"):
        read_ratings(file)


def test_a_file_that_is_not_compressed_at_all_is_corrupt(tmp_path: Path) -> None:
    for suffix in (".gz", ".xz"):
        with pytest.raises(errors.DataError, match=f"ratings.dat{suffix}"):
            read_ratings(write(tmp_path, "ratings.dat" + suffix, lines("::")))


@pytest.mark.parametrize(
    ("raw", "title", "year"),
    [
        ("Toy Story (1995)", "Toy Story", 1995),
        ("Matrix, The (1999)", "The Matrix", 1999),
        ("Fish Called Wanda, A (1988)", "A Fish Called Wanda", 1988),
        ("American in Paris, An (1951)", "An American in Paris", 1951),
        ("Misérables, Les (1995)", "Les Misérables", 1995),
        ("Avventura, L' (Adventure, The) (1960)", "L'Avventura (The Adventure)", 1960),
        ("Boot, Das (Boat, The) (1981)", "Das Boot (The Boat)", 1981),
        ("Vitelloni, I (1953)", "I Vitelloni", 1953),
        ("Good, the Bad and the Ugly, The (1966)", "The Good, the Bad and the Ugly", 1966),
        ("Good, The Bad and The Ugly, The (1966)", "The Good, The Bad and The Ugly", 1966),
        (
            "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
            "The City of Lost Children (La Cité des enfants perdus)",
            1995,
        ),
        ("Seven (a.k.a. Se7en) (1995)", "Seven (a.k.a. Se7en)", 1995),
        ("Fugue (a.k.a. Killer, The) (2001)", "Fugue (a.k.a. The Killer)", 2001),
        ("Two (One, The) (Drei, Die) (2001)", "Two (The One) (Die Drei)", 2001),
        ("Ciao, Professore! (Io speriamo) (1993)", "Ciao, Professore! (Io speriamo)", 1993),
        ("Paris, France (1993)", "Paris, France", 1993),
        ("Girl, Interrupted (1999)", "Girl, Interrupted", 1999),
        ("Corrina, Corrina (1994)", "Corrina, Corrina", 1994),
        (
            "White Balloon, The (Badkonake Sefid ) (1995)",
            "The White Balloon (Badkonake Sefid)",
            1995,
        ),
        ("Land Before Time III (1995) (V)", "Land Before Time III (V)", 1995),
        ("Death Note (2006–2007)", "Death Note", 2006),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("1984 (1956)", "1984", 1956),
        ("(500) Days of Summer (2009)", "(500) Days of Summer", 2009),
        ("Babylon 5", "Babylon 5", None),
        ("Matrix, The (1999) ", "The Matrix", 1999),
        ("unknown", "unknown", None),
        ("The Usual (nested (sub)) (1995)", "The Usual (nested (sub))", 1995),
        ("", "", None),
    ],
)
def test_titles_are_shown_as_they_are_read_aloud(raw: str, title: str, year: int | None) -> None:
    assert split_title(raw) == (title, year)


def u_item(item: int, title: str, released: str, *genres: str) -> str:
    flags = "|".join("1" if name in genres else "0" for name in U_ITEM_GENRES)
    return f"{item}|{title}|{released}||http://example/{item}|{flags}\n"


def test_u_item_is_latin_1_with_flags_for_genres(tmp_path: Path) -> None:
    text = (
        u_item(1, "Toy Story (1995)", "01-Jan-1995", "Animation", "Children's", "Comedy")
        + u_item(543, "Misérables, Les (1995)", "01-Jan-1995", "Drama")
        + u_item(9, "No Year", "04-Feb-1971", "unknown")
        + u_item(267, "unknown", "", "unknown")
    )
    items = read_items(write(tmp_path, "u.item", text.encode("latin-1")))
    assert items.index.name == "item_id"
    assert items.index.tolist() == [1, 543, 9, 267]
    assert items["title"].tolist() == ["Toy Story", "Les Misérables", "No Year", "unknown"]
    assert items["year"].dtype == "Int64"
    assert items["year"].tolist() == [1995, 1995, 1971, pd.NA]
    assert items["genres"].tolist() == [["Animation", "Children's", "Comedy"], ["Drama"], [], []]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_movies_dat_in_either_encoding(tmp_path: Path, encoding: str) -> None:
    text = "1::Cérémonie, La (1995)::Drama|Sci-Fi\n2::Odd :: One (2001)::(no genres listed)\n"
    items = read_items(write(tmp_path, "movies.dat", text.encode(encoding)))
    assert items["title"].tolist() == ["La Cérémonie", "Odd :: One"]
    assert items["genres"].tolist() == [["Drama", "Sci-Fi"], []]


def test_a_title_may_hold_characters_that_look_like_line_ends(tmp_path: Path) -> None:
    text = "1::Wait\x85 What (2001)::Drama\r\n2::B (2002)::War\r\n"
    items = read_items(write(tmp_path, "movies.dat", text.encode("latin-1")))
    assert items["title"].tolist() == ["Wait… What", "B"]
    assert items["genres"].tolist() == [["Drama"], ["War"]]


def test_movies_csv_with_quoted_titles(tmp_path: Path) -> None:
    text = (
        'movieId,title,genres\n1,"Matrix, The (1999)",Action|Sci-Fi\n'
        '2,"Say ""Hi"" (2000)",(no genres listed)\n5,Babylon 5,Sci-Fi\n'
    )
    items = read_items(write(tmp_path, "movies.csv", text))
    assert items["title"].tolist() == ["The Matrix", 'Say "Hi"', "Babylon 5"]
    assert items["year"].tolist() == [1999, 2000, pd.NA]
    assert items["genres"].tolist() == [["Action", "Sci-Fi"], [], ["Sci-Fi"]]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_movies_csv_with_other_separators_and_line_ends(tmp_path: Path, separator: str) -> None:
    text = "movieId,title,genres\r7,Café (1999),Action|Sci-Fi\r9,nan (2000),nan\r"
    content = text.replace(",", separator).encode("utf-16")
    items = read_items(write(tmp_path, "movies.csv", content))
    assert items["title"].to_dict() == {7: "Café", 9: "nan"}
    assert items["genres"].tolist() == [["Action", "Sci-Fi"], []]
    rows = (CSV_HEADER + lines(",")).replace("\n", "\r").replace(",", separator)
    ratings = read_ratings(write(tmp_path, "ratings.csv", rows.encode("utf-16")))
    assert list(ratings.itertuples(index=False, name=None)) == ROWS


def test_recbole_items(tmp_path: Path) -> None:
    text = (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "12\tUsual Suspects, The\t1995\tFilm-Noir Children's Sci-Fi\n"
        "267\tunkonwn\tunkonwn\tunknown\n"
        "1412\tLand Before Time III (1995)\tV\tAnimation\n"
    )
    items = read_items(write(tmp_path, "ml-100k.item", text))
    assert items["title"].tolist() == ["The Usual Suspects", "unknown", "Land Before Time III"]
    assert items["year"].tolist() == [1995, pd.NA, 1995]
    assert items["genres"].tolist() == [["Film-Noir", "Children's", "Sci-Fi"], [], ["Animation"]]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("u.item", u_item(1, "A (1990)", "") + "2|B|short\n", 2),
        ("movies.dat", "1::A (1990)::Drama\nrubbish\n", 2),
        ("movies.dat", "1::A (1990)::Drama\n1::B (1990)::Drama\n", 2),
        ("movies.dat", "x::A (1990)::Drama\n", 1),
        ("movies.csv", "movieId,title,genres\n1,A,Drama\n2,B\n", 3),
        (
            "a.item",
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n1\tA\n",
            2,
        ),
    ],
)
def test_a_bad_items_line_is_named(tmp_path: Path, name: str, text: str, line: int) -> None:
    with pytest.raises(errors.DataError, match=f"{name}, line {line}: "):
        read_items(write(tmp_path, name, text))


def test_items_without_a_column_or_without_rows(tmp_path: Path) -> None:
    with pytest.raises(errors.DataError, match=r"genres.*found: movieId, title"):
        read_items(write(tmp_path, "movies.csv", "movieId,title\n1,A\n"))
    with pytest.raises(errors.DataError, match="no items"):
        read_items(write(tmp_path, "movies.dat", ""))
