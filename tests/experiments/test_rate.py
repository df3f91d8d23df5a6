"""Rating experiments through the command line: each model runs, is judged, recorded, repeated."""

import dataclasses
import json
import shlex

import numpy as np
import pandas as pd
import pytest

from ss4rec_lib import cli
from ss4rec_lib.data import load_movielens, random_holdout
from ss4rec_lib.evaluation import rating_metrics
from ss4rec_lib.experiments.rate_folder import read_predictions
from ss4rec_lib.experiments.rate_options import PACKAGES_OF, RATING_MODELS, SEQUENCE_MODELS
from ss4rec_lib.experiments.rating_results import rating_command

# The file of ratings that these runs read is not the published one, and they are told so.
pytestmark = pytest.mark.filterwarnings("ignore::ss4rec_lib.data.DataWarning")

N_USERS, N_ITEMS = 60, 40
SMALL = {
    **dict.fromkeys(("svd", "svdpp"), {"n_factors": 3, "n_epochs": 2}),
    **dict.fromkeys(("fm", "fm-implicit"), {"rank": 2, "n_iter": 6}),
    "neural_cf": {"epochs": 2, "mf_embedding_size": 4, "mlp_embedding_size": 4},
    **dict.fromkeys(
        SEQUENCE_MODELS,
        {"epochs": 2, "hidden_size": 8, "d_H": 8, "d_P": 4, "d_state": 4, "n_layers": 1},
    ),
}


def table(seed=0):
    """Ratings that follow users and items, a dozen a user, in the columns of MovieLens."""
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
    """A file of ratings in the form of MovieLens-100K."""
    path = tmp_path_factory.mktemp("data") / "u.data"
    table().to_csv(path, sep="\t", header=False, index=False)
    return path


@pytest.fixture(scope="module")
def rate(data):
    """Runs `ss4rec rate` on it with small models; returns the exit code."""

    def run(model, split, out, *more, path=data, **changes):
        given = SMALL.get(model, {}) | changes
        words = ["rate", "--dataset", "ml-100k", "--path", str(path), "--model", model]
        words += ["--split", split, "--out", str(out)]
        return cli.main([*words, *(f"--set={k}={v}" for k, v in given.items()), *more])

    return run


def record_of(folder):
    return json.loads((folder / "result.json").read_text())


def need(model):
    if model in PACKAGES_OF:
        pytest.importorskip(PACKAGES_OF[model])


@pytest.mark.parametrize(
    ("split", "model"),
    [(split, model) for split in ("random", "leave-last-out") for model in RATING_MODELS]
    + [("global-time", model) for model in ("bias", "neural_cf", "ss4rec-both", "ss4rec-user")],
)
def test_every_model_is_judged_on_the_splits(split, model, rate, tmp_path, capsys):
    need(model)
    assert rate(model, split, tmp_path / "run") == 0
    record = record_of(tmp_path / "run")
    protocol, test = record["protocol"], record["test"]
    assert record["model"] == model and protocol["split"] == split
    if split != "global-time":  # the first rating after the cut, of those who have one
        wanted = {"random": 72, "leave-last-out": N_USERS}[split]
        assert protocol["n_test"] + protocol["left_out"] == wanted
    assert 0.3 < test["rmse"] < 2 and test["rmse_se"] > 0 and record["valid"]["rmse"] > 0
    assert (test["calibration_slope"] is None) == (model == "mean")
    ways = {(arm["by"], arm["masked"]) for arm in record["ranking"] or ()}
    by = {"rating", "score"} if model in SEQUENCE_MODELS else {"rating"}
    assert ways == ({(b, m) for b in by for m in (False, True)} if split != "random" else set())
    chosen = model == "neural_cf" or model in SEQUENCE_MODELS
    assert (record["best_epoch"] in (1, 2)) == chosen
    assert ("target_time" in protocol) == (model in SEQUENCE_MODELS)
    assert str(tmp_path) not in json.dumps(record)
    assert "RMSE" in capsys.readouterr().out
    found = read_predictions(tmp_path / "run" / "predictions.npz")
    again = np.sqrt(np.mean((found["predicted"] - found["actual"]) ** 2))
    assert again == pytest.approx(test["rmse"], abs=1e-5)


