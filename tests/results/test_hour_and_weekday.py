"""The trial of hour and weekday: what it reads is the time of each position's target."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from ss4rec_lib.data import eval_batches, leave_one_out, load_dataset, train_batches
from ss4rec_lib.models import SS4RecConfig


@pytest.fixture(scope="module")
def script(import_script):
    """The module `hour_and_weekday`, which is a script and in no package."""
    return import_script("hour_and_weekday")


def test_the_hour_of_the_week_is_that_of_the_calendar(script):
    times = np.random.default_rng(0).integers(0, 2**31, 1000)
    calendar = pd.to_datetime(times, unit="s", utc=True)
    found = script.hour_and_weekday(times)
    assert np.array_equal(found // 24, calendar.day_of_week)
    assert np.array_equal(found % 24, calendar.hour)


def test_each_position_reads_the_hour_of_its_target_alone(script):
    split = leave_one_out(load_dataset("planted"), "exact-time")
    sequences = split.sequences
    model = script.WithClock(sequences.n_items, SS4RecConfig.official(), sequences.times).eval()
    for batches in (train_batches(split, max_len=20), eval_batches(split, "valid", max_len=20)):
        batch = next(iter(batches))
        row = len(batch.items) - 1  # the shortest
        last = int(batch.lengths[row]) - 1
        at = int(batch.starts[row]) + last + 1
        assert sequences.items[at] == batch.targets[row, last]
        before = model.encode(batch)
        model.clock[at] = (model.clock[at] + 25) % 168
        changed = (model.encode(batch) - before).abs().amax(-1) > 0  # (B, L)
        rows, positions = np.nonzero((changed & (batch.items > 0)).numpy())
        assert (rows == row).all()
        assert positions.tolist() == [last]


def test_the_recorded_rows_are_those_of_the_ablation(script):
    found = script.recorded()
    assert 0 < found["not masked"] < found["masked"] < 1


def test_the_file_is_that_of_the_records(script):
    described = json.loads((script.HERE / "hour_and_weekday.json").read_text(encoding="utf-8"))
    assert described["ndcg@10"]["without"] == script.recorded()
