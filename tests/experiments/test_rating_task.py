"""Runs of models of ratings: the same commands, records and folder as ranking runs."""

import importlib.util
import json
import shlex

import numpy as np
import pandas as pd
import pytest

from ss4rec_lib import cli
from ss4rec_lib.data import load_movielens, random_holdout
from ss4rec_lib.experiments import RunFolder, evaluation_of, read_per_target
from ss4rec_lib.models import PRESETS

# The file of ratings that these runs read is not the published one, and a warning says so.
pytestmark = pytest.mark.filterwarnings("ignore::ss4rec_lib.data.DataWarning")

N_USERS, N_ITEMS = 60, 40
MODELS = PRESETS["rating"]
READ_HISTORIES = [name for name, preset in MODELS.items() if preset.model.reads_histories]
_SURPRISE, _MYFM = {"n_factors": 3, "n_epochs": 2}, {"rank": 2, "n_iter": 6}
_SEQUENCES = {"epochs": 2, "hidden_size": 8, "d_H": 8, "d_P": 4, "d_state": 4, "n_layers": 1}
SMALL = {
    "svd": _SURPRISE,
    "svdpp": _SURPRISE,
    "fm": _MYFM,
    "fm-implicit": _MYFM,
    "neural_cf": {"epochs": 2, "mf_embedding_size": 4, "mlp_embedding_size": 4},
    **dict.fromkeys(READ_HISTORIES, _SEQUENCES),
}


def table(seed=0):
    """Return ratings that follow users and items, a dozen per user, with MovieLens' columns."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(1, N_USERS + 1), 12)
    items = np.concatenate([rng.permutation(N_ITEMS)[:12] + 1 for _ in range(N_USERS)])
    taste, quality = rng.normal(0, 0.7, N_USERS + 1), rng.normal(0, 0.7, N_ITEMS + 1)
    ratings = 3 + taste[users] + quality[items] + rng.normal(0, 0.3, len(users))
    times = 900_000_000 + rng.integers(0, 10**7, len(users))
    columns = {"user": users, "item": items, "rating": np.clip(np.round(ratings), 1, 5), "t": times}
    return pd.DataFrame(columns).astype(int)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a file of ratings in the form of MovieLens-100K."""
    path = tmp_path_factory.mktemp("data") / "u.data"
    table().to_csv(path, sep="\t", header=False, index=False)
    return path


@pytest.fixture(scope="module")
def rate(data):
    """Return a function that fits a small model of ratings and returns the exit code."""

    def run(model, split, out, *more, path=data, **changes):
        given = SMALL.get(model, {}) | changes
        words = ["train", "--task", "rating", "--dataset", "ml-100k", "--path", str(path)]
        words += ["--model", model, "--split", split, "--out", str(out)]
        return cli.main([*words, *(f"--set={k}={v}" for k, v in given.items()), *more])

    return run


def need(model):
    if MODELS[model].model.requires:
        pytest.importorskip(MODELS[model].model.requires)


@pytest.mark.parametrize(
    ("split", "model"),
    [(split, model) for split in ("random", "leave-one-out") for model in MODELS]
    + [("global-time", model) for model in ("bias", "neural_cf", "ss4rec-both", "ss4rec-user")],
)
def test_every_model_is_evaluated_on_the_splits(split, model, rate, record_of, tmp_path, capsys):
    need(model)
    assert rate(model, split, tmp_path / "run") == 0
    record = record_of(tmp_path / "run")
    protocol, test = record["protocol"], evaluation_of(record)
    assert (record["task"], record["model"], protocol["split"]) == ("rating", model, split)
    if split != "global-time":  # the first rating after the cut, of those who have one
        wanted = {"random": 72, "leave-one-out": N_USERS}[split]
        assert protocol["n_test"] + protocol["left_out"] == wanted
    assert 0.3 < test["rmse"] < 2
    assert test["rmse_se"] > 0
    assert evaluation_of(record, "valid")["rmse"] > 0
    assert (test["calibration_slope"] is None) == (model == "mean")
    rankings = {
        (e["ranked_by"], e["masked"]) for e in record["evaluations"] if e["masked"] is not None
    }
    by = {"rating", "score"} if model in READ_HISTORIES else {"rating"}
    wanted = {(b, m) for b in by for m in (False, True)} if split != "random" else set()
    assert rankings == wanted
    chosen = model == "neural_cf" or model in READ_HISTORIES
    assert (record["best_epoch"] in (1, 2)) == chosen
    assert (protocol.get("target_time") is not None) == (model in READ_HISTORIES)
    assert str(tmp_path) not in json.dumps(record)
    assert "RMSE" in capsys.readouterr().out
    arrays = read_per_target(tmp_path / "run" / "per_target.npz")
    squared = arrays[f"{protocol.get('target_time') or 'none'}.squared_error"]
    assert np.sqrt(squared.mean()) == pytest.approx(test["rmse"], rel=1e-3)  # kept in float16
    if split == "leave-one-out":
        (slices,) = (e["slices"] for e in record["evaluations"] if "slices" in e)
        assert sum(row["targets"] for row in slices["history"]) == N_USERS
        found = sum(row["targets"] * row["rmse"] ** 2 for row in slices["history"]) / N_USERS
        assert np.sqrt(found) == pytest.approx(test["rmse"], abs=1e-3)


