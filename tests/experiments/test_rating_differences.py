"""Rating runs compared target by target: the right runs, the right seeds, the exact difference."""

import copy

import numpy as np
import pytest

from ss4rec_lib.evaluation import difference_over_seeds, paired_difference
from ss4rec_lib.experiments.rating_differences import compare_ratings, load_errors
from ss4rec_lib.experiments.rating_results import RATINGS, load_rating_records, rating_groups
from ss4rec_lib.experiments.rating_table import differences_table, ratings_table
from ss4rec_lib.experiments.results import results_folder


@pytest.fixture(scope="module")
def made():
    """Groups and errors that are all made up: three models, on data of their own."""
    folder = results_folder() / RATINGS
    pattern = load_rating_records(folder)["ml-100k_leave-last-out_svdpp_seed0"]
    records, errors, random = {}, {}, np.random.default_rng(0)

    def add(model, seed, level, dataset="ml-100k", **protocol):
        record = copy.deepcopy(pattern)
        record |= {"model": model, "seed": seed, "dataset": dataset, "config": {}}
        record["protocol"] |= protocol
        name = f"{dataset}_{model}_{seed}_{protocol.get('split', '')}"
        records[name] = record
        errors[name] = level * random.random(200)

    for seed in (0, 1):
        add("ss4rec-both", seed, 1.0, target_time="known")
        add("svdpp", seed, 2.0)
    add("bias", 3, 3.0)
    add("svd", 0, 3.0, split="global-time")  # other targets
    add("svd", 0, 3.0, dataset="ml-1m")  # other users
    return rating_groups(records), errors


def test_compared_are_runs_that_were_asked_for_the_same_ratings(made):
    found = compare_ratings(*made)
    assert [(c.a.first["model"], c.b.first["model"]) for c in found] == [
        ("ss4rec-both", "bias"),
        ("ss4rec-both", "svdpp"),
    ]
    assert [c.counts for c in found] == ["users (seeds 0, 3)", "users and seeds"]


def test_the_difference_is_that_of_the_two_rmse(made):
    groups, errors = made
    for c in compare_ratings(groups, errors):
        if c.counts == "users and seeds":
            of_a, of_b = ([errors[name] for name in group.names] for group in (c.a, c.b))
            plain = difference_over_seeds(np.array(of_a), np.array(of_b))
        else:
            of_a, of_b = errors[c.a.names[0]], errors[c.b.names[0]]
            plain = paired_difference(of_a, of_b, samples=2_000)
        rmse = np.sqrt(np.mean(of_a)), np.sqrt(np.mean(of_b))
        assert c.difference == pytest.approx(rmse[0] - rmse[1], abs=1e-12)
        assert c.low < c.difference < c.high < 0
        assert c.high / c.difference == pytest.approx(plain.high / plain.difference)


def test_runs_without_errors_are_left_out(made):
    groups, errors = made
    fewer = {name: e for name, e in errors.items() if "svdpp_1" not in name}
    assert [c.b.first["model"] for c in compare_ratings(groups, fewer)] == ["bias"]
    assert compare_ratings(groups, {}) == [] and differences_table(groups, {}) == ""


def test_the_page_has_the_recorded_ones(made):
    folder = results_folder() / RATINGS
    records = load_rating_records(folder)
    errors = load_errors(folder, list(records))
    assert "ml-100k_leave-last-out_mean_seed0" in records.keys() - errors.keys()  # it keeps none
    table = ratings_table(records, errors)
    assert "| ml-100k | ss4rec-both | svdpp | " in table
    # The row agrees with the two RMSEs of the records, up to the rounding of kept errors.
    means = {
        model: np.sqrt(np.mean([
            record["test"]["rmse"] ** 2 for record in records.values()
            if (record["dataset"], record["protocol"]["split"], record["model"])
            == ("ml-100k", "leave-last-out", model)
        ]))
        for model in ("ss4rec-both", "svdpp")
    }  # fmt: skip
    row = next(line for line in table.splitlines() if "| ss4rec-both | svdpp |" in line)
    shown = float(row.split(" | ")[3].split(" (")[0]) / 1000
    assert shown == pytest.approx(means["ss4rec-both"] - means["svdpp"], abs=1e-4)
