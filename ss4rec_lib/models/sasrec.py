"""SASRec: causal self-attention over the sequence of items, with or without real time.

Kang & McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018 (arXiv 1808.09781), in the
form of RecBole's model, whose norms come after the residual sums:

    x = dropout(norm(item_embedding(items) + position_embedding))
    for layer in layers:
        x = norm(dropout(attention(x)) + x)
        x = norm(dropout(feed_forward(x)) + x)     # d -> inner, gelu, inner -> d
    scores = x @ item_embedding.weight.T           # tied weights, id 0 is padding

With `time`, attention also receives the age of each item at the time of the target: interaction j
is `elapsed[k, j] = t[k+1] - t[j]` seconds old at position k, which predicts interaction k + 1. As
in HSTU (Zhai et al., "Actions Speak Louder than Words", ICML 2024, arXiv 2402.17152), each bucket
of age, on a logarithmic scale, has a learned bias of the attention logit. A bias that is equal for
all keys cancels in a softmax (HSTU has none): it can express which items are recent, not how long
ago all of them were. The interval to the target, `delta[k]`, is therefore also embedded and added
to the input of position k. With `target_time="none"`, ages are numbers of interactions.

Glossary: B sequences, L positions, d = hidden_size, H heads, N layers.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ss4rec_lib.configuration import Count, Positive, Probability
from ss4rec_lib.models.additions import SwiGLU, time_buckets
from ss4rec_lib.models.base import Dropout, SequenceConfig, SequenceModel, check_history

LAYER_NORM_EPS = 1e-12  # as RecBole's


class SASRecConfig(SequenceConfig):
    """Shape and options under RecBole's names; its defaults but for dropout (0.5 there).

    `time` is `none`; `bias`, the age of each item as a bias of the attention (as HSTU); or
    `intervals`, also an embedding of the interval to the next interaction.
    """

    hidden_size: Count = 64
    inner_size: Count = 256  # inner width of the feed-forward sub-layer
    n_layers: Count = 2
    n_heads: Count = 2  # must divide `hidden_size`
    hidden_dropout_prob: Probability = 0.2  # on the input and on the output of each sub-layer
    attn_dropout_prob: Probability = 0.2
    max_positions: Count = 200  # the longest row `forward` accepts
    time: Literal["none", "bias", "intervals"] = "none"
    n_time_buckets: Count = 72  # logarithmic buckets of seconds; 72 reach past 60 years
    feed_forward: Literal["gelu", "swiglu"] = "gelu"  # swiglu has its own inner width
    initializer_range: Positive = 0.02

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.hidden_size % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads} must divide hidden_size={self.hidden_size}")
        return self

    def _name(self) -> str:
        gated = "+" * (self.feed_forward == "swiglu")
        return f"SASRec{gated}" if self.time == "none" else f"SASRec{gated} with time"

    @property
    def uses_time(self) -> bool:
        """True unless `time` is `none`."""
        return self.time != "none"


def elapsed_seconds(delta: Tensor) -> Tensor:
    """Return the age of each interaction at the time of each position's target.

    (B, L) to (B, L, L): [b, k, j] = t[k+1] - t[j] = delta[j] + ... + delta[k] for j <= k; not
    positive above the diagonal. float64, because a sum of years must keep its seconds.
    """
    target = delta.double().cumsum(1)  # (B, L): t[k+1] - t[0]
    own = F.pad(target[:, :-1], (1, 0))  # (B, L): t[k] - t[0]
    return target[:, :, None] - own[:, None, :]


class TimeBias(nn.Module):
    """The attention biases of all layers, from one look-up."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.n_layers, self.n_heads = config.n_layers, config.n_heads
        self.table = nn.Parameter(torch.empty(self.n_layers * self.n_heads, config.n_time_buckets))
        nn.init.normal_(self.table, std=0.02)  # as in HSTU's published code

    def forward(self, delta: Tensor) -> Tensor:
        """Map seconds (B, L) to biases of logits (N, B, H, L, L), -inf for keys in the future."""
        B, L = delta.shape
        buckets = time_buckets(elapsed_seconds(delta), self.table.shape[1])  # (B, L, L)
        # Whole rows of the table at once: on the CPU, a fourth of the time of an embedding's rows
        # of N H numbers, whose gradient is added up one row at a time.
        bias = self.table.index_select(1, buckets.flatten())  # (N H, B L L)
        bias = bias.view(self.n_layers, self.n_heads, B, L, L).transpose(1, 2)
        future = torch.ones(L, L, dtype=torch.bool, device=delta.device).triu(1)
        return bias.masked_fill(future, -torch.inf)


