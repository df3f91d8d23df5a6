"""Weights of the published code: the same scores and gradients, both ways, and clear refusals.

`tests/fixtures/official_model.npz` holds what a composition of the real `s5.S5` and
`mamba_ssm.Mamba` computed. Differences are relative to the largest entry of the array in question:
1e-5 in float32 (reached: 2e-7 for scores, 1e-6 for gradients), 1e-10 in float64 (reached: 2e-15).
"""

import copy
import os
import sys
import warnings
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ss4rec_lib.files import FileError
from ss4rec_lib.models import (
    SS4Rec,
    SS4RecConfig,
    load_official_checkpoint,
    load_official_state_dict,
    official_state_dict,
)
from ss4rec_lib.ssm import Mamba

FIXTURE = Path(__file__).parent.parent / "fixtures" / "official_model.npz"
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
CONFIG = SS4RecConfig.official(hidden_size=16, d_H=16, d_P=8, d_state=4, unconstrained=True)
LAMBDA = "model.1.S5.seq.Lambda"
UNUSED = ("LayerNorm.weight", "LayerNorm.bias")


@pytest.fixture(scope="module")
def arrays() -> dict[str, torch.Tensor]:
    with np.load(FIXTURE, allow_pickle=False) as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored if key != "about"}


@pytest.fixture
def published(arrays) -> dict[str, torch.Tensor]:
    """The state dict of the real composition; a test may change it."""
    return {key[6:]: value.clone() for key, value in arrays.items() if key.startswith("state.")}


def scores_of(model: SS4Rec, arrays: dict[str, torch.Tensor]) -> torch.Tensor:
    model.eval()
    dtype = model.item_embedding.weight.dtype
    return model.logits(model(arrays["items"], arrays["delta"].to(dtype)))


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.detach() - expected).abs().max() / expected.abs().max())


def assert_unchanged(model: SS4Rec, before: dict[str, torch.Tensor]) -> None:
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


# ------------------------------------------------------------------- the same function, both ways


@pytest.mark.parametrize("unconstrained", [True, False])
@pytest.mark.parametrize("backend", ["reference", "numba", "parallel"])
def test_published_weights_give_the_published_scores(arrays, published, backend, unconstrained):
    config = CONFIG.replace(backend=backend, unconstrained=unconstrained)
    model = load_official_state_dict(SS4Rec(30, config), published)
    scores = scores_of(model, arrays)
    assert scores.shape == (3, 24, 31)  # every position, the padded ones too
    assert difference(scores, arrays["float64.scores"]) <= 1e-5
    assert difference(arrays["scores"], arrays["float64.scores"]) <= 1e-5  # published, float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["reference", "auto", "parallel"])
def test_gradients_of_the_published_loss_are_the_published_ones(arrays, published, backend, dtype):
    config = CONFIG.replace(backend=backend)
    model = load_official_state_dict(SS4Rec(30, config), published).to(dtype)
    scores = scores_of(model, arrays)
    assert difference(scores, arrays["float64.scores"]) <= TOLERANCE[dtype]
    valid = arrays["targets"] > 0
    loss = nn.functional.cross_entropy(scores[valid], arrays["targets"][valid])
    loss.backward()
    assert loss.item() == pytest.approx(arrays["float64.loss"].item(), rel=TOLERANCE[dtype])
    # A gradient has the layout of its weight: the export puts it under the published name.
    gradients = copy.deepcopy(model)
    with torch.no_grad():
        for parameter, own in zip(gradients.parameters(), model.parameters(), strict=True):
            parameter.copy_(own.grad)
    found = official_state_dict(gradients)
    for name in published.keys() - set(UNUSED):
        expected = arrays[f"float64.grad.{name}"]
        assert difference(found[name], expected) <= TOLERANCE[dtype], name


def test_every_weight_is_seen_in_the_scores(arrays, published):
    """Otherwise a key that went to the wrong place could pass the comparison above."""
    for name in published:
        changed = published | {name: published[name] * 1.1}
        moved = difference(
            scores_of(load_official_state_dict(None, changed), arrays), arrays["float64.scores"]
        )
        if name in UNUSED:
            assert moved <= 1e-5, name
        else:
            assert moved > 10 * TOLERANCE[torch.float32], name


