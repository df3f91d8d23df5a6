"""Batches with the ratings beside the items: what a rating model reads and what it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ss4rec_lib.data.batch import Batch, Batches
from ss4rec_lib.data.sequences import Sequences


@dataclass(frozen=True, eq=False)
class RatedBatch(Batch):
    """A batch with the ratings beside the items.

    Attributes:
        ratings: (B, L) float32, how each of `items` was rated; 0 in the padding.
        target_ratings: (B, L) float32, how each of `targets` was rated; NaN where there is no
            target, so that a loss over them would show. What is to be predicted: no input.
    """

    ratings: torch.Tensor | None = None
    target_ratings: torch.Tensor | None = None

    def shard(self, index: int, count: int) -> RatedBatch:
        """The whole batch; it is not cut into parts.

        Raises:
            ValueError: `count` is not 1.
        """
        if count != 1:
            raise ValueError(f"count={count}: a batch with ratings is not shared, expected 1")
        return self


class RatedBatches:
    """Batches of a split, each a `RatedBatch`; iterated as `Batches` are.

    Args:
        batches: what `train_batches` or `eval_batches` returned.
        sequences: the histories they were cut from.
    """

    def __init__(self, batches: Batches, sequences: Sequences) -> None:
        self._batches, self._sequences = batches, sequences
        self.n_targets, self.padding_share = batches.n_targets, batches.padding_share

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[RatedBatch]:
        return self.skip(0)

    def skip(self, number: int) -> Iterator[RatedBatch]:
        """The batches from `number` on, without putting the earlier ones together."""
        for batch in self._batches.skip(number):
            lengths = batch.lengths.numpy()[:, None]  # (B, 1)
            steps = np.arange(batch.items.shape[1] + 1)  # as the items of the batch were gathered
            index = batch.starts.numpy()[:, None] + np.minimum(steps, lengths)  # (B, L + 1)
            ratings = torch.from_numpy(np.asarray(self._sequences.ratings[index]))
            yield RatedBatch(
                **vars(batch),
                ratings=ratings[:, :-1].masked_fill(batch.items == 0, 0.0),
                target_ratings=ratings[:, 1:].masked_fill(batch.targets == 0, torch.nan),
            )
