"""Discretisation against exact arithmetic, and the trap of exp(z) - 1."""

import cmath
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ss4rec_lib.ssm.discretization import bilinear, zero_order_hold


def exact_scale(Lambda: complex, Delta: float) -> complex:
    """(exp(Lambda Delta) - 1) / Lambda in Python's complex128, by series where it would cancel."""
    z = Lambda * Delta
    if abs(z) < 1e-2:
        return Delta * sum(z**n / math.factorial(n + 1) for n in range(9))
    return (cmath.exp(z) - 1) / Lambda


LAMBDAS = st.builds(complex, st.floats(-300, -1e-6), st.floats(-300, 300))
DELTAS = st.one_of(st.just(0.0), st.floats(-9, 6).map(lambda e: 10.0**e))


@settings(max_examples=300)
@given(LAMBDAS, DELTAS)
def test_scale_is_accurate_at_every_size(Lambda, Delta):
    expected = exact_scale(Lambda, Delta)
    for dtype, real, relative in [
        (torch.complex128, torch.float64, 1e-11),
        # the phase Im(Lambda) Delta itself has float32's relative error
        (torch.complex64, torch.float32, 1e-5 + 1e-6 * abs(Lambda * Delta)),
    ]:
        _, scale = zero_order_hold(
            torch.tensor([Lambda], dtype=dtype), torch.tensor([[[Delta]]], dtype=real)
        )
        bound = relative * max(abs(expected), 1 / abs(Lambda) if abs(Lambda * Delta) > 1 else 0)
        assert abs(complex(scale[0, 0, 0]) - expected) <= bound + 1e-300


@settings(max_examples=100)
@given(LAMBDAS, DELTAS)
def test_single_precision_gradients_do_not_cancel(Lambda, Delta):
    gradients = []
    for dtype, real in ((torch.complex64, torch.float32), (torch.complex128, torch.float64)):
        # Both start from the same float32 numbers.
        leaf = torch.tensor([Lambda], dtype=torch.complex64).to(dtype).requires_grad_()
        step = torch.tensor([[[Delta]]], dtype=torch.float32).to(real).requires_grad_()
        _, scale = zero_order_hold(leaf, step)
        gradients.append(torch.autograd.grad(scale.real.sum(), (leaf, step)))
    (found_leaf, found_step), (leaf, step) = gradients
    phase = abs(Lambda * Delta)  # forgotten entirely once the decay is complete
    relative = 1e-4 + (1e-6 * phase if Lambda.real * Delta > -100 else 0)
    size = max(abs(complex(leaf[0])), min(Delta, 1 / abs(Lambda)) ** 2)
    assert abs(complex(found_leaf[0]) - complex(leaf[0])) <= relative * size + 1e-30
    assert abs(found_step.item() - step.item()) <= relative


@pytest.mark.parametrize("method", [zero_order_hold, bilinear])
def test_gradcheck_in_float64(method):
    Lambda = torch.tensor([complex(-0.5, 2.0), complex(-1e-7, 1e-7)], dtype=torch.complex128)
    Delta = torch.tensor([0.0, 1e-3, 0.1, 1.0, 9.0], dtype=torch.float64)
    Delta = Delta[None, :, None].expand(1, 5, 2).clone()
    assert torch.autograd.gradcheck(method, (Lambda.requires_grad_(), Delta.requires_grad_()))


def test_naive_exponential_loses_its_digits():
    """The reason for `expm1`: for a step of a microsecond, exp(z) - 1 is wrong by percents."""
    Lambda, Delta = torch.tensor([complex(-0.5, 3.0)]), torch.tensor([[[1e-7]]])
    naive = (torch.exp(Lambda * Delta) - 1) / Lambda
    _, scale = zero_order_hold(Lambda, Delta)
    assert abs(complex(naive[0, 0, 0]) / 1e-7 - 1) > 0.01
    assert abs(complex(scale[0, 0, 0]) / 1e-7 - 1) < 1e-6


def test_zero_order_hold_solves_the_differential_equation():
    """Against x' = Lambda x + u integrated in 20,000 small steps."""
    Lambda = torch.tensor([complex(-0.5, 2.0)], dtype=torch.complex128)
    total, n = 1.7, 20_000
    x, u, small = 0.3 + 0j, 0.8, 1.7 / 20_000
    for _ in range(n):  # midpoint rule: error of the order of small^2
        middle = x + small / 2 * (complex(Lambda[0]) * x + u)
        x = x + small * (complex(Lambda[0]) * middle + u)
    Lambda_bar, scale = zero_order_hold(Lambda, torch.tensor([[[total]]], dtype=torch.float64))
    found = complex(Lambda_bar[0, 0, 0]) * 0.3 + complex(scale[0, 0, 0]) * u
    assert abs(found - x) < 1e-7


def test_no_time_leaves_no_trace():
    Lambda = torch.tensor([complex(-0.5, 2.0)])
    for method in (zero_order_hold, bilinear):
        Lambda_bar, scale = method(Lambda, torch.zeros(1, 1, 1))
        assert complex(Lambda_bar[0, 0, 0]) == 1
        assert complex(scale[0, 0, 0]) == 0


@pytest.mark.parametrize("method", [zero_order_hold, bilinear])
@pytest.mark.parametrize("seconds", [0.0, 1e-6, 1.0, 1e3, 1e6, 1e9])
def test_gradients_are_finite_for_any_interval(method, seconds):
    Lambda = torch.tensor([complex(-0.5, 300.0), complex(-1e-4, 0.0)], requires_grad=True)
    log_step = torch.tensor([-2.3, -6.9], requires_grad=True)
    Delta = torch.full((1, 1, 1), seconds) * torch.exp(log_step)
    Lambda_bar, scale = method(Lambda, Delta)
    torch.view_as_real(Lambda_bar).sum().add(torch.view_as_real(scale).sum()).backward()
    for value in (Lambda_bar, scale, Lambda.grad, log_step.grad):
        assert torch.isfinite(torch.view_as_real(value) if value.is_complex() else value).all()
