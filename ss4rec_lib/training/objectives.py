"""What training minimises, at every position of every sequence at once.

SS4Rec is causal: the hidden state at position k knows items 0..k and nothing later. One pass over a
sequence therefore yields the loss of every prefix, where the published code runs one pass a prefix.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def cross_entropy(model: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    """Softmax cross entropy over the catalogue, mean over the targets.

    As published, the column of the padding id takes part in the softmax.

    Args:
        model: Gives `logits`.
        hidden: (M, d_model), one row a target.
        targets: Item ids, (M,).
    """
    return F.cross_entropy(model.logits(hidden), targets)  # logits (M, n_items + 1)


def bpr(model: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    """Bayesian personalised ranking: the target above one uniformly drawn other item.

    Rendle et al. 2009, arXiv 1205.2618; mirrors RecBole's `BPRLoss` (mean of
    -log(1e-10 + sigmoid(difference)), here through `logsigmoid`, which cannot underflow).
    Needs a model whose `item_embedding` gives its scores.
    """
    # Draw from the n_items - 1 other ids: those from the target on are moved up by one.
    negatives = torch.randint(1, model.n_items, targets.shape, device=targets.device)
    negatives = negatives + (negatives >= targets)
    weight = model.item_embedding.weight
    difference = (hidden * (weight[targets] - weight[negatives])).sum(-1)  # (M,)
    return -F.logsigmoid(difference).mean()


OBJECTIVES = {"CE": cross_entropy, "BPR": bpr}
