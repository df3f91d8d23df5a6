"""Popularity of items, in the whole training part or in the days before a moment.

Ji et al., "A Re-visit of the Popularity Baseline in Recommender Systems", SIGIR 2020 (arXiv
2005.13829): the score at moment t is the number of training interactions in t - W < time <= t.
Under leave-one-out the end of the training part lies years after most targets, and the end of each
user's history is the fair moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from ss4rec_lib.configuration import Positive
from ss4rec_lib.models.base import Baseline, ModelConfig, training_interactions

if TYPE_CHECKING:
    from ss4rec_lib.data import Batch, Split
    from ss4rec_lib.training import TrainingConfig

DAY = 86_400  # seconds


class PopularityConfig(ModelConfig):
    """Popularity has no options."""


class Popularity(Baseline):
    """Recommend to every user the items with the most training interactions.

    `train_counts` are those of each item, (n_items + 1,), as `Split.train_counts()` returns them.
    """

    reads_histories = False
    config_type = PopularityConfig
    counts: Tensor

    def __init__(self, train_counts: np.ndarray, config: PopularityConfig | None = None) -> None:
        counts = np.asarray(train_counts)
        if counts.ndim != 1 or len(counts) < 2 or (counts < 0).any():
            raise ValueError(f"train_counts={counts}: expected (n_items + 1,) counts >= 0")
        super().__init__(len(counts) - 1, config)
        # float64: counts of the largest data sets stay exact, and so do ties.
        self.register_buffer("counts", torch.tensor(counts, dtype=torch.float64))

    @classmethod
    def _fitted(cls, split: Split, config: Any, training: TrainingConfig) -> Self:
        return cls(split.train_counts(), config)

    def scores(self, batch: Batch) -> Tensor:
        """Return the counts for each row, (B, n_items + 1) float64."""
        return self.counts.repeat(len(batch.items), 1)


class RecentPopularityConfig(ModelConfig):
    """Length of the window, and where it ends."""

    window_days: Positive = 30.0
    # For everybody the end of the training part, or the last interaction of each user's history.
    moments: Literal["end", "user"] = "end"

    @property
    def display_name(self) -> str:
        """The name of the model in a table."""
        return "Recent popularity" + (", user's moment" if self.moments == "user" else "")


class RecentPopularity(Baseline):
    """Recommend the items chosen most often in the days before a moment.

    `items` are the ids of the training interactions, (n,), 1..n_items, and `times` their timestamps
    in integer seconds, in any order. `known_times`, for `moments="user"`, are the times of all
    interactions, `sequences.times`: a row of a batch ends at `known_times[starts + lengths - 1]`.
    """

    reads_histories = False
    config_type = RecentPopularityConfig
    config: RecentPopularityConfig

    def __init__(
        self, items: np.ndarray, times: np.ndarray, n_items: int,
        config: RecentPopularityConfig | None = None, known_times: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        super().__init__(n_items, config)
        if self.config.moments == "user" and known_times is None:
            raise ValueError("moments='user' needs known_times, the times of all interactions")
        order = np.argsort(times, kind="stable")
        self._items, self._times = items[order], times[order].astype(np.int64)
        self._known_times = known_times

    @classmethod
    def _fitted(cls, split: Split, config: Any, training: TrainingConfig) -> Self:
        _, items, times = training_interactions(split)
        return cls(items, times, split.sequences.n_items, config, split.sequences.times)

    def scores(self, batch: Batch) -> Tensor:
        """Return the counts before the moment of each row, (B, n_items + 1) float64."""
        if self.config.moments == "end" or self._known_times is None:
            moments = np.full(len(batch.items), self._times[-1])
        else:
            moments = self._known_times[(batch.starts + batch.lengths - 1).cpu().numpy()]
        return torch.from_numpy(self.counts_before(moments)).to(batch.items.device)

    def counts_before(self, moments: np.ndarray) -> np.ndarray:
        """Return the counts in the windows before moments: (n,) s -> (n, n_items + 1) float64."""
        distinct, inverse = np.unique(moments, return_inverse=True)
        window = self.config.window_days * DAY
        first = np.searchsorted(self._times, distinct - window, side="right")
        end = np.searchsorted(self._times, distinct, side="right")
        windows = [self._items[a:b] for a, b in zip(first, end, strict=True)]
        counts = np.stack([np.bincount(items, minlength=self.n_items + 1) for items in windows])
        return counts.astype(np.float64)[inverse]
