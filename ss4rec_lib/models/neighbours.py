"""Item-based nearest neighbours: what was chosen by those who chose the items of the history.

Sarwar et al., "Item-based Collaborative Filtering Recommendation Algorithms", WWW 2001; Deshpande &
Karypis, "Item-based Top-N Recommendation Algorithms", TOIS 2004. With X the binary matrix of users
and items of the training part, x_i its columns:

    sim(j, i) = x_j . x_i / (|x_j| |x_i| + shrinkage),  kept for the n_neighbours items i most
                similar to j, and 0 for i = j
    score(i)  = sum over the distinct items j of the history of sim(j, i)

Such a model has no hidden vector: what it knows of a user at position k is the set of items up to
there. So that is its hidden state, a row of item ids padded with 0, and `logits` adds up the
similarities. Order and time of the history do not matter.

Glossary: B sequences, L positions, W items in a history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from ss4rec_lib.models.base import Count, ModelConfig, NotNegative
from ss4rec_lib.models.baselines_config import (
    check_history,
    check_size,
    training_interactions,
)

if TYPE_CHECKING:
    from ss4rec_lib.data import Batch, Split

_BLOCK = 1_000  # items whose similarities to all others are held densely at a time


class ItemKNNConfig(ModelConfig):
    """Options of item-based neighbours.

    Attributes:
        n_neighbours: Similar items kept for each item.
        shrinkage: Added to the product of norms: pulls similarities that few users support to 0.
    """

    n_neighbours: Count = 100
    shrinkage: NotNegative = 0.0


class HistoryModel(nn.Module):
    """A model whose state is the history itself: its hidden vectors are item ids, 0 for none."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.n_items = check_size("n_items", n_items)

    def forward(self, items: Tensor, delta: Tensor) -> Tensor:
        """The history of each position, (B, L) -> (B, L, L) item ids; later ones are 0."""
        check_history(items, delta, self.n_items)
        B, L = items.shape
        return items[:, None].expand(B, L, L).tril()

    def last_hidden(self, batch: Batch) -> Tensor:
        """The history of each row's last position, (B, L): what `forward` gives there."""
        return batch.items


class ItemKNN(HistoryModel):
    """Scores from the similarities of the history's items.

    Args:
        matrix: Which user chose which item, (n_users, n_items + 1) sparse; entries that are not 0
            count as 1. `interaction_matrix(split)` gives it.
        config: See `ItemKNNConfig`.

    Raises:
        ValueError: A matrix without items.
    """

    def __init__(self, matrix: sparse.csr_array, config: ItemKNNConfig | None = None) -> None:
        super().__init__(matrix.shape[1] - 1)
        self.config = config or ItemKNNConfig()
        self.similarity = _nearest(matrix, self.config)

    def logits(self, hidden: Tensor) -> Tensor:
        """Sums of similarities, (..., W) item ids -> (..., n_items + 1) float64."""
        ids = distinct(hidden).cpu().numpy().reshape(-1, hidden.shape[-1])  # (R, W)
        rows, columns = ids.nonzero()
        chosen = sparse.csr_array(
            (np.ones(len(rows)), (rows, ids[rows, columns])), shape=(len(ids), self.n_items + 1)
        )
        scores = torch.from_numpy((chosen @ self.similarity).toarray())
        return scores.view(*hidden.shape[:-1], -1).to(hidden.device)


def distinct(history: Tensor) -> Tensor:
    """The same sets of ids, (..., W), each id once, in ascending order behind the zeros."""
    ids = history.sort(dim=-1).values
    again = ids[..., 1:] == ids[..., :-1]
    return torch.cat((ids[..., :1], ids[..., 1:].masked_fill(again, 0)), dim=-1)


def interaction_matrix(split: Split) -> sparse.csr_array:
    """Which user chose which item in the training part.

    Returns:
        (n_users, n_items + 1) float32 CSR of ones; column 0, padding, is empty.
    """
    users, items, _ = training_interactions(split)
    shape = (split.sequences.n_users, split.sequences.n_items + 1)
    matrix = sparse.csr_array((np.ones(len(users), np.float32), (users, items)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def _nearest(matrix: sparse.csr_array, config: ItemKNNConfig) -> sparse.csr_array:
    """Row j: the similarities of the items most similar to j; (n_items + 1, n_items + 1) CSR.

    Ties at the cut are resolved in favour of lower ids.
    """
    chosen = (matrix != 0).astype(np.float64).tocsc()
    norms = np.sqrt(chosen.sum(axis=0))  # (n_items + 1,)
    blocks = []
    for begin in range(0, chosen.shape[1], _BLOCK):
        end = min(begin + _BLOCK, chosen.shape[1])
        together = (chosen[:, begin:end].T @ chosen).toarray()  # (end - begin, n_items + 1)
        scale = norms[begin:end, None] * norms + config.shrinkage
        similar = np.divide(together, scale, out=np.zeros_like(together), where=scale > 0)
        similar[np.arange(end - begin), np.arange(begin, end)] = 0  # no item recommends itself
        further = np.argsort(-similar, axis=1, kind="stable")[:, config.n_neighbours :]
        np.put_along_axis(similar, further, 0, axis=1)
        blocks.append(sparse.csr_array(similar))
    return sparse.vstack(blocks, format="csr")
