"""What users put in the place of a layer, for the tests of layers and of models."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize, prune


class Wrapper(nn.Module):
    """A wrapper that shows the weight of the layer inside."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer, self.scale = layer, nn.Parameter(torch.tensor(0.5))

    weight = property(lambda self: self.layer.weight)
    bias = property(lambda self: self.layer.bias)

    def forward(self, x):
        return self.layer(x) * self.scale


class Half(nn.Module):
    def forward(self, weight):
        return weight / 2


def by_hook(block, name):
    getattr(block, name).register_forward_hook(lambda layer, inputs, output: output * 1.5)


def by_wrapper(block, name):
    setattr(block, name, Wrapper(getattr(block, name)))


def by_parametrisation(block, name):
    parametrize.register_parametrization(getattr(block, name), "weight", Half())


def by_pruning(block, name):
    layer = getattr(block, name)
    prune.random_unstructured(layer, "weight", 0.5)
    layer.weight_orig.data *= 2  # as a step of an optimiser: `weight` is of the last call
