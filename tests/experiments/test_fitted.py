"""Baselines that are fitted in one go: the same commands, records and tables as trained models."""

import json
import shlex
import shutil
import sys
import warnings

import numpy as np
import pytest

from ss4rec_lib import cli
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.experiments import run as run_module
from ss4rec_lib.experiments.changes import MODEL_KEYS, TRAINING_KEYS, as_text, parse_changes
from ss4rec_lib.experiments.errors import SettingsError
from ss4rec_lib.experiments.folder import load_split
from ss4rec_lib.experiments.keep import keep
from ss4rec_lib.experiments.record import summary
from ss4rec_lib.experiments.results import changes_of, grouped, load_records, record_name
from ss4rec_lib.experiments.settings import Settings, settings_from_options
from ss4rec_lib.models import (
    FITTED,
    TRAINED_WITH,
    ItemKNN,
    Popularity,
    RecentPopularity,
    config_fields,
    interaction_matrix,
    moments_of,
    training_interactions,
)

# What makes each quick, and its name in a table.
QUICK = {
    "popularity": ([], "Popularity"),
    "recent_popularity": (["window_days=200.0"], "Recent popularity"),
    "recent_popularity_user": (["window_days=60.0"], "Recent popularity, user's moment"),
    "item_knn": (["n_neighbours=20", "shrinkage=2.5", "max_len=none"], "ItemKNN"),
    "als": (["factors=8", "iterations=2"], "ALS"),
    "bpr_mf": (["factors=8", "iterations=2", "learning_rate=0.05"], "BPR-MF"),
    "neural_cf": (["epochs=2", "mlp_hidden_size=16,8", "learning_rate=0.01"], "NeuralCF"),
}
IMPLICIT = ("als", "bpr_mf")
LEARNED = (*IMPLICIT, "neural_cf")


def words(preset, out, *more):
    changes = [f"--set={change}" for change in QUICK[preset][0]]
    return ["train", "--dataset", "planted", "--preset", preset, "--out", str(out), *changes, *more]


