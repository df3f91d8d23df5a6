"""S5 against s5-pytorch, and what the layer promises about time, padding and state."""

import copy
import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ss4rec_lib.ssm import S5

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from s5 import S5 as PublicS5


def public_twin(layer: S5) -> PublicS5:
    """An s5-pytorch layer with the same parameters."""
    public = PublicS5(layer.d_H, state_width=layer.d_P)
    with torch.no_grad():
        public.seq.Lambda.copy_(layer.Lambda)
        public.seq.C.copy_(torch.view_as_complex(layer.C))
        for name in ("B", "D", "log_step"):
            getattr(public.seq, name).copy_(getattr(layer, name))
    return public


def irregular(batch: int, length: int) -> torch.Tensor:
    """Seconds as in MovieLens: many ties, mostly seconds and minutes, some months."""
    delta = 10 ** (torch.rand(batch, length) * 7)
    delta[torch.rand(batch, length) < 0.4] = 0
    return delta


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("unconstrained", [True, False])
def test_values_and_gradients_equal_s5_pytorch(backend, unconstrained):
    torch.manual_seed(0)
    layer = S5(16, 8, unconstrained=unconstrained, backend=backend)
    public = public_twin(layer)
    u, delta = torch.randn(3, 25, 16), irregular(3, 25)
    u_ours, u_public = u.clone().requires_grad_(), u.clone().requires_grad_()
    y, expected = layer(u_ours, delta), public(u_public, step_scale=delta)
    assert (y - expected).abs().max() <= 1e-5 * expected.abs().max()

    weights = torch.cos(torch.arange(y.numel())).view_as(y)
    (y * weights).sum().backward()
    (expected * weights).sum().backward()
    Lambda = public.seq.Lambda.grad
    pairs = [
        (u_ours.grad, u_public.grad),
        (layer.Lambda_im.grad, Lambda.imag),
        (layer.B.grad, public.seq.B.grad),
        (layer.C.grad, torch.view_as_real(public.seq.C.grad)),
        (layer.D.grad, public.seq.D.grad),
        (layer.log_step.grad, public.seq.log_step.grad),
    ]
    if unconstrained:
        pairs.append((layer.Lambda_re.grad, Lambda.real))
    else:  # d/d(log -Re) = Re * d/d(Re)
        pairs.append((layer.log_neg_Lambda_re.grad, Lambda.real * layer.Lambda.real.detach()))
    for found, wanted in pairs:
        assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_starts_from_the_published_initialisation():
    torch.manual_seed(0)
    layer = S5(64, 32, dt_min=0.001, dt_max=0.1)
    assert torch.allclose(layer.Lambda.real, torch.tensor(-0.5))
    assert torch.allclose(layer.Lambda.imag.sum(), torch.tensor(0.0), atol=1e-3)  # conjugates
    steps = torch.exp(layer.log_step)
    assert steps.min() >= 0.001 * (1 - 1e-5)
    assert steps.max() <= 0.1 * (1 + 1e-5)
    assert sum(p.numel() for p in layer.parameters()) == 2 * 32 + 2 * 32 * 64 * 2 + 64 + 32


def test_gradcheck_in_float64():
    torch.manual_seed(0)
    layer = S5(4, 3, backend="reference").double()
    u = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    delta = (torch.rand(2, 5, dtype=torch.float64) * 10).requires_grad_()
    assert torch.autograd.gradcheck(lambda u, d: layer(u, d), (u, delta))


@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_step_and_continuation_equal_the_whole_run(backend):
    torch.manual_seed(1)
    layer = S5(8, 6, backend=backend)
    u, delta = torch.randn(2, 12, 8), irregular(2, 12)
    whole, last = layer(u, delta, return_state=True)
    state, outputs = layer.initial_state(2), []
    for k in range(12):
        y, state = layer.step(u[:, k], delta[:, k], state)
        outputs.append(y)
    assert torch.allclose(torch.stack(outputs, 1), whole, atol=1e-5)
    assert torch.allclose(state, last, atol=1e-5)
    first, middle = layer(u[:, :5], delta[:, :5], return_state=True)
    rest = layer(u[:, 5:], delta[:, 5:], middle)
    assert torch.allclose(torch.cat((first, rest), 1), whole, atol=1e-5)


