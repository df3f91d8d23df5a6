"""Adapters, pruning, hooks and int8 in the place of a layer: forward and step compute with them."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize, prune

from ss4rec_lib.ssm import S5, Mamba
from ss4rec_lib.ssm.kernels import reference
from tests.replaced_layers import (
    Half,
    by_hook,
    by_parametrisation,
    by_pruning,
    by_wrapper,
)


class LoRA(nn.Linear):
    """An adapter as adapter libraries make them: a subclass of nn.Linear."""

    def __init__(self, layer: nn.Linear):
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None)
        self.load_state_dict(layer.state_dict())
        self.down = nn.Parameter(torch.randn(2, layer.in_features) * 0.3)
        self.up = nn.Parameter(torch.randn(layer.out_features, 2) * 0.3)

    def forward(self, x):
        return super().forward(x) + x @ self.down.T @ self.up.T

    def merged(self) -> nn.Linear:
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None)
        layer.load_state_dict(
            {k: v for k, v in self.state_dict().items() if k not in {"down", "up"}}
        )
        layer.weight.data += self.up.data @ self.down.data
        return layer


def by_pre_hook(block, name):
    getattr(block, name).register_forward_pre_hook(lambda layer, inputs: (inputs[0] * 1.5,))


def by_forward(block, name):
    layer = getattr(block, name)
    layer.forward = lambda x: type(layer).forward(layer, x) * 1.5


def by_lora(block, name):
    setattr(block, name, LoRA(getattr(block, name)))


def by_another_bias(block, name):
    old = getattr(block, name)
    new = nn.Linear(old.in_features, old.out_features, bias=old.bias is None)
    setattr(block, name, new)


def by_another_conv(block, name):
    D, K = block.d_inner, block.d_conv
    block.conv1d = nn.Conv1d(D, D, K, groups=D, padding=K - 1, bias=False)


LINEAR = ("in_proj", "x_proj", "dt_proj", "out_proj")
CHANGES = [
    (change, name)
    for change in (by_hook, by_pre_hook, by_forward, by_wrapper, by_parametrisation, by_pruning)
    for name in (*LINEAR, "conv1d")
]
CHANGES += [(change, name) for change in (by_lora, by_another_bias) for name in LINEAR]
CHANGES += [(by_another_conv, "conv1d")]


def by_calls(block: Mamba, hidden: torch.Tensor) -> torch.Tensor:
    """The block, written out with calls of its layers."""
    x, z = block.in_proj(hidden).chunk(2, -1)
    x = F.silu(block.conv1d(x.mT)[..., : x.shape[1]].mT)
    dt, B, C = block.x_proj(x).split([block.dt_rank, block.d_state, block.d_state], -1)
    Delta, start = F.softplus(block.dt_proj(dt)), x.new_zeros(len(x), block.d_inner, block.d_state)
    y, _ = reference.selective_scan(x, Delta, -torch.exp(block.A_log), B, C, block.D, start)
    return block.out_proj(y * F.silu(z))


def difference(found, expected):
    return (found - expected).abs().max() / expected.abs().max()


def stepped(layer, *inputs):
    runs = []
    for gradients in (torch.is_grad_enabled(), False):  # one position has a path without them
        state, outputs = layer.initial_state(len(inputs[0])), []
        with torch.set_grad_enabled(gradients):
            for k in range(inputs[0].shape[1]):
                y, state = layer.step(*(t[:, k] for t in inputs), state)
                outputs.append(y)
        runs.append(torch.stack(outputs, 1))
    assert difference(*runs) < 1e-5
    return runs[0]


def lively(**options) -> Mamba:
    torch.manual_seed(0)
    block = Mamba(8, d_state=4, **options)
    for p in block.parameters():
        p.data *= 2
    block.dt_proj.bias.data += 9  # steps of about 0.3
    return block


@pytest.mark.parametrize(("change", "name"), CHANGES)
def test_mamba_calls_what_is_in_the_place_of_a_layer(change, name):
    block, hidden = lively(), torch.randn(2, 7, 8)
    before = block(hidden)
    change(block, name)
    found, expected = block(hidden), by_calls(block, hidden)
    assert difference(before, expected) > 1e-3
    assert difference(found, expected) < 1e-5
    assert difference(stepped(block, hidden), expected) < 1e-5
    parameters = [p for p in block.parameters() if p.requires_grad]
    gradients = [torch.autograd.grad(t.pow(2).sum(), parameters) for t in (found, expected)]
    for a, b in zip(*gradients, strict=True):
        assert difference(a, b) < 1e-4


@pytest.mark.parametrize("name", LINEAR)
def test_a_merged_adapter_equals_the_adapter(name):
    block, hidden = lively(), torch.randn(2, 7, 8)
    by_lora(block, name)
    adapted = block(hidden)
    adapted.sum().backward()
    assert getattr(block, name).up.grad.abs().max() > 0
    setattr(block, name, getattr(block, name).merged())
    assert block._can_fuse(block.in_proj(hidden))
    assert difference(block(hidden), adapted) < 1e-5


def test_a_hook_on_all_layers_is_called_and_backward_hooks_too():
    block, hidden, seen = lively(), torch.randn(2, 5, 8), []
    hook = nn.modules.module.register_module_forward_hook(lambda m, *_: seen.append(type(m)))
    block(hidden)
    hook.remove()
    assert seen.count(nn.Linear) == 4
    seen.clear()
    block.dt_proj.register_full_backward_hook(lambda *_: seen.append("backward"))
    block(hidden).sum().backward()
    assert seen == ["backward"]


def test_a_convolution_of_other_length_is_refused():
    block = lively()
    block.conv1d = nn.Conv1d(16, 16, 4, groups=16, padding=3, dilation=2)
    with pytest.raises(ValueError, match="conv1d's output has shape"):
        block(torch.randn(1, 6, 8))


def test_int8_layers():
    block, hidden = lively(), torch.randn(2, 9, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = torch.ao.quantization.quantize_dynamic(copy.deepcopy(block), {nn.Linear})
    with torch.no_grad():
        exact, found = block(hidden), small(hidden)
        assert torch.allclose(found, by_calls(small, hidden), atol=1e-5, rtol=1e-4)
        scale = exact.abs().max()
        assert 1e-4 < (found - exact).abs().max() / scale < 0.1
        # The scale of int8 is that of the input, which is one position here.
        assert (stepped(small, hidden) - found).abs().max() / scale < 0.1


@pytest.mark.parametrize("layer", ["S5", "Mamba"])
@pytest.mark.parametrize("how", ["parametrisation", "pruning", "hook", "functional_call"])
def test_the_layers_own_tensors(layer, how):
    torch.manual_seed(0)
    layer, name = (S5(8, 4), "C") if layer == "S5" else (lively(), "D")
    inputs = [torch.randn(2, 6, 8)] + ([torch.rand(2, 6) * 100] if name == "C" else [])
    before = layer(*inputs)
    if how == "parametrisation":
        parametrize.register_parametrization(layer, name, Half())
    elif how == "pruning":
        prune.random_unstructured(layer, name, 0.5)
        getattr(layer, f"{name}_orig").data *= 2
    elif how == "hook":
        by = lambda m, i, out: (out[0] * 2, out[1]) if isinstance(out, tuple) else out * 2  # noqa: E731
        layer.register_forward_hook(by)
    else:
        changed = {name: getattr(layer, name).detach() * 2}
        found = torch.func.functional_call(layer, changed, tuple(inputs))
        getattr(layer, name).data *= 2
        assert difference(layer(*inputs), found) < 1e-5
    found = stepped(layer, *inputs)
    assert difference(layer(*inputs), found) < 1e-5
    assert difference(before, found) > 1e-3