class SASRecLayer(nn.Module):
    """Causal attention, then a feed-forward network, each with dropout, residual and norm."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        d = config.hidden_size
        self.n_heads, self.attn_dropout_prob = config.n_heads, config.attn_dropout_prob
        self.query_key_value = nn.Linear(d, 3 * d)  # one product instead of three
        self.attention_out = nn.Linear(d, d)
        self.attention_norm = nn.LayerNorm(d, eps=LAYER_NORM_EPS)
        gated = config.feed_forward == "swiglu"
        self.gated = SwiGLU(d) if gated else None
        self.inner = None if gated else nn.Linear(d, config.inner_size)
        self.outer = None if gated else nn.Linear(config.inner_size, d)
        self.outer_norm = nn.LayerNorm(d, eps=LAYER_NORM_EPS)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Map (B, L, d) to (B, L, d); `bias` (B, H, L, L) of the logits includes the causal mask.

        Padding stands to the right of everything real, so causal attention never reaches it.
        """
        B, L, d = x.shape
        heads = self.query_key_value(x).view(B, L, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = heads.unbind(0)  # (B, H, L, d / H) each
        mask = None if bias is None else bias.to(q.dtype)
        dropout = self.attn_dropout_prob if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=bias is None)
        y = self.attention_out(y.transpose(1, 2).reshape(B, L, d))
        x = self.attention_norm(self.dropout(y) + x)  # (B, L, d)
        y = self.gated(x) if self.gated else self.outer(F.gelu(self.inner(x)))  # type: ignore
        return self.outer_norm(self.dropout(y) + x)


class SASRec(SequenceModel):
    """Next-item recommender with self-attention.

    Positions are counted from the beginning of a row (as RecBole does): counted from the last real
    item, position k would change with what follows it, and one pass could not train all positions.
    """

    config_type = SASRecConfig
    config: SASRecConfig

    def __init__(self, n_items: int, config: SASRecConfig | None = None) -> None:
        super().__init__(n_items, config)
        config = self.config
        d = config.hidden_size
        self.item_embedding = nn.Embedding(self.n_items + 1, d, padding_idx=0)
        self.position_embedding = nn.Embedding(config.max_positions, d)
        n = config.n_time_buckets
        self.time_bias = None if config.time == "none" else TimeBias(config)
        self.interval_embedding = nn.Embedding(n, d) if config.time == "intervals" else None
        self.norm = nn.LayerNorm(d, eps=LAYER_NORM_EPS)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(SASRecLayer(config) for _ in range(config.n_layers))
        self.apply(self.initialise)

    def forward(self, items: Tensor, delta: Tensor) -> Tensor:
        """Return hidden states, (B, L, hidden_size); at most `max_positions` in a row."""
        check_history(items, delta)
        L, most = items.shape[1], self.config.max_positions
        if most < L:
            remedy = f"give the most recent {most} (max_len)"
            raise ValueError(f"items has {L} positions, the model max_positions={most}: {remedy}")
        positions = torch.arange(L, device=items.device)
        x = self.item_embedding(items) + self.position_embedding(positions)  # (B, L, d)
        if self.interval_embedding is not None:
            x = x + self.interval_embedding(time_buckets(delta, self.config.n_time_buckets))
        x = self.dropout(self.norm(x))
        none = [None] * len(self.layers)
        biases = self.time_bias(delta).unbind(0) if self.time_bias else none  # (B, H, L, L) each
        for layer, bias in zip(self.layers, biases, strict=True):
            x = layer(x, bias)
        return x