def test_right_padding_never_changes_a_valid_position():
    torch.manual_seed(2)
    layer = S5(8, 6)
    u, delta = torch.randn(1, 7, 8), irregular(1, 7)
    padded_u = torch.cat((u, torch.randn(1, 5, 8)), 1)
    padded_delta = torch.cat((delta, torch.zeros(1, 5)), 1)
    assert torch.equal(layer(padded_u, padded_delta)[:, :7], layer(u, delta))


def test_a_tied_interaction_leaves_no_trace_unless_there_is_a_floor():
    torch.manual_seed(3)
    u = torch.randn(1, 3, 8)
    changed = u.clone()
    changed[0, 1] += 1
    delta = torch.tensor([[5.0, 0.0, 5.0]])  # the second is tied with the third
    blind = S5(8, 6)
    assert torch.equal(blind(u, delta)[0, 2], blind(changed, delta)[0, 2])
    for interval in ("raw", "log1p"):
        seeing = S5(8, 6, interval=interval, interval_floor=1.0)
        assert not torch.allclose(seeing(u, delta)[0, 2], seeing(changed, delta)[0, 2])


def test_clip_sees_nothing_beyond_its_ends():
    torch.manual_seed(4)
    layer = S5(8, 6, interval="clip", dt_min=0.001, dt_max=0.1)
    u = torch.randn(1, 4, 8)
    low, high = torch.tensor([[0.0, 9e8, 0.0, 1.0]]), torch.tensor([[1e-3, 0.1, 1e-4, 0.2]])
    assert torch.equal(layer(u, low), layer(u, high))


def test_free_eigenvalues_overflow_and_constrained_ones_do_not():
    """The trap behind a port's 'gradient explosion': Re(Lambda) > 0 and an interval of 1e6 s."""
    torch.manual_seed(5)
    u, delta = torch.randn(1, 3, 8), torch.full((1, 3), 1e6)
    free, kept = S5(8, 6, unconstrained=True), S5(8, 6)
    with torch.no_grad():
        free.Lambda_re += 0.51  # to +0.01
        kept.log_neg_Lambda_re -= 50  # the same push, as far as it goes
    assert not torch.isfinite(free(u, delta)).all()
    y = kept(u, delta)
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(p.grad).all() for p in kept.parameters())


@pytest.mark.parametrize(
    ("delta", "named"),
    [
        (torch.zeros(2, 3), r"delta.*\(2, 3\).*\(2, 4\)"),
        (torch.zeros(2, 4, dtype=torch.int64), r"delta.*torch\.int64"),
    ],
)
def test_intervals_of_another_shape_or_dtype_are_refused(delta, named):
    with pytest.raises(ValueError, match=named):
        S5(8, 6)(torch.zeros(2, 4, 8), delta)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"d_P": 0}, "d_P=0"),
        ({"dt_min": 0.0}, "dt_min=0.0"),
        ({"dt_min": 1.0}, "dt_min=1.0"),
        ({"interval": "minutes"}, "interval='minutes'"),
        ({"interval_floor": -1.0}, "interval_floor=-1.0"),
        ({"discretization": "euler"}, "discretization='euler'"),
    ],
)
def test_options_out_of_range_are_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        S5(**{"d_H": 8, "d_P": 6, **arguments})


def test_width_and_state_of_another_size_are_refused():
    layer = S5(8, 6)
    with pytest.raises(ValueError, match=r"u .*\(2, 4, 7\)"):
        layer(torch.zeros(2, 4, 7), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"initial_state.*\(3, 6\)"):
        layer(torch.zeros(2, 4, 8), torch.zeros(2, 4), layer.initial_state(3))


def outputs_and_gradients(layer: S5, u, delta, state, dtype):
    """y, last state, and the gradients of everything that has one, in `dtype`."""
    layer = copy.deepcopy(layer).to(dtype)
    leaves = [t.to(dtype).requires_grad_() for t in (u, delta)]
    start = torch.view_as_real(state).to(dtype).requires_grad_()
    y, last = layer(*leaves, torch.view_as_complex(start), return_state=True)
    weights = torch.cos(torch.arange(y.numel(), dtype=dtype)).view_as(y)
    loss = (y * weights).sum() + torch.view_as_real(last).pow(2).sum()
    leaves += [start, *layer.parameters()]
    return [y.detach(), torch.view_as_real(last.detach()), *torch.autograd.grad(loss, leaves)]


