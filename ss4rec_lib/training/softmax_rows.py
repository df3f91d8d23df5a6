"""Exponentials of rows in place, and what softmax needs of them: the head's inner loop.

The largest entry of a row comes in (a reduction that PyTorch takes many entries at a time), one
compiled sweep does the rest while the row is in the innermost cache. Nothing is divided: dividing
the V entries of a row by their sum is the same as scaling, by the caller, the d numbers that the
row's products give or take. Rows are shared between PyTorch's number of threads.

A NaN among the logits may or may not come out as a NaN of the loss (fastmath); it does come out of
the gradients, where its row or column of the matrix products meets it again.
"""

from __future__ import annotations

import numpy as np

from ss4rec_lib.ssm.kernels.numba_cpu import shard
from ss4rec_lib.ssm.kernels.numba_loops import compiled, exp_nonpositive


@compiled(fastmath=True)
def _exponentials(row, largest):
    """Overwrite the row with exp(row - largest); return the sum."""
    total = np.float32(0.0)
    for v in range(row.shape[0]):
        e = exp_nonpositive(row[v] - largest)
        row[v] = e
        total += e
    return total


@compiled(fastmath=True)
def _rows(logits, largest, targets, losses, sums, lo, hi):
    for m in range(lo, hi):
        row = logits[m]
        at_target = row[targets[m]]
        total = _exponentials(row, largest[m])
        losses[m] = np.log(total) + largest[m] - at_target
        sums[m] = total
        row[targets[m]] -= total


def softmax_rows(
    logits: np.ndarray,
    largest: np.ndarray,
    targets: np.ndarray,
    losses: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Overwrite logits with sum * (softmax(logits) - onehot(targets)); fill losses and sums.

    Args:
        logits: (R, V) float32, C-contiguous; overwritten.
        largest: (R,) float32, the largest entry of each row.
        targets: (R,) int64, each in [0, V).
        losses: (R,) float32, -log softmax(logits)[target], nats; filled.
        sums: (R,) float32, sum of exp(logits - largest); filled.
    """
    shard(_rows, len(logits), logits, largest, targets, losses, sums)