def test_the_mean_has_the_error_it_must_have(rate, data, record_of, tmp_path):
    assert rate("mean", "random", tmp_path / "run", "--seed", "3") == 0
    ratings = load_movielens("ml-100k", path=data)
    rows = random_holdout(ratings, seed=3)[1]
    values = ratings["rating"].to_numpy(dtype=np.float64)
    actual, mean = values[rows["test"]], values[rows["train"]].mean()
    test = evaluation_of(record_of(tmp_path / "run"))
    assert test["rmse"] == pytest.approx(np.sqrt(np.mean((actual - mean) ** 2)), abs=1e-9)
    assert test["mae"] == pytest.approx(np.mean(np.abs(actual - mean)), abs=1e-9)
    assert test["r2"] == pytest.approx(0, abs=1e-12)


def test_the_mean_ranks_by_chance(rate, record_of, tmp_path):
    """All items tie, so a target is among the first ten of 40 with probability 1/4."""
    assert rate("mean", "leave-one-out", tmp_path / "run", "--min-interactions", "0") == 0
    record = record_of(tmp_path / "run")
    (found,) = (
        e["metrics"]
        for e in record["evaluations"]
        if (e["part"], e["masked"], e["ranked_by"]) == ("test", False, "rating")
    )
    assert found["hr@10"] == pytest.approx(10 / N_ITEMS)


def test_five_folds_are_evaluated_together_and_one_by_one(rate, record_of, tmp_path):
    assert rate("bias", "5-fold", tmp_path / "all") == 0
    record = record_of(tmp_path / "all")
    n = N_USERS * 12
    assert record["protocol"] | {"n_test": n, "folds_run": 5} == record["protocol"]
    assert evaluation_of(record, "valid") is None
    (evaluation,) = record["evaluations"]
    folds = evaluation["slices"]["folds"]
    assert len(folds) == 5
    squared = np.mean([fold["rmse"] ** 2 for fold in folds])  # folds of equal size
    assert evaluation["metrics"]["rmse"] == pytest.approx(np.sqrt(squared))
    assert rate("mean", "5-fold", tmp_path / "mean") == 0
    # As in each fold, where one prediction for all has no calibration.
    assert evaluation_of(record_of(tmp_path / "mean"))["calibration_slope"] is None
    assert rate("bias", "5-fold", tmp_path / "two", "--folds", "2") == 0
    two = record_of(tmp_path / "two")
    assert two["evaluations"][0]["slices"]["folds"] == folds[:2]
    assert "--folds 2" in two["command"]


@pytest.mark.parametrize("model", ["neural_cf", "svd", "fm", "ss4rec-both"])
def test_the_seed_decides(model, rate, record_of, tmp_path):
    need(model)
    tests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert rate(model, "leave-one-out", tmp_path / name, "--seed", str(seed)) == 0
        tests.append(evaluation_of(record_of(tmp_path / name)))
    assert tests[0] == tests[1] != tests[2]


