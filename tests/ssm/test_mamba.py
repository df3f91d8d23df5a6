"""The Mamba block: written out again in a few lines, and its promises on causality and state."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from ss4rec_lib.ssm import Mamba, MambaState


def written_out(block: Mamba, hidden: torch.Tensor) -> torch.Tensor:
    """One sequence after the other, one position after the other, from the paper's figure 3."""
    outputs = torch.zeros_like(hidden)
    d_conv = block.d_conv
    for b in range(hidden.shape[0]):
        xz = hidden[b] @ block.in_proj.weight.T  # (L, 2 d_inner)
        x, z = xz[:, : block.d_inner], xz[:, block.d_inner :]
        state = torch.zeros(block.d_inner, block.d_state)
        for k in range(hidden.shape[1]):
            window = [x[k - j] if k >= j else torch.zeros(block.d_inner) for j in range(d_conv)]
            convolved = block.conv1d.bias.clone()
            for j in range(d_conv):  # the last weight meets the newest input
                convolved = convolved + block.conv1d.weight[:, 0, d_conv - 1 - j] * window[j]
            s = convolved * torch.sigmoid(convolved)
            projected = block.x_proj.weight @ s
            dt, B, C = projected.split([block.dt_rank, block.d_state, block.d_state])
            Delta = torch.log1p(torch.exp(block.dt_proj.weight @ dt + block.dt_proj.bias))
            A = -torch.exp(block.A_log)
            state = torch.exp(Delta[:, None] * A) * state + torch.outer(Delta * s, B)
            y = state @ C + block.D * s
            outputs[b, k] = block.out_proj.weight @ (y * z[k] * torch.sigmoid(z[k]))
    return outputs


@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_equals_the_block_written_out(backend):
    torch.manual_seed(0)
    block = Mamba(12, d_state=5, backend=backend)
    hidden = torch.randn(2, 9, 12)
    with torch.no_grad():
        assert torch.allclose(block(hidden), written_out(block, hidden), atol=1e-5)


def test_published_names_shapes_and_initialisation():
    torch.manual_seed(0)
    block = Mamba(64, d_state=32)
    shapes = {name: tuple(p.shape) for name, p in block.named_parameters()}
    assert shapes == {
        "A_log": (128, 32),
        "D": (128,),
        "in_proj.weight": (256, 64),
        "conv1d.weight": (128, 1, 4),
        "conv1d.bias": (128,),
        "x_proj.weight": (4 + 64, 128),
        "dt_proj.weight": (128, 4),
        "dt_proj.bias": (128,),
        "out_proj.weight": (64, 128),
    }
    A = -torch.exp(block.A_log[0])
    assert torch.allclose(A, -torch.arange(1.0, 33.0), rtol=1e-5)
    steps = F.softplus(block.dt_proj.bias)
    assert steps.min() >= 0.001 * 0.999
    assert steps.max() <= 0.1 * 1.001
    assert block.dt_rank == math.ceil(64 / 16)


@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_step_and_continuation_equal_the_whole_run(backend):
    torch.manual_seed(1)
    block = Mamba(8, d_state=4, backend=backend)
    hidden = torch.randn(2, 11, 8)
    with torch.no_grad():
        whole = block(hidden)
        state, outputs = block.initial_state(2), []
        for k in range(11):
            y, state = block.step(hidden[:, k], state)
            outputs.append(y)
        assert torch.allclose(torch.stack(outputs, 1), whole, atol=1e-6)
        first, middle = block(hidden[:, :2], return_state=True)  # shorter than the convolution
        rest = block(hidden[:, 2:], middle)
        assert torch.allclose(torch.cat((first, rest), 1), whole, atol=1e-6)


def test_causal_so_right_padding_changes_nothing():
    torch.manual_seed(2)
    block = Mamba(8, d_state=4)
    hidden = torch.randn(1, 6, 8)
    padded = torch.cat((hidden, torch.randn(1, 5, 8)), 1)
    assert torch.allclose(block(padded)[:, :6], block(hidden), atol=1e-7)


def test_gradcheck_in_float64():
    torch.manual_seed(3)
    block = Mamba(4, d_state=3, backend="reference").double()
    hidden = torch.randn(1, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (hidden,))