def test_all_sizes_are_read_off_the_weights(published):
    model = load_official_state_dict(None, published)
    assert model.n_items == 30
    assert model.config == CONFIG  # two blocks, d_conv 4 and expand 2 are the official defaults
    assert model.training


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 48, "d_H": 48, "n_layers": 3, "expand": 1},  # dt_rank 3
        {"hidden_size": 6, "d_H": 6, "n_layers": 1, "d_conv": 2, "d_P": 5, "d_state": 3},
        {"n_layers": 12, "hidden_size": 2, "d_H": 2},  # blocks of two digits
    ],
)
def test_other_sizes_are_read_too(changes):
    config = CONFIG.replace(**changes)
    model = load_official_state_dict(None, official_state_dict(SS4Rec(7, config)))
    assert (model.n_items, model.config) == (7, config)


def test_an_unconstrained_model_comes_back_bit_for_bit(published):
    exported = official_state_dict(load_official_state_dict(None, published))
    for name, value in published.items():
        assert exported[name].dtype == value.dtype and exported[name].shape == value.shape, name
        if name not in UNUSED:
            assert torch.equal(exported[name], value), name
    # The published forward pass never uses these two; a SS4Rec has none to export.
    assert torch.equal(exported["LayerNorm.weight"], torch.ones(16))
    assert torch.equal(exported["LayerNorm.bias"], torch.zeros(16))


def test_a_constrained_model_comes_back_with_the_same_scores(arrays, published):
    constrained = SS4Rec(30, CONFIG.replace(unconstrained=False))
    load_official_state_dict(constrained, published)
    exported = official_state_dict(constrained)
    for name in published.keys() - set(UNUSED):
        assert difference(exported[name], published[name]) <= (3e-7 if "Lambda" in name else 0)
    free = load_official_state_dict(None, exported)
    assert difference(scores_of(free, arrays), scores_of(constrained, arrays).detach()) <= 1e-6


def test_the_export_is_a_copy(published):
    model = load_official_state_dict(None, published)
    before = copy.deepcopy(model.state_dict())
    for value in official_state_dict(model).values():
        assert not value.requires_grad
        value.zero_()
    assert_unchanged(model, before)


def test_the_model_keeps_its_dtype_and_mode(published):
    model = SS4Rec(30, CONFIG).double().eval()
    assert load_official_state_dict(model, published) is model
    assert not model.training
    assert model.blocks[0].mamba.D.dtype == torch.float64
    assert torch.equal(model.blocks[0].mamba.D, published["model.0.S6.D"].double())
    half = {name: v if v.is_complex() else v.bfloat16() for name, v in published.items()}
    load_official_state_dict(model, half)
    assert torch.equal(model.blocks[0].mamba.D, half["model.0.S6.D"].double())


# --------------------------------------------------------------------- the S5 package itself


