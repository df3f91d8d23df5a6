"""Rating experiments in the results: kept without any rating, named, grouped, shown."""

import json

import numpy as np
import pytest

from ss4rec_lib import cli
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.rate_folder import read_predictions
from ss4rec_lib.experiments.rating_keep import keep_ratings
from ss4rec_lib.experiments.rating_results import load_rating_records, read_errors
from ss4rec_lib.experiments.rating_table import ratings_table

NEURAL = ("--set=epochs=2", "--set=mf_embedding_size=4", "--set=mlp_embedding_size=4")


def rate(out, model, split, *more):
    words = ["rate", "--dataset", "planted", "--model", model, "--split", split]
    assert cli.main([*words, "--out", str(out), *more]) == 0
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    found = {
        f"neural{seed}": rate(
            folder / f"n{seed}", "neural_cf", "leave-last-out", *NEURAL, "--seed", str(seed)
        )
        for seed in (0, 1)
    }
    found["mean"] = rate(folder / "mean", "mean", "leave-last-out")
    found["folds"] = rate(folder / "folds", "bias", "5-fold", "--folds", "2", "--set=reg_u=7")
    return found


@pytest.fixture(scope="module")
def results(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for run in runs.values():
        keep_ratings(run, folder=folder)
    return folder


def test_records_are_kept_under_names_that_say_what_they_are(results):
    assert set(load_rating_records(results / "ratings")) == {
        f"planted_leave-last-out_neural_cf_mf_embedding_size-4_mlp_embedding_size-4_epochs-2_seed{n}"
        for n in (0, 1)
    } | {"planted_leave-last-out_mean_seed0", "planted_5-fold_bias_folds-2_reg_u-7.0_seed0"}


def test_errors_are_kept_and_ratings_are_not(runs, results):
    kept = sorted((results / "ratings" / "errors").glob("*.npz"))
    assert len(kept) == 2 and all("neural_cf" in path.name for path in kept)
    with np.load(kept[0]) as archive:
        assert archive.files == ["squared_error"] and archive["squared_error"].dtype == np.float16
    found = read_predictions(runs["neural0"] / "predictions.npz")
    squared = (found["predicted"] - found["actual"]) ** 2
    assert read_errors(kept[0]) == pytest.approx(squared, rel=1e-3, abs=1e-6)
    record = json.loads((runs["neural0"] / "result.json").read_text())
    assert np.sqrt(read_errors(kept[0]).mean()) == pytest.approx(record["test"]["rmse"], abs=1e-4)


def test_the_table_puts_seeds_together_and_prints_every_command(results):
    page = ratings_table(load_rating_records(results / "ratings"))
    rows = [line for line in page.splitlines() if line.startswith("| planted |")]
    assert [row.split(" | ")[2] for row in rows] == ["mean", "neural_cf", "bias"]
    assert " sd" in rows[1] and "| 0, 1 |" in rows[1] and "2 (" in rows[1]
    assert " se" in rows[2] and "2 of 5 folds" in rows[2] and "reg_u=7" in rows[2]
    assert rows[0].split(" | ")[8] == "-"  # one prediction for all has no calibration line
    assert " sd" in rows[1].split(" | ")[4] and rows[2].split(" | ")[4] == "-"  # validation
    commands = [line for line in page.splitlines() if line.startswith("ss4rec rate")]
    assert len(commands) == 4
    assert commands[-1] == (
        "ss4rec rate --dataset planted --model bias --split 5-fold --folds 2 --set reg_u=7.0 "
        "--seed 0 --out runs/planted_5-fold_bias_folds-2_reg_u-7.0_seed0"
    )


def test_without_records_the_table_says_so():
    assert "No rating experiment" in ratings_table({})


def test_the_command_record_keeps_them(runs, tmp_path, monkeypatch, capsys):
    from ss4rec_lib.experiments import rating_keep

    monkeypatch.setattr(rating_keep, "results_folder", lambda: tmp_path)
    assert cli.main(["record", str(runs["mean"]), "--as", "kept"]) == 0
    assert "ratings/kept.json: recorded" in capsys.readouterr().out
    assert cli.main(["record", str(runs["mean"]), "--as", "kept"]) == 0  # the same run, again
    assert cli.main(["record", str(runs["mean"]), "--as", "twice"]) == 2
    assert "kept.json and twice.json are the same run" in capsys.readouterr().err
    assert cli.main(["record", str(runs["folds"]), "--as", "kept"]) == 2
    assert "is there already and is another run" in capsys.readouterr().err
    assert cli.main(["record", str(runs["folds"]), "--ablation"]) == 2
    assert "--ablation" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "ratings").iterdir()] == ["kept.json"]


@pytest.mark.parametrize("name", ["", "a/b", ".hidden"])
def test_a_name_that_is_none_for_a_file_is_refused(name, runs, tmp_path):
    with pytest.raises(ExperimentError, match="expected a plain file name"):
        keep_ratings(runs["mean"], name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_unfinished_and_damaged_runs_are_refused(runs, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "settings.json").write_bytes((runs["mean"] / "settings.json").read_bytes())
    with pytest.raises(ExperimentError, match="is not finished"):
        keep_ratings(run, folder=tmp_path)
    record = json.loads((runs["neural0"] / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(record))
    with pytest.raises(ExperimentError, match="holds no predictions of a run"):
        keep_ratings(run, folder=tmp_path)
    del record["epochs"]
    (run / "result.json").write_text(json.dumps(record))
    with pytest.raises(ExperimentError, match="it lacks epochs"):
        keep_ratings(run, folder=tmp_path)


def test_a_record_of_another_kind_is_refused(results, tmp_path):
    folder = tmp_path / "ratings"
    folder.mkdir()
    record = next(iter(load_rating_records(results / "ratings").values()))
    (folder / "a.json").write_text(json.dumps(record | {"model": "oracle"}))
    with pytest.raises(ExperimentError, match="a.json has the model 'oracle'"):
        load_rating_records(folder)
    (folder / "a.json").write_text("{")
    with pytest.raises(ExperimentError, match="is not JSON"):
        load_rating_records(folder)
    with pytest.raises(ExperimentError, match="holds no errors"):
        read_errors(tmp_path / "none.npz")
