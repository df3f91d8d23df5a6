"""What can be added to a sequence model: embeddings of its intervals, and a feed-forward layer.

Neither is part of the published SS4Rec. Other models get the same modules, so that a comparison
says what a model does with the same additions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BUCKET_WIDTH = 0.301  # natural logarithm, as in HSTU's published code: a factor of 1.35 per bucket

# Where the interval after each interaction enters beside S5, see `IntervalEmbedding`: in the sum of
# the item embeddings, or in the last hidden state.
IntervalPlace = Literal["none", "input", "add", "gate", "both"]


def time_buckets(seconds: Tensor, n_buckets: int) -> Tensor:
    """Map seconds, any shape, to int64 buckets 0 .. n_buckets - 1 of the same shape.

    floor(log(1 + s) / 0.301); ties (0 s) have a bucket of their own, negative counts as 0.
    """
    scale = torch.log1p(seconds.clamp_min(0).float()) / BUCKET_WIDTH
    return scale.long().clamp_max_(n_buckets - 1)


class IntervalEmbedding(nn.Module):
    """Learned vectors for the interval after each interaction, on a logarithmic scale.

    Each bucket has a vector that is added to the hidden state (`input` and `add`), one that it is
    multiplied with, as 1 + vector (`gate`), or both. At the input of the first block all layers
    read every interval. In the last hidden state a position receives its own interval alone, the
    time from the last interaction to the target.
    """

    def __init__(self, d_model: int, place: IntervalPlace, n_buckets: int) -> None:
        super().__init__()
        self.n_buckets = n_buckets
        self.add = nn.Embedding(n_buckets, d_model) if place != "gate" else None
        self.gate = nn.Embedding(n_buckets, d_model) if place in ("gate", "both") else None

    def forward(self, hidden: Tensor, delta: Tensor) -> Tensor:
        """Map hidden (B, L, d_model) and seconds (B, L) to hidden."""
        buckets = time_buckets(delta, self.n_buckets)  # (B, L)
        if self.gate is not None:
            hidden = torch.addcmul(hidden, hidden, self.gate(buckets))
        return hidden if self.add is None else hidden + self.add(buckets)


class SwiGLU(nn.Module):
    """A gated feed-forward layer, `outer(silu(a) * b)` with `a, b = inner(x)`.

    Shazeer, "GLU Variants Improve Transformer", arXiv 2002.05202, without biases. The inner width
    is 8/3 of the outer one, rounded up to a multiple of 8.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        width = -(-8 * d_model // 24) * 8
        self.inner = nn.Linear(d_model, 2 * width, bias=False)
        self.outer = nn.Linear(width, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d_model) to (..., d_model)."""
        a, b = self.inner(x).chunk(2, dim=-1)  # (..., width) each
        return self.outer(F.silu(a) * b)
