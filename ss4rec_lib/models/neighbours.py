"""Item-based nearest neighbours: items chosen by the users who chose the items of the history.

Sarwar et al., "Item-based Collaborative Filtering Recommendation Algorithms", WWW 2001; Deshpande &
Karypis, "Item-based Top-N Recommendation Algorithms", TOIS 2004. With X the binary matrix of users
and items of the training part, x_i its columns:

    sim(j, i) = x_j . x_i / (|x_j| |x_i| + shrinkage),  kept for the n_neighbours items i most
                similar to j, and 0 for i = j
    score(i)  = sum over the distinct items j of the history of sim(j, i)

Order and time of the history do not matter. Glossary: B sequences, W items in a history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ss4rec_lib.configuration import Count, NotNegative
from ss4rec_lib.models.base import Baseline, ModelConfig, training_interactions

if TYPE_CHECKING:
    from ss4rec_lib.data import Batch, Split
    from ss4rec_lib.training import TrainingConfig

_BLOCK = 1_000  # items whose similarities to all others are held densely at a time


class ItemKNNConfig(ModelConfig):
    """Options; `shrinkage` reduces similarities that few users support."""

    n_neighbours: Count = 100
    shrinkage: NotNegative = 0.0


class ItemKNN(Baseline):
    """Scores from the similarities of the history's items.

    `matrix`, (n_users, n_items + 1) sparse, says which user chose which item, as that of
    `interaction_matrix(split)`; entries that are not 0 count as 1.
    """

    trained_with = ("max_len",)
    config_type = ItemKNNConfig
    config: ItemKNNConfig

    def __init__(self, matrix: Any, config: ItemKNNConfig | None = None) -> None:
        super().__init__(matrix.shape[1] - 1, config)
        chosen = (matrix != 0).astype(np.float64).tocsc()
        norms = np.sqrt(chosen.sum(axis=0))  # (n_items + 1,)
        blocks = []
        for begin in range(0, chosen.shape[1], _BLOCK):
            end = min(begin + _BLOCK, chosen.shape[1])
            together = (chosen[:, begin:end].T @ chosen).toarray()  # (end - begin, n_items + 1)
            scale = norms[begin:end, None] * norms + self.config.shrinkage
            similar = np.divide(together, scale, out=np.zeros_like(together), where=scale > 0)
            similar[np.arange(end - begin), np.arange(begin, end)] = 0  # none recommends itself
            # Ties at the cut are resolved in favour of lower ids.
            further = np.argsort(-similar, axis=1, kind="stable")[:, self.config.n_neighbours :]
            np.put_along_axis(similar, further, 0, axis=1)
            blocks.append(sparse.csr_array(similar))
        self.similarity: Any = sparse.vstack(blocks, format="csr")  # (n_items + 1, n_items + 1)

    @classmethod
    def _fitted(cls, split: Split, config: Any, training: TrainingConfig) -> Self:
        return cls(interaction_matrix(split), config)

    def scores(self, batch: Batch) -> Tensor:
        """Return the scores after each row's history, (B, n_items + 1) float64."""
        return self.history_scores(batch.items)

    def history_scores(self, history: Tensor) -> Tensor:
        """Return sums of similarities, (..., W) item ids, 0 for none -> (..., n_items + 1)."""
        ids = distinct(history).cpu().numpy().reshape(-1, history.shape[-1])  # (R, W)
        rows, columns = ids.nonzero()
        shape = (len(ids), self.n_items + 1)
        chosen = sparse.csr_array((np.ones(len(rows)), (rows, ids[rows, columns])), shape=shape)
        scores = torch.from_numpy((chosen @ self.similarity).toarray())
        return scores.view(*history.shape[:-1], -1).to(history.device)


def distinct(history: Tensor) -> Tensor:
    """Return the same sets of ids, (..., W), each id once, the others replaced by 0."""
    ids = history.sort(dim=-1).values
    again = ids[..., 1:] == ids[..., :-1]
    return torch.cat((ids[..., :1], ids[..., 1:].masked_fill(again, 0)), dim=-1)


def interaction_matrix(split: Split) -> sparse.csr_array:
    """Return the pairs of the training part, (n_users, n_items + 1) float32 of ones."""
    users, items, _ = training_interactions(split)
    shape = (split.sequences.n_users, split.sequences.n_items + 1)
    matrix = sparse.csr_array((np.ones(len(users), np.float32), (users, items)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix
