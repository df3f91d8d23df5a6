"""Differences between recorded runs: who is compared with whom, and that the numbers are right."""

import copy
import json

import numpy as np
import pytest

from ss4rec_lib.evaluation import RankingResult, difference_over_seeds, paired_difference
from ss4rec_lib.experiments import table
from ss4rec_lib.experiments.comparisons import compare, load_ranks
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.keep import keep
from ss4rec_lib.experiments.results import grouped
from ss4rec_lib.experiments.settings import training_preset
from ss4rec_lib.models import SS4RecConfig

USERS = np.arange(60)


@pytest.fixture
def published(finished):
    """A record of SS4Rec with the published shape: nothing but the budget differs."""
    record = json.loads((finished / "result.json").read_text())
    for name, value in vars(SS4RecConfig.official()).items():
        record["config"]["model"][name] = value
    for name, value in vars(training_preset("planted")).items():
        if name != "seed":
            record["config"]["training"][name] = value
    return record


def made(record, seed=0, model="SS4Rec", epochs=2, target_time="known", **of_model):
    other = copy.deepcopy(record)
    other |= {"model": model, "seed": seed}
    other["config"]["training"] |= {"seed": seed, "epochs": epochs, "target_time": target_time}
    other["config"]["model"] |= of_model
    other["protocol"]["target_time"] = target_time
    times = [target_time, *(["hidden"] if target_time == "known" else [])]
    other["arms"] = [
        copy.deepcopy(record["arms"][0]) | {"target_time": time, "masked": masked}
        for time in times
        for masked in (False, True)
    ]
    return other


def ranks_of(record, number):
    rng = np.random.default_rng(number)
    return {
        (arm["target_time"], arm["masked"]): RankingResult(
            USERS, rng.integers(0, 30, len(USERS)), np.ones(len(USERS), dtype=np.int64)
        )
        for arm in record["arms"]
    }


def compared(records, **options):
    ranks = {name: ranks_of(record, n) for n, (name, record) in enumerate(records.items())}
    return compare(grouped(records), ranks, **options), ranks


def test_seeds_on_both_sides_count_users_and_seeds(published):
    records = {
        "a0": made(published), "a1": made(published, 1),
        "m0": made(published, model="Mamba4Rec", target_time="none", model_type="mamba_only"),
        "m1": made(published, 1, model="Mamba4Rec", target_time="none", model_type="mamba_only"),
    }  # fmt: skip
    found, ranks = compared(records)
    assert [(c.a_time, c.b_time, c.masked) for c in found] == [
        ("known", "none", False), ("known", "none", True),
        ("hidden", "none", False), ("hidden", "none", True),
    ]  # fmt: skip
    expected = difference_over_seeds(
        [ranks["a0"]["hidden", True], ranks["a1"]["hidden", True]],
        [ranks["m0"]["none", True], ranks["m1"]["none", True]],
        "ndcg@10",
    )
    last = found[-1]
    assert last.counts == "users and seeds"
    assert (last.difference, last.low, last.high) == (
        expected.difference, expected.low, expected.high,
    )  # fmt: skip


def test_one_seed_counts_users_at_a_seed_that_both_have(published):
    records = {
        "a0": made(published), "a1": made(published, 1),
        "b": made(published, 1, model="S5 alone", model_type="s5_only"),
    }  # fmt: skip
    found, ranks = compared(records, metric="hr@10")
    expected = paired_difference(ranks["a1"]["known", False], ranks["b"]["known", False], "hr@10")
    assert found[0].counts == "users (seed 1)"
    assert found[0].difference == expected.difference


def test_budgets_and_tasks_are_not_mixed(published):
    other_task = made(published, model="S5 alone", model_type="s5_only")
    other_task["protocol"]["fingerprint"] = "0" * 32
    longer = made(published, model="S5 alone", model_type="s5_only", epochs=9)
    fitted = made(published, model="popularity", epochs=7)  # not trained: any budget will do
    fitted["preset"], fitted["config"]["model"] = "popularity", {}
    records = {"a": made(published), "b": other_task, "c": longer, "d": fitted}
    found, _ = compared(records)
    assert {c.b.names[0] for c in found} == {"d"}


def test_of_two_ss4recs_the_one_that_knows_the_time_stands_first(published):
    records = {"blind": made(published, target_time="none"), "told": made(published)}
    found, _ = compared(records)
    assert {(c.a.names[0], c.b.names[0]) for c in found} == {("told", "blind")}


def test_records_without_ranks_are_left_out_and_damaged_ones_named(published, finished, tmp_path):
    assert (
        compare(grouped({"a": made(published), "b": made(published, target_time="none")}), {}) == []
    )
    keep(finished, "mine", tmp_path)
    (tmp_path / "ranks" / "bad.npz").write_bytes(b"PK no archive")
    assert list(load_ranks(tmp_path, ["mine", "absent"])) == ["mine"]
    with pytest.raises(ExperimentError, match="bad.npz holds no ranks"):
        load_ranks(tmp_path, ["bad"])


def test_the_page_shows_them_in_thousandths(published):
    records = {"a": made(published), "b": made(published, target_time="none")}
    found, ranks = compared(records)
    page = table.results_table(records, ranks=ranks)
    (first, second) = [c for c in found if c.a_time == "known"]
    (row,) = [line for line in page.splitlines() if "| known | SS4Rec | none |" in line]
    for c in (first, second):
        assert f"{1000 * c.difference:+.1f} ({1000 * c.low:+.1f} to {1000 * c.high:+.1f})" in row
    assert "Differences, user by user" not in table.results_table(records)
