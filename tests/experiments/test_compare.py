"""Differences between finished runs: paired by target, and refused where nothing is paired."""

import numpy as np
import pytest

from ss4rec_lib import cli
from ss4rec_lib.experiments import ExperimentError, compare, evaluation_of


@pytest.fixture(scope="module")
def runs(train, finished, tmp_path_factory):
    """Return two seeds of a model, and two of one that was trained for longer."""
    folder = tmp_path_factory.mktemp("compare")
    assert train(folder / "short", "--seed", "1") == 0
    for seed in (0, 1):
        assert train(folder / f"long{seed}", "--seed", str(seed), epochs=4) == 0
    return [finished, folder / "short"], [folder / "long0", folder / "long1"]


@pytest.mark.parametrize("masked", [False, True])
def test_one_run_each_is_compared_over_users(runs, record_of, masked):
    (a, _), (b, _) = runs
    found = compare([a], [b], masked=masked)
    figures = [evaluation_of(record_of(run), masked=masked)["ndcg@10"] for run in (a, b)]
    assert found.difference == pytest.approx(figures[0] - figures[1])
    assert found.low < found.difference < found.high
    assert (found.interval_over, found.a, found.b) == ("users", "SS4Rec", "SS4Rec")


def test_several_seeds_count_users_and_seeds(runs, record_of):
    a, b = runs
    found = compare(a, b, "hr@5")
    means = [
        np.mean([evaluation_of(record_of(run), masked=False)["hr@5"] for run in side])
        for side in (a, b)
    ]
    assert found.difference == pytest.approx(means[0] - means[1])
    assert found.interval_over == "users and seeds"


def test_other_conditions_of_time(runs, record_of):
    (a, _), _ = runs
    found = compare([a], [a], target_time_b="hidden")
    figures = [
        evaluation_of(record_of(a), "test", time, False)["ndcg@10"] for time in ("known", "hidden")
    ]
    assert found.difference == pytest.approx(figures[0] - figures[1])


def test_runs_on_other_targets_and_unknown_metrics_are_refused(runs, train, tmp_path):
    (a, _), _ = runs
    assert train(tmp_path / "rounded", "--protocol", "recbole-float32", epochs=1) == 0
    with pytest.raises(ExperimentError, match="recbole-float32"):
        compare([a], [tmp_path / "rounded"])
    for wrong in ("ndcg", "rmse"):
        with pytest.raises(ExperimentError):
            compare([a], [a], wrong)
    with pytest.raises(ExperimentError, match="previous"):
        compare([a], [a], target_time_a="previous")
    with pytest.raises(ExperimentError, match="holds no run"):
        compare([a], [tmp_path / "nowhere"])


def test_the_verb(runs, capsys):
    (a, _), (b, _) = runs
    assert cli.main(["compare", str(a), "--minus", str(b), "--metric", "mrr@10"]) == 0
    assert "MRR@10" in capsys.readouterr().out