@pytest.mark.parametrize("split", ["random", "leave-last-out"])
def test_all_models_are_judged_on_the_same_ratings(split, rate, tmp_path):
    found = []
    for model in ("mean", "ss4rec-rating"):
        assert rate(model, split, tmp_path / model) == 0
        found.append(read_predictions(tmp_path / model / "predictions.npz"))
    for name in ("users", "actual"):
        assert np.array_equal(found[0][name], found[1][name])


def test_the_mean_has_the_error_it_must_have(rate, data, tmp_path):
    assert rate("mean", "random", tmp_path / "run", "--seed", "3") == 0
    ratings = load_movielens("ml-100k", path=data)
    rows = random_holdout(ratings, seed=3)[1]
    values = ratings["rating"].to_numpy(dtype=np.float64)
    actual, mean = values[rows["test"]], values[rows["train"]].mean()
    test = record_of(tmp_path / "run")["test"]
    assert test["rmse"] == pytest.approx(np.sqrt(np.mean((actual - mean) ** 2)), abs=1e-9)
    assert test["mae"] == pytest.approx(np.mean(np.abs(actual - mean)), abs=1e-9)
    assert test["r2"] == pytest.approx(0, abs=1e-12)


def test_the_mean_ranks_by_chance(rate, tmp_path):
    """All items tie, so a target is among the first ten of 40 with probability 1/4."""
    assert rate("mean", "leave-last-out", tmp_path / "run", "--min-interactions", "0") == 0
    unmasked = record_of(tmp_path / "run")["ranking"][0]
    assert unmasked["test"]["hr@10"] == pytest.approx(10 / N_ITEMS)


def test_five_folds_are_judged_together_and_one_by_one(rate, tmp_path):
    assert rate("bias", "5-fold", tmp_path / "all") == 0
    record = record_of(tmp_path / "all")
    n = N_USERS * 12
    assert record["protocol"] | {"n_test": n, "folds_run": 5} == record["protocol"]
    assert record["valid"] is None and record["ranking"] is None and len(record["folds"]) == 5
    squared = np.mean([fold["rmse"] ** 2 for fold in record["folds"]])  # folds of equal size
    assert record["test"]["rmse"] == pytest.approx(np.sqrt(squared))
    assert rate("mean", "5-fold", tmp_path / "mean") == 0
    assert record_of(tmp_path / "mean")["test"]["calibration_slope"] is None  # as in each fold
    assert rate("bias", "5-fold", tmp_path / "two", "--folds", "2") == 0
    two = record_of(tmp_path / "two")
    assert two["folds"] == record["folds"][:2] and two["protocol"]["folds_run"] == 2
    assert "--folds 2" in rating_command(two, "name")


@pytest.mark.parametrize("model", ["neural_cf", "svd", "fm", "ss4rec-both"])
def test_the_same_seed_gives_the_same_run_and_another_one_another(model, rate, tmp_path):
    need(model)
    tests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert rate(model, "leave-last-out", tmp_path / name, "--seed", str(seed)) == 0
        tests.append(record_of(tmp_path / name)["test"])
    assert tests[0] == tests[1] != tests[2]