def result(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Gives the folder of a finished run of a preset; tests read it and change nothing."""
    made = {}

    def make(preset):
        if preset in IMPLICIT:
            pytest.importorskip("implicit")
        if preset not in made:
            made[preset] = tmp_path_factory.mktemp("fitted") / preset
            assert cli.main(words(preset, made[preset])) == 0
        return made[preset]

    return make


# ------------------------------------------------------------------------------------- every one


@pytest.mark.parametrize("preset", FITTED)
def test_it_leaves_a_record_like_any_other(preset, runs, tmp_path):
    run, record = runs(preset), result(runs(preset))
    files = {"settings.json", "log.txt", "ranks.npz", "result.json"}
    files |= {"model.safetensors"} if preset in LEARNED else set()
    files |= {"history.csv"} if preset == "neural_cf" else set()
    assert {path.name for path in run.iterdir()} == files
    assert record["model"] == QUICK[preset][1] and record["preset"] == preset
    assert record["protocol"]["target_time"] == "none"
    arms = [(arm["target_time"], arm["masked"]) for arm in record["arms"]]
    assert arms == [("none", False), ("none", True)]
    assert record["arms"][0]["test"] == record["test"] and record["test"]["hr@20"] > 0
    assert (record["parameters"] > 0) == (preset in LEARNED)
    assert 0 < record["train_seconds"] < record["wall_seconds"]
    if preset != "neural_cf":
        assert (record["epochs"], record["best_epoch"], record["curve"]) == (0, 0, [])
        assert record["stopped"] == "fitted" and record["valid_seconds"] == 0
    assert "NaN" not in (run / "result.json").read_text()


@pytest.mark.parametrize("preset", FITTED)
def test_it_is_kept_in_a_table_with_the_command_that_makes_it_again(preset, runs, tmp_path):
    record = result(runs(preset))
    keep(runs(preset), "kept", tmp_path / "results")
    records = load_records(tmp_path / "results")
    assert records["kept"] == record
    page = (tmp_path / "results" / "README.md").read_text()
    assert f"| {record['model']} |" in page
    (group,) = grouped(records)
    assert group.command(0) in page
    given = {as_text(k): as_text(v) for k, v in changes_of(record).items()}
    assert given == {k.partition("=")[0]: k.partition("=")[2] for k in QUICK[preset][0]}
    options = cli._parser().parse_args(shlex.split(group.command(0))[1:])
    names = ("dataset", "path", "ordering", "split", "min_interactions", "preset", "seed")
    again = settings_from_options({n: getattr(options, n) for n in names}, options.changes)
    assert again == Settings.read(runs(preset) / "settings.json")


@pytest.mark.parametrize("preset", FITTED)
def test_evaluate_gives_the_recorded_figures_and_recommend_a_list(preset, runs, capsys):
    run, record = str(runs(preset)), result(runs(preset))
    for more, arm, part in ([], 0, "test"), (["--mask-seen", "--part", "valid"], 1, "valid"):
        assert cli.main(["evaluate", run, *more]) == 0
        expected = record["arms"][arm][part]
        shown = capsys.readouterr().out
        assert f"{expected['ndcg@10']:.4f} ± {expected['ndcg@10_se']:.4f}" in shown
    # Arms of time would have the same figures: they are not given names of their own.
    assert cli.main(["evaluate", run, "--target-time", "hidden"]) == 0
    assert "target time none" in capsys.readouterr().out
    assert cli.main(["recommend", run, "--user", "7", "--at", "2030-01-01T00:00", "-k", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.parametrize("preset", FITTED)
def test_the_same_seed_gives_the_same_ranks_and_a_seed_matters_where_one_is_drawn(
    preset, runs, tmp_path
):
    first = runs(preset)  # or a skip, where its library is not installed
    assert cli.main(words(preset, tmp_path / "same")) == 0
    assert (tmp_path / "same" / "ranks.npz").read_bytes() == (first / "ranks.npz").read_bytes()
    assert result(tmp_path / "same")["arms"] == result(first)["arms"]
    assert cli.main(words(preset, tmp_path / "other", "--seed", "1")) == 0
    other = result(tmp_path / "other")
    assert (other["arms"] != result(first)["arms"]) == (preset in LEARNED)
    (group,) = grouped({"a": result(first), "b": other})
    assert group.seeds == [0, 1]


@pytest.mark.parametrize("preset", FITTED)
def test_an_option_that_means_nothing_to_it_is_refused(preset, tmp_path, capsys):
    for change in ("hidden_size=8", "max_tokens=100", "n_heads=2"):
        assert cli.main([*words(preset, tmp_path / "run"), "--set", change]) == 2
        assert f"{change} is no option of the" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("preset", "change", "message"),
    [
        ("popularity", "epochs=3", "epochs=3 is no option of the training part"),
        ("popularity", "window_days=3", "window_days=3.0 is no option of the model part"),
        ("recent_popularity", "window_days=0", "window_days=0.0: expected a finite"),
        ("recent_popularity", "moments=now", "moments='now': choose one of end, user"),
        ("item_knn", "n_neighbours=0", "n_neighbours=0"),
        ("item_knn", "n_neighbor=3", "Did you mean 'n_neighbours'"),
        ("als", "learning_rate=1", "learning_rate=1.0 is no option of the training part"),
        ("als", "alpha=-1", "alpha=-1.0"),
        ("bpr_mf", "epochs=3", "epochs=3 is no option of the training part"),
        ("neural_cf", "mlp_hidden_size=8,x", "must be integers with commas between them"),
        ("neural_cf", "mlp_hidden_size=8,0", "mlp_hidden_size=(8, 0)"),
        ("neural_cf", "loss_type=SAMPLED_CE", "choose one of CE, BPR, BCE"),
    ],
)
def test_bad_options_are_one_message_and_leave_nothing(preset, change, message, tmp_path, capsys):
    run = str(tmp_path / "run")
    given = ["train", "--dataset", "planted", "--preset", preset, "--out", run]
    assert cli.main([*given, "--set", change]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("preset", FITTED)
def test_a_finished_run_resumed_gives_its_record_and_computes_nothing(
    preset, runs, monkeypatch, capsys
):
    before = {path: path.read_bytes() for path in runs(preset).iterdir()}
    monkeypatch.delattr(run_module, "fit_run")
    assert cli.main(["train", "--resume", "--out", str(runs(preset))]) == 0
    assert f"{result(runs(preset))['test']['hr@10']:.4f}" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in runs(preset).iterdir()} == before
    assert cli.main(["train", "--resume", "--out", str(runs(preset)), "--seed", "3"]) == 2
    assert "seed is 0 there and 3 here" in capsys.readouterr().err
    assert cli.main(["train", "--resume", "--out", str(runs(preset)), "--set", "d_P=3"]) == 2
    assert "d_P is no option there and 3 here" in capsys.readouterr().err


@pytest.mark.parametrize("preset", ["item_knn", "neural_cf"])
@pytest.mark.parametrize("moment", ["fit_run", "save_fitted", "evaluate_arms", "make_record"])
def test_an_unfinished_run_resumed_begins_anew(preset, moment, runs, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(run_module, moment, killed)
        with pytest.raises(Killed):
            cli.main(words(preset, run))
    assert (run / "settings.json").exists() and not (run / "result.json").exists()
    assert cli.main(["train", "--resume", "--out", str(run)]) == 0
    assert result(run)["arms"] == result(runs(preset))["arms"] and result(run)["resumed"]


# --------------------------------------------------------------------- they are what they say


def test_the_figures_are_those_of_the_library_alone(runs):
    split, _ = load_split(Settings("planted"))
    _, items, times = training_interactions(split)
    n_items = split.sequences.n_items
    for preset, model in {
        "popularity": Popularity(split.train_counts()),
        "recent_popularity": RecentPopularity(items, times, n_items, 200),
        "item_knn": ItemKNN(interaction_matrix(split), Settings.read(
            runs("item_knn") / "settings.json").model_config()),
    }.items():  # fmt: skip
        length = None if preset == "item_knn" else 200
        for part in ("valid", "test"):
            expected = evaluate_ranking(model, split, part, max_len=length)
            assert result(runs(preset))[part] == pytest.approx(dict(expected))


def test_each_part_is_asked_at_its_users_own_moments(runs):
    split, _ = load_split(Settings("planted"))
    _, items, times = training_interactions(split)
    record = result(runs("recent_popularity_user"))
    for part in ("valid", "test"):
        model = RecentPopularity(items, times, split.sequences.n_items, 60, moments_of(split, part))
        assert record[part] == pytest.approx(dict(evaluate_ranking(model, split, part)))


def test_neural_cf_has_a_curve_and_the_epoch_that_validates_best(runs):
    record = result(runs("neural_cf"))
    assert [row["epoch"] for row in record["curve"]] == [1, 2]
    best = max(record["curve"], key=lambda row: row["masked_ndcg@10"])
    assert record["best_epoch"] == best["epoch"] and record["epochs"] == 2
    assert record["valid"]["ndcg@10"] == pytest.approx(best["ndcg@10"])
    masked = record["arms"][1]["valid"]
    assert masked["ndcg@10"] == pytest.approx(best["masked_ndcg@10"])
    assert f"NDCG@10 {masked['ndcg@10']:.4f}" in summary(record).splitlines()[-1]
    assert record["train_seconds"] == pytest.approx(
        sum(row["train_seconds"] for row in record["curve"])
    )
    assert record["valid_seconds"] > 0 and record["curve"][0]["train_loss"] > 0


# ----------------------------------------------------------------------------- the options


def test_names_are_read_one_way_only():
    assert not set(MODEL_KEYS) & set(TRAINING_KEYS)
    for kind, of_training in TRAINED_WITH.items():
        assert set(of_training) <= set(TRAINING_KEYS)
        for name, declared in config_fields(kind).items():
            assert (MODEL_KEYS | TRAINING_KEYS)[name] == declared, name
        shared = set(config_fields(kind)) & set(TRAINING_KEYS)
        assert shared <= {*of_training, "seed"}, "what is handed on can be set"
    assert parse_changes(["mlp_hidden_size=32,16"]) == {"mlp_hidden_size": (32, 16)}


def test_shared_options_come_from_training_and_their_defaults_from_the_model():
    bpr = Settings("ml-1m", preset="bpr_mf", seed=5)
    assert bpr.model_config().seed == 5 and bpr.model_config().learning_rate == 0.01
    assert bpr.training_config().learning_rate == 0.01
    bpr = Settings("ml-1m", preset="bpr_mf", training={"learning_rate": 0.2})
    assert bpr.model_config().learning_rate == bpr.training_config().learning_rate == 0.2
    assert Settings("planted", preset="als", seed=3).model_config().seed == 3
    ncf = Settings("planted", preset="neural_cf")
    assert ncf.model_config().n_negatives == 4 == ncf.training_config().n_negatives
    assert ncf.training_config().epochs == Settings("planted").training_config().epochs


def test_widths_come_back_from_the_settings_file(tmp_path):
    settings = Settings("planted", preset="neural_cf", model={"mlp_hidden_size": (8, 4)})
    settings.write(tmp_path / "settings.json")
    again = Settings.read(tmp_path / "settings.json")
    assert again.model_config() == settings.model_config()
    assert again.resolved() == settings.resolved()


def test_the_command_line_names_every_one():
    (verbs,) = (a for a in cli._parser()._actions if hasattr(a, "choices") and a.choices)
    text = verbs.choices["train"].format_help()
    assert all(preset in text for preset in FITTED)


def test_names_of_files_say_which(runs):
    assert record_name(result(runs("item_knn"))) == (
        "planted_exact-time_ss4rec_item_knn_n_neighbours-20_shrinkage-2.5_max_len-none_seed0"
    )


# ------------------------------------------------------------------------------ what can fail


@pytest.mark.parametrize("preset", IMPLICIT)
def test_without_implicit_it_is_one_message_before_anything_is_written(
    preset, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "implicit", None)
    monkeypatch.delitem(sys.modules, "implicit.cpu", raising=False)
    assert cli.main(words(preset, tmp_path / "run")) == 2
    assert "pip install implicit" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_finished_run_needs_no_implicit(runs, monkeypatch, capsys):
    run = runs("als")
    monkeypatch.setitem(sys.modules, "implicit", None)
    monkeypatch.delitem(sys.modules, "implicit.cpu", raising=False)
    assert cli.main(["evaluate", str(run)]) == 0


@pytest.mark.parametrize(
    ("preset", "change"),
    [("bpr_mf", "learning_rate=1e30"), ("als", "alpha=1e38"), ("neural_cf", "learning_rate=1e30")],
)
def test_a_model_that_diverged_is_one_message_and_no_record(preset, change, tmp_path, capsys):
    if preset in IMPLICIT:
        pytest.importorskip("implicit")
    run = tmp_path / "run"
    given = ["train", "--dataset", "planted", "--preset", preset, "--out", str(run)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert cli.main([*given, "--set", change]) == 2
    shown = capsys.readouterr().err
    assert "finite" in shown and "Traceback" not in shown
    assert "TrainingDiverged" in (run / "log.txt").read_text()
    assert not (run / "result.json").exists()


@pytest.mark.parametrize("preset", LEARNED)
def test_a_damaged_or_foreign_model_file_is_named(preset, runs, tmp_path, capsys):
    copy = shutil.copytree(runs(preset), tmp_path / "copy")
    path = copy / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert cli.main(["evaluate", str(copy)]) == 2
    assert "model.safetensors is truncated" in capsys.readouterr().err
    other = next(name for name in LEARNED[1:] if name != preset)
    shutil.copy(runs(other) / "model.safetensors", path)
    assert cli.main(["evaluate", str(copy)]) == 2
    assert "is not the model of this run" in capsys.readouterr().err
    path.unlink()
    assert cli.main(["evaluate", str(copy)]) == 2
    assert "there is no file" in capsys.readouterr().err


@pytest.mark.parametrize("preset", ["item_knn", "neural_cf"])
def test_other_data_than_it_was_fitted_to_are_refused(preset, runs, monkeypatch, capsys):
    from ss4rec_lib.data import planted_ratings
    from ss4rec_lib.experiments import folder

    monkeypatch.setattr(folder, "load_movielens", lambda name, path=None: planted_ratings(seed=1))
    assert cli.main(["evaluate", str(runs(preset))]) == 2
    assert "other interactions" in capsys.readouterr().err


def test_settings_refuse_options_through_the_library_too():
    with pytest.raises(SettingsError, match="epochs=3 is no option .* expected one of max_len"):
        Settings("planted", preset="als", training={"epochs": 3})
    with pytest.raises(SettingsError, match="factors=3 is no option .* expected none"):
        Settings("planted", preset="popularity", model={"factors": 3})
    assert np.isfinite(Settings("planted", preset="als").model_config().alpha)
