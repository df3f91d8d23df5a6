"""The fused softmax head: the same function as PyTorch's, for values and gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ss4rec_lib.models import SS4Rec, SS4RecConfig
from ss4rec_lib.training import linear_cross_entropy


def both(M, V, d, scale=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    hidden = (torch.randn(M, d, generator=g) * scale).requires_grad_()
    weight = torch.randn(V, d, generator=g).requires_grad_()
    targets = torch.randint(0, V, (M,), generator=g)
    found = linear_cross_entropy(hidden, weight, targets)
    wide = [t.detach().double().requires_grad_() for t in (hidden, weight)]
    with torch.autocast("cpu", enabled=False):
        expected = F.cross_entropy(wide[0] @ wide[1].T, targets, reduction="sum")
    gradients = torch.autograd.grad(3 * found, (hidden, weight))
    wanted = torch.autograd.grad(3 * expected, wide)
    return found, expected, gradients, wanted


@settings(max_examples=30)
@given(M=st.integers(1, 90), V=st.integers(1, 300), d=st.integers(1, 20), seed=st.integers(0, 99))
def test_it_is_cross_entropy_in_float64_to_rounding(M, V, d, seed):
    found, expected, gradients, wanted = both(M, V, d, seed=seed)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
    for a, b in zip(gradients, wanted, strict=True):
        assert torch.allclose(a.double(), b, rtol=1e-5, atol=1e-5)


def test_more_rows_than_fit_at_a_time():
    """2,000 rows of 3,417 columns are done in seven pieces."""
    found, expected, gradients, wanted = both(2000, 3417, 16)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    for a, b in zip(gradients, wanted, strict=True):
        assert (a - b).norm() / b.norm() < 1e-6


def test_under_autocast_its_products_are_bfloat16_and_its_sums_are_not():
    with torch.autocast("cpu", torch.bfloat16):
        found, expected, gradients, wanted = both(2000, 3417, 16)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)
    for a, b in zip(gradients, wanted, strict=True):
        assert a.dtype == torch.float32
        assert 1e-6 < (a - b).norm() / b.norm() < 2e-2  # bfloat16 keeps 8 bits


def test_large_scores_neither_overflow_nor_vanish():
    found, expected, gradients, wanted = both(50, 40, 8, scale=1e4)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for a, b in zip(gradients, wanted, strict=True):
        assert torch.isfinite(a).all()
        assert (a - b).norm() / b.norm() < 1e-4


def test_gradients_against_finite_differences_in_float64():
    torch.manual_seed(0)
    hidden, weight = torch.randn(5, 3).double(), torch.randn(7, 3).double()
    targets = torch.tensor([0, 6, 3, 3, 1])
    assert torch.autograd.gradcheck(
        lambda h, w: linear_cross_entropy(h, w, targets),
        (hidden.requires_grad_(), weight.requires_grad_()),
    )


@pytest.mark.parametrize("where", ["hidden", "weight"])
def test_a_nan_is_never_swallowed(where):
    """In the loss or, for a column that no target has, in the gradient of the weights."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(6, 4), torch.randn(9, 4)
    {"hidden": hidden, "weight": weight}[where][2, 1] = np.nan
    hidden.requires_grad_(), weight.requires_grad_()
    loss = linear_cross_entropy(hidden, weight, torch.arange(6))
    gradients = torch.autograd.grad(loss, (hidden, weight))
    assert not all(torch.isfinite(t).all() for t in (loss, *gradients))


def test_without_targets_the_loss_is_nothing():
    hidden, weight = torch.zeros(0, 4, requires_grad=True), torch.ones(9, 4, requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(weight.grad, torch.zeros(9, 4))


def test_without_gradients_it_gives_the_same_loss():
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(6, 4), torch.randn(9, 4), torch.arange(6)
    with torch.no_grad():
        quick = linear_cross_entropy(hidden, weight, targets)
    with_gradient = linear_cross_entropy(hidden.requires_grad_(), weight, targets)
    assert quick.item() == with_gradient.item()


@pytest.mark.parametrize(
    ("hidden", "weight", "targets", "message"),
    [
        ((3, 4), (9, 5), [0, 1, 2], r"hidden.*\[3, 4\].*weight.*\[9, 5\]"),
        ((3, 4), (9, 4), [0, 1], r"targets.*\[2\]"),
        ((3, 4), (9, 4), [0, 1, 9], "the id 9, expected 0 to 8"),
        ((3, 4), (9, 4), [0, -1, 2], "the id -1, expected 0 to 8"),
    ],
)
def test_bad_arguments_are_named(hidden, weight, targets, message):
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(torch.zeros(hidden), torch.zeros(weight), torch.tensor(targets))


@pytest.mark.parametrize("other_path", [False, True])
def test_second_derivatives_are_those_of_cross_entropy(other_path):
    torch.manual_seed(0)
    given, targets = [torch.randn(6, 4), torch.randn(9, 4)], torch.randint(0, 9, (6,))
    found = []
    for loss, dtype in (
        (linear_cross_entropy, torch.float32),
        (lambda h, W, t: F.cross_entropy(h @ W.T, t, reduction="sum"), torch.float64),
    ):
        inputs = [t.to(dtype).requires_grad_() for t in given]
        total = loss(*inputs, targets) + other_path * sum(t.pow(2).sum() for t in inputs)
        first = torch.autograd.grad(total, inputs, create_graph=True)
        penalty = sum(g.pow(2).sum() for g in first)
        found.append((*first, *torch.autograd.grad(penalty, inputs)))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a.double(), b, rtol=1e-4, atol=1e-4)


def test_torch_func():
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(6, 4), torch.randn(9, 4), torch.arange(6)
    found = torch.func.grad(linear_cross_entropy)(hidden, weight, targets)
    (expected,) = torch.autograd.grad(
        linear_cross_entropy(hidden.requires_grad_(), weight, targets), hidden
    )
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_hessian_vector_product_of_the_whole_model():
    torch.manual_seed(1)
    sizes = {"hidden_size": 8, "d_H": 8, "d_P": 4, "d_state": 4, "initializer_range": 0.3}
    found = []
    items, delta = torch.randint(1, 12, (2, 6)), torch.rand(2, 6) * 10
    exact = SS4Rec(12, SS4RecConfig(backend="reference", **sizes)).eval()
    fast = SS4Rec(12, SS4RecConfig(**sizes)).eval()
    fast.load_state_dict(exact.state_dict())
    v = [torch.randn_like(p) for p in fast.parameters()]
    for model, dtype in ((fast, torch.float32), (exact.double(), torch.float64)):
        parameters = list(model.parameters())
        hidden = model(items, delta.to(dtype)).flatten(0, 1)
        loss = linear_cross_entropy(hidden, model.score_weight, items.flatten())
        g = torch.autograd.grad(loss, parameters, create_graph=True)
        total = sum((a * b.to(dtype)).sum() for a, b in zip(g, v, strict=True))
        found.append(torch.autograd.grad(total, parameters))
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() < 1e-3 * max(1, b.abs().max())
