"""Runs on the global-time split: the same commands, and users without a history."""

import warnings

import pytest

from ss4rec_lib import cli
from ss4rec_lib.data import global_time_split, load_movielens
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.experiments import evaluation_of, read_per_target
from ss4rec_lib.experiments import task as task_module
from ss4rec_lib.models import load_model

GLOBAL = ("--split", "global-time")


@pytest.fixture(scope="module")
def later(train, tmp_path_factory):
    """Return the folder of a finished run on the global-time split."""
    folder = tmp_path_factory.mktemp("global") / "run"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # users without a target are logged, not warned about
        warnings.simplefilter("ignore", DeprecationWarning)
        assert train(folder, *GLOBAL) == 0
    return folder


@pytest.fixture
def newcomers(monkeypatch):
    """Make some users of planted begin after a cut, as it happens in every real data set."""
    ratings = load_movielens("planted")
    late = ratings["user_id"] % 20 == 0
    cut = global_time_split(ratings).report["valid_from"]
    begin = cut + 86_400 * ratings["user_id"].astype("int64")  # spread over the days after it
    first = ratings.groupby("user_id")["timestamp"].transform("min")
    ratings.loc[late, "timestamp"] += (begin - first)[late]
    monkeypatch.setattr(task_module, "load_dataset", lambda name, path=None: ratings)


@pytest.fixture(scope="module")
def split():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return global_time_split(load_movielens("planted"))


def test_the_record_says_which_split_and_where_it_cuts(later, split, record_of):
    record = record_of(later)
    protocol = record["protocol"]
    assert protocol["split"] == "global-time"
    assert protocol["fingerprint"] == split.fingerprint()
    for name in ("valid_from", "test_from", "n_valid", "n_test"):
        assert protocol[name] == split.report[name]
    assert "Split(global-time" in (later / "log.txt").read_text()
    assert "--split global-time" in record["command"]


def test_users_who_come_later_are_logged_and_not_warned_about(tmp_path, newcomers, capsys):
    run = tmp_path / "run"
    words = ["train", "--dataset", "planted", "--model", "popularity", "--out", str(run), *GLOBAL]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cli.main(words) == 0
    assert "valid_without_history" in (run / "log.txt").read_text()
    assert "Warning" not in capsys.readouterr().err


def test_the_figures_are_those_of_the_library_alone(later, split, record_of):
    record, model = record_of(later), load_model(later / "model.safetensors")
    for each in record["evaluations"]:
        expected = evaluate_ranking(
            model, split, each["part"], mask_seen=each["masked"], target_time=each["target_time"]
        )
        assert each["metrics"] == pytest.approx(dict(expected))
    arrays = read_per_target(later / "per_target.npz")
    assert len(arrays["users"]) == split.report["n_test"]


def test_evaluate_and_recommend(later, split, record_of, capsys):
    assert cli.main(["evaluate", str(later)]) == 0
    shown = capsys.readouterr()
    assert f"{split.report['n_test']:,} targets" in shown.out
    assert f"{evaluation_of(record_of(later), masked=False)['ndcg@10']:.4f}" in shown.out
    assert shown.err == ""
    assert cli.main(["recommend", str(later), "--user", "7", "--at", "2030-01-01"]) == 0


@pytest.mark.parametrize("preset", ["popularity", "recent_popularity_user", "item_knn", "gru4rec"])
def test_baselines_too(preset, tmp_path, split, record_of):
    run = tmp_path / "run"
    words = ["train", "--dataset", "planted", "--model", preset, "--out", str(run), *GLOBAL]
    assert cli.main(words + ["--set=epochs=1"] * (preset == "gru4rec")) == 0
    record = record_of(run)
    assert record["protocol"]["split"] == "global-time"
    assert {e["target_time"] for e in record["evaluations"]} == {"none"}
    assert len(read_per_target(run / "per_target.npz")["users"]) == split.report["n_test"]
    assert cli.main(["evaluate", str(run)]) == 0


@pytest.mark.parametrize("preset", ["bpr_mf", "neural_cf"])
def test_models_that_learn_users_refuse_users_they_never_saw(preset, tmp_path, newcomers, capsys):
    """Their ranks would be those of random numbers."""
    if preset == "bpr_mf":
        pytest.importorskip("implicit")
    run = tmp_path / "run"
    words = ["train", "--dataset", "planted", "--model", preset, "--out", str(run), *GLOBAL]
    assert cli.main(words) == 2
    assert "training part" in capsys.readouterr().err
    assert not run.exists()
