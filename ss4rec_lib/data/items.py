"""Reading MovieLens items files: titles, years and genres.

Titles are stored for sorting ("Matrix, The (1999)") and returned for reading ("The Matrix", 1999).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from ss4rec_lib.data.parsing import DataFile, Layout, detect_layout, records
from ss4rec_lib.data.validation import DataError

# Meaning of the 19 flags at the end of a line of `u.item`, in order (`u.genre`).
U_ITEM_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
NO_GENRE = {"(no genres listed)", "unknown", "", "nan"}

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


def read_items(file: DataFile, given: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read `u.item`, `movies.dat`, `movies.csv`, RecBole's `.item` or a table of one's own.

    Return the index `item_id` (int32) and the columns `title` (articles in front, without the
    year), `year` (Int64, missing where the file has none) and `genres` (list of str), in the file's
    order. Of a table of one's own, whose columns are `given` names or recognised, the ids are text,
    the titles as they are, and there are no years and genres.
    """
    layout, take_apart = _family(file, given)
    rows: dict[int | str, Any] = {}
    expected = len(layout.columns)
    for number, text, fields in records(file, layout):
        try:
            if "\0" in text:
                raise ValueError("NUL character")
            if layout.has_header and len(fields) != expected:
                hint = "text with a separator in it must be in quotation marks"
                raise ValueError(f"{len(fields)} fields instead of {expected}; {hint}")
            item, *values = take_apart(fields)
            if item in rows:
                raise ValueError(f"item {item} is there twice")
        except ValueError as error:
            raise DataError(
                f"{file.label}, line {number}: {text.strip()[:80]!r} is not an item ({error}); "
                "expected an id, a title and genres."
            ) from error
        rows[item] = values
    if not rows:
        raise DataError(f"{file.label} has no items; expected one per line.")
    return item_table(rows, "int32" if given is None else "str")


def item_table(rows: Mapping[Any, Any], dtype: str) -> pd.DataFrame:
    """Return the table of items with these titles, years and genres; `dtype` is of the ids."""
    titles, years, genres = zip(*rows.values(), strict=True) if rows else ((), (), ())
    columns = {"title": pd.Series(titles, dtype="str"), "year": pd.array(years, dtype="Int64")}
    columns["genres"] = pd.Series(list(genres), dtype=object)
    return pd.DataFrame(columns).set_index(pd.Index(list(rows), dtype=dtype, name="item_id"))


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


Item = tuple[int | str, str, int | None, list[str]]  # id, title, year, genres


def _family(
    file: DataFile, given: Mapping[str, str] | None
) -> tuple[Layout, Callable[[list[str]], Item]]:
    """Return the layout of a file, and the function that makes an item of a record's fields."""
    if given is None and file.name.endswith(".dat"):
        return Layout("::"), _movies_dat
    if given is None and file.name == "u.item":
        return Layout("|"), _u_item
    needed = ["item_id", "title"] if given is not None else ["item_id", "title", "genres"]
    layout = detect_layout(file, needed, given)
    between_genres = " " if file.name.endswith(".item") else "|"

    def of_columns(fields: list[str]) -> Item:
        row = dict(zip(layout.columns, fields, strict=True))
        item, title = row["item_id"].strip(), row["title"]
        if given is None:
            return _movie(item, title, row.get("year", ""), row["genres"].split(between_genres))
        if not item:
            raise ValueError("no id")
        return item, " ".join(title.split()), None, []

    return layout, of_columns


def _u_item(fields: list[str]) -> Item:
    if len(fields) != 5 + len(U_ITEM_GENRES):
        raise ValueError(f"{len(fields)} fields instead of {5 + len(U_ITEM_GENRES)}")
    item, title, released, _, _, *flags = fields
    genres = [genre for genre, flag in zip(U_ITEM_GENRES, flags, strict=True) if flag == "1"]
    return _movie(item, title, released, genres)


def _movies_dat(fields: list[str]) -> Item:
    item, *title, genres = fields
    if not title:
        raise ValueError("fewer than 3 fields separated by ::")
    return _movie(item, "::".join(title), "", genres.split("|"))


def _movie(item: str, raw_title: str, released: str, genres: list[str]) -> Item:
    title, year = split_title(raw_title)
    if year is None and (match := re.search(r"\d{4}", released)):
        year = int(match.group())
    return int(item), title, year, [genre for genre in genres if genre not in NO_GENRE]
