"""Baselines that are fitted in one go: the same commands and records as trained models."""

import importlib.util
import shutil
import warnings

import pytest

from ss4rec_lib import cli
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.experiments import RunConfig, evaluation_of, open_run, summary
from ss4rec_lib.experiments import run as run_module
from ss4rec_lib.experiments import task as task_module
from ss4rec_lib.models import PRESETS

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
    return ["train", "--dataset", "planted", "--model", preset, "--out", str(out), *changes, *more]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a function from a preset to the folder of a finished run of it."""
    made = {}

    def make(preset):
        if preset in IMPLICIT:
            pytest.importorskip("implicit")
        if preset not in made:
            made[preset] = tmp_path_factory.mktemp("fitted") / preset
            assert cli.main(words(preset, made[preset])) == 0
        return made[preset]

    return make


def test_all_fitted_presets_are_tried():
    assert set(QUICK) == {n for n, p in PRESETS["ranking"].items() if p.model.fitted}


@pytest.mark.parametrize("preset", QUICK)
def test_it_leaves_a_record_like_any_other(preset, runs, record_of):
    run, record = runs(preset), record_of(runs(preset))
    files = {"config.json", "log.txt", "per_target.npz", "record.json"}
    files |= {"model.safetensors"} if preset in LEARNED else set()
    files |= {"history.csv"} if preset == "neural_cf" else set()
    assert {path.name for path in run.iterdir()} == files
    assert (record["display_name"], record["model"]) == (QUICK[preset][1], preset)
    assert record["protocol"]["target_time"] == "none"
    assert record["uses_time"] is False
    assert record["selection"] == {"metric": "ndcg@10", "masked": True}
    conditions = {(e["target_time"], e["masked"]) for e in record["evaluations"]}
    assert conditions == {("none", False), ("none", True)}
    assert evaluation_of(record, masked=False)["hr@20"] > 0
    assert (record["parameters"] > 0) == (preset in LEARNED)
    assert 0 < record["seconds"]["train"] < record["seconds"]["wall"]
    given = {f"{k}={str(v).lower()}" for k, v in record["overrides"].items()}
    assert len(given) == len(QUICK[preset][0])
    if preset != "neural_cf":
        assert (record["epochs"], record["best_epoch"], record["curve"]) == (0, 0, [])
        assert (record["stopped"], record["seconds"]["valid"]) == ("fitted", 0)


@pytest.mark.parametrize("preset", QUICK)
def test_evaluate_gives_the_recorded_figures_and_recommend_a_list(preset, runs, record_of, capsys):
    run, record = str(runs(preset)), record_of(runs(preset))
    for more, part, masked in ([], "test", False), (["--mask-seen", "--part=valid"], "valid", True):
        assert cli.main(["evaluate", run, *more]) == 0
        expected = evaluation_of(record, part, masked=masked)
        shown = capsys.readouterr().out
        assert f"{expected['ndcg@10']:.4f} ± {expected['ndcg@10_se']:.4f}" in shown
    # Other conditions of time would have the same figures: they get no names of their own.
    assert cli.main(["evaluate", run, "--target-time", "hidden"]) == 0
    assert "target time none" in capsys.readouterr().out
    assert cli.main(["recommend", run, "--user", "7", "--at", "2030-01-01T00:00", "-k", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.parametrize("preset", QUICK)
def test_the_seed_decides_where_one_is_drawn(preset, runs, record_of, tmp_path):
    first = runs(preset)  # or a skip, where its library is not installed
    assert cli.main(words(preset, tmp_path / "same")) == 0
    same = (tmp_path / "same" / "per_target.npz").read_bytes()
    assert same == (first / "per_target.npz").read_bytes()
    assert record_of(tmp_path / "same")["evaluations"] == record_of(first)["evaluations"]
    assert cli.main(words(preset, tmp_path / "other", "--seed", "1")) == 0
    other = record_of(tmp_path / "other")
    assert (other["evaluations"] != record_of(first)["evaluations"]) == (preset in LEARNED)


@pytest.mark.parametrize(
    ("preset", "change", "more"),
    [
        *((preset, change, "") for preset in QUICK for change in ("d_P=8", "n_heads=2")),
        ("popularity", "epochs=3", ""),
        ("popularity", "window_days=3", ""),
        ("recent_popularity", "window_days=0", ""),
        ("recent_popularity", "moments=now", "user"),
        ("item_knn", "n_neighbours=0", ""),
        ("item_knn", "n_neighbor=3", "n_neighbours"),
        ("als", "learning_rate=1", ""),
        ("als", "alpha=-1", ""),
        ("bpr_mf", "epochs=3", ""),
        ("neural_cf", "mlp_hidden_size=8,x", ""),
        ("neural_cf", "mlp_hidden_size=8,0", ""),
        ("neural_cf", "loss_type=SAMPLED_CE", "BCE"),
    ],
)
def test_bad_options_are_one_message_and_leave_nothing(preset, change, more, tmp_path, capsys):
    run = tmp_path / "run"
    given = ["train", "--dataset", "planted", "--model", preset, "--out", str(run)]
    assert cli.main([*given, "--set", change]) == 2
    shown = capsys.readouterr().err
    assert change.partition("=")[0] in shown
    assert more in shown
    assert not run.exists()


@pytest.mark.parametrize("preset", ["item_knn", "neural_cf"])
@pytest.mark.parametrize("moment", ["fit", "rank_both", "make_record"])
def test_an_unfinished_run_resumed_begins_again(
    preset, moment, runs, record_of, tmp_path, monkeypatch
):
    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        where = {"fit": PRESETS["ranking"][preset].model, "rank_both": task_module}
        patch.setattr(where.get(moment, run_module), moment, killed)
        with pytest.raises(Killed):
            cli.main(words(preset, run))
    assert (run / "config.json").exists()
    assert not (run / "record.json").exists()
    assert cli.main(["train", "--resume", "--out", str(run)]) == 0
    assert record_of(run)["evaluations"] == record_of(runs(preset))["evaluations"]
    assert record_of(run)["resumed"]


@pytest.mark.parametrize("preset", ["popularity", "recent_popularity", "item_knn"])
def test_the_figures_are_those_of_the_library_alone(preset, runs, record_of):
    run, record = open_run(runs(preset)), record_of(runs(preset))
    kind = run.config.preset.model
    model = kind.fit(run.split, run.config.model_options, run.config.training_options).model
    for part in ("valid", "test"):
        max_len = record["protocol"]["max_len"]
        expected = evaluate_ranking(model, run.split, part, max_len=max_len, target_time="none")
        assert evaluation_of(record, part, masked=False) == pytest.approx(dict(expected))


def test_neural_cf_has_a_curve_and_the_epoch_that_validates_best(runs, record_of):
    record = record_of(runs("neural_cf"))
    assert [row["epoch"] for row in record["curve"]] == [1, 2]
    best = max(record["curve"], key=lambda row: row["masked_ndcg@10"])
    assert (record["best_epoch"], record["epochs"]) == (best["epoch"], 2)
    unmasked, masked = (evaluation_of(record, "valid", masked=m) for m in (False, True))
    assert unmasked["ndcg@10"] == pytest.approx(best["ndcg@10"])
    assert masked["ndcg@10"] == pytest.approx(best["masked_ndcg@10"])
    assert f"NDCG@10 {masked['ndcg@10']:.4f}" in summary(record)
    seconds = sum(row["train_seconds"] for row in record["curve"])
    assert record["seconds"]["train"] == pytest.approx(seconds)
    assert record["seconds"]["valid"] > 0


def test_options_shared_with_training_have_the_models_own_defaults():
    bpr = RunConfig(data={"dataset": "ml-1m"}, model="bpr_mf", seed=5)
    assert bpr.training_options.learning_rate == 0.01
    bpr = RunConfig(data={"dataset": "ml-1m"}, model="bpr_mf", training={"learning_rate": 0.2})
    assert bpr.overrides() == {"learning_rate": 0.2}
    ncf = RunConfig(data={"dataset": "planted"}, model="neural_cf")
    assert ncf.training_options.n_negatives == 4


@pytest.mark.parametrize("preset", IMPLICIT)
def test_a_missing_package_is_named_before_anything_is_written(
    preset, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(words(preset, tmp_path / "run")) == 2
    shown = capsys.readouterr().err
    assert "implicit" in shown
    assert "pip install" in shown
    assert not (tmp_path / "run").exists()


def test_a_finished_run_needs_no_implicit(runs, monkeypatch):
    run = runs("als")
    monkeypatch.setitem(__import__("sys").modules, "implicit", None)
    assert cli.main(["evaluate", str(run)]) == 0


@pytest.mark.parametrize(
    ("preset", "change"),
    [("bpr_mf", "learning_rate=1e30"), ("als", "alpha=1e38"), ("neural_cf", "learning_rate=1e30")],
)
def test_a_model_that_diverged_is_one_message_and_no_record(preset, change, tmp_path, capsys):
    if preset in IMPLICIT:
        pytest.importorskip("implicit")
    run = tmp_path / "run"
    given = ["train", "--dataset", "planted", "--model", preset, "--out", str(run)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert cli.main([*given, "--set", change]) == 2
        assert cli.main([*given, "--set", change, "--resume"]) == 2
    shown = capsys.readouterr().err
    assert "finite" in shown
    assert "Traceback" not in shown
    assert "TrainingDiverged" in (run / "log.txt").read_text()
    assert not (run / "record.json").exists()


@pytest.mark.parametrize("preset", LEARNED)
def test_a_damaged_or_foreign_model_file_is_named(preset, runs, tmp_path, capsys):
    copy = shutil.copytree(runs(preset), tmp_path / "copy")
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert cli.main(["evaluate", str(copy)]) == 2
    assert "model.safetensors" in capsys.readouterr().err
    other = next(name for name in LEARNED[1:] if name != preset)
    shutil.copy(runs(other) / "model.safetensors", path)
    assert cli.main(["evaluate", str(copy)]) == 2
    assert "model.safetensors" in capsys.readouterr().err
    path.unlink()
    assert cli.main(["evaluate", str(copy)]) == 2
    assert "model.safetensors" in capsys.readouterr().err
