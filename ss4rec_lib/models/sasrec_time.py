"""Real time for self-attention: how long ago each item was, seen from the target's moment.

Position k predicts interaction k + 1, so its query stands at that interaction's time, and the key
of interaction j is `elapsed[k, j] = t[k+1] - t[j]` seconds old. That is the relative time of HSTU
(Zhai et al., "Actions Speak Louder than Words", ICML 2024, arXiv 2402.17152): timespans between the
*next* item and each earlier one, on a logarithmic scale of buckets of width 0.301 in natural
logarithm, one learned bias of the attention logit for each bucket. TiSASRec (Li et al., "Time
Interval Aware Self-Attention for Sequential Recommendation", WSDM 2020) learns whole vectors for
clipped linear intervals between t[k] and t[j], and is not told the target's time.

A bias that is equal for all keys cancels in a softmax: it can say which items are recent, not how
long ago all of them were (HSTU's attention has no softmax). The bucket of the interval to the
target, `delta[k]`, is therefore also embedded and added to the input of position k.

All this follows from `delta` alone, so the arms of `target_time` apply: with `hidden` the last age
counts from a typical moment, with `none` ages are numbers of interactions, and with `previous` the
age of item j at position k is t[k] - t[j-1].

Glossary: B sequences, L positions, H heads, N layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BUCKET_WIDTH = 0.301  # natural logarithm, as in HSTU's published code: a factor of 1.35 a bucket


def time_buckets(seconds: Tensor, n_buckets: int) -> Tensor:
    """Seconds, any shape, to int64 buckets 0 .. n_buckets - 1 of the same shape.

    floor(log(1 + s) / 0.301); ties (0 s) have a bucket of their own, negative counts as 0.
    """
    scale = torch.log1p(seconds.clamp_min(0).float()) / BUCKET_WIDTH
    return scale.long().clamp_max_(n_buckets - 1)


def elapsed_seconds(delta: Tensor) -> Tensor:
    """Age of each interaction at the time of each position's target.

    Args:
        delta: Seconds from each interaction to the next one, (B, L).

    Returns:
        (B, L, L) float64: [b, k, j] = t[k+1] - t[j] = delta[j] + ... + delta[k] for j <= k; not
        positive above the diagonal. float64, because a sum of years must keep its seconds.
    """
    target = delta.double().cumsum(1)  # (B, L): t[k+1] - t[0]
    own = F.pad(target[:, :-1], (1, 0))  # (B, L): t[k] - t[0]
    return target[:, :, None] - own[:, None, :]


class TimeBias(nn.Module):
    """Attention bias of all layers from one look-up.

    Args:
        n_layers: N.
        n_heads: H.
        n_buckets: Length of the table.
    """

    def __init__(self, n_layers: int, n_heads: int, n_buckets: int) -> None:
        super().__init__()
        self.n_layers, self.n_heads = n_layers, n_heads
        self.table = nn.Parameter(torch.empty(n_layers * n_heads, n_buckets))
        nn.init.normal_(self.table, std=0.02)  # as in HSTU's published code

    def forward(self, delta: Tensor) -> Tensor:
        """Seconds (B, L) to logits' biases (N, B, H, L, L), -inf where a key is in the future."""
        B, L = delta.shape
        buckets = time_buckets(elapsed_seconds(delta), self.table.shape[1])  # (B, L, L)
        # Whole rows of the table at once: on the CPU, a fourth of the time of an embedding's rows
        # of N H numbers, whose gradient is added up one row at a time.
        bias = self.table.index_select(1, buckets.flatten())  # (N H, B L L)
        bias = bias.view(self.n_layers, self.n_heads, B, L, L).transpose(1, 2)
        future = torch.ones(L, L, dtype=torch.bool, device=delta.device).triu(1)
        return bias.masked_fill(future, -torch.inf)
