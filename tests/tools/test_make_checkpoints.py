from __future__ import annotations

import json

import pytest
import torch

from ss4rec_lib.data import leave_one_out, load_dataset
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.lessons import notebooks_folder, read_parameters
from ss4rec_lib.models import load_model
from ss4rec_lib.training import TrainingConfig
from tools import make_checkpoints as checkpoints

LARGEST_BYTES = 1_500_000
INDEX = json.loads((checkpoints.FOLDER / checkpoints.INDEX).read_text())


def test_the_index_lists_every_checkpoint():
    assert list(INDEX) == list(checkpoints.CHECKPOINTS)


@pytest.mark.parametrize("name", checkpoints.CHECKPOINTS)
def test_committed_weights_are_small_and_load(name):
    path = checkpoints.FOLDER / f"{name}.safetensors"
    assert path.stat().st_size <= LARGEST_BYTES
    model = load_model(path)
    assert model.n_items == INDEX[name]["n_items"]
    assert all(torch.isfinite(t).all() for t in model.state_dict().values())


def test_weights_rank_as_the_index_says():
    split = leave_one_out(load_dataset("planted"), ordering="exact-time", min_interactions=5)
    model = load_model(checkpoints.FOLDER / "ss4rec_planted.safetensors")
    found = evaluate_ranking(model, split, "valid")
    for metric, value in INDEX["ss4rec_planted"]["valid"].items():
        assert found[metric] == pytest.approx(value, abs=2e-3)


def test_settings_are_those_of_lesson_04():
    parameters = read_parameters(next(notebooks_folder().glob("04_*.ipynb")))
    lesson = TrainingConfig(epochs=parameters["epochs"].default)
    for name, value in checkpoints.SETTINGS.items():
        assert getattr(lesson, name) == value, name


def test_one_checkpoint_is_made_and_the_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SETTINGS", {"epochs": 1, "max_tokens": 20_000})
    (tmp_path / checkpoints.INDEX).write_text(json.dumps({"ss4rec_ml-100k": {"kept": True}}))
    checkpoints.main(["ss4rec_planted", "--folder", str(tmp_path)])
    index = json.loads((tmp_path / checkpoints.INDEX).read_text())
    assert list(index) == ["ss4rec_ml-100k", "ss4rec_planted"]
    assert index["ss4rec_planted"]["training"]["epochs"] == 1
    assert load_model(tmp_path / "ss4rec_planted.safetensors").n_items == 200


def test_an_unknown_name_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        checkpoints.main(["ss4rec", "--folder", str(tmp_path)])
    assert "choose of" in capsys.readouterr().err
