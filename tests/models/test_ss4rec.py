"""SS4Rec: the published computation, its sizes, causality, padding and streaming."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ss4rec_lib.configuration import ConfigError, as_text
from ss4rec_lib.models import SS4Rec, SS4RecConfig

SMALL = SS4RecConfig.official(hidden_size=16, d_H=16, d_P=8, d_state=4)
# Larger weights than the initial ones, as after training: what Mamba carries shows in its output.
LIVELY = SMALL.replace(initializer_range=0.3)
MODEL_TYPES = ("ss4rec", "s5_only", "mamba_only")
model_types = pytest.mark.parametrize("model_type", MODEL_TYPES)


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
    config = SMALL.replace(backend=backend)
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


@model_types
def test_step_gives_the_same_hidden_vector_as_the_whole_history(model_type):
    config = LIVELY.replace(model_type=model_type)
    model, items, delta = model_and_batch(config, length=300)
    with torch.no_grad():
        hidden = model(items, delta)
        state = model.initial_state(3)
        for k in range(300):
            state = model.step(state, items[:, k], delta[:, k])
            assert torch.allclose(state.hidden, hidden[:, k], atol=1e-5, rtol=0)


@model_types
@settings(max_examples=30)
@given(
    cuts=st.lists(st.integers(1, 69), unique=True, max_size=6).map(sorted),
    seed=st.integers(0, 1_000),
    backend=st.sampled_from(["auto", "parallel"]),
)
def test_a_history_in_pieces_with_its_state_carried_is_the_whole_pass(
    model_type, cuts, seed, backend
):
    config = LIVELY.replace(model_type=model_type, backend=backend)
    model, items, delta = model_and_batch(config, length=70, seed=seed)
    pieces, state = [], None
    with torch.no_grad():
        whole = model(items, delta)
        for start, end in zip([0, *cuts], [*cuts, 70], strict=True):
            hidden, state = model(items[:, start:end], delta[:, start:end], state, True)
            pieces.append(hidden)
    assert torch.equal(state.hidden, pieces[-1][:, -1])
    assert torch.allclose(torch.cat(pieces, 1), whole, atol=1e-5, rtol=0)


@model_types
def test_without_the_carried_state_it_is_another_computation(model_type):
    model, items, delta = model_and_batch(LIVELY.replace(model_type=model_type))
    delta = delta.clamp(max=100)  # seconds: after days S5 has forgotten anyway
    whole, forgotten = model(items, delta)[:, 6:], model(items[:, 6:], delta[:, 6:])
    assert (whole - forgotten).abs().max() > 1e-2


def test_the_gradient_goes_through_a_carried_state():
    model, items, delta = model_and_batch(LIVELY)
    gradients = []
    for cut in (None, 5):
        model.zero_grad()
        hidden, state = model(items[:, :cut], delta[:, :cut], return_state=True)
        if cut is not None:
            hidden = torch.cat((hidden, model(items[:, cut:], delta[:, cut:], state)), 1)
        hidden[:, -1].pow(3).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for whole, pieces in zip(*gradients, strict=True):
        assert (whole - pieces).abs().max() <= 1e-4 * whole.abs().max() + 1e-7


def test_states_that_do_not_fit_are_refused():
    model, items, delta = model_and_batch()
    kinds = {name: SS4Rec(30, SMALL.replace(model_type=name)) for name in MODEL_TYPES}
    for name, other in kinds.items():
        with pytest.raises(ValueError, match=r"state.* \(2, "):
            other(items, delta, other.initial_state(2))
        if name != "ss4rec":
            with pytest.raises(ValueError, match="state is of a model with other layers"):
                model(items, delta, other.initial_state(3))
            with pytest.raises(ValueError, match="state is of a model with other layers"):
                other.step(model.initial_state(3), items[:, 0], delta[:, 0])
    shallow = SS4Rec(30, SMALL.replace(n_layers=1))
    with pytest.raises(ValueError, match="state is of a model with other layers"):
        model(items, delta, shallow.initial_state(3))


@pytest.mark.parametrize("left_out", ["s5", "mamba"])
def test_the_ablations_are_the_formula_without_one_layer(left_out):
    kept = "mamba" if left_out == "s5" else "s5"
    model, items, delta = model_and_batch(SMALL.replace(model_type=f"{kept}_only"))
    x = model.item_embedding(items)
    for block in model.blocks:
        y = block.s5(x, delta) if kept == "s5" else block.mamba(x)
        x = block.norm(y + x)
    assert torch.equal(model(items, delta), x)
    # Nothing is left of the other layer: what remains is the rest of the whole model, by name.
    whole = SS4Rec(30, SMALL).state_dict()
    expected = {name: t.shape for name, t in whole.items() if f".{left_out}." not in name}
    assert {name: t.shape for name, t in model.state_dict().items()} == expected
    assert len(expected) < len(whole)
    for block_state in model.initial_state(3).layers:
        assert block_state[0 if left_out == "s5" else 1] is None


def test_mamba_only_is_blind_to_time_and_s5_only_is_not():
    for model_type, blind in (("mamba_only", True), ("s5_only", False), ("ss4rec", False)):
        model, items, delta = model_and_batch(SMALL.replace(model_type=model_type))
        delta.requires_grad_()
        hidden = model(items, delta)
        assert torch.equal(model(items, torch.ones_like(delta)), hidden) == blind
        hidden.pow(3).sum().backward()
        assert (delta.grad is None) == blind


def test_backends_agree_on_gradients():
    gradients = []
    for backend in ("reference", "numba"):
        model, items, delta = model_and_batch(SMALL.replace(backend=backend))
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
    official, seed = SS4RecConfig.official(), SS4RecConfig.bpr()
    assert (official.loss_type, official.dropout_prob, official.d_state) == ("CE", 0.2, 32)
    assert (official.interval, official.n_layers, official.hidden_size) == ("raw", 2, 64)
    assert (seed.loss_type, seed.dropout_prob, seed.d_state) == ("BPR", 0.5, 16)
    assert seed.interval == "clip"
    assert SS4RecConfig.official(n_layers=3).n_layers == 3
    with pytest.raises(ValueError, match="n_layers"):
        official.n_layers = 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("d_H", 32),
        ("dropout_prob", 1.0),
        ("dropout_prob", -0.1),
        ("dropout_prob", False),
        ("dropout_prob", float("nan")),
        ("loss_type", "ce"),
        ("loss_type", None),
        ("interval", "days"),
        ("n_layers", 0),
        ("n_layers", True),
        ("d_state", 1.5),
        ("d_P", "32"),
        ("dt_min", 0.2),
        ("dt_min", "0.001"),
        ("dt_min", None),
        ("dt_max", float("inf")),
        ("interval_floor", -1),
        ("initializer_range", 0.0),
        ("unconstrained", 1),
        ("unconstrained", "False"),
        ("model_type", "s5"),
        ("model_type", ["s5_only"]),
        ("backend", "cuda"),
    ],
)
def test_configurations_that_cannot_be_built_are_refused(name, value):
    with pytest.raises(ConfigError) as problem:
        SS4RecConfig.official(**{name: value})
    assert name in str(problem.value)
    assert as_text(value) in str(problem.value)


@pytest.mark.parametrize(
    ("items", "value"),
    [(torch.zeros(2, 3), "float32"), (torch.zeros(3, dtype=torch.int64), "(3,)")],
)
def test_items_of_another_shape_or_dtype_are_refused(items, value):
    with pytest.raises(ValueError, match="items") as problem:
        SS4Rec(30, SMALL)(items, torch.zeros(2, 3))
    assert value in str(problem.value)


@pytest.mark.parametrize("item", [31, -1])
def test_ids_outside_the_catalogue_are_no_rows_of_the_embedding(item):
    with pytest.raises(IndexError):
        SS4Rec(30, SMALL)(torch.full((2, 3), item), torch.zeros(2, 3))


def test_intervals_and_catalogue_are_checked():
    model, items, delta = model_and_batch()
    with pytest.raises(ValueError, match="delta"):
        model(items, delta[:, 1:])
    with pytest.raises(ValueError, match="delta"):
        model(items, delta.long())
    for n_items in (0, -3, True, 30.0, "30"):
        with pytest.raises(ValueError, match=f"n_items={n_items!r}"):
            SS4Rec(n_items, SMALL)
    assert SS4Rec(np.int64(30), SMALL).logits(torch.zeros(16)).shape == (31,)
