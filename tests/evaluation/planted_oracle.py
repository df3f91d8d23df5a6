"""The best possible model of the planted ratings: it knows the rule, and maybe the interval."""

from __future__ import annotations

import torch
from torch import Tensor

from ss4rec_lib.data import PlantedTruth
from ss4rec_lib.models import ModelConfig, Recommender


class PlantedOracle(Recommender):
    """Scores films by their probability under `PlantedTruth`, as a sequence model.

    Evaluated like any other model it must reach the ceilings that `PlantedTruth.best_hit_rate` and
    `best_ndcg` compute, but for the chance in the targets: a check of both, by simulation.

    Args:
        truth: The rule.
        interval_known: Whether it looks at the time to the target.
    """

    def __init__(self, truth: PlantedTruth, interval_known: bool = True) -> None:
        super().__init__(truth.n_items, ModelConfig())
        self.interval_known = interval_known
        self.threshold, self.share_within = truth.threshold, truth.share_within
        self.epsilon = truth.epsilon
        self.register_buffer("short", torch.from_numpy(truth.short.copy()))  # (n_items + 1,)
        self.register_buffer("long", torch.from_numpy(truth.long.copy()))  # (n_items + 1,)

    def forward(self, items: Tensor, delta: Tensor) -> Tensor:
        """What the next film depends on: (B, L, 2), the current one and P(within)."""
        within = (delta <= self.threshold).to(torch.float64)
        if not self.interval_known:
            within = torch.full_like(within, self.share_within)
        return torch.stack((items.to(torch.float64), within), dim=-1)  # (B, L, 2)

    def logits(self, hidden: Tensor) -> Tensor:
        """Probabilities of the next film, (..., 2) -> (..., n_items + 1)."""
        items, within = hidden[..., 0].long(), hidden[..., 1]
        scores = within.new_full((*items.shape, self.n_items + 1), self.epsilon / self.n_items)
        for film, share in ((self.short[items], within), (self.long[items], 1 - within)):
            named = ((1 - self.epsilon) * share)[..., None]
            scores.scatter_add_(-1, film[..., None], named)
        return scores