@pytest.mark.parametrize("model", ["bias", "ss4rec-rating"])
def test_the_recorded_command_makes_the_run_again(
    model, rate, data, record_of, timeless, tmp_path, monkeypatch
):
    options = {"reg_u": 5} if model == "bias" else {"use_ratings": "false", "patience": 3}
    words = ("--seed", "2", "--min-interactions", "3")
    assert rate(model, "leave-one-out", tmp_path / "run", *words, **options) == 0
    record = record_of(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    program, *again = shlex.split(record["command"])
    assert program == "ss4rec"
    assert cli.main([*again, "--path", str(data)]) == 0
    (made,) = (tmp_path / "runs").iterdir()
    assert timeless(record_of(made)) == timeless(record)


def test_a_run_cut_short_continues_to_the_same_end(
    rate, record_of, timeless, tmp_path, monkeypatch
):
    assert rate("ss4rec-rating", "leave-one-out", tmp_path / "whole", epochs=3) == 0

    def cut(self, history):
        original(self, history)
        if len(history) == 2:
            raise KeyboardInterrupt

    original = RunFolder.write_history
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_history", cut)
        assert rate("ss4rec-rating", "leave-one-out", tmp_path / "cut", epochs=3) == 130
    assert not (tmp_path / "cut" / "record.json").exists()
    assert rate("ss4rec-rating", "leave-one-out", tmp_path / "cut", "--resume", epochs=3) == 0
    assert timeless(record_of(tmp_path / "whole")) == timeless(record_of(tmp_path / "cut"))


def test_a_folder_with_a_run_is_refused_and_a_finished_one_is_not_repeated(
    rate, finished, tmp_path, capsys
):
    run = tmp_path / "run"
    assert rate("bias", "leave-one-out", run) == 0
    before = (run / "record.json").read_bytes()
    assert rate("bias", "leave-one-out", run) == 2
    assert str(run) in capsys.readouterr().err
    assert rate("bias", "leave-one-out", run, "--resume") == 0
    assert rate("bias", "leave-one-out", run, "--resume", reg_u=3) == 2
    assert "reg_u is 15" in capsys.readouterr().err
    assert (run / "record.json").read_bytes() == before
    assert rate("bias", "leave-one-out", finished, "--resume") == 2
    assert "task is ranking" in capsys.readouterr().err
    for verb in ("evaluate", "recommend"):
        more = ["--user", "1", "--at", "2030-01-01"] if verb == "recommend" else []
        assert cli.main([verb, str(run), *more]) == 2
        assert "rating" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["sdv", "random"], ("model", "sdv", "svd")),
        (["svd", "leave-last"], ("split", "leave-last", "leave-one-out")),
        (["ss4rec-rating", "5-fold"], ("5-fold", "ss4rec-rating")),
        (["neural_cf", "5-fold"], ("5-fold", "neural_cf")),
        (["bias", "random", "--folds", "2"], ("folds", "2")),
        (["bias", "5-fold", "--folds", "6"], ("folds", "6")),
        (["bias", "random", "--seed", "-1"], ("seed", "-1")),
        (["bias", "random", "--min-interactions", "-1"], ("min_interactions", "-1")),
        (["bias", "random", "--set", "reg=3"], ("reg", "reg_u")),
        (["mean", "random", "--set", "x=3"], ("x",)),
        (["bias", "random", "--set", "n_epochs=0"], ("n_epochs", "0")),
        (["bias", "random", "--set", "n_epochs=x"], ("n_epochs", "x")),
        (["neural_cf", "random", "--set", "dropout_prob=1.5"], ("dropout_prob", "1.5")),
        (["ss4rec-both", "random", "--set", "rating_weight=0"], ("rating_weight", "0")),
        (["ss4rec-both", "random", "--set", "hidden_size=8"], ("d_H=32", "hidden_size=8")),
        (["ss4rec-user", "random", "--set", "user_penalty=-1"], ("user_penalty", "-1")),
        (["ss4rec-rating", "random", "--set", "history=full"], ("history", "full")),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(
    words, named, data, tmp_path, capsys
):
    model, split, *more = words
    run = tmp_path / "run"
    given = ["train", "--task", "rating", "--dataset", "ml-100k", "--path", str(data)]
    assert cli.main([*given, "--model", model, "--split", split, "--out", str(run), *more]) == 2
    shown = capsys.readouterr().err
    assert all(word in shown for word in named), shown
    assert not run.exists()


def test_equal_ratings_are_refused_before_anything_is_written(rate, tmp_path, capsys):
    path = tmp_path / "u.data"
    table().assign(rating=3).to_csv(path, sep="\t", header=False, index=False)
    for model in ("bias", "ss4rec-rating"):
        assert rate(model, "leave-one-out", tmp_path / "run", path=path) == 2
        assert "ml-100k are 3" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_missing_library_is_named_before_anything_is_written(rate, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert rate("svd", "random", tmp_path / "run") == 2
    assert "surprise" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_catalogue_too_small_for_the_metrics_is_refused(rate, tmp_path, capsys):
    path = tmp_path / "u.data"
    few = table()
    few[few["item"] <= 15].to_csv(path, sep="\t", header=False, index=False)
    words = ("--min-interactions", "0")
    assert rate("bias", "leave-one-out", tmp_path / "run", *words, path=path) == 2
    assert "15 items" in capsys.readouterr().err


def test_the_generated_data_can_be_rated_too(tmp_path, record_of):
    words = ["train", "--task", "rating", "--dataset", "planted", "--model", "bias"]
    assert cli.main([*words, "--out", str(tmp_path / "run")]) == 0
    r2 = evaluation_of(record_of(tmp_path / "run"))["r2"]
    assert abs(r2) < 0.1  # its ratings follow nothing
