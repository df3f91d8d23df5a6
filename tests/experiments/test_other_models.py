"""Baselines go through the same experiments as SS4Rec: trained, recorded, asked."""

import json

import pytest

from ss4rec_lib import cli
from ss4rec_lib.experiments.keep import keep
from ss4rec_lib.experiments.results import load_records


@pytest.mark.parametrize(
    ("preset", "model"),
    [("gru4rec", "GRU4Rec"), ("sasrec", "SASRec"), ("sasrec_time", "SASRec with time")],
)
def test_a_baseline_is_trained_recorded_and_asked(preset, model, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["train", "--dataset", "planted", "--preset", preset, "--out", str(run)]
    assert cli.main([*words, "--set", "epochs=1", "--set", "loss_type=CE"]) == 0
    record = json.loads((run / "result.json").read_text())
    assert record["model"] == model and record["preset"] == preset
    assert record["test"]["hr@10"] > 0
    assert cli.main(["evaluate", str(run), "--mask-seen"]) == 0
    assert cli.main(["recommend", str(run), "--user", "1", "--at", "2030-01-01T00:00"]) == 0
    keep(run, "kept", tmp_path / "results")
    assert load_records(tmp_path / "results")["kept"] == record
    page = (tmp_path / "results" / "README.md").read_text()
    assert f"| {model} |" in page and f"--preset {preset}" in page


def test_an_option_of_another_model_is_refused_before_anything_is_written(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["train", "--dataset", "planted", "--preset", "sasrec", "--out", str(run)]
    assert cli.main([*words, "--set", "d_state=16"]) == 2
    assert "d_state=16 is no option of the model part with preset sasrec" in capsys.readouterr().err
    assert not run.exists()
