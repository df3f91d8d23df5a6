"""Second derivatives of all autograd Functions, against finite differences in float64."""

import sys
import types

import pytest
import torch

from ss4rec_lib.ssm import S5, Mamba, diagonal_scan, selective_scan
from ss4rec_lib.ssm.discretization import states, zero_order_hold
from ss4rec_lib.ssm.kernels import numba_loops, numba_mamba, numba_s5, parallel, reference

randn, rand = torch.randn, torch.rand
B, L, D, N, P, K, R = 2, 7, 4, 3, 5, 3, 2


def selective():
    sizes = randn(B, L, D), rand(B, L, D), -rand(D, N) - 0.3, randn(B, L, N), randn(B, L, N)
    return [*sizes, randn(D), randn(B, D, N)]


def diagonal():
    return [torch.polar(rand(B, L, P), randn(B, L, P)), randn(B, L, P) + 1j, randn(B, P) + 1j]


def irregular():
    lam = torch.cat((-rand(P) - 0.1, randn(P) * 3))
    return [lam, rand(P) + 0.1, rand(B, L) * 2, randn(B, L, 2 * P), randn(B, 2 * P)]


def inner():
    projections = randn(R + 2 * N, D) * 0.5, randn(D, R), randn(D), -rand(D, N) - 0.3, randn(D)
    return [
        randn(B, L, 2 * D),
        randn(K, D),
        randn(D),
        randn(B, K - 1, D),
        *projections,
        randn(B, D, N),
    ]


FUNCTIONS = {
    "numba selective": (numba_loops.selective_scan, reference.selective_scan, selective, 1),
    "numba diagonal": (numba_loops.diagonal_scan, reference.diagonal_scan, diagonal, 1),
    "numba S5": (numba_s5.irregular_scan, states, irregular, 1),
    "numba Mamba": (numba_mamba.mamba_inner, numba_mamba._plain, inner, 1),
    "parallel selective": (parallel.selective_scan, reference.selective_scan, selective, 2),
    "parallel diagonal": (parallel.diagonal_scan, reference.diagonal_scan, diagonal, 2),
}


def real(t):
    return torch.view_as_real(t) if t.is_complex() else t


def cast(tensors, precision):
    return [
        t.to(t.dtype if precision == 1 else torch.promote_types(t.dtype, torch.float64))
        for t in tensors
    ]


def loss(function, inputs, nonlinear, other_path):
    outputs, total = function(*inputs), 0
    for y in outputs if isinstance(outputs, tuple) else (outputs,):
        y = real(y)
        w = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view(y.shape).to(y)
        total = total + (w * (y**2 + y if nonlinear else y)).sum()
    return total + sum(real(t).pow(2).sum() for t in inputs) if other_path else total


def first(function, inputs, *how, **options):
    return torch.autograd.grad(loss(function, inputs, *how), inputs, **options)


