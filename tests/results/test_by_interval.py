"""NDCG@10 by the target's interval agrees with the records that it was made from."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "results"
STORED = json.loads((RESULTS / "by_interval.json").read_text(encoding="utf-8"))


def groupings(found):
    """Return the figures by interval and those by popularity, each with what both share."""
    return found, found | found["by_popularity"]


@pytest.mark.parametrize("grouping", [0, 1], ids=["interval", "popularity"])
@pytest.mark.parametrize("dataset", ["ml-1m", "ml-100k"])
def test_parts_add_up_to_the_recorded_figures(dataset, grouping):
    found = groupings(STORED["datasets"][dataset])[grouping]
    assert grouping == 1 or list(found["targets"]) == list(STORED["parts"])
    records = [
        json.loads((RESULTS / "records" / f"{name}.json").read_text(encoding="utf-8"))
        for name in found["records"]
    ]
    assert {record["protocol"]["fingerprint"] for record in records} == {found["fingerprint"]}
    assert {record["config"]["training"]["epochs"] for record in records} == {found["epochs"]}
    groups: dict[tuple, dict[str, float]] = {}
    for row in found["ndcg@10"]:
        assert row["low"] <= row["mean"] <= row["high"]
        key = row["model"], row["target_time"], row["masked"], tuple(row["seeds"])
        groups.setdefault(key, {})[row["part"]] = row["mean"]
    for (model, time, masked, seeds), means in groups.items():
        total = sum(means[part] * n for part, n in found["targets"].items())
        assert means["all"] == pytest.approx(total / sum(found["targets"].values()), abs=2e-6)
        recorded = {
            record["seed"]: each["metrics"]["ndcg@10"]
            for record in records
            for each in record["evaluations"]
            if record["display_name"] == model
            and record["protocol"]["target_time"] == time == each["target_time"]
            and each["part"] == "test"
            and each["masked"] is masked
        }
        assert sorted(recorded) == list(seeds)
        assert means["all"] == pytest.approx(statistics.mean(recorded.values()), abs=1e-6)


def test_differences_are_those_of_the_means():
    for found in (each for stored in STORED["datasets"].values() for each in groupings(stored)):
        means = {
            (row["model"], row["target_time"], row["masked"], row["part"]): row["mean"]
            for row in found["ndcg@10"]
        }
        for row in found["differences"]:
            if row["interval_over"] == "users and seeds":
                a, b = (
                    means[row[f"model_{s}"], row[f"target_time_{s}"], row["masked"], row["part"]]
                    for s in "ab"
                )
                assert row["mean"] == pytest.approx(a - b, abs=2e-6)


@pytest.mark.parametrize("dataset", ["ml-1m", "ml-100k"])
def test_of_several_settings_the_one_that_validation_prefers_is_taken(dataset):
    stored, groups = STORED["datasets"][dataset], {}
    for path in sorted((RESULTS / "records").glob(f"{dataset}_*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        protocol, training = record["protocol"], record["config"]["training"]
        same = record["task"] == "ranking" and training.get("epochs") == stored["epochs"]
        if same and protocol.get("fingerprint") == stored["fingerprint"]:
            time = protocol["target_time"]
            model = record["display_name"], time, json.dumps(record["overrides"])
            groups.setdefault(model, {})[path.stem] = next(
                each["metrics"]["ndcg@10"]
                for each in record["evaluations"]
                if (each["part"], each["target_time"], each["masked"]) == ("valid", time, False)
            )
    taken = {model for model, runs in groups.items() if runs.keys() <= set(stored["records"])}
    assert {name for model in taken for name in groups[model]} == set(stored["records"])
    for model, runs in groups.items():
        for other in taken - {model}:
            if other[:2] == model[:2]:
                best, rest = ((len(r), statistics.mean(r.values())) for r in (groups[other], runs))
                assert best > rest, f"{other} instead of {model}"
