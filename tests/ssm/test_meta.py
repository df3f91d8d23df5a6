"""On the device "meta" a tensor has a shape and no values: reading one, or mixing in a CPU tensor,
is an error. What runs there never makes a GPU wait for Python."""

from importlib.util import find_spec

import pytest
import torch

from ss4rec_lib.ssm import S5, Mamba, MambaState, diagonal_scan, selective_scan

NO_TRITON = pytest.mark.skipif(find_spec("triton") is None, reason="make test-triton installs it")
BACKENDS = pytest.mark.parametrize(
    "backend", ["parallel", "auto", "reference", pytest.param("triton", marks=NO_TRITON)]
)
STATES = pytest.mark.parametrize("with_state", [False, True])


def empty(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device="meta", requires_grad=True)


def check_gradients(loss: torch.Tensor, *leaves: torch.Tensor) -> None:
    loss.backward()
    for leaf in leaves:
        assert leaf.grad is not None
        assert leaf.grad.shape == leaf.shape
        assert leaf.grad.device.type == "meta"


@BACKENDS
@STATES
@pytest.mark.parametrize("options", [{}, {"unconstrained": True}, {"discretization": "bilinear"}])
@pytest.mark.parametrize("interval", ["raw", "clip", "log1p"])
def test_s5(backend, with_state, options, interval):
    layer = S5(6, 4, backend=backend, interval=interval, interval_floor=0.5, **options).to("meta")
    u, delta = empty(2, 70, 6), torch.empty(2, 70, device="meta")
    state = layer.initial_state(2) if with_state else None
    assert layer(u, delta).shape == u.shape
    y, last = layer(u, delta, state, return_state=True)
    assert (y.shape, last.shape, last.device.type) == ((2, 70, 6), (2, 4), "meta")
    check_gradients(y.sum() + last.abs().sum(), u, *layer.parameters())
    y, after = layer.step(u[:, 0], delta[:, 0], last)
    assert (y.shape, after.shape) == ((2, 6), (2, 4))


@BACKENDS
@STATES
def test_mamba(backend, with_state):
    block = Mamba(6, d_state=3, backend=backend).to("meta")
    hidden = empty(2, 70, 6)
    state = MambaState(empty(2, 12, 3), empty(2, 12, 3)) if with_state else None
    assert block(hidden).shape == hidden.shape
    y, last = block(hidden, state, return_state=True)
    assert (y.shape, last.conv.shape, last.ssm.shape) == ((2, 70, 6), (2, 12, 3), (2, 12, 3))
    leaves = [hidden, *block.parameters(), *(state or ())]
    check_gradients(y.sum() + last.conv.sum() + last.ssm.sum(), *leaves)
    y, _ = block.step(hidden[:, 0], last)
    assert y.shape == (2, 6)


@BACKENDS
@STATES
def test_selective_scan(backend, with_state):
    inputs = [empty(2, 70, 5), empty(2, 70, 5), empty(5, 3), empty(2, 70, 3), empty(2, 70, 3)]
    inputs += [empty(5), empty(2, 5, 3)] if with_state else []
    y, last = selective_scan(*inputs, return_state=True, backend=backend)
    assert (y.shape, last.shape) == ((2, 70, 5), (2, 5, 3))
    check_gradients(y.sum() + last.sum(), *inputs)


@BACKENDS
@STATES
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_diagonal_scan(backend, with_state, dtype):
    inputs = [empty(2, 70, 5, dtype=dtype) for _ in range(2)]
    inputs += [empty(2, 5, dtype=dtype)] if with_state else []
    x, last = diagonal_scan(*inputs, return_state=True, backend=backend)
    assert (x.shape, last.shape) == ((2, 70, 5), (2, 5))
    check_gradients(x.abs().sum() + last.abs().sum(), *inputs)
