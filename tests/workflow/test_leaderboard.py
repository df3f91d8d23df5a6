"""The leaderboard: its figures against those computed by hand from the records."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from workflow.batch import _records
from workflow.experiment import Plan
from workflow.leaderboard import as_markdown, table, write_leaderboard

ROOT = Path(__file__).parents[2]
STORE = ROOT / "results" / "batches"
VALUES = {"a": [0.10, 0.12, 0.11], "b": [0.20, 0.21, 0.25], "c": [0.15, 0.11, 0.13]}


def record(value, masked_value):
    def row(masked, x):
        metrics = {"ndcg@10": x, "ndcg@10_se": 0.004, "hr@10": 2 * x, "hr@10_se": 0.008}
        entry = {"part": "valid", "target_time": "known", "masked": masked, "ranked_by": "score"}
        return entry | {"metrics": metrics}

    return {
        "task": "ranking",
        "dataset": "planted",
        "protocol": {"target_time": "known", "split": "leave-one-out", "ordering": "exact-time"},
        "seconds": {"wall": 10.0},
        "revision": "1234567890",
        "evaluations": [row(False, value), row(True, masked_value)],
    }


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "trial.yaml"
    path.write_text(
        "description: three rows\nfixed: {dataset: planted}\n"
        "grid: {size: {a: {epochs: 1}, b: {epochs: 2}, c: {epochs: 3}}}\n"
        "seeds: [0, 1, 2]\nleaderboard: {part: valid, against: a}\n"
    )
    return Plan(path)


@pytest.fixture
def records(plan):
    return {job.name: record(VALUES[job.row][job.seed], 0.5) for job in plan.jobs}


def line(found, row, metric="ndcg@10", masked=False):
    (one,) = found[
        (found["row"] == row) & (found["metric"] == metric) & (found["masked"] == masked)
    ].to_dict("records")
    return one


def test_means_intervals_and_differences_are_those_of_the_seeds(plan, records, tmp_path):
    found = table(plan, records, tmp_path)
    assert list(dict.fromkeys(found["row"])) == ["b", "c", "a"], "the best row first"
    b, a = np.array(VALUES["b"]), np.array(VALUES["a"])
    one = line(found, "b")
    assert one["mean"] == pytest.approx(b.mean())
    assert one["sd"] == pytest.approx(b.std(ddof=1))
    low, high = stats.t.interval(0.95, 2, b.mean(), stats.sem(b))
    assert (one["low"], one["high"]) == pytest.approx((low, high))
    low, high = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert one["difference"] == pytest.approx((b - a).mean())
    assert (one["from"], one["to"]) == pytest.approx((low, high))
    assert one["over"] == "seeds"
    assert line(found, "b", "hr@10")["mean"] == pytest.approx(2 * b.mean())
    assert line(found, "b", masked=True)["mean"] == pytest.approx(0.5)
    assert np.isnan(line(found, "a")["difference"])


def test_runs_that_are_missing_are_counted_and_change_no_other_row(plan, records, tmp_path):
    whole = table(plan, records, tmp_path)
    gone = {job.name for job in plan.jobs if job.row == "c" and job.seed != 1}
    rest = {name: kept for name, kept in records.items() if name not in gone}
    found = table(plan, rest, tmp_path)
    one = line(found, "c")
    assert (one["seeds"], one["of"]) == (1, 3)
    assert one["mean"] == VALUES["c"][1]
    assert one["high"] - one["mean"] == pytest.approx(1.96 * 0.004), "over users, with one seed"
    assert one["difference"] == pytest.approx(VALUES["c"][1] - VALUES["a"][1])
    assert np.isnan(one["from"]), "one pair of seeds has no interval"
    assert line(found, "b") == line(whole, "b")
    none = {job.name: rest[job.name] for job in plan.jobs if job.row != "c"}
    found = table(plan, none, tmp_path)
    assert list(dict.fromkeys(found["row"]))[-1] == "c"
    assert line(found, "c")["seeds"] == 0 and np.isnan(line(found, "c")["mean"])
    assert "| c | 0 of 3 | - |" in as_markdown(found)


def test_a_model_that_no_seed_changes_has_the_error_over_users(plan, records, tmp_path):
    same = {job.name: record(0.15, 0.5) for job in plan.jobs if job.row == "c"}
    one = line(table(plan, records | same, tmp_path), "c")
    assert one["seeds"] == 3
    assert np.isnan(one["sd"])
    assert one["high"] - one["mean"] == pytest.approx(1.96 * 0.004)


def test_the_files_say_the_same(plan, records, tmp_path):
    text = write_leaderboard(plan, records, tmp_path, tmp_path / "out")
    assert text in (tmp_path / "out" / "leaderboard.md").read_text()
    assert "0.2200 ± 0.0265 sd" in text
    with open(tmp_path / "out" / "leaderboard.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 4
    assert float(rows[0]["mean"]) == pytest.approx(np.mean(VALUES["b"]))
    assert [float(x) for x in rows[0]["values"].split()] == VALUES["b"]
    assert (tmp_path / "out" / "leaderboard.png").stat().st_size > 5_000


@pytest.mark.parametrize("name", sorted(path.parent.name for path in STORE.glob("*/*.csv")))
def test_committed_leaderboards_are_those_of_the_committed_records(name):
    plan = Plan(ROOT / "workflow" / "experiments" / f"{name}.yaml")
    found = table(plan, _records(STORE, plan.jobs), STORE)
    text = found.to_csv(index=False, lineterminator="\n")
    assert (STORE / name / "leaderboard.csv").read_text() == text
    assert as_markdown(found) in (STORE / name / "leaderboard.md").read_text()