def test_numba_gradients_equal_the_reference():
    torch.manual_seed(4)
    block, hidden = Mamba(16, d_state=8), torch.randn(3, 40, 16)
    gradients = []
    for backend in ("reference", "numba"):
        block.backend = backend
        block.zero_grad()
        block(hidden).pow(2).sum().backward()
        gradients.append([p.grad.clone() for p in block.parameters()])
    for expected, found in zip(*gradients, strict=True):
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("arguments", [{"d_state": 0}, {"expand": 0}, {"dt_rank": 0}])
def test_sizes_below_one_are_refused(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}=0"):
        Mamba(8, **arguments)


def test_input_and_state_that_do_not_fit_are_refused():
    block = Mamba(8)
    with pytest.raises(ValueError, match=r"hidden.*\(2, 8\)"):
        block(torch.zeros(2, 8))
    with pytest.raises(ValueError, match=r"state.*3"):
        block(torch.zeros(2, 4, 8), block.initial_state(3))


@pytest.mark.parametrize(
    ("batch", "length", "d_conv", "d_state", "dt_rank"),
    [(1, 1, 4, 3, 1), (2, 3, 4, 32, 4), (9, 40, 4, 16, 2), (3, 70, 1, 5, 1), (1, 33, 2, 1, 3)],
)
def test_fused_passes_equal_pytorchs_operators(batch, length, d_conv, d_state, dt_rank):
    """Values, carried state and all gradients, of one block in float32 and its float64 twin."""
    torch.manual_seed(batch + length)
    block = Mamba(12, d_state, d_conv, dt_rank=dt_rank, backend="numba")
    with torch.no_grad():  # as published initialisation leaves it, gates and steps hardly vary
        block.in_proj.weight.mul_(4)
        block.dt_proj.weight.mul_(8)
    twin = copy.deepcopy(block).double()
    twin.backend = "reference"
    results = []
    for layer, dtype in ((block, torch.float32), (twin, torch.float64)):
        torch.manual_seed(5)
        draw = lambda *shape, dtype=dtype: torch.randn(*shape).to(dtype).requires_grad_()  # noqa: E731
        hidden = draw(batch, length, 12)
        state = MambaState(draw(batch, 24, d_conv - 1), draw(batch, 24, d_state))
        assert layer._can_fuse(layer.in_proj(hidden)) == (dtype == torch.float32)
        y, after = layer(hidden, state, return_state=True)
        weights = (torch.arange(y.numel()).view(y.shape) * 0.7).sin().to(dtype)
        ((y * weights).sum() + (after.ssm**2).sum() + (3 * after.conv).sum()).backward()
        found = {"y": y, "ssm": after.ssm, "conv": after.conv, "d hidden": hidden.grad}
        found |= {"d conv": state.conv.grad, "d ssm": state.ssm.grad}
        found |= {f"d {name}": p.grad for name, p in layer.named_parameters()}
        results.append(found)
    for name, expected in results[1].items():
        if expected.numel():
            error = (results[0][name] - expected).abs().max() / expected.abs().max().clamp_min(1e-6)
            assert error < 1e-5, name


def test_softplus_and_gate_keep_small_and_survive_large_arguments():
    from ss4rec_lib.ssm.kernels.numba_mamba import gate_forward, softplus_forward

    raw = torch.tensor([[-200.0, -80.0, -30.0, -1e-4, 0.0, 1e-4, 1.0, 30.0, 1e30]])
    found, gated = torch.empty_like(raw), torch.empty_like(raw)
    softplus_forward(raw.numpy(), found.numpy(), 0, 1)
    gate_forward(torch.ones_like(raw).numpy(), raw.repeat(1, 2).numpy(), gated.numpy(), 0, 1)
    expected = torch.logaddexp(raw.double(), torch.zeros(1))
    ordinary = raw > -87  # below, exp is held at the smallest normal number
    assert torch.allclose(found[ordinary].double(), expected[ordinary], rtol=1e-6, atol=0)
    assert 0 <= found[0, 0] < 1e-37
    assert torch.allclose(gated, F.silu(raw), rtol=1e-6, atol=1e-35)


def test_a_hook_on_an_inner_layer_is_called():
    torch.manual_seed(0)
    block, heard = Mamba(8, d_state=4), []
    hidden = torch.randn(2, 6, 8)
    fused = block(hidden)
    block.dt_proj.register_forward_hook(lambda layer, inputs, output: heard.append(output.shape))
    assert torch.allclose(block(hidden), fused, atol=1e-6)
    assert heard == [(2, 6, 16)]
