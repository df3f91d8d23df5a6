"""Rating errors by length of history: nothing lost, nothing from other data."""

import json

import numpy as np
import pytest

from ss4rec_lib import cli
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.rating_by_history import (
    EDGES,
    FILE,
    errors_by_history,
    main,
    read_by_history,
    write_by_history,
)
from ss4rec_lib.experiments.rating_keep import keep_ratings


@pytest.fixture
def ratings_folder(tmp_path):
    """A kept run of the bias baseline, and one without errors."""
    for model in ("bias", "mean"):
        run = tmp_path / model
        words = ["rate", "--dataset", "planted", "--model", model, "--split", "leave-last-out"]
        assert cli.main([*words, "--out", str(run)]) == 0
        keep_ratings(run, folder=tmp_path / "results")
    return tmp_path / "results" / "ratings"


def test_the_ranges_together_are_the_whole_test_part(ratings_folder):
    table = errors_by_history("planted", folder=ratings_folder)
    assert set(table["model"]) == {"bias"}  # `mean` keeps no errors
    record = json.loads((ratings_folder / "planted_leave-last-out_bias_seed0.json").read_text())
    # A range with one target is left out: its error would be that of one rating.
    assert 0 <= record["protocol"]["n_test"] - table["targets"].sum() <= 1
    mean_square = np.average(table["rmse"] ** 2, weights=table["targets"])
    assert np.sqrt(mean_square) == pytest.approx(record["test"]["rmse"], abs=3e-3)
    assert list(table["more_than"]) == sorted(table["more_than"])
    assert set(table["more_than"]) <= set(EDGES)
    assert (table["rmse_se"] > 0).all()


def test_written_rows_take_the_place_of_those_of_the_same_dataset_only(ratings_folder):
    (ratings_folder / FILE).write_text(
        "dataset,model,seed,more_than,up_to,targets,rmse,rmse_se\n"
        "another,bias,0,0,30,5,1.5,0.1\nplanted,bias,0,0,30,5,9.5,0.1\n"
    )
    write_by_history("planted", folder=ratings_folder)
    table = read_by_history(ratings_folder)
    assert set(table["dataset"]) == {"another", "planted"} and table["rmse"].max() < 5
    before = (ratings_folder / FILE).read_text()
    write_by_history("planted", folder=ratings_folder)
    assert (ratings_folder / FILE).read_text() == before


def test_errors_made_from_other_ratings_are_refused(ratings_folder):
    path = ratings_folder / "planted_leave-last-out_bias_seed0.json"
    record = json.loads(path.read_text())
    record["protocol"]["fingerprint"] = "0" * 32
    path.write_text(json.dumps(record))
    with pytest.raises(ExperimentError, match="made from other ratings"):
        write_by_history("planted", folder=ratings_folder)
    assert not (ratings_folder / FILE).exists()


def test_nothing_to_read_and_nothing_to_make_it_from(tmp_path, capsys):
    assert read_by_history(tmp_path).empty
    with pytest.raises(ExperimentError, match="holds no leave-last-out run of planted"):
        write_by_history("planted", folder=tmp_path)
    (tmp_path / FILE).write_text("a,b\n1,2\n")
    with pytest.raises(ExperimentError, match="other columns"):
        read_by_history(tmp_path)
    assert main(["ml-9000k"]) == 2
    assert "error: " in capsys.readouterr().err


def test_the_committed_file_says_what_the_committed_errors_say():
    """For MovieLens-100K, which every test run has."""
    committed = read_by_history()
    committed = committed[committed["dataset"] == "ml-100k"].reset_index(drop=True)
    found = errors_by_history("ml-100k")
    assert len(found) == len(committed) > 0
    for name in ("model", "seed", "more_than", "targets"):
        assert list(found[name]) == list(committed[name])
    assert np.allclose(found["rmse"], committed["rmse"], atol=2e-4)