@pytest.mark.parametrize("model", ["bias", "ss4rec-rating"])
def test_the_printed_command_makes_the_run_again(model, rate, data, tmp_path, monkeypatch):
    options = {"reg_u": 5} if model == "bias" else {"use_ratings": False, "patience": 3}
    words = ("--seed", "2", "--min-interactions", "3")
    assert rate(model, "leave-last-out", tmp_path / "run", *words, **options) == 0
    record = record_of(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    program, *again = shlex.split(rating_command(record, "again"))
    assert program == "ss4rec"
    assert cli.main([*again, "--path", str(data)]) == 0
    found = record_of(tmp_path / "runs" / "again")
    same = ("config", "protocol", "seed", "valid", "test", "ranking", "best_epoch")
    assert {name: found[name] for name in same} == {name: record[name] for name in same}


def test_a_run_cut_short_goes_on_to_the_same_end(rate, tmp_path, monkeypatch):
    from ss4rec_lib.experiments import rate_fit

    assert rate("ss4rec-rating", "leave-last-out", tmp_path / "whole", epochs=3) == 0

    def cut(folder, history):
        original(folder, history)
        if len(history) == 2:
            raise KeyboardInterrupt

    original = rate_fit._write_history
    monkeypatch.setattr(rate_fit, "_write_history", cut)
    assert rate("ss4rec-rating", "leave-last-out", tmp_path / "cut", epochs=3) == 130
    assert not (tmp_path / "cut" / "result.json").exists()
    monkeypatch.undo()
    assert rate("ss4rec-rating", "leave-last-out", tmp_path / "cut", "--resume", epochs=3) == 0
    whole, resumed = record_of(tmp_path / "whole"), record_of(tmp_path / "cut")
    assert whole["test"] == resumed["test"] and whole["ranking"] == resumed["ranking"]


def test_a_folder_with_a_run_is_refused_and_a_finished_one_is_not_repeated(rate, tmp_path, capsys):
    assert rate("bias", "leave-last-out", tmp_path / "run") == 0
    before = (tmp_path / "run" / "result.json").read_bytes()
    assert rate("bias", "leave-last-out", tmp_path / "run") == 2
    assert "holds a run already" in capsys.readouterr().err
    assert rate("bias", "leave-last-out", tmp_path / "run", "--resume") == 0
    assert rate("bias", "leave-last-out", tmp_path / "run", "--resume", reg_u=3) == 2
    assert "reg_u is 15 there and 3" in capsys.readouterr().err
    assert cli.main(["rate", "--resume", "--out", str(tmp_path / "run")]) == 0
    assert cli.main(["rate", "--resume", "--out", str(tmp_path / "none")]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert (tmp_path / "run" / "result.json").read_bytes() == before


def test_the_folder_of_another_kind_of_run_is_refused(rate, finished, capsys):
    assert rate("bias", "leave-last-out", finished) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert rate("bias", "leave-last-out", finished, "--resume") == 2
    assert "settings.json cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sdv", "random"], "model is 'sdv': choose one of mean, bias.*Did you mean 'svd'"),
        (["svd", "leave-one-out"], "split is 'leave-one-out': choose one of random"),
        (["ss4rec-rating", "5-fold"], "5-fold has no validation part"),
        (["neural_cf", "5-fold"], "5-fold has no validation part"),
        (["bias", "random", "--folds", "2"], "folds=2: split random has none"),
        (["bias", "5-fold", "--folds", "6"], "folds=6: expected an integer from 1 to 5"),
        (["bias", "random", "--seed", "-1"], "seed=-1: expected"),
        (["bias", "random", "--min-interactions", "-1"], "min_interactions=-1"),
        (["bias", ""], "split is '': choose one of"),
        (["bias", "random", "--set", "reg=3"], "bias has no option 'reg'.*Did you mean 'reg_"),
        (["mean", "random", "--set", "x=3"], "mean has no option 'x'.*It has none"),
        (["bias", "random", "--set", "n_epochs=0"], "n_epochs=0: expected at least 1"),
        (["bias", "random", "--set", "n_epochs=x"], "n_epochs must be an integer"),
        (["neural_cf", "random", "--set", "dropout_prob=1.5"], "dropout_prob=1.5"),
        (["ss4rec-both", "random", "--set", "rating_weight=0"], "rating_weight=0"),
        (["ss4rec-rating", "random", "--set", "rating_weight=2"], "has no option 'rating_weight'"),
        (["ss4rec-both", "random", "--set", "hidden_size=8"], "d_H=32 but hidden_size=8"),
        (["ss4rec-both", "random", "--set", "user_factors=8"], "has no option 'user_factors'"),
        (["ss4rec-user", "random", "--set", "user_penalty=-1"], "user_penalty=-1"),
        (["ss4rec-both", "random", "--set", "accumulate=2"], "accumulate=1"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(
    words, message, data, tmp_path, capsys
):
    model, split, *more = words
    run = tmp_path / "run"
    given = ["rate", "--dataset", "ml-100k", "--path", str(data), "--model", model]
    assert cli.main([*given, "--split", split, "--out", str(run), *more]) == 2
    error = capsys.readouterr().err
    assert pd.Series([error]).str.contains(message, regex=True).all(), error
    assert not run.exists()


def test_what_must_be_named_is_asked_for(tmp_path, capsys):
    words = ["--dataset", "ml-100k", "--model", "bias", "--split", "random"]
    for n, name in enumerate(("dataset", "model", "split")):
        assert cli.main(["rate", "--out", str(tmp_path / "run"), *words[: 2 * n]]) == 2
        assert f"no {name} is named: give --{name}" in capsys.readouterr().err


def test_equal_ratings_are_refused_before_anything_is_written(rate, tmp_path, capsys):
    path = tmp_path / "u.data"
    table().assign(rating=3).to_csv(path, sep="\t", header=False, index=False)
    for model in ("bias", "ss4rec-rating"):
        assert rate(model, "leave-last-out", tmp_path / "run", path=path) == 2
        assert "all training ratings of ml-100k are 3" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_library_that_lacks_is_named_before_anything_is_written(
    rate, tmp_path, monkeypatch, capsys
):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert rate("svd", "random", tmp_path / "run") == 2
    assert "'surprise', which is not installed: pip install" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_catalogue_too_small_for_the_metrics_is_refused(rate, tmp_path, capsys):
    path = tmp_path / "u.data"
    few = table()
    few[few["item"] <= 15].to_csv(path, sep="\t", header=False, index=False)
    words = ("--min-interactions", "0")
    with pytest.warns(UserWarning, match="fewer than 3"):
        assert rate("bias", "leave-last-out", tmp_path / "run", *words, path=path) == 2
    assert "15 items after the filter: expected at least 20" in capsys.readouterr().err


def test_errors_are_over_users_where_a_user_has_several_targets(rate, tmp_path):
    assert rate("bias", "random", tmp_path / "run") == 0
    found, record = (
        read_predictions(tmp_path / "run" / "predictions.npz"),
        record_of(tmp_path / "run"),
    )
    assert len(np.unique(found["users"])) < len(found["users"])
    again = rating_metrics(
        found["predicted"], found["actual"], train_mean=3.0, users=found["users"]
    )
    assert again["rmse_se"] == pytest.approx(record["test"]["rmse_se"], rel=1e-4)


def test_the_generated_data_can_be_rated_too(tmp_path):
    words = ["rate", "--dataset", "planted", "--model", "bias", "--split", "leave-last-out"]
    assert cli.main([*words, "--out", str(tmp_path / "run")]) == 0
    assert abs(record_of(tmp_path / "run")["test"]["r2"]) < 0.1  # its ratings follow nothing


def test_settings_say_everything_that_is_in_force():
    from ss4rec_lib.experiments.rate_settings import RateSettings

    settings = RateSettings("ml-100k", "svd", "random")
    assert settings.min_interactions == 0
    assert dataclasses.replace(settings, split="global-time", min_interactions=None).resolved() == {
        "dataset": "ml-100k", "model": "svd", "split": "global-time", "path": None,
        "ordering": "exact-time", "min_interactions": 5, "seed": 0, "folds": 5, "n_factors": 100,
        "n_epochs": 20, "lr_all": 0.005, "reg_all": 0.02, "init_std_dev": 0.1,
    }  # fmt: skip
