"""No NaN and no infinity: any interval that a calendar can hold, and parameters gone astray."""

import pytest
import torch

from ss4rec_lib.ssm import S5, Mamba

SECONDS = torch.tensor([0.0, 1.0, 1e3, 1e6, 1e9])


def astray(layer: torch.nn.Module, size: float) -> None:
    """Move every parameter as noisy training might."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += size * torch.randn_like(parameter)


def assert_finite(layer: torch.nn.Module, *tensors: torch.Tensor) -> None:
    for tensor in (*tensors, *(p.grad for p in layer.parameters())):
        assert torch.isfinite(tensor).all()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numba", "parallel"])
@pytest.mark.parametrize("interval", ["raw", "clip", "log1p"])
def test_s5_over_a_thousand_draws(backend, interval):
    torch.manual_seed(0)
    for draw in range(1_000):
        layer = S5(4, 6, backend=backend, interval=interval)
        astray(layer, [0.0, 0.3, 1.0, 3.0][draw % 4])
        u = torch.randn(2, 7, 4, requires_grad=True)
        y = layer(u, SECONDS[torch.randint(5, (2, 7))])
        y.pow(2).mean().backward()
        assert_finite(layer, y, u.grad)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numba", "parallel"])
def test_mamba_over_a_thousand_draws(backend):
    torch.manual_seed(0)
    for draw in range(1_000):
        block = Mamba(4, d_state=3, backend=backend)
        astray(block, [0.0, 0.3, 1.0, 3.0][draw % 4])
        hidden = torch.randn(2, 7, 4, requires_grad=True)  # as a LayerNorm leaves it
        y = block(hidden)
        y.pow(2).mean().backward()
        assert_finite(block, y, hidden.grad)
