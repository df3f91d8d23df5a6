"""Reading MovieLens items files: titles, years and genres.

Titles are stored for sorting ("Matrix, The (1999)") and returned for reading ("The Matrix", 1999).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from functools import partial

import pandas as pd

from ss4rec_lib.data.parsing import DataFile
from ss4rec_lib.data.validation import DataError, require_columns

# Meaning of the 19 flags at the end of a line of `u.item`, in order (`u.genre`).
U_ITEM_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
NO_GENRE = {"(no genres listed)", "unknown", ""}

_ARTICLES = (
    "The|A|An|Le|La|Les|L'|Un|Une|Des|Il|Lo|I|Gli|Uno|Una|El|Los|Las|"
    "Der|Die|Das|Den|Ein|Eine|Det|De|En|Ett|Et|Het|O|Os|Um|Uma"
)
# "Title, Article", maybe after "a.k.a."; a typographic apostrophe counts as one.
_INVERTED = re.compile(rf"((?:a\.?k\.?a\.?:? +)?)(.+), ({_ARTICLES}|L\u2019)", re.IGNORECASE)
# The last bracketed year: "2010 (The Year We Make Contact) (1984)", "... (1998) (V)".
_YEAR = re.compile(
    r"(?P<before>.*\S.*)\((?P<year>\d{4})(?:\s*[-\u2013]\s*(?:\d{4})?)?\)(?P<after>.*)"
)
_BRACKETS_AT_END = re.compile(r"(?P<title>.*?)(?P<brackets>(?:\s*\([^()]*\))*)\s*", re.DOTALL)
_UNKNOWN_TITLES = {"unknown", "unkonwn"}  # the second is a slip in RecBole's copy


def read_items(file: DataFile) -> pd.DataFrame:
    """Read `u.item`, `movies.dat`, `movies.csv` or RecBole's `.item`.

    Return the index `item_id` (int32) and the columns `title` (articles in front, without the
    year), `year` (Int64, missing where the file has none) and `genres` (list of str), in the file's
    order.
    """
    with file.open() as stream:
        content = stream.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # ML-100K and ML-1M; ML-10M is UTF-8 already
    rows: dict[int, tuple[str, int | None, list[str]]] = {}
    numbered, take_apart = _records(file, text)
    for number, fields in numbered:
        try:
            text_id, raw_title, raw_year, genres = take_apart(fields)
            item = int(text_id)
        except ValueError as error:
            raise DataError(
                f"{file.label}, line {number}: {str(fields)[:80]} is not an item ({error}); "
                "expected an id, a title and genres."
            ) from error
        if item in rows:
            raise DataError(f"{file.label}, line {number}: item {item} is there twice.")
        title, year = split_title(raw_title)
        if year is None and (match := re.search(r"\d{4}", raw_year)):
            year = int(match.group())
        rows[item] = (title, year, [genre for genre in genres if genre not in NO_GENRE])
    if not rows:
        raise DataError(f"{file.label} has no items; expected one per line.")
    titles, years, genres = zip(*rows.values(), strict=True)
    columns = {"title": pd.Series(titles, dtype="str"), "year": pd.array(years, dtype="Int64")}
    columns["genres"] = pd.Series(list(genres), dtype=object)
    return pd.DataFrame(columns).set_index(pd.Index(list(rows), dtype="int32", name="item_id"))


def split_title(raw: str) -> tuple[str, int | None]:
    """Return a title as it is read aloud, and its year (None where there is none).

    `"City of Lost Children, The (Cité des enfants perdus, La) (1995)"` gives `("The City of Lost
    Children (La Cité des enfants perdus)", 1995)`.
    """
    text = " ".join(raw.split())
    if text.lower() in _UNKNOWN_TITLES:
        return "unknown", None
    year = None
    if match := _YEAR.fullmatch(text):
        year = int(match["year"])
        text = " ".join(f"{match['before']} {match['after']}".split())
    found = _BRACKETS_AT_END.fullmatch(text)
    assert found is not None  # every part may be empty
    title = _upright(found["title"].strip())
    brackets = [_upright(inner.strip()) for inner in re.findall(r"\(([^()]*)\)", found["brackets"])]
    return " ".join([title, *(f"({inner})" for inner in brackets)]).strip(), year


def _upright(text: str) -> str:
    """Turn `"Matrix, The"` into `"The Matrix"`; other text is unchanged."""
    if not (match := _INVERTED.fullmatch(text)):
        return text
    also_known, title, article = match.groups()
    space = "" if article.endswith(("'", "\u2019")) else " "
    return f"{also_known}{article}{space}{title}"


Item = tuple[str, str, str, list[str]]  # id, title, year, genres
Records = Iterator[tuple[int, list[str]]]  # number and fields of each line


def _records(file: DataFile, text: str) -> tuple[Records, Callable[[list[str]], Item]]:
    """Return the lines of a file in fields, and the function that makes an item of them."""
    # Not splitlines(): that also ends a line at characters a title may hold, such as latin-1 0x85.
    lines = text.replace("\r\n", "\n").split("\n")
    is_csv, is_dat = file.name.endswith(".csv"), file.name.endswith(".dat")
    separator = "::" if is_dat else "|" if file.name == "u.item" else "\t"
    rows = csv.reader(lines) if is_csv else (line.split(separator) for line in lines)
    numbered = ((n, fields) for n, fields in enumerate(rows, start=1) if "".join(fields).strip())
    if is_dat:
        return numbered, _movies_dat
    if file.name == "u.item":
        return numbered, _u_item
    recbole = ["item_id", "movie_title", "class", "release_year"]
    wanted = ["movieId", "title", "genres"] if is_csv else recbole
    names = [name.partition(":")[0] for name in next(numbered, (1, []))[1]]
    require_columns(names, wanted, file.label)
    return numbered, partial(_of_columns, names, wanted, "|" if is_csv else " ")


def _of_columns(names: list[str], wanted: list[str], separator: str, fields: list[str]) -> Item:
    row = dict(zip(names, fields, strict=True))
    item, title, genres, *year = (row[name] for name in wanted)
    return item, title, "".join(year), genres.split(separator)


def _u_item(fields: list[str]) -> Item:
    item, title, released, _, _, *flags = fields
    genres = [genre for genre, flag in zip(U_ITEM_GENRES, flags, strict=True) if flag == "1"]
    return item, title, released, genres


def _movies_dat(fields: list[str]) -> Item:
    item, *title, genres = fields
    if not title:
        raise ValueError("fewer than 3 fields separated by ::")
    return item, "::".join(title), "", genres.split("|")
