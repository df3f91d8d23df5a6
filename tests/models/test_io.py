"""Saved models: they come back bit for bit, and nothing else is taken for one."""

import json

import numpy as np
import pytest
import torch

from ss4rec_lib.files import FileError, read_tensors, write_tensors
from ss4rec_lib.models import (
    ALS,
    PRESETS,
    ALSConfig,
    MatrixBPR,
    MatrixBPRConfig,
    NeuralCF,
    Popularity,
    RatingConfig,
    RatingSS4Rec,
    SS4Rec,
    SS4RecConfig,
    load_model,
    make_model,
    save_model,
)

SMALL = SS4RecConfig.official(hidden_size=16, d_H=16, d_P=8, d_state=4, interval="log1p")


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = SS4Rec(30, SMALL)
    save_model(model, tmp_path / "model.safetensors")
    return model, tmp_path / "model.safetensors"


@pytest.mark.parametrize("change", [
    {}, {"unconstrained": True}, {"model_type": "s5_only"}, {"model_type": "mamba_only"},
    {"loss_type": "BPR", "dropout_prob": 0.5},
])  # fmt: skip
def test_it_comes_back_bit_for_bit_and_in_evaluation_mode(tmp_path, change):
    torch.manual_seed(0)
    model = SS4Rec(30, SMALL.replace(**change))
    save_model(model, tmp_path / "m.safetensors")
    found = load_model(tmp_path / "m.safetensors")
    assert model.training and not found.training
    assert (found.n_items, found.config) == (30, model.config)
    weights = found.state_dict()
    assert weights.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(weights[name], tensor) and weights[name].dtype == tensor.dtype, name


def test_it_is_one_readable_file_without_pickle(saved):
    with open(saved[1], "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    metadata = header["__metadata__"]
    assert metadata["format"] == "ss4rec-lab model 1" and metadata["n_items"] == "30"
    assert json.loads(metadata["config"])["interval"] == "log1p"


def test_it_replaces_what_was_there_and_leaves_no_other_file(saved):
    model, path = saved
    with torch.no_grad():
        model.item_embedding.weight += 1
    save_model(model, path)
    assert torch.equal(load_model(path).item_embedding.weight, model.item_embedding.weight)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("keep", [0, 7, 500, -1])
def test_a_truncated_file_is_named(saved, keep):
    path = saved[1]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileError, match=r"model.safetensors is truncated or not a safetensors"):
        load_model(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*model.safetensors"):
        load_model(tmp_path / "model.safetensors")


def rewritten(path, metadata=None, tensors=None):
    """The file again, with other metadata or tensors; None as a value takes an entry out."""
    old_tensors, old_metadata = read_tensors(path)
    merged = (old_tensors | (tensors or {}), old_metadata | (metadata or {}))
    write_tensors(path, *({k: v for k, v in d.items() if v is not None} for d in merged))


def config(**changes):
    return {"config": json.dumps(SMALL.model_dump() | changes)}


@pytest.mark.parametrize(("metadata", "message"), [
    ({"format": None}, "its format is None, expected 'ss4rec-lab model 1'"),
    ({"format": "ss4rec-lab checkpoint 1"}, "its format is 'ss4rec-lab checkpoint 1'"),
    ({"config": None}, "unusable configuration"),
    ({"config": "{"}, "unusable configuration"),
    (config(colour=1, width=2), "colour.*width"),
    (config(n_layers=0), "unusable configuration: n_layers=0"),
    (config(interval="days"), "unusable configuration: interval"),
    (config(d_state=8), r"does not fit (?s:.*)x_proj.weight.*\[9, 32\].*\[17, 32\]"),
    (config(n_layers=3), "does not fit (?s:.*)Missing.*blocks.2.mamba.A_log"),
    (config(n_layers=1), "does not fit (?s:.*)Unexpected.*blocks.1.mamba.A_log"),
    ({"n_items": "29"}, "n_items='29'.* 31 rows of item_embedding.weight"),
    ({"n_items": "many"}, "n_items='many'"), ({"n_items": None}, "n_items=None"),
])  # fmt: skip
def test_a_file_that_is_no_such_model_is_named_with_the_reason(saved, metadata, message):
    rewritten(saved[1], metadata)
    with pytest.raises(FileError, match=message) as problem:
        load_model(saved[1])
    assert "model.safetensors" in str(problem.value)


@pytest.mark.parametrize(("tensors", "message"), [
    ({"item_embedding.weight": None}, "0 rows of item_embedding.weight"),
    ({"blocks.0.norm.bias": None}, "Missing.*blocks.0.norm.bias"),
    ({"extra": torch.zeros(2)}, "Unexpected.*extra"),
    ({"blocks.0.norm.bias": torch.zeros(2)}, r"blocks.0.norm.bias.*\[2\].*\[16\]"),
    ({"item_embedding.weight": torch.zeros(31, 8)}, r"embedding.weight.*\[31, 8\].*\[31, 16\]"),
])  # fmt: skip
def test_weights_that_do_not_fit_are_named(saved, tensors, message):
    rewritten(saved[1], tensors=tensors)
    with pytest.raises(FileError, match=message):
        load_model(saved[1])


def models_to_save():
    for task, presets in PRESETS.items():
        for name, preset in presets.items():
            if preset.model.learns and not preset.model.fitted and name != "ss4rec-user":
                yield f"{task}-{name}", lambda config=preset.config: make_model(9, config)
    users = RatingConfig(hidden_size=8, d_H=8, user_factors=2)
    yield "ss4rec-user", lambda: RatingSS4Rec(9, users, owners=np.array([0, 2, 1, 2]))
    yield "als", lambda: ALS(torch.randn(10, 3), ALSConfig(factors=3))
    yield (
        "bpr_mf",
        lambda: MatrixBPR(torch.randn(4, 3), torch.randn(10, 3), MatrixBPRConfig(factors=2)),
    )
    yield "neural_cf", lambda: NeuralCF(4, 9)


KINDS = dict(models_to_save())


@pytest.mark.parametrize("name", KINDS)
def test_every_model_that_learns_comes_back_as_what_it_was(name, tmp_path):
    torch.manual_seed(0)
    model = KINDS[name]()
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert type(loaded) is type(model) and loaded.config == model.config
    assert loaded.n_items == 9 and not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key


def test_a_model_that_only_counts_has_nothing_to_save(tmp_path):
    with pytest.raises(TypeError, match="Popularity"):
        save_model(Popularity(np.array([0, 1])), tmp_path / "model.safetensors")


def test_a_configuration_of_an_unknown_kind_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(SS4Rec(9), path)
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, metadata | {"config_type": "Unheard"})
    with pytest.raises(FileError, match="type 'Unheard': expected one of SS4RecConfig"):
        load_model(path)
