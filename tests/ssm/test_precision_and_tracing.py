"""16 and 64 bits, autocast, and what looks into a model: jit.trace, export, compile."""

import copy
import warnings

import pytest
import torch

from ss4rec_lib.models import SS4Rec, SS4RecConfig
from ss4rec_lib.models.base import Dropout
from ss4rec_lib.ssm import S5, Mamba
from ss4rec_lib.ssm.scan import asked_once

SMALL = SS4RecConfig(hidden_size=8, d_H=8, d_P=4, d_state=4, n_layers=1)
LOW = [torch.bfloat16, torch.float16]


def model_and_inputs(backend="auto"):
    torch.manual_seed(0)
    model = SS4Rec(30, SMALL.replace(backend=backend, initializer_range=0.2)).eval()
    return model, torch.randint(1, 30, (2, 6)), torch.rand(2, 6) * 100


def error(found, expected):
    return (found - expected).abs().max() / expected.abs().max()


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("kind", ["S5", "Mamba"])
@pytest.mark.parametrize("backend", ["auto", "parallel"])
def test_layers_of_16_bits_keep_their_states_in_32(kind, dtype, backend):
    torch.manual_seed(1)
    layer = S5(8, 4, backend=backend) if kind == "S5" else Mamba(8, 4, backend=backend)
    inputs = [torch.randn(2, 40, 8)] + ([torch.rand(2, 40) * 10] if kind == "S5" else [])
    expected = layer(*inputs)
    layer.to(dtype)
    inputs[0] = inputs[0].to(dtype).requires_grad_()
    y, state = layer(*inputs, return_state=True)
    assert y.dtype == dtype
    assert error(y, expected) < 0.02
    x = state if kind == "S5" else state.ssm
    assert x.dtype == (torch.complex64 if kind == "S5" else torch.float32)
    y.sum().backward()
    assert inputs[0].grad.isfinite().all()
    state, outputs = layer.initial_state(2), []
    for k in range(40):
        y, state = layer.step(*(t[:, k] for t in inputs), state)
        outputs.append(y)
    assert error(torch.stack(outputs, 1), expected) < 0.02


@pytest.mark.parametrize("convert", ["bfloat16", "half", "double"])
def test_the_model_in_another_precision(convert):
    model, items, delta = model_and_inputs()
    with torch.no_grad():
        expected = model.logits(model(items, delta))
        getattr(model, convert)()
        hidden, state = model(items, delta, return_state=True)
        found = model.logits(hidden)
        assert found.dtype == {"half": torch.float16}.get(convert, getattr(torch, convert, None))
        assert error(found, expected) < (1e-5 if convert == "double" else 0.05)
        assert model.blocks[0].s5.B.dtype == (
            torch.float64 if convert == "double" else torch.float32
        )
        state = model.initial_state(2)
        for k in range(6):
            state = model.step(state, items[:, k], delta[:, k])
        assert error(state.hidden, hidden[:, -1]) < (1e-5 if convert == "double" else 0.05)
        assert error(model.float().logits(model(items, delta)), expected) < 0.05  # and back


def test_a_step_of_training_in_bfloat16():
    model, items, delta = model_and_inputs()
    model.bfloat16().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        scores = model.logits(model(items, delta)).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(scores, items.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", ["S5", "Mamba"])
def test_a_state_of_64_bits_continues_in_a_layer_of_32(kind):
    layer = S5(8, 4) if kind == "S5" else Mamba(8, 4)
    inputs = [torch.randn(2, 3, 8)] + ([torch.rand(2, 3)] if kind == "S5" else [])
    state = layer(*inputs, return_state=True)[1]
    expected = layer(*inputs, state)
    wide = state.to(torch.complex128) if kind == "S5" else type(state)(*(t.double() for t in state))
    assert torch.allclose(layer(*inputs, wide), expected, atol=1e-6)


def test_complex_parameters_of_16_bits_are_refused_by_name():
    layer = S5(8, 4)
    halves = {name: t.bfloat16() for name, t in layer.state_dict().items()}
    layer.load_state_dict(halves, assign=True)
    with pytest.raises(TypeError, match=r"S5.*torch.bfloat16.*float32"):
        layer(torch.randn(1, 3, 8), torch.rand(1, 3))


@pytest.mark.parametrize("dtype", LOW)
def test_autocast_and_a_step_of_it(dtype):
    model, items, delta = model_and_inputs()
    with torch.no_grad():
        expected = model(items, delta)
        with torch.autocast("cpu", dtype):
            assert error(model(items, delta), expected) < 0.05
            state = model.initial_state(2)
            for k in range(6):
                state = model.step(state, items[:, k], delta[:, k])
        assert error(state.hidden, expected[:, -1]) < 0.05
        # A state of autocast is continued without it.
        later = model(items, delta, state, return_state=True)[0]
        assert later.isfinite().all()


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("how", ["trace", "export"])
def test_trace_and_export(how, backend):
    model, items, delta = model_and_inputs(backend)
    others = items.flip(1), delta * 3
    if how == "trace":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.jit.trace(model, (items, delta))
    else:
        made = torch.export.export(model, (items, delta), strict=False).module()
    assert torch.allclose(made(*others), model(*others), atol=1e-5)
    scores = model(*others).sum()
    wanted = torch.autograd.grad(scores, list(model.parameters()), allow_unused=True)
    if how == "trace":
        found = torch.autograd.grad(
            made(*others).sum(), list(model.parameters()), allow_unused=True
        )
        for a, b in zip(found, wanted, strict=True):
            assert a is b is None or torch.allclose(a, b, atol=1e-3, rtol=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["numba", "parallel"])
@pytest.mark.parametrize("how", ["trace", "export"])
def test_a_backend_that_cannot_be_traced_says_so(how, backend):
    model, *inputs = model_and_inputs(backend)
    trace = torch.jit.trace if how == "trace" else torch.export.export
    options = {} if how == "trace" else {"strict": False}
    with pytest.raises(Exception, match=f"{backend}.*torch.export"):
        trace(model, tuple(inputs), **options)


def test_a_compiled_layer_computes_the_same():
    torch.manual_seed(2)
    block, hidden = Mamba(8, 4), torch.randn(2, 6, 8)
    compiled = torch.compile(copy.deepcopy(block), backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = compiled(hidden)
    found.sum().backward()
    block(hidden).sum().backward()
    assert torch.allclose(found, block(hidden), atol=1e-6)
    for a, b in zip(compiled.parameters(), block.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-5)


def test_the_mark_for_torch_compile_is_the_one_of_torch():
    ours, theirs = asked_once(lambda: 1), torch.compiler.assume_constant_result(lambda: 1)
    assert vars(ours) == vars(theirs) != {}


def test_a_traced_dropout_draws_anew():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.trace(Dropout(0.5), torch.ones(1000), check_trace=False)
    assert not torch.equal(made(torch.ones(1000)), made(torch.ones(1000)))
