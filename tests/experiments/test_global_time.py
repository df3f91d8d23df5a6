"""Runs on the global-time split: the same commands, told apart wherever runs are shown."""

import json
import shlex
import warnings

import pytest

from ss4rec_lib import cli
from ss4rec_lib.data import global_time_split, load_movielens
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.experiments import folder as folder_module
from ss4rec_lib.experiments import run as run_module
from ss4rec_lib.experiments.folder import load_split
from ss4rec_lib.experiments.keep import keep
from ss4rec_lib.experiments.ranks import read_ranks
from ss4rec_lib.experiments.results import grouped, load_records, record_name
from ss4rec_lib.experiments.settings import Settings, settings_from_options
from ss4rec_lib.models import load_model

GLOBAL = ("--split", "global-time")


def result(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def later(train, tmp_path_factory):
    """The folder of a finished run on the global-time split."""
    folder = tmp_path_factory.mktemp("global") / "run"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # users without a target are logged, not warned about
        warnings.simplefilter("ignore", DeprecationWarning)
        assert train(folder, *GLOBAL) == 0
    return folder


@pytest.fixture
def newcomers(monkeypatch):
    """Makes some users of planted begin after a cut, as it happens everywhere else."""
    ratings = load_movielens("planted")
    late = ratings["user_id"] % 20 == 0
    cut = global_time_split(ratings).report["valid_from"]
    begin = cut + 86_400 * ratings["user_id"].astype("int64")  # spread over the days after it
    first = ratings.groupby("user_id")["timestamp"].transform("min")
    ratings.loc[late, "timestamp"] += (begin - first)[late]
    monkeypatch.setattr(folder_module, "load_movielens", lambda name, path=None: ratings)


@pytest.fixture(scope="module")
def split():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return global_time_split(load_movielens("planted"))


def test_the_record_says_which_split_and_where_it_cuts(later, split):
    protocol = result(later)["protocol"]
    assert protocol["split"] == "global-time"
    assert protocol["fingerprint"] == split.fingerprint()
    for name in ("valid_from", "test_from", "n_valid", "n_test"):
        assert protocol[name] == split.report[name]
    assert "Split(global-time" in (later / "log.txt").read_text()


def test_users_who_come_later_are_logged_and_not_warned_about(tmp_path, newcomers, capsys):
    run = tmp_path / "run"
    words = ["train", "--dataset", "planted", "--preset", "popularity", "--out", str(run), *GLOBAL]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cli.main(words) == 0
    log = (run / "log.txt").read_text()
    assert "users without a target: {'valid_without_history': " in log
    assert "Warning" not in capsys.readouterr().err


def test_the_figures_are_those_of_the_library_alone(later, split):
    record, model = result(later), load_model(later / "model.safetensors")
    for arm in record["arms"]:
        for part in ("valid", "test"):
            expected = evaluate_ranking(
                model, split, part, mask_seen=arm["masked"], target_time=arm["target_time"]
            )
            assert arm[part] == pytest.approx(dict(expected))
    ranks = read_ranks(later / "ranks.npz")
    assert len(ranks["known", False].users) == split.report["n_test"]
    assert ranks["known", False]["hr@10"] == pytest.approx(record["test"]["hr@10"])


def test_evaluate_and_recommend(later, split, capsys):
    assert cli.main(["evaluate", str(later)]) == 0
    shown = capsys.readouterr()
    assert f"global-time, exact-time, test: {split.report['n_test']:,} targets" in shown.out
    assert f"{result(later)['test']['ndcg@10']:.4f}" in shown.out and shown.err == ""
    assert cli.main(["recommend", str(later), "--user", "7", "--at", "2030-01-01"]) == 0


def test_resuming_keeps_the_split_and_refuses_another(train, later, tmp_path, monkeypatch, capsys):
    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_model", killed)
        with pytest.raises(Killed):
            train(run, *GLOBAL)
    assert train(run, "--resume", "--split", "leave-one-out") == 2
    assert "split is global-time there and leave-one-out here" in capsys.readouterr().err
    assert cli.main(["train", "--resume", "--out", str(run)]) == 0
    assert result(run)["arms"] == result(later)["arms"]
    assert train(run, "--resume", *GLOBAL) == 0


def test_runs_are_told_apart_and_made_again(later, finished, tmp_path):
    keep(finished, "one", tmp_path)
    keep(later, "two", tmp_path)
    one, two = grouped(load_records(tmp_path))
    assert (one.names, two.names) == (["one"], ["two"])
    assert "--split" not in one.command(0) and "--split global-time" in two.command(0)
    options = cli._parser().parse_args(shlex.split(two.command(0))[1:])
    names = ("dataset", "path", "ordering", "split", "min_interactions", "preset", "seed")
    given = {name: getattr(options, name) for name in names}
    assert settings_from_options(given, options.changes) == Settings.read(later / "settings.json")
    first, second = record_name(one.first), record_name(two.first)
    assert second == first.replace("exact-time_", "exact-time_global-time_")


def test_an_older_file_of_settings_means_leave_one_out(tmp_path):
    path = tmp_path / "settings.json"
    Settings("planted").write(path)
    content = json.loads(path.read_text())
    assert content.pop("split") == "leave-one-out" and content["format"] == 1
    path.write_text(json.dumps(content))
    assert Settings.read(path) == Settings("planted")
    assert load_split(Settings.read(path))[0].kind == "leave-one-out"


def test_an_unknown_split_is_refused(train, tmp_path, capsys):
    assert train(tmp_path / "run", "--split", "global") == 2
    shown = capsys.readouterr().err
    assert "split is 'global': choose one of leave-one-out, global-time" in shown
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("preset", ["popularity", "recent_popularity_user", "item_knn", "gru4rec"])
def test_baselines_too(preset, tmp_path, split):
    run = tmp_path / "run"
    words = ["train", "--dataset", "planted", "--preset", preset, "--out", str(run), *GLOBAL]
    assert cli.main(words + ["--set=epochs=1"] * (preset == "gru4rec")) == 0
    record = result(run)
    assert record["protocol"]["split"] == "global-time"
    assert record["protocol"]["target_time"] == "none" and len(record["arms"]) == 2
    assert len(read_ranks(run / "ranks.npz")["none", False].users) == split.report["n_test"]
    assert cli.main(["evaluate", str(run)]) == 0


@pytest.mark.parametrize("preset", ["bpr_mf", "neural_cf"])
def test_models_that_learn_users_refuse_users_they_never_saw(preset, tmp_path, newcomers, capsys):
    """Their ranks would be those of random numbers."""
    if preset == "bpr_mf":
        pytest.importorskip("implicit")
    run = tmp_path / "run"
    words = ["train", "--dataset", "planted", "--preset", preset, "--out", str(run), *GLOBAL]
    assert cli.main(words) == 2
    assert "users with a target have no interaction there" in capsys.readouterr().err
    assert not run.exists()
