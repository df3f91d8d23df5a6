"""What training minimises, at every position of every sequence at once.

SS4Rec is causal: the hidden state at position k knows items 0..k and nothing later. One pass over a
sequence therefore yields the loss of every prefix, where the published code runs one pass a prefix.

Every objective is `objective(model, hidden, targets, n=None)`: the sum over the targets divided by
`n`, by default their number. Parts of a step (several processes, or accumulated one after the
other) give the targets of the whole step as `n`, so that their sum is the step's mean.

Glossary: M targets, K negatives, d = d_model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ss4rec_lib.data import Split
from ss4rec_lib.training.linear_cross_entropy import linear_cross_entropy

Objective = Callable[..., Tensor]


def cross_entropy(
    model: nn.Module, hidden: Tensor, targets: Tensor, n: int | None = None
) -> Tensor:
    """Softmax cross entropy over the catalogue.

    As published, the column of the padding id takes part in the softmax.

    Args:
        model: With `score_weight`, (n_items + 1, d), the scores are never stored (see
            `linear_cross_entropy`); without it, its `logits(hidden)` are.
        hidden: (M, d), one row a target.
        targets: Item ids, (M,).
        n: What the sum is divided by; M when None.
    """
    weight = getattr(model, "score_weight", None)
    if weight is None:
        total = F.cross_entropy(model.logits(hidden), targets, reduction="sum")
    else:
        total = linear_cross_entropy(hidden, weight, targets)
    return total / (len(targets) if n is None else n)


def bpr(
    model: nn.Module, hidden: Tensor, targets: Tensor, n: int | None = None, n_negatives: int = 1
) -> Tensor:
    """Bayesian personalised ranking: the target above uniformly drawn other items.

    Rendle et al. 2009, arXiv 1205.2618; mirrors RecBole's `BPRLoss` (mean of
    -log(1e-10 + sigmoid(difference)), here through `logsigmoid`, which cannot underflow), with the
    mean over `n_negatives` negatives a target.
    """
    # Draw from the n_items - 1 other ids: those from the target on are moved up by one.
    shape = (len(targets), n_negatives)
    negatives = torch.randint(1, max(model.n_items, 2), shape, device=targets.device)
    negatives = negatives + (negatives >= targets[:, None])  # (M, K)
    weight = model.score_weight
    positive = (hidden * weight[targets]).sum(-1, keepdim=True)  # (M, 1)
    negative = torch.einsum("md,mkd->mk", hidden, weight[negatives])  # (M, K)
    total = -F.logsigmoid(positive - negative).mean(-1).sum()
    return total / (len(targets) if n is None else n)


def sampled_cross_entropy(
    model: nn.Module,
    hidden: Tensor,
    targets: Tensor,
    n: int | None = None,
    *,
    probabilities: Tensor,
    n_negatives: int,
) -> Tensor:
    """Softmax cross entropy with the sum over the catalogue estimated from K sampled items.

    For catalogues too large for the full softmax. The items are drawn with replacement from q, once
    for all targets of the call, and their scores corrected by -log(K q) (Bengio & Senecal 2008;
    "logQ correction"): then K^-1 sum_j exp(s_j) / q_j is an unbiased estimate of
    sum_i exp(s_i), and without the correction popular items would be pushed down for being drawn
    often. A draw that hits the target is left out of that target's sum. As K grows this becomes
    the cross entropy over items 1..n_items.

    Args:
        model: Has `score_weight`, (n_items + 1, d).
        hidden: (M, d).
        targets: Item ids, (M,).
        n: What the sum is divided by; M when None.
        probabilities: q, (n_items + 1,), positive for every item, 0 for padding.
        n_negatives: K.
    """
    weight = model.score_weight
    drawn = torch.multinomial(probabilities, n_negatives, replacement=True)  # (K,)
    correction = torch.log(n_negatives * probabilities[drawn])  # (K,)
    negative = hidden @ weight[drawn].T - correction  # (M, K)
    negative = negative.masked_fill(drawn == targets[:, None], -torch.inf)
    positive = (hidden * weight[targets]).sum(-1, keepdim=True)  # (M, 1)
    total = (torch.logsumexp(torch.cat((positive, negative), dim=1), dim=1) - positive[:, 0]).sum()
    return total / (len(targets) if n is None else n)


def objective_of(loss_type: str, split: Split, n_negatives: int, device: torch.device) -> Objective:
    """The objective of a `SS4RecConfig.loss_type`, ready to be called.

    `SAMPLED_CE` draws items in proportion to (1 + their count in the training part)^0.75.

    Raises:
        ValueError: An unknown name.
    """
    if loss_type == "CE":
        return cross_entropy
    if loss_type == "BPR":
        return lambda *given, **named: bpr(*given, **named, n_negatives=n_negatives)
    if loss_type == "SAMPLED_CE":
        counts = torch.from_numpy(split.train_counts()).double()
        q = (counts + 1) ** 0.75
        q[0] = 0
        q = (q / q.sum()).float().to(device)
        return lambda *given, **named: sampled_cross_entropy(
            *given, **named, probabilities=q, n_negatives=n_negatives
        )
    raise ValueError(f"loss_type={loss_type!r}: choose one of CE, BPR, SAMPLED_CE")
