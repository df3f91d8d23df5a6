"""The page on float32 timestamps: its check finds the fault, and its figures are marked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tools.float32_page import figures

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "float32.md").read_text(encoding="utf-8")
BACK, WITHIN, TIED = "back in time", "within one float32 step", "tied"


@pytest.fixture(scope="module")
def check_order():
    """Return the function as the page prints it."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(code.splitlines()) <= 10
    names: dict = {}
    exec(code, names)
    return names["check_order"]


@pytest.fixture(scope="module")
def file() -> pd.DataFrame:
    """Return ratings of 2001 with gaps of seconds, ties, and rows in an order of their own."""
    rng = np.random.default_rng(0)
    times = 996_000_000 + np.cumsum(rng.integers(0, 40, size=(20, 50)), axis=1)
    users, items = np.repeat(np.arange(20), 50), np.tile(np.arange(50), 20)
    table = pd.DataFrame({"user_id": users, "item_id": items, "timestamp": times.ravel()})
    return table.iloc[rng.permutation(len(table))]


def ordered(file: pd.DataFrame, by: pd.Series) -> pd.DataFrame:
    rows = file.assign(by=by).sort_values(["user_id", "by"], kind="stable")
    return rows[["user_id", "item_id"]]


def test_histories_in_order_of_time_pass_and_ties_are_counted(check_order, file):
    found = check_order(file, ordered(file, file["timestamp"]))
    gaps = file.sort_values(["user_id", "timestamp"]).groupby("user_id")["timestamp"].diff()
    assert found == {BACK: 0, WITHIN: 0, TIED: (gaps == 0).sum()} and found[TIED] > 0


def test_a_sort_by_float32_is_found(check_order, file):
    found = check_order(file, ordered(file, file["timestamp"].astype("float32")))
    assert found[BACK] == found[WITHIN] > 100


def test_another_order_is_not_taken_for_float32(check_order, file):
    by = pd.Series(np.random.default_rng(1).random(len(file)), index=file.index)
    found = check_order(file, ordered(file, by))
    assert 0 < found[WITHIN] < found[BACK]


def test_a_table_that_does_not_fit_the_file_is_refused(check_order, file):
    used = ordered(file, file["timestamp"])
    with pytest.raises(pd.errors.MergeError):
        check_order(file, pd.concat([used, used.iloc[:1]]))
    with pytest.raises(ValueError, match="NA"):
        check_order(file[file["item_id"] != 7], used)


def test_the_order_of_recbole_itself_is_found(check_order):
    folder = ROOT / "tests" / "fixtures" / "recbole"
    file = pd.read_csv(folder / "generated.inter", sep="\t")
    file.columns = [name.partition(":")[0] for name in file.columns]
    file = file.drop_duplicates(["user_id", "item_id"], keep=False)
    answers = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    once = set(zip(file["user_id"], file["item_id"], strict=True))
    rows = [
        (int(user), item)
        for user, each in answers["file_order"]["test"].items()
        for item in [*each["history"], each["target"]]
        if (int(user), item) in once  # some items were rated twice
    ]
    found = check_order(file, pd.DataFrame(rows, columns=["user_id", "item_id"]))
    assert found[BACK] == found[WITHIN] > 0


def test_every_figure_is_marked_and_every_mark_is_a_figure():
    marks = re.findall(r"<!-- (\w+) -->", PAGE)
    assert sorted(set(marks)) == sorted(figures(ROOT / "results"))
    # A comment that begins a line ends the paragraph, except above and below a table.
    assert re.findall(r"^<!-- \w+ -->.+$", PAGE, re.MULTILINE) == []
