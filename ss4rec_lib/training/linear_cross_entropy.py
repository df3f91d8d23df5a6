"""Softmax cross entropy of a linear head without the matrix of logits.

The published head is scores = hidden W^T over the whole catalogue, then a softmax. For M targets
and V items the logits alone are M V numbers; PyTorch's cross entropy stores them, their
log-softmax, and two gradients of the same size, and most of its time goes into moving these
through memory. Here a few hundred rows are done at a time, loss and gradient together, while they
are in the cache:

    logits = h W^T                               (R, V)
    e      = exp(logits - max),  sum = sum_v e   one compiled pass over each row
    loss  += log(sum) + max - logits[target]
    E      = e - sum onehot(target)              so softmax - onehot = E / sum
    dh     = (E W) / sum                         (R, d): d divisions a row instead of V
    dW    += E^T (h / sum)                       (V, d)

The sums are exact: this is the same function as `F.cross_entropy(hidden @ W.T, targets)`, with the
gradient computed during forward (the loss is a scalar, so backward only multiplies by its factor).

Glossary: M targets, V = n_items + 1 columns (padding id included, as published), d = d_model,
R rows at a time.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ss4rec_lib.ssm import numba_available

_LOGITS = 1 << 20  # logits held at a time: 4 MB, within the caches of a laptop


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, dtype):
        from ss4rec_lib.training.softmax_rows import softmax_rows

        with_gradient = any(ctx.needs_input_grad)
        M, V = len(hidden), len(weight)
        rows = max(1, min(M, _LOGITS // V))
        # What the products take and give; the softmax between them is float32.
        h_all, W = hidden.to(dtype), weight.to(dtype)
        products = torch.empty(rows, V, dtype=dtype)
        logits_all = products if dtype == torch.float32 else torch.empty(rows, V)
        losses = np.empty(M, dtype=np.float32)
        d_hidden = torch.empty_like(h_all) if with_gradient else None
        d_weight = torch.zeros_like(weight) if with_gradient else None
        sums = torch.empty(rows, 1)
        ids = targets.numpy()
        for first in range(0, M, rows):
            h = h_all[first : first + rows]  # (R, d)
            end = first + len(h)
            product, logits = products[: len(h)], logits_all[: len(h)]  # (R, V) each
            torch.mm(h, W.T, out=product)
            if dtype != torch.float32:
                logits.copy_(product)
            softmax_rows(
                logits.numpy(), logits.amax(dim=1).numpy(), ids[first:end], losses[first:end],
                sums[: len(h), 0].numpy(),
            )  # fmt: skip
            if with_gradient:
                E = logits.to(dtype)  # (R, V): sum times (softmax minus the one-hot target)
                scale = sums[: len(h)].reciprocal()  # (R, 1)
                torch.mm(E, W, out=d_hidden[first:end])
                d_hidden[first:end] *= scale
                scaled = (h * scale).to(dtype)  # (R, d)
                if dtype == torch.float32:
                    torch.addmm(d_weight, E.T, scaled, out=d_weight)
                else:
                    d_weight += E.T @ scaled  # summed in float32
        if with_gradient:
            ctx.save_for_backward(d_hidden, d_weight)
        return torch.tensor(losses.sum(dtype=np.float64), dtype=hidden.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, factor):
        d_hidden, d_weight = ctx.saved_tensors
        return factor * d_hidden.to(factor.dtype), factor * d_weight, None, None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Sum over the targets of -log softmax(hidden weight^T)[target].

    float32 on the CPU takes the compiled path, under autocast with its products in bfloat16;
    everything else PyTorch's own operators.

    Args:
        hidden: (M, d), floating.
        weight: (V, d), same dtype.
        targets: Column ids, (M,), int64, each in [0, V).

    Returns:
        A scalar, nats, **summed**: divide by the number of targets of the whole step, which
        several processes or parts of a batch share.

    Raises:
        ValueError: Shapes that do not fit, or a target outside [0, V).
    """
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"hidden has shape {tuple(hidden.shape)} and weight {tuple(weight.shape)}: expected "
            "(M, d) and (V, d)"
        )
    if targets.shape != hidden.shape[:1]:
        raise ValueError(f"targets has shape {tuple(targets.shape)}, expected ({len(hidden)},)")
    on_cpu = hidden.device.type == "cpu" and weight.device.type == "cpu"
    if on_cpu and len(targets):
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= len(weight):
            raise ValueError(
                f"targets holds the id {low if low < 0 else high}, expected 0 to {len(weight) - 1}"
            )
    if on_cpu and hidden.dtype == weight.dtype == torch.float32 and numba_available():
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else torch.float32
        with torch.autocast("cpu", enabled=False):
            return _LinearCrossEntropy.apply(
                hidden.contiguous(), weight, targets.contiguous(), dtype
            )
    return F.cross_entropy(hidden @ weight.T, targets, reduction="sum")
