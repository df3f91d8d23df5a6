"""What training minimises at every position of every sequence, and what chooses the epoch.

SS4Rec is causal, so one pass over a sequence yields the loss of every prefix, where the published
code runs one pass per prefix. Every objective is `objective(model, hidden, batch, n)`: the sum over
the targets of a batch divided by `n`, the targets of the whole step, so that the sum over the parts
of a step is its mean.

Glossary: M targets, K negatives, d = d_model, V = n_items + 1.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ss4rec_lib.data import Batch, Split, train_ratings
from ss4rec_lib.evaluation import evaluate_both, evaluate_ranking
from ss4rec_lib.models import (
    BiasBaseline,
    RatingConfig,
    RatingSS4Rec,
    Recommender,
    SS4Rec,
    seen_items,
)
from ss4rec_lib.training.checkpoint import each
from ss4rec_lib.training.config import TrainingConfig
from ss4rec_lib.training.linear_cross_entropy import linear_cross_entropy

METRICS = ("hr@10", "ndcg@10", "mrr@10")

# (model, hidden (M, d), batch, n) -> scalar
Objective = Callable[[Any, Tensor, Batch, int], Tensor]


@dataclass(frozen=True)
class Validation:
    """What chooses the epoch."""

    measure: Callable[[Any], dict[str, float]]  # from a model to metrics of the validation part
    criterion: str = "ndcg@10"  # the metric that decides
    lower_is_better: bool = False


class Step(nn.Module):
    """From a batch to its loss: model and objective in one module.

    What adds up the gradients of several processes wraps a module, and must see the whole way.
    `precision` is `float32`, or `bf16` for matrix products under autocast.
    """

    def __init__(self, model: Recommender, objective: Objective, precision: str) -> None:
        super().__init__()
        self.model, self._objective, self._bf16 = model, objective, precision == "bf16"

    def forward(
        self, batch: Batch, n: int, state: Any = None, carry: bool = False
    ) -> tuple[Tensor, Any]:
        """Return the loss of a batch, and with `carry` the state after it without its gradient.

        `n` are the targets of the whole step; `state` is continued, None for the beginning.
        """
        autocast = torch.autocast(batch.items.device.type, torch.bfloat16) if self._bf16 else None
        with autocast or contextlib.nullcontext():
            encoded = self.model.encode(batch, state, return_state=carry)
            hidden, state = encoded if carry else (encoded, None)
            loss = self._objective(self.model, at_targets(hidden, batch), batch, n)
        return loss, each(state, Tensor.detach)


def at_targets(values: Tensor, batch: Batch) -> Tensor:
    """Return the entries of (B, L, ...) at the positions with a target, (M, ...)."""
    values = values.flatten(0, 1)
    if len(batch.positions) == len(values):  # no padding: nothing to select
        return values
    return values.index_select(0, batch.positions)


def cross_entropy(model: Recommender, hidden: Tensor, batch: Batch, n: int) -> Tensor:
    """Return the softmax cross entropy over the catalogue, padding included, as published."""
    targets, offset = at_targets(batch.targets, batch), getattr(model, "seen_offset", None)
    if model.score_weight is None or offset is not None:
        logits = model.logits(hidden)  # (M, V)
        if offset is not None:
            logits = logits + offset * at_targets(seen_items(batch.items, model.n_items), batch)
        return F.cross_entropy(logits, targets, reduction="sum") / n
    return linear_cross_entropy(hidden, model.score_weight, targets) / n


def bpr(
    model: Recommender, hidden: Tensor, batch: Batch, n: int, *, n_negatives: int = 1
) -> Tensor:
    """Return the loss of Bayesian personalised ranking: the target above random other items.

    Rendle et al. 2009, arXiv 1205.2618, as RecBole's `BPRLoss` but through `logsigmoid`, which
    cannot underflow; the mean over `n_negatives` uniformly drawn negatives per target.
    """
    targets, weight = at_targets(batch.targets, batch), _weight(model)
    # Draw from the n_items - 1 other ids: those from the target on are moved up by one.
    shape = (len(targets), n_negatives)
    negatives = torch.randint(1, max(model.n_items, 2), shape, device=targets.device)
    negatives = negatives + (negatives >= targets[:, None])  # (M, K)
    positive = (hidden * weight[targets]).sum(-1, keepdim=True)  # (M, 1)
    negative = torch.einsum("md,mkd->mk", hidden, weight[negatives])  # (M, K)
    return -F.logsigmoid(positive - negative).mean(-1).sum() / n


def sampled_cross_entropy(
    model: Recommender, hidden: Tensor, batch: Batch, n: int, *, proposal: Tensor, n_negatives: int
) -> Tensor:
    """Return the softmax cross entropy with the sum over the catalogue estimated from K items.

    The items are drawn with replacement from q, the `proposal` (V,), once for all targets of the
    call, and their scores corrected by -log(K q) (Bengio & Senecal 2008; "logQ correction"), so
    that K^-1 sum_j exp(s_j) / q_j is an unbiased estimate of sum_i exp(s_i). A draw that hits the
    target is left out of its sum. As K grows this becomes the cross entropy over items 1..n_items.
    """
    targets, weight = at_targets(batch.targets, batch), _weight(model)
    drawn = torch.multinomial(proposal, n_negatives, replacement=True)  # (K,)
    negative = hidden @ weight[drawn].T - torch.log(n_negatives * proposal[drawn])  # (M, K)
    negative = negative.masked_fill(drawn == targets[:, None], -torch.inf)
    positive = (hidden * weight[targets]).sum(-1, keepdim=True)  # (M, 1)
    scores = torch.cat((positive, negative), dim=1)  # (M, 1 + K)
    return (torch.logsumexp(scores, dim=1) - positive[:, 0]).sum() / n


def _weight(model: Recommender) -> Tensor:
    if model.score_weight is None:
        loss, name = model.config.loss_type, type(model).__name__
        raise ValueError(f"loss_type={loss!r} needs a `score_weight`; {name} has none: choose 'CE'")
    return model.score_weight


def ranking_objective(
    model: Recommender, split: Split, n_negatives: int, device: torch.device
) -> Objective:
    """Return the objective that `model.config.loss_type` names.

    `SAMPLED_CE` draws items in proportion to (1 + their count in the training part)^0.75.
    """
    loss_type = model.config.loss_type
    if loss_type == "CE":
        return cross_entropy
    _weight(model)
    if loss_type == "BPR":
        return functools.partial(bpr, n_negatives=n_negatives)
    if loss_type == "SAMPLED_CE":
        q = (torch.from_numpy(split.train_counts()).double() + 1) ** 0.75
        q[0] = 0
        q = (q / q.sum()).float().to(device)
        return functools.partial(sampled_cross_entropy, proposal=q, n_negatives=n_negatives)
    raise ValueError(f"loss_type={loss_type!r}: choose one of CE, BPR, SAMPLED_CE")


def ranking_validation(split: Split, config: TrainingConfig) -> Validation:
    """Measure HR@10, NDCG@10 and MRR@10, with seen items in the ranking."""
    batching = {"max_len": config.eval_max_len, "target_time": config.target_time}

    def measure(model: Recommender) -> dict[str, float]:
        result = evaluate_ranking(model, split, "valid", **batching)
        return {name: result[name] for name in METRICS}

    return Validation(measure)


def rating_model(
    split: Split, config: RatingConfig | None = None, trunk: SS4Rec | None = None
) -> RatingSS4Rec:
    """Return a model that starts as the bias baseline of the training part.

    `levels` are the ratings that occur in training; `trunk` a trained SS4Rec, None for a new one.
    """
    known = train_ratings(split)
    levels = tuple(np.unique(known.ratings).tolist())
    config = config or RatingConfig(**({} if trunk is None else trunk.config.model_dump()))
    biases = BiasBaseline().fit(*known)
    item_bias = np.zeros(split.sequences.n_items + 1)
    item_bias[biases.item_ids] = biases.item_bias
    mean, shrinkage = float(known.ratings.mean(dtype=np.float64)), biases.config.reg_u
    users = np.unique(split.sequences.user_ids, return_inverse=True)[1]
    n_items, config = split.sequences.n_items, config.replace(levels=levels)
    return RatingSS4Rec(n_items, config, mean, item_bias, shrinkage, owners=users, trunk=trunk)


def rating_objective(ranking: Objective) -> Objective:
    """Return the loss that `RatingConfig.train_for` asks for, around a ranking objective (nats).

    The squared error has the penalty of the users' and items' vectors (squared rating units).
    """

    def objective(model: Any, hidden: Tensor, batch: Batch, n: int) -> Tensor:
        config = model.config
        ranked: Any = 0.0 if config.train_for == "rating" else ranking(model, hidden, batch, n)
        if config.train_for == "ranking":
            return ranked
        targets = at_targets(batch.targets, batch)
        bias = at_targets(model.history_bias(batch.items, batch.ratings), batch)  # (M,)
        user = model.user_vectors(batch.users)  # (B, 1, f), or None
        if user is not None:
            user = at_targets(user.expand(-1, batch.items.shape[1], -1), batch)  # (M, f)
        expected = model.predict_ratings(hidden, targets, bias, user)  # (M,)
        actual = at_targets(batch.target_ratings, batch)  # (M,)
        squared = (expected.float() - actual).square() + model.penalty(targets, user)
        weight = config.rating_weight if config.train_for == "both" else 1.0
        return ranked + weight * (squared.sum() / n)

    return objective


def rating_validation(split: Split, config: TrainingConfig, train_for: str) -> Validation:
    """Measure RMSE and MAE, and the ranking metrics too if the model is trained to rank."""
    batching = {"max_len": config.eval_max_len, "target_time": config.target_time}
    ks = [] if train_for == "rating" else [min(10, split.sequences.n_items)]

    def measure(model: RatingSS4Rec) -> dict[str, float]:
        rating, ranking = evaluate_both(model, split, "valid", ks=ks, **batching)
        found = {name: rating[name] for name in ("rmse", "mae")}
        if ranking is not None:
            found |= {name: ranking[name.replace("@10", f"@{ks[0]}")] for name in METRICS}
        return found

    return Validation(measure) if train_for == "ranking" else Validation(measure, "rmse", True)
