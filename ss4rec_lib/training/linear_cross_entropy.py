"""Softmax cross entropy of a linear head without the matrix of logits.

PyTorch's cross entropy moves the M V logits hidden W^T, their log-softmax and two gradients of that
size through memory. Here some dozens of rows are done at a time, loss and gradient together:

    logits = h W^T                               (R, V)
    e      = exp(logits - max),  sum = sum_v e   one compiled pass over each row
    loss  += log(sum) + max - logits[target]
    E      = e - sum onehot(target)              so softmax - onehot = E / sum
    dh     = (E W) / sum                         (R, d): d divisions per row instead of V
    dW    += E^T (h / sum)                       (V, d)

The loss is a scalar, so backward only multiplies these gradients by its factor. A NaN among the
logits may not reach the loss (fastmath); it does reach the gradients, by the matrix products.
Glossary: M targets, V = n_items + 1 columns (padding included), d = d_model, R rows at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ss4rec_lib.ssm import gradients_of, must_differentiate, numba_applies, numba_available

_LOGITS = 1 << 18  # logits held at a time: 1 MB, a usual second-level cache

if numba_available():
    from ss4rec_lib.ssm.kernels import numba_loops

    @numba_loops.inlined(fastmath=True)
    def _exponentials(row, largest):
        """Overwrite the row with exp(row - largest); return the sum."""
        total = np.float32(0.0)
        for v in range(row.shape[0]):
            e = numba_loops.exp_nonpositive(row[v] - largest)
            row[v] = e
            total += e
        return total

    @numba_loops.compiled(fastmath=True)
    def _softmax_rows(logits, largest, targets, losses, sums, lo, hi):
        """Overwrite logits (R, V) with sum * (softmax - onehot(targets)); fill losses and sums."""
        for m in range(lo, hi):
            row = logits[m]
            at_target = row[targets[m]]
            total = _exponentials(row, largest[m])
            losses[m] = np.log(total) + largest[m] - at_target
            sums[m] = total
            row[targets[m]] -= total


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: Any) -> Tensor:
        M, V = len(hidden), len(weight)
        ids = targets.numpy()
        wrong = ids[(ids < 0) | (ids >= V)]
        if len(wrong):  # the compiled pass would write elsewhere
            raise ValueError(f"targets holds the id {wrong[0]}, expected 0 to {V - 1}")
        rows = max(1, min(M, _LOGITS // V))
        # `dtype` is that of the products; the softmax between them is float32.
        h_all, W = hidden.to(dtype), weight.to(dtype)
        products = torch.empty(rows, V, dtype=dtype)
        losses = np.empty(M, dtype=np.float32)
        d_hidden, d_weight = torch.empty_like(h_all), torch.zeros_like(weight)
        sums = torch.empty(rows, 1)
        for first in range(0, M, rows):
            h = h_all[first : first + rows]  # (R, d)
            R, end = len(h), first + len(h)
            logits = torch.mm(h, W.T, out=products[:R]).float()  # (R, V)
            arrays = logits.numpy(), logits.amax(dim=1).numpy(), ids[first:end], losses[first:end]
            numba_loops.shard(_softmax_rows, R, *arrays, sums[:R, 0].numpy())
            E = logits.to(dtype)  # (R, V): sum times (softmax minus the one-hot target)
            scale = sums[:R].reciprocal()  # (R, 1)
            torch.mm(E, W, out=d_hidden[first:end])
            d_hidden[first:end] *= scale
            scaled = (h * scale).to(dtype)  # (R, d)
            if dtype == torch.float32:
                torch.addmm(d_weight, E.T, scaled, out=d_weight)
            else:
                d_weight += E.T @ scaled  # summed in float32
        ctx.save_for_backward(hidden, weight, targets, d_hidden, d_weight)
        return torch.tensor(losses.sum(dtype=np.float64), dtype=hidden.dtype)

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, d_hidden, d_weight = ctx.saved_tensors
        if must_differentiate(factor):

            def plain(h: Tensor, W: Tensor) -> Tensor:
                return F.cross_entropy(h @ W.T, targets, reduction="sum")

            return *gradients_of(plain, (hidden, weight), factor), None, None
        return factor * d_hidden.to(factor.dtype), factor * d_weight, None, None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the sum over the targets of -log softmax(hidden weight^T)[target], in nats.

    float32 on the CPU takes the compiled path, under autocast with its products in bfloat16;
    everything else takes PyTorch's own operators. The loss is **summed**: divide it by the number
    of targets of the whole step, which several processes or parts of a batch share. `hidden` (M, d)
    and `weight` (V, d) are of one floating dtype, `targets` (M,) int64 column ids in [0, V).
    """
    shapes = {"hidden": hidden.shape, "weight": weight.shape, "targets": targets.shape}
    if targets.ndim != 1 or weight.ndim != 2 or hidden.shape != (len(targets), weight.shape[1]):
        raise ValueError(f"expected hidden (M, d), weight (V, d), targets (M,); got {shapes}")
    if numba_applies("auto", hidden) and numba_applies("auto", weight):
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else torch.float32
        given = hidden.contiguous(), weight, targets.contiguous(), dtype
        with torch.autocast("cpu", enabled=False):
            return _LinearCrossEntropy.apply(*given)
    return F.cross_entropy(hidden @ weight.T, targets, reduction="sum")