@pytest.mark.parametrize("other_path", [False, True])
@pytest.mark.parametrize("nonlinear", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_hessian_times_vector(name, nonlinear, other_path):
    """Half of these were wrong, and not refused, with PyTorch's `once_differentiable`."""
    function, plain, draw, precision = FUNCTIONS[name]
    torch.manual_seed(0)
    inputs = [t.requires_grad_() for t in cast(draw(), precision)]
    v, ends, how = [torch.randn_like(t) for t in inputs], [], (nonlinear, other_path)
    for eps in (1e-6, -1e-6):
        at = [a + eps * b for a, b in zip(*(cast(ts, 2) for ts in (inputs, v)), strict=True)]
        ends.append(first(plain, [t.detach().requires_grad_() for t in at], *how))
    expected = [(a - b) / 2e-6 for a, b in zip(*ends, strict=True)]
    g = first(function, inputs, *how, create_graph=True)
    ordinary = first(function, inputs, *how)
    for a, b in zip(g, ordinary, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)
    total = sum((real(a) * real(b)).sum() for a, b in zip(g, v, strict=True))
    found = torch.autograd.grad(total, inputs, allow_unused=True)
    for a, b in zip(found, expected, strict=True):
        difference = b if a is None else a - b
        tolerance = (1e-4 if precision == 1 else 1e-6) * max(1, b.abs().max())
        assert difference.abs().max() < tolerance


@pytest.mark.parametrize("needed", [(0, 1, 2, 3, 4, 5, 6), (5,), (0, 6), (1, 2)])
def test_gradgradcheck_of_the_parallel_backend(needed):
    torch.manual_seed(1)
    inputs = [t.requires_grad_(i in needed) for i, t in enumerate(cast(selective(), 2))]
    assert torch.autograd.gradgradcheck(parallel.selective_scan, inputs, fast_mode=True)
    u = inputs[1].detach().requires_grad_()  # one tensor for two inputs
    twice = lambda u: parallel.selective_scan(u, u, *inputs[2:])  # noqa: E731
    assert torch.autograd.gradgradcheck(twice, u, fast_mode=True)


def test_gradgradcheck_of_the_diagonal_scan_in_two_chunks(monkeypatch):
    monkeypatch.setattr(parallel, "CHUNK", 4)
    torch.manual_seed(2)
    inputs = [t.requires_grad_() for t in cast(diagonal(), 2)]
    assert torch.autograd.gradgradcheck(parallel.diagonal_scan, inputs, fast_mode=True)


@pytest.mark.parametrize("size", [1e-9, 1e-3, 0.05, 0.12, 1.0, 30.0])
def test_gradgradcheck_of_the_hold(size):
    torch.manual_seed(3)
    Lambda = torch.complex(-rand(3), randn(3)).to(torch.complex128)
    leaves = [
        torch.view_as_real(Lambda).requires_grad_(),
        (rand(1, 2, 3).double() + 0.5).requires_grad_(),
    ]

    def hold(real_imag, step):  # steps of order 1, so that finite differences see them
        scale = zero_order_hold(torch.view_as_complex(real_imag), step * size)[1]
        return torch.view_as_real(scale)

    assert torch.autograd.gradgradcheck(hold, leaves, atol=1e-7 * size, rtol=1e-4)


def layer_and_loss(kind, backend):
    torch.manual_seed(4)
    layer = S5(8, 4, backend=backend) if kind == "S5" else Mamba(8, 4, backend=backend)
    inputs = [randn(2, 6, 8)] + ([rand(2, 6)] if kind == "S5" else [])
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def total(parameters):
        return torch.func.functional_call(layer, parameters, tuple(inputs)).pow(2).sum()

    return parameters, total


@pytest.mark.parametrize("kind", ["S5", "Mamba"])
def test_torch_func_and_batched_gradients(kind):
    parameters, total = layer_and_loss(kind, "auto")
    leaves = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    expected = torch.autograd.grad(total(leaves), list(leaves.values()))
    for a, b in zip(torch.func.grad(total)(parameters).values(), expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)
    _, slope = torch.func.jvp(total, (parameters,), (parameters,))
    wanted = sum((g * p).sum() for g, p in zip(expected, parameters.values(), strict=True))
    assert torch.allclose(slope, wanted, rtol=1e-4)
    name = "log_step" if kind == "S5" else "D"
    D = parameters[name]
    one = lambda D: total({**parameters, name: D})  # noqa: E731
    each = torch.func.vmap(one)(torch.stack((D, 2 * D)))
    assert torch.allclose(each, torch.stack((one(D), one(2 * D))), rtol=1e-4)
    rows = torch.autograd.functional.hessian(one, D)
    assert torch.allclose(
        torch.autograd.functional.hessian(one, D, vectorize=True), rows, atol=1e-4
    )
    assert torch.allclose(torch.func.hessian(one)(D), rows, rtol=1e-3, atol=1e-3)
    outputs = lambda D: one(D) * torch.arange(1.0, 4)  # noqa: E731
    slopes = [torch.autograd.functional.jacobian(outputs, D, vectorize=v) for v in (False, True)]
    assert torch.allclose(*slopes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["S5", "Mamba"])
@pytest.mark.parametrize("backend", ["numba", "parallel"])
def test_a_named_backend_says_that_torch_func_needs_another(kind, backend):
    parameters, total = layer_and_loss(kind, backend)
    with pytest.raises(RuntimeError, match=f"{backend}.*torch.func"):
        torch.func.grad(total)(parameters)


def test_forward_mode_is_refused():
    inputs = selective()
    with torch.autograd.forward_ad.dual_level():
        inputs[0] = torch.autograd.forward_ad.make_dual(inputs[0], inputs[0])
        with pytest.raises(NotImplementedError, match="jvp"):
            selective_scan(*inputs)


def test_the_package_mamba_ssm_has_no_second_derivatives(monkeypatch):
    """A stand-in for the CUDA kernel, whose gradient is a constant for autograd."""

    class Kernel(torch.autograd.Function):
        @staticmethod
        def forward(ctx, u):
            ctx.save_for_backward(u)
            return u**2

        @staticmethod
        def backward(ctx, dy):
            return dy * 2 * ctx.saved_tensors[0].detach()

    fake = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    fake.selective_scan_fn = lambda u, *_, **__: (Kernel.apply(u), None)
    for name in ("mamba_ssm", "mamba_ssm.ops", fake.__name__):
        monkeypatch.setitem(sys.modules, name, fake)
    from ss4rec_lib.ssm.kernels import mamba_ssm

    *inputs, _ = selective()
    u = inputs[0].requires_grad_()
    y = mamba_ssm.selective_scan(*inputs, None)[0]
    assert torch.allclose(torch.autograd.grad(y.sum(), u, retain_graph=True)[0], 2 * u)
    with pytest.raises(RuntimeError, match="second derivatives"):
        torch.autograd.grad(y.sum(), u, create_graph=True)


def test_two_backwards_of_one_graph_are_equal_to_the_bit():
    inputs = [t.requires_grad_() for t in diagonal()]
    y = torch.view_as_real(diagonal_scan(*inputs, backend="numba")).pow(2).sum()
    one = torch.autograd.grad(y, inputs, retain_graph=True)
    assert all(map(torch.equal, one, torch.autograd.grad(y, inputs)))
