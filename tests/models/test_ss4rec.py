"""SS4Rec: the published computation, its sizes, causality, padding and streaming."""

import dataclasses

import pytest
import torch

from ss4rec_lib.models import SS4Rec, SS4RecConfig

SMALL = SS4RecConfig.official(hidden_size=16, d_H=16, d_P=8, d_state=4)


def model_and_batch(config=SMALL, n_items=30, batch=3, length=12, seed=0):
    torch.manual_seed(seed)
    model = SS4Rec(n_items, config).eval()
    items = torch.randint(1, n_items + 1, (batch, length))
    delta = 10 ** (torch.rand(batch, length) * 6)
    delta[torch.rand(batch, length) < 0.4] = 0
    return model, items, delta


def test_published_size_for_movielens_1m():
    """309,184 parameters are published; 128 of them belong to a LayerNorm that is never used.

    PyTorch counts a complex parameter once; here its two halves are two real parameters.
    """
    model = SS4Rec(3_416)
    complex_twice = 2 * (32 + 64 * 32)  # Lambda and C of two blocks
    assert sum(p.numel() for p in model.parameters()) - complex_twice == 309_184 - 128


def test_forward_is_the_published_computation():
    model, items, delta = model_and_batch()
    x = model.item_embedding(items)
    for block in model.blocks:
        x = block.norm(block.s5(x, delta) + x)
        x = block.norm(block.mamba(x) + x)
    assert torch.equal(model(items, delta), x)
    scores = model.logits(x)
    assert scores.shape == (3, 12, 31)
    assert torch.allclose(scores[0, 0], model.item_embedding.weight @ x[0, 0], atol=1e-6)
    assert model.blocks[0].norm.eps == 1e-12


def test_published_initialisation():
    torch.manual_seed(0)
    model = SS4Rec(3_416)
    mamba = model.blocks[0].mamba
    assert model.item_embedding.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert mamba.in_proj.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert mamba.dt_proj.weight.std().item() == pytest.approx(0.02, rel=0.15)
    assert not mamba.dt_proj.bias.any()  # overwritten, as published
    assert model.item_embedding.weight[0].any()  # the padding row too


def test_dropout_acts_in_training_only():
    model, items, delta = model_and_batch()
    assert torch.equal(model(items, delta), model(items, delta))
    model.train()
    assert not torch.equal(model(items, delta), model(items, delta))


@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_causal_in_items_and_in_time(backend):
    config = dataclasses.replace(SMALL, backend=backend)
    model, items, delta = model_and_batch(config)
    hidden = model(items, delta)
    for k in (3, 7):
        later_items, later_delta = items.clone(), delta.clone()
        later_items[:, k + 1 :] = later_items[:, k + 1 :] % 30 + 1
        later_delta[:, k + 1 :] += 1e4
        assert torch.allclose(model(later_items, later_delta)[:, : k + 1], hidden[:, : k + 1])
    changed = delta.clone()
    changed[:, 5] += 10
    assert not torch.allclose(model(items, changed)[:, 5], hidden[:, 5])


def test_right_padding_never_changes_a_valid_position():
    model, items, delta = model_and_batch()
    padded_items = torch.cat((items, torch.zeros(3, 6, dtype=torch.int64)), 1)
    padded_delta = torch.cat((delta, torch.zeros(3, 6)), 1)
    assert torch.allclose(model(padded_items, padded_delta)[:, :12], model(items, delta), atol=1e-6)


def test_step_gives_the_same_hidden_vector_as_the_whole_history():
    model, items, delta = model_and_batch(length=40)
    with torch.no_grad():
        hidden = model(items, delta)
        state = model.initial_state(3)
        for k in range(40):
            state = model.step(state, items[:, k], delta[:, k])
            assert torch.allclose(state.hidden, hidden[:, k], atol=1e-5)


def test_backends_agree_on_gradients():
    gradients = []
    for backend in ("reference", "numba"):
        model, items, delta = model_and_batch(dataclasses.replace(SMALL, backend=backend))
        model.logits(model(items, delta)).logsumexp(-1).sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for expected, found in zip(*gradients, strict=True):
        assert (found - expected).abs().max() <= 2e-4 * expected.abs().max() + 1e-6


def test_gradients_stay_finite_for_any_interval():
    model, items, _ = model_and_batch()
    for seconds in (0.0, 1.0, 1e3, 1e6, 1e9):
        model.zero_grad()
        model(items, torch.full(items.shape, seconds)).sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_presets():
    official, seed = SS4RecConfig.official(), SS4RecConfig.seed_bpr()
    assert (official.loss_type, official.dropout_prob, official.d_state) == ("CE", 0.2, 32)
    assert (official.interval, official.n_layers, official.d_model) == ("raw", 2, 64)
    assert (seed.loss_type, seed.dropout_prob, seed.d_state) == ("BPR", 0.5, 16)
    assert seed.interval == "clip"
    assert SS4RecConfig.official(n_layers=3).n_layers == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        official.n_layers = 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_H": 32}, "d_H=32 but hidden_size=64"),
        ({"dropout_prob": 1.0}, "dropout_prob=1.0"),
        ({"loss_type": "ce"}, "loss_type='ce'"),
        ({"interval": "days"}, "interval='days'"),
        ({"n_layers": 0}, "n_layers=0"),
        ({"d_state": 1.5}, "d_state=1.5"),
        ({"dt_min": 0.2}, "dt_min=0.2, dt_max=0.1"),
        ({"interval_floor": -1}, "interval_floor=-1"),
        ({"initializer_range": 0.0}, "initializer_range=0.0"),
    ],
)
def test_configurations_that_cannot_be_built_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SS4RecConfig.official(**changes)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (torch.full((2, 3), 31), "id 31, expected 0 .padding. to 30"),
        (torch.full((2, 3), -1), "id -1"),
        (torch.zeros(2, 3), "dtype torch.float32"),
        (torch.zeros(3, dtype=torch.int64), r"shape \(3,\)"),
    ],
)
def test_items_outside_the_catalogue_are_refused(items, message):
    model = SS4Rec(30, SMALL)
    with pytest.raises(ValueError, match=message):
        model(items, torch.zeros(2, 3))


def test_intervals_and_catalogue_are_checked():
    model, items, delta = model_and_batch()
    with pytest.raises(ValueError, match="negative entry"):
        model(items, -delta - 1)
    with pytest.raises(ValueError, match="n_items=0"):
        SS4Rec(0)
