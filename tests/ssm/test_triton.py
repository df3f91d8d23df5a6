"""The triton backend against the reference in float64, and in the layers against the CPU's.

Where there is no GPU, the kernels run in Triton's interpreter (`make test-triton`), at small sizes:
it takes some milliseconds per step of a sequence. It shows neither races nor speed.
"""

import os

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ss4rec_lib.data import carried_batches, leave_one_out, planted_ratings, train_batches
from ss4rec_lib.models import SS4Rec, SS4RecConfig
from ss4rec_lib.ssm import S5, Mamba, MambaState, diagonal_scan, scan, selective_scan
from ss4rec_lib.ssm.discretization import states
from ss4rec_lib.training import Step, ranking_objective
from tests.ssm.test_scan import diagonal_inputs, selective_inputs

pytest.importorskip("triton", reason="make test-triton installs it")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("needs a GPU or TRITON_INTERPRET=1: make test-triton", allow_module_level=True)

from ss4rec_lib.ssm.kernels import triton_mamba, triton_s5  # noqa: E402

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
few = settings(max_examples=8)
SEEDS, LONGEST = st.integers(0, 999), st.sampled_from([1.0, 1e4, 1e9])


def outputs(result):
    return list(result) if isinstance(result, tuple) else [result]


def values_and_gradients(function, inputs):
    """Outputs, and the gradients of an uneven function of all of them, on the CPU."""
    inputs = [t.clone().requires_grad_() for t in inputs]
    found, loss = outputs(function(*inputs)), 0
    for y in found:
        weights = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view(y.shape)
        loss = loss + (y * weights.to(y.device) + y * y).abs().sum()
    gradients = torch.autograd.grad(loss, inputs)
    return [y.detach().cpu() for y in found], [g.cpu() for g in gradients]


def assert_close(found, expected, relative):
    for number, (f, e) in enumerate(zip(found, expected, strict=True)):
        assert f.shape == e.shape
        assert f.isfinite().all(), f"tensor {number}"
        difference = (f - e).abs().max().item()
        assert difference <= relative * max(e.abs().max().item(), 1e-3), f"tensor {number}"


def check(function, inputs, plain):
    """Compare values (1e-5 of the largest) and gradients (1e-4) with those of float64."""
    wide = [t.to(torch.complex128 if t.is_complex() else torch.float64) for t in inputs]
    values, gradients = values_and_gradients(function, [t.to(DEVICE) for t in inputs])
    expected_values, expected_gradients = values_and_gradients(plain, wide)
    assert_close(values, expected_values, 1e-5)
    assert_close(gradients, expected_gradients, 1e-4)


def selective(backend):
    return lambda *t: selective_scan(*t, return_state=True, backend=backend)


def diagonal(backend):
    return lambda *t: diagonal_scan(*t, return_state=True, backend=backend)


