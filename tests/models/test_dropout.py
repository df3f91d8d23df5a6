"""Dropout: the distribution of PyTorch's, from fewer random bits."""

import pytest
import torch

from ss4rec_lib.models.base import Dropout


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_as_many_are_dropped_as_should_be(p):
    torch.manual_seed(0)
    n = 1_000_003  # not a multiple of four
    out = Dropout(p)(torch.ones(n))
    standard_error = (p * (1 - p) / n) ** 0.5
    assert (out == 0).double().mean().item() == pytest.approx(p, abs=5 * standard_error)
    kept = out[out > 0]
    assert kept.unique().numel() == 1
    assert kept[0].item() == pytest.approx(1 / (1 - p), rel=1e-4)
    assert out.mean().item() == pytest.approx(1.0, abs=5 * standard_error / (1 - p))


def test_neighbours_are_independent():
    """The four elements that share a draw, too."""
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(torch.ones(400_000)) == 0).double().view(-1, 4)
    correlation = torch.corrcoef(dropped.T) - torch.eye(4)
    assert correlation.abs().max() < 5 / 100_000**0.5


def test_the_seed_decides_and_evaluation_changes_nothing():
    dropout, x = Dropout(0.3), torch.randn(5, 7, 3)
    torch.manual_seed(4)
    first = dropout(x)
    second = dropout(x)
    torch.manual_seed(4)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)
    assert dropout.eval()(x) is x or torch.equal(dropout(x), x)


def test_the_gradient_is_the_mask():
    x = torch.randn(9, 5, requires_grad=True)
    out = Dropout(0.4)(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.allclose(gradient * x, out)


def test_extreme_probabilities_are_pytorchs():
    x = torch.randn(100)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros(100))
    assert torch.isfinite(Dropout(1 - 1e-9)(x)).all()