class Published(nn.Module):
    """The published module tree with the installed `s5.S5`; Mamba's names are the real ones."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():  # torch.jit.script
            warnings.simplefilter("ignore", DeprecationWarning)
            from s5 import S5

        def block() -> nn.Module:
            parts = {"S5": S5(16, state_width=8), "S6": Mamba(16, d_state=4)}
            return nn.ModuleDict(parts | {"LayerNorm": nn.LayerNorm(16, eps=1e-12)})

        self.item_embedding = nn.Embedding(31, 16, padding_idx=0)
        self.LayerNorm = nn.LayerNorm(16, eps=1e-12)
        self.model = nn.ModuleList([block(), block()])

    def forward(self, items, delta):
        x = self.item_embedding(items)
        for block in self.model:
            x = block["LayerNorm"](block["S5"](x, delta) + x)
            x = block["LayerNorm"](block["S6"](x) + x)
        return x @ self.item_embedding.weight.T


def test_state_dicts_of_the_installed_s5_go_both_ways(arrays):
    torch.manual_seed(0)
    theirs, other = Published(), Published()
    ours = load_official_state_dict(None, theirs.state_dict())
    exported = official_state_dict(ours)
    assert list(exported) == list(theirs.state_dict())  # order too
    other.load_state_dict(exported, strict=True)
    for module in (theirs, other):
        expected = module(arrays["items"], arrays["delta"])
        assert difference(scores_of(ours, arrays), expected.detach()) <= 1e-5


# ------------------------------------------------------------------------- forms that are read


def test_complex_weights_are_read_as_pairs_and_pairs_as_complex(published):
    expected = official_state_dict(load_official_state_dict(None, published))
    for name, value in published.items():
        if name.endswith(("Lambda", ".C")):
            published[name] = torch.view_as_real(value)
        elif name.endswith("S5.seq.B"):
            published[name] = torch.view_as_complex(value)
    found = official_state_dict(load_official_state_dict(None, published))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_ignored(published, prefix):
    wrapped = {prefix + name: value for name, value in published.items()}
    model = load_official_state_dict(None, wrapped)
    assert torch.equal(model.item_embedding.weight, published["item_embedding.weight"])


def test_the_unused_layer_norm_may_be_absent(published):
    for name in UNUSED:
        del published[name]
    load_official_state_dict(None, published)


# -------------------------------------------------------------------------------- refusals


def refused(published, message: str, model: SS4Rec | None = None) -> str:
    """The message of the refusal, after which neither model has changed."""
    models = [None, SS4Rec(30, CONFIG)] if model is None else [model]
    for target in models:
        before = None if target is None else copy.deepcopy(target.state_dict())
        with pytest.raises(ValueError, match=message) as error:
            load_official_state_dict(target, published)
        if target is not None:
            assert_unchanged(target, before)
    return str(error.value)


def test_missing_and_unexpected_keys_are_all_named_in_one_error(published):
    del published["model.0.S6.D"], published["item_embedding.weight"]
    published["model.1.S6.in_proj.bias"] = torch.zeros(64)
    published["user_embedding.weight"] = torch.zeros(5, 16)
    text = refused(published, "n_layers=2")
    assert "missing: ['item_embedding.weight', 'model.0.S6.D']" in text
    assert "unexpected: ['model.1.S6.in_proj.bias', 'user_embedding.weight']" in text


def test_blocks_that_do_not_count_from_zero_are_named(published):
    shifted = {name.replace("model.1.", "model.7."): value for name, value in published.items()}
    text = refused(shifted, "missing")
    assert "'model.1.S6.A_log'" in text and "'model.7.S6.A_log'" in text
    with pytest.raises(
        ValueError, match=r"n_layers=1: missing: \['item_embedding.weight', 'model.0"
    ):
        load_official_state_dict(None, {})


def test_another_number_of_blocks_is_refused(published):
    shallow = SS4Rec(30, CONFIG.replace(n_layers=1))
    text = refused(published, "n_layers=1", shallow)
    assert "'model.1.S5.seq.Lambda'" in text and "model.0." not in text


def test_weights_of_this_library_are_told_apart():
    own = SS4Rec(30, CONFIG).state_dict()
    assert "use SS4Rec.load_state_dict" in refused(own, "blocks.0.s5.B")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("model.0.S6.out_proj.weight", (32, 16), r"\(32, 16\), expected \(16, 32\)"),
        ("model.1.S5.seq.B", (8, 16), r"\(8, 16\), expected \(8, 16, 2\)"),
        ("model.1.LayerNorm.bias", (1,), r"\(1,\), expected \(16,\)"),  # would broadcast
        ("model.1.S5.seq.log_step", (), r"\(\), expected \(8,\)"),
    ],
)
def test_another_shape_is_refused(published, name, shape, message):
    published[name] = torch.zeros(shape)
    refused(published, f"{name} has shape {message}")


@pytest.mark.parametrize(
    ("n_items", "changes", "message"),
    [
        (31, {}, r"item_embedding.weight has shape \(31, 16\), expected \(32, 16\)"),
        (30, {"d_P": 4}, r"model.0.S5.seq.Lambda has shape \(8, 2\), expected \(4, 2\)"),
        (30, {"d_state": 8}, r"model.0.S6.A_log has shape \(32, 4\), expected \(32, 8\)"),
        (30, {"hidden_size": 8, "d_H": 8}, r"expected .* \(2[0-9] in all"),
    ],
)
def test_a_model_of_other_sizes_is_refused(published, n_items, changes, message):
    model = SS4Rec(n_items, CONFIG.replace(**changes))
    refused(published, message, model)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("item_embedding.weight", (1, 16)),  # padding and no item
        ("item_embedding.weight", (31, 0)),
        ("item_embedding.weight", (31,)),
        ("model.0.S6.A_log", (24, 4)),  # no multiple of the width
        ("model.0.S6.A_log", (32,)),
        ("model.0.S6.A_log", ()),
        ("model.0.S6.conv1d.weight", (64, 1, 0)),
    ],
)
def test_sizes_that_no_model_has_are_refused(published, name, shape):
    with pytest.raises(ValueError, match=name) as error:
        load_official_state_dict(None, published | {name: torch.zeros(shape)})
    assert f"{name} has shape {shape}, expected (" in str(error.value)


def test_a_complex_weight_where_real_ones_belong_is_refused(published):
    published["model.0.S6.D"] = published["model.0.S6.D"] + 0j
    refused(published, r"model.0.S6.D has shape \(32, 2\), expected \(32,\)")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("item_embedding.weight", float("nan")),
        ("model.1.LayerNorm.bias", float("-inf")),
        ("model.0.S5.seq.C", complex(0, float("inf"))),
        (LAMBDA, complex(float("-inf"), 0)),
        (LAMBDA, complex(-1, float("nan"))),
    ],
)
def test_weights_that_are_not_finite_are_refused(published, name, value):
    published[name].view(-1)[0] = value
    refused(published, f"{name} has NaN or infinite entries")


def test_numbers_too_large_for_the_model_are_refused(published):
    published["model.0.S6.D"] = torch.full((32,), 1e300, dtype=torch.float64)
    refused(published, r"model.0.S6.D has NaN or infinite entries \(as torch.float32\)")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(32, dtype=torch.int64), "model.0.S6.D is of torch.int64"),
        (torch.ones(32).to_sparse(), "torch.sparse_coo"),
        (torch.ones(32, device="meta"), "on meta"),
        (np.ones(32), "model.0.S6.D is a ndarray, expected a torch.Tensor"),
        (None, "model.0.S6.D is a NoneType"),
    ],
)
def test_what_is_no_plain_floating_tensor_is_refused(published, value, message):
    refused(published | {"model.0.S6.D": value}, message)


def test_a_key_twice_is_refused(published):
    published["module.model.0.S6.D"] = published["model.0.S6.D"]
    refused(published, "model.0.S6.D is there twice, the second time as module.model.0.S6.D")


def test_eigenvalues_that_do_not_decay_need_an_unconstrained_model(published):
    published[LAMBDA][3] = complex(0.25, 1.0)
    published[LAMBDA][4] = complex(0.0, 1.0)
    constrained = SS4Rec(30, CONFIG.replace(unconstrained=False))
    message = r"model.1.S5.seq.Lambda has 2 real parts >= 0 \(up to 0.25\)"
    assert "unconstrained=True" in refused(published, message, constrained)
    free = load_official_state_dict(None, published)
    assert torch.equal(official_state_dict(free)[LAMBDA], published[LAMBDA])


def test_models_without_both_layers_are_refused(published):
    for model_type in ("s5_only", "mamba_only"):
        model = SS4Rec(30, CONFIG.replace(model_type=model_type))
        refused(published, f"model_type='{model_type}'", model)
        with pytest.raises(ValueError, match=f"model_type='{model_type}'"):
            official_state_dict(model)


def test_arguments_of_another_type_are_refused(published):
    with pytest.raises(ValueError, match="model is a Linear, expected an SS4Rec"):
        load_official_state_dict(nn.Linear(2, 2), published)
    with pytest.raises(ValueError, match="state_dict is a list, expected a dict of tensors"):
        load_official_state_dict(None, list(published.items()))


# ----------------------------------------------------------------------------------- files


def recbole_checkpoint(published, **more) -> dict:
    """What RecBole's trainer saves; its `config` is added by the tests that are about it."""
    weights = OrderedDict(published)
    return {"epoch": 61, "state_dict": weights, "optimizer": {"state": {}}} | more


