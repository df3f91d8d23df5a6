"""Baselines behind the interface of a sequence model: `forward` to hidden, `logits` to scores."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ss4rec_lib.models.base import ModelConfig


class PopularityConfig(ModelConfig):
    """Popularity has no options."""


class Popularity(nn.Module):
    """Every user is offered the items that were most often chosen in training.

    Args:
        train_counts: Interactions of each item in the training part, (n_items + 1,); entry 0 is
            padding. `Split.train_counts()` gives it.

    Raises:
        ValueError: Counts that are not one-dimensional or negative.
    """

    def __init__(self, train_counts: np.ndarray) -> None:
        super().__init__()
        counts = np.asarray(train_counts)
        if counts.ndim != 1 or len(counts) < 2 or (counts < 0).any():
            raise ValueError(
                f"train_counts has shape {counts.shape}: expected (n_items + 1,) counts >= 0"
            )
        self.n_items = len(counts) - 1
        # float64: counts of the largest data sets stay exact, and so do ties.
        self.register_buffer("counts", torch.tensor(counts, dtype=torch.float64))

    def forward(self, items: Tensor, delta: Tensor) -> Tensor:
        """Nothing of the history matters: ones, (B, L, 1)."""
        return torch.ones(*items.shape, 1, dtype=self.counts.dtype, device=self.counts.device)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of all items, (..., 1) -> (..., n_items + 1)."""
        return hidden * self.counts
