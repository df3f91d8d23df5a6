"""Softmax of rows in place, minus the one-hot target, as one compiled pass: the head's inner loop.

Three short sweeps over a row that stays in the innermost cache: its largest entry, exponentials
and their sum, division. Rows are shared between PyTorch's number of threads.

A NaN among the logits may or may not come out as a NaN of the loss (fastmath); it does come out of
the gradients, where its row or column of the matrix products meets it again.
"""

from __future__ import annotations

import numpy as np

from ss4rec_lib.ssm.kernels.numba_cpu import share
from ss4rec_lib.ssm.kernels.numba_loops import compiled, exp_nonpositive


@compiled(fastmath=True)
def _largest(row):
    """The maximum; only with all of fastmath is it taken many entries at a time."""
    largest = row[0]
    for v in range(row.shape[0]):
        largest = max(largest, row[v])
    return largest


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
def _rows(logits, targets, losses, lo, hi):
    for m in range(lo, hi):
        row = logits[m]
        largest = _largest(row)
        at_target = row[targets[m]]
        total = _exponentials(row, largest)
        losses[m] = np.log(total) + largest - at_target
        scale = np.float32(1.0) / total
        for v in range(row.shape[0]):
            row[v] *= scale
        row[targets[m]] -= np.float32(1.0)


def softmax_rows(logits: np.ndarray, targets: np.ndarray, losses: np.ndarray) -> None:
    """Overwrite logits with softmax(logits) - onehot(targets); fill losses with -log p[target].

    Args:
        logits: (R, V) float32, C-contiguous; overwritten.
        targets: (R,) int64, each in [0, V).
        losses: (R,) float32, nats; filled.
    """
    share(_rows, len(logits), logits, targets, losses)