@pytest.fixture
def recbole(monkeypatch) -> type:
    """A stand-in for RecBole's `Config`: any class of our own under that name."""
    Config = type("Config", (), {"__module__": "recbole.config.configurator"})
    for name in ("recbole", "recbole.config", "recbole.config.configurator"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["recbole.config.configurator"].Config = Config
    return Config


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints_and_bare_state_dicts_are_read(arrays, published, tmp_path, legacy):
    new_format = {"_use_new_zipfile_serialization": not legacy}
    plain = recbole_checkpoint(published, config={"d_P": 8}, other_parameter=None)
    for number, content in enumerate((plain, OrderedDict(published))):
        path = tmp_path / f"{number}.pth"
        torch.save(content, path, **new_format)
        model = load_official_checkpoint(path)
        assert difference(scores_of(model, arrays), arrays["float64.scores"]) <= 1e-5
    given = SS4Rec(30, CONFIG)
    assert load_official_checkpoint(str(path), given) is given


def test_safetensors_are_read(published, tmp_path):
    pairs = {k: torch.view_as_real(v) if v.is_complex() else v for k, v in published.items()}
    for number, weights in enumerate((pairs, published)):
        path = tmp_path / f"{number}.safetensors"
        save_file({name: value.contiguous() for name, value in weights.items()}, path)
        exported = official_state_dict(load_official_checkpoint(path))
        assert all(torch.equal(exported[k], published[k]) for k in published if k not in UNUSED)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_recbole_config_is_refused_and_the_advice_works(published, tmp_path, recbole, legacy):
    path = tmp_path / "SS4Rec-Sep-05-2025.pth"
    content = recbole_checkpoint(published, config=recbole())
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"recbole.config.configurator.Config") as error:
        load_official_checkpoint(path)
    text = str(error.value)
    assert "If you trust it" in text
    advice = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    assert len(advice) == 2
    exec("\n".join(["import torch", *advice]))  # in the environment that made the file
    weights = tmp_path / "SS4Rec-Sep-05-2025-weights.pth"
    exported = official_state_dict(load_official_checkpoint(weights))
    assert torch.equal(exported[LAMBDA], published[LAMBDA])


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_no_pickled_object_is_ever_built(published, tmp_path, monkeypatch, legacy):
    # This variable turns the protection off where a caller has not asked for it.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, trace = tmp_path / "model.pth", tmp_path / "trace"
    content = recbole_checkpoint(published, other_parameter=Malicious(trace))
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"pickled objects besides tensors, the first one .*mkdir"):
        load_official_checkpoint(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the file does what it is meant to
    assert trace.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_missing_or_truncated(published, tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_official_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_official_checkpoint(tmp_path)
    if suffix == ".pth":
        torch.save(recbole_checkpoint(published), path)
    else:
        pairs = {k: torch.view_as_real(v) if v.is_complex() else v for k, v in published.items()}
        save_file(pairs, path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-100], whole[:100], b"", b"no weights here"):
        path.write_bytes(content)
        with pytest.raises(FileError, match=f"truncated or not a .*{len(content):,} bytes"):
            load_official_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ([1, 2], "list"),
        ({"epoch": 3}, "epoch is a int"),
        ({}, "missing"),
        (torch.zeros(2), "Tensor"),
        ({"state_dict": {}}, "missing"),
    ],
)
def test_files_that_hold_something_else(tmp_path, content, value):
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf"model.pth: .*{value}"):
        load_official_checkpoint(path)


def test_a_refusal_names_the_file(published, tmp_path):
    path = tmp_path / "model.pth"
    del published[LAMBDA]
    torch.save(published, path)
    with pytest.raises(ValueError, match=rf"model.pth: .* missing: \['{LAMBDA}'\]"):
        load_official_checkpoint(path)