@settings(max_examples=60)
@given(
    st.integers(1, 10), st.integers(1, 40), st.integers(1, 40), st.integers(0, 10_000),
    st.sampled_from([0.0, 1e-3, 1.0, 60.0, 3_600.0]),
)  # fmt: skip
@example(batch=9, length=5, states=130, seed=0, scale=1.0)  # more states than a task takes
@example(batch=2, length=5, states=130, seed=1, scale=60.0)
def test_the_compiled_pass_equals_the_reference(batch, length, states, seed, scale):
    """Values and gradients in float32 against the written-out layer in float64."""
    torch.manual_seed(seed)
    layer = S5(3, states, backend="numba")
    u, delta = torch.randn(batch, length, 3), torch.rand(batch, length) * scale
    delta[torch.rand(batch, length) < 0.3] = 0
    state = torch.randn(batch, states, dtype=torch.complex64)
    found = outputs_and_gradients(layer, u, delta, state, torch.float32)
    layer.backend = "reference"
    expected = outputs_and_gradients(layer, u, delta, state, torch.float64)
    # The angle Im(Lambda) Delta has float32's relative error; after Delta ~ 10 all is forgotten.
    relative = 2e-5 + 2e-6 * layer.Lambda.abs().max().item()
    for number, (f, e) in enumerate(zip(found, expected, strict=True)):
        # The gradient of a parameter is a sum over all positions, in which terms of size 1 cancel.
        size = max(e.abs().max().item(), 1e-2 if number < 5 else 0.5)
        assert (f - e).abs().max().item() <= relative * size, f"output {number}"


def test_the_compiled_pass_takes_many_sequences_in_one_call():
    """Its buffers are on the stack, which must not grow with the number of sequences."""
    torch.manual_seed(0)
    layer, u, delta = S5(2, 64, backend="numba"), torch.randn(20_000, 1, 2), torch.rand(20_000, 1)
    found = layer(u, delta)
    found.sum().backward()
    layer.backend = "reference"
    assert torch.allclose(found, layer(u, delta), atol=1e-5)


def test_the_compiled_pass_equals_the_reference_for_growing_states():
    """Unconstrained eigenvalues with positive real parts, up to a growth of exp(8) per step."""
    torch.manual_seed(0)
    layer = S5(3, 6, unconstrained=True, backend="numba")
    with torch.no_grad():
        layer.Lambda_re.copy_(torch.linspace(-0.5, 1.0, 6))
        layer.log_step.fill_(0.0)
    u, delta = torch.randn(2, 4, 3), torch.rand(2, 4) * 8
    state = torch.randn(2, 6, dtype=torch.complex64)
    found = outputs_and_gradients(layer, u, delta, state, torch.float32)
    layer.backend = "reference"
    expected = outputs_and_gradients(layer, u, delta, state, torch.float64)
    for number, (f, e) in enumerate(zip(found, expected, strict=True)):
        assert (f - e).abs().max() <= 1e-4 * e.abs().max(), f"output {number}"


def test_the_compiled_pass_does_not_depend_on_the_number_of_threads():
    torch.manual_seed(0)
    layer, before = S5(4, 40, backend="numba"), torch.get_num_threads()
    for batch in (2, 11):  # cut into groups of states, and not
        u, delta = torch.randn(batch, 30, 4), irregular(batch, 30)
        state, runs = torch.randn(batch, 40, dtype=torch.complex64), []
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                runs.append(outputs_and_gradients(layer, u, delta, state, torch.float32)[:5])
        finally:
            torch.set_num_threads(before)
        for run in runs:
            assert torch.equal(run[1], runs[0][1])  # the states
            # the rest also comes from matrix products, whose order is PyTorch's affair
            for found, expected in zip(run, runs[0], strict=True):
                assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_sine_and_cosine_of_any_angle():
    from ss4rec_lib.ssm.kernels.numba_s5 import _sin_cos

    angles = np.concatenate((np.linspace(-20, 20, 4_001), 10 ** np.linspace(1.0, 10.5, 500)))
    found = np.array([_sin_cos(angle) for angle in angles])
    assert np.abs(found[:, 0] - np.sin(angles)).max() < 2e-5
    assert np.abs(found[:, 1] - np.cos(angles)).max() < 2e-5
    small = np.abs(angles) <= 20
    assert np.abs(found[small, 0] - np.sin(angles[small])).max() < 3e-7