def irregular_inputs(batch, length, P, seed, longest=1e9):
    """Inputs of S5's scan: ties, intervals over eight powers of ten, up to 30 years; slow states.

    Eigenvalue 0 stays near 0. The last one turns fast and decays slowly: thousands of turns count.
    With the longest interval a second, all gradients depend on the series near 0; with 30 years
    their part of a sum is too small to be seen.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator)

    real, imaginary = -(10 ** (3 * uniform(P) - 3)), 10 * torch.randn(P, generator=generator)
    real[0], imaginary[0] = -1e-7, 1e-7
    real[-1], imaginary[-1] = -1e-3, 300.0
    delta = longest * 10 ** (-8 * uniform(batch, length))
    delta[uniform(batch, length) < 0.3] = 0
    delta[0, -1] = longest
    Bu = torch.randn(batch, length, 2 * P, generator=generator)
    x0 = torch.randn(batch, 2 * P, generator=generator)
    return [torch.cat((real, imaginary)), 0.001 + 0.1 * uniform(P), delta, Bu, x0]


# ------------------------------------------------------------------------------------- the scans


@few
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 20), st.integers(1, 9), SEEDS)
@example(1, 1, 1, 1, 0)
@example(2, 33, 20, 32, 1)  # two tiles of channels, three chunks
def test_selective_scan_equals_the_reference(batch, length, channels, N, seed):
    inputs = selective_inputs(batch, length, channels, N, seed)
    check(selective("triton"), inputs, selective("reference"))


@few
@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 40), SEEDS)
@example(2, 1, 33, 0)
def test_diagonal_scan_equals_the_reference(batch, length, P, seed):
    inputs = diagonal_inputs(batch, length, P, seed)
    check(diagonal("triton"), inputs, diagonal("reference"))
    check(diagonal("triton"), [t.real for t in inputs], diagonal("reference"))


@few
@given(st.integers(1, 3), st.integers(1, 12), st.integers(1, 40), SEEDS, LONGEST)
@example(2, 1, 33, 0, 1e9)
@example(2, 12, 40, 1, 1.0)
@example(2, 12, 5, 1, 1e4)
@example(2, 20, 32, 1, 1e9)
def test_irregular_scan_equals_the_reference(batch, length, P, seed, longest):
    check(triton_s5.irregular_scan, irregular_inputs(batch, length, P, seed, longest), states)


def test_the_gradient_flows_through_a_state_that_is_carried():
    def in_two_pieces(u, Delta, A, B, C, D, x0):
        timed = (u, Delta, B, C)
        y, last = [], x0
        for part in (slice(None, 21), slice(21, None)):  # neither end is that of a chunk
            u, Delta, B, C = (t[:, part] for t in timed)
            piece, last = selective("triton")(u, Delta, A, B, C, D, last)
            y.append(piece)
        return torch.cat(y, 1), last

    check(in_two_pieces, selective_inputs(2, 40, 3, 4, 3), selective("reference"))

    def s5_in_two_pieces(lam, step, delta, Bu, x0):
        one = triton_s5.irregular_scan(lam, step, delta[:, :4], Bu[:, :4], x0)
        two = triton_s5.irregular_scan(lam, step, delta[:, 4:], Bu[:, 4:], one[:, -1])
        return torch.cat((one, two), 1)

    inputs = irregular_inputs(2, 9, 5, 4)
    inputs[2].clamp_(max=10)  # else the first piece is forgotten
    check(s5_in_two_pieces, inputs, states)


def turned(t):
    """The same values in another order of memory."""
    return t.transpose(0, -1).contiguous().transpose(0, -1) if t.ndim > 1 else t


@pytest.mark.parametrize("kind", ["selective", "diagonal", "irregular"])
def test_non_contiguous_inputs(kind):
    function, inputs = {
        "selective": (selective("triton"), selective_inputs(2, 9, 3, 4, 4)),
        "diagonal": (diagonal("triton"), diagonal_inputs(2, 9, 3, 4)),
        "irregular": (triton_s5.irregular_scan, irregular_inputs(2, 9, 3, 4)),
    }[kind]
    inputs = [t.to(DEVICE) for t in inputs]
    strided = [turned(t) for t in inputs]
    assert not all(t.is_contiguous() for t in strided)

    def from_strided(*leaves):
        return function(*(turned(t) for t in leaves))

    for found, expected in zip(
        values_and_gradients(from_strided, inputs),
        values_and_gradients(function, inputs),
        strict=True,
    ):
        assert all(map(torch.equal, found, expected))
    if kind == "diagonal":  # PyTorch conjugates by a mark on the tensor
        found = function(*(t.conj() for t in inputs))[0]
        assert torch.allclose(found, function(*inputs)[0].conj())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_inputs_of_16_bits_are_scanned_in_32(dtype):
    inputs = [t.to(DEVICE, dtype) for t in selective_inputs(2, 20, 3, 4, 5)]
    y, last = selective("triton")(*inputs)
    assert (y.dtype, last.dtype) == (dtype, dtype)
    wide, state = selective("triton")(*(t.float() for t in inputs))
    assert torch.equal(y, wide.to(dtype)) and torch.equal(last, state.to(dtype))


def test_without_gradients_no_state_is_saved():
    inputs = [t.to(DEVICE) for t in selective_inputs(2, 32, 3, 4, 5)]
    *kept, saved = triton_mamba._selective(*inputs, True)
    *without, empty = triton_mamba._selective(*inputs, False)
    assert all(map(torch.equal, kept, without))
    assert (saved.shape, empty.numel()) == ((2, 2, 3, 4), 0)  # 32 positions are two chunks


@pytest.mark.parametrize("wanted", range(7))
def test_the_gradient_of_one_input_alone_is_the_same(wanted):
    inputs = [t.to(DEVICE) for t in selective_inputs(2, 20, 3, 4, 6)]
    _, expected = values_and_gradients(lambda *t: selective("triton")(*t)[0], inputs)
    inputs[wanted].requires_grad_()
    y, _ = selective("triton")(*inputs)
    weights = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view(y.shape)
    (y * weights.to(y) + y * y).abs().sum().backward()
    assert_close([inputs[wanted].grad.cpu()], [expected[wanted]], 1e-5)


@pytest.mark.parametrize("kind", ["selective", "diagonal", "irregular"])
def test_second_derivatives_are_those_of_the_reference(kind):
    function, plain, inputs = {
        "selective": (selective("triton"), selective("reference"), selective_inputs(1, 4, 2, 3, 6)),
        "diagonal": (diagonal("triton"), diagonal("reference"), diagonal_inputs(1, 4, 3, 6)),
        "irregular": (triton_s5.irregular_scan, states, irregular_inputs(1, 4, 3, 6)),
    }[kind]
    if kind == "irregular":  # mild: the reference in float32 is less accurate than the kernel
        inputs[0].clamp_(-3, 3)
        inputs[2].clamp_(max=3)

    def slopes(function):
        def first(*inputs):
            y = outputs(function(*inputs))[0]
            y = torch.view_as_real(y) if y.is_complex() else y
            return torch.autograd.grad(y.pow(2).sum(), inputs, create_graph=True)

        return first

    check(slopes(function), inputs, slopes(plain))


# ------------------------------------------------------------------------------ as an operation


def operations():
    inputs = [t.to(DEVICE).requires_grad_() for t in selective_inputs(1, 3, 2, 3, 7)]
    yield "selective", triton_mamba._selective, (*inputs, True)
    inputs = [t.to(DEVICE).requires_grad_() for t in irregular_inputs(1, 3, 2, 7)]
    yield "irregular", triton_s5._irregular, tuple(inputs)
    inputs = [t.to(DEVICE).requires_grad_() for t in diagonal_inputs(1, 3, 2, 7)]
    yield "diagonal", triton_s5._diagonal, tuple(inputs)


@pytest.mark.parametrize("kind", ["selective", "irregular", "diagonal"])
def test_the_operation_is_registered_as_pytorch_demands(kind):
    """Schema, gradient, results without values, and the transformations of torch.compile."""
    (found,) = [(op, given) for name, op, given in operations() if name == kind]
    checked = torch.library.opcheck(*found)
    assert set(checked.values()) == {"SUCCESS"}


# ------------------------------------------------------------------------------------ the layers


@pytest.mark.parametrize("options", [{}, {"unconstrained": True}, {"discretization": "bilinear"}])
def test_s5_equals_the_layer_on_the_cpu(options):
    torch.manual_seed(9)
    layer = S5(6, 5, **options)
    names = [name for name, _ in layer.named_parameters()]
    u, delta = torch.randn(2, 10, 6), 10 ** (8 * torch.rand(2, 10))
    delta[:, ::3] = 0
    x0 = torch.view_as_real(torch.randn(2, 5, dtype=torch.complex64))

    def run(backend, u, x0, *parameters):
        layer.backend = backend
        given = u, delta.to(u.device, u.dtype), torch.view_as_complex(x0)
        named = dict(zip(names, parameters, strict=True))
        y, last = torch.func.functional_call(layer, named, given, {"return_state": True})
        return y, torch.view_as_real(last)

    inputs = [u, x0, *(p.detach() for p in layer.parameters())]
    check(lambda *t: run("triton", *t), inputs, lambda *t: run("reference", *t))


def test_mamba_equals_the_layer_on_the_cpu():
    torch.manual_seed(10)
    block = Mamba(6, d_state=5)
    names = [name for name, _ in block.named_parameters()]
    inputs = [torch.randn(2, 19, 6), torch.randn(2, 12, 3), torch.randn(2, 12, 5)]

    def run(backend, hidden, conv, ssm, *parameters):
        block.backend = backend
        named = dict(zip(names, parameters, strict=True))
        given = hidden, MambaState(conv, ssm)
        y, last = torch.func.functional_call(block, named, given, {"return_state": True})
        return y, last.ssm

    inputs += [p.detach() for p in block.parameters()]
    check(lambda *t: run("triton", *t), inputs, lambda *t: run("reference", *t))


@pytest.fixture(scope="module")
def split():
    return leave_one_out(planted_ratings(n_users=8, n_items=9, mean_length=12, seed=0))


def small_step(split, backend, device):
    torch.manual_seed(11)
    sizes = {"hidden_size": 8, "d_H": 8, "d_P": 4, "d_state": 4, "dropout_prob": 0.0}
    model = SS4Rec(split.sequences.n_items, SS4RecConfig(**sizes, backend=backend)).to(device)
    return Step(model, ranking_objective(model, split, 1, device), "float32")


def two_steps(split, backend, device, carried):
    """Losses and parameters of two steps of training, the second with the state of the first."""
    step = small_step(split, backend, device)
    optimizer = torch.optim.SGD(step.parameters(), 1.0)  # Adam would divide by tiny gradients
    losses, state = [], None
    batches = carried_batches(split, 40, 6) if carried else train_batches(split, 60)
    for batch in list(batches)[:2]:
        optimizer.zero_grad()
        batch = batch.to(device)
        loss, state = step(batch, batch.n_targets, state if carried else None, carried)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach().cpu())
    return [torch.stack(losses), *(p.detach().cpu() for p in step.parameters())]


def test_torch_compile_makes_one_graph_of_a_step(split, monkeypatch):
    monkeypatch.setattr(scan, "_numba_kernels", lambda: (None, "the loss too is that of a GPU"))
    step = small_step(split, "triton", DEVICE)
    batch = next(iter(train_batches(split, 60))).to(DEVICE)
    expected, _ = step(batch, batch.n_targets)
    expected.backward()
    gradients = [p.grad.clone() for p in step.parameters()]
    step.zero_grad()
    found, _ = torch.compile(step, backend="aot_eager", fullgraph=True)(batch, batch.n_targets)
    found.backward()
    assert_close([found.detach()], [expected.detach()], 1e-6)
    assert_close([p.grad for p in step.parameters()], gradients, 1e-5)


@pytest.mark.parametrize("carried", [False, True])
def test_training_equals_training_on_the_cpu(split, carried):
    found = two_steps(split, "triton", DEVICE, carried)
    assert_close(found, two_steps(split, "numba", torch.device("cpu"), carried), 1e-5)


# ----------------------------------------------------------------------------------- on a GPU


def check_that_runs_are_equal(function, inputs, plain):
    """What the interpreter cannot show: lanes that read what others have not written yet."""
    check(function, inputs, plain)
    runs = [values_and_gradients(function, [t.to(DEVICE) for t in inputs]) for _ in range(3)]
    first, *others = [[*values, *gradients] for values, gradients in runs]
    assert all(all(map(torch.equal, first, other)) for other in others)


@pytest.mark.gpu
@pytest.mark.parametrize(("B", "L", "D", "N"), [(32, 200, 128, 32), (3, 1999, 33, 16)])
def test_on_a_gpu_the_selective_scan_at_the_sizes_of_training(B, L, D, N):
    inputs = selective_inputs(B, L, D, N, 0)
    check_that_runs_are_equal(selective("triton"), inputs, selective("reference"))


@pytest.mark.gpu
@pytest.mark.parametrize(("B", "L", "P"), [(32, 200, 32), (3, 1999, 40)])
def test_on_a_gpu_the_irregular_scan_at_the_sizes_of_training(B, L, P):
    check_that_runs_are_equal(triton_s5.irregular_scan, irregular_inputs(B, L, P, 0), states)
