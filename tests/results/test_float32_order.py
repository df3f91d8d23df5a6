"""What float32 timestamps do to the order: the measured figures of lesson 01 and notebook 01b."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ss4rec_lib.experiments import load_records

RESULTS = Path(__file__).parents[2] / "results"
START = 1_000_000_000 // 64 * 64  # where a float32 step begins


@pytest.fixture(scope="module")
def script(import_script):
    """The module `float32_order`, which is a script and in no package."""
    return import_script("float32_order")


def table(*histories: list[tuple[int, int]]) -> pd.DataFrame:
    """Return ratings; a history is a list of film and seconds after `START`, in order of rows."""
    rows = [
        (user, film, 3.0, START + at)
        for user, history in enumerate(histories, start=1)
        for film, at in history
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])


@pytest.mark.parametrize(
    ("third", "share"),
    [
        pytest.param([(1, 9), (2, 5)], 1.0, id="same order of rows, whatever the times"),
        pytest.param([(2, 5), (1, 9)], 2 / 3, id="another order of rows"),
        pytest.param([(1, 5), (2, 500)], 1.0, id="another step"),
    ],
)
def test_agreement_is_the_share_of_users_with_the_usual_order(script, third, share):
    ratings = table([(1, 0), (2, 3)], [(1, 20), (2, 10)], third)
    assert script.agreement(ratings, min_users=2) == pytest.approx([share])
    assert len(script.agreement(ratings, min_users=4)) == 0


def test_shuffling_the_rows_removes_what_the_file_reveals(script):
    """Users rate ten of 40 films within one step; the rows are in the order of the film's id."""
    rng = np.random.default_rng(0)
    histories = []
    for _ in range(200):
        films, times = np.sort(rng.permutation(40)[:10]), rng.permutation(30)[:10]
        histories.append([(int(film), int(at)) for film, at in zip(films, times, strict=True)])
    found = script.measure(table(*histories), min_users=10, seeds=[0, 1])
    orders = found["orders"]
    assert orders["float32, file"]["agreement"] == 1
    assert orders["float32, shuffled"]["agreement"] < 0.75
    assert orders["float32, file"]["zero_intervals"] == 1
    assert orders["exact, file"]["zero_intervals"] == 0
    assert orders["exact, file"]["histories_kept"] == 1
    hr = {name: order["transitions_hr@10"] for name, order in orders.items()}
    gain = hr["float32, file"] - hr["float32, shuffled"]
    assert gain > 0.1, hr
    last = found["differences"][-1]
    assert (last["of"], last["minus"]) == ("float32, shuffled", "exact, shuffled")
    assert last["transitions_hr@10"] == pytest.approx(hr[last["of"]] - hr[last["minus"]])


def test_the_committed_figures_support_what_the_lesson_says():
    recorded = json.loads((RESULTS / "float32_order.json").read_text(encoding="utf-8"))
    assert recorded["dataset"] == "ml-1m" and recorded["shuffles"] >= 3
    by_pair = {(d["of"], d["minus"]): d for d in recorded["differences"]}
    with_file = by_pair["float32, file", "exact, file"]
    shuffled = by_pair["float32, shuffled", "exact, shuffled"]
    assert with_file["transitions_hr@10"] > 1.96 * with_file["se"]
    assert shuffled["transitions_hr@10"] < -1.96 * shuffled["se"]
    assert by_pair["exact, shuffled", "exact, file"]["transitions_hr@10"] < 0


def test_a_model_on_shuffled_rows_is_trained_as_one_in_the_order_of_the_file():
    """A data set of another name has other defaults, so a run may differ in more than its rows."""

    def options(record):
        incidental = {"backend", "seed", "device", "checkpoint_seconds"}
        parts = record["config"]["model"], record["config"].get("training", {})
        kept = [{key: part[key] for key in part.keys() - incidental} for part in parts]
        return record["model"], record["protocol"]["ordering"], *kept

    records = load_records() | load_records(ablations=True)
    in_order = [options(r) for r in records.values() if r["dataset"] == "ml-1m"]
    shuffled = {name: r for name, r in records.items() if r["dataset"] == "ml-1m-shuffled"}
    assert len(shuffled) >= 4
    assert [name for name, r in shuffled.items() if options(r) not in in_order] == []
