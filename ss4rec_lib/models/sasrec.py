"""SASRec: causal self-attention over the sequence of items, with or without real time.

Kang & McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018 (arXiv 1808.09781), in the
form of RecBole's model, whose norms come after the residual sums:

    x = dropout(norm(item_embedding(items) + position_embedding))
    for layer in layers:
        x = norm(dropout(attention(x)) + x)
        x = norm(dropout(feed_forward(x)) + x)     # d -> inner, gelu, inner -> d
    scores = x @ item_embedding.weight.T           # tied weights, id 0 is padding

Trained with cross entropy over the whole catalogue at every position (Klenitskiy & Vasilev 2023
show that this loss, not the network, decides between it and its competitors). With `time` the
attention also sees how long ago each item was: see `ss4rec_lib.models.sasrec_time`.

Glossary: B sequences, L positions, d = hidden_size, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from ss4rec_lib.models.baselines_config import (
    check_choice,
    check_counts,
    check_dropout,
    check_history,
    check_numbers,
    check_size,
)
from ss4rec_lib.models.dropout import Dropout
from ss4rec_lib.models.sasrec_time import TimeBias, time_buckets

TIMES = ("none", "bias", "intervals")
LAYER_NORM_EPS = 1e-12  # as RecBole's


@dataclass(frozen=True)
class SASRecConfig:
    """Shape and options under RecBole's names; its defaults but for dropout (0.5 there).

    Attributes:
        hidden_size: Width of item embeddings and hidden states.
        inner_size: Inner width of the feed-forward sub-layer.
        n_layers: Layers of attention and feed-forward.
        n_heads: Attention heads; must divide `hidden_size`.
        hidden_dropout_prob: Dropout on the input and on the output of each sub-layer.
        attn_dropout_prob: Dropout on the attention weights.
        loss_type: See `SS4RecConfig.loss_type`.
        max_positions: Positions there are embeddings for: the longest row `forward` accepts.
        time: What is seen of time. `none`; `bias`, the age of each item as a bias of the attention
            (as HSTU); `intervals`, also an embedding of the interval to the next interaction.
        n_time_buckets: Logarithmic buckets of seconds; 72 reach past 60 years.
        initializer_range: Standard deviation of initial embeddings and Linear weights.
    """

    hidden_size: int = 64
    inner_size: int = 256
    n_layers: int = 2
    n_heads: int = 2
    hidden_dropout_prob: float = 0.2
    attn_dropout_prob: float = 0.2
    loss_type: str = "CE"
    max_positions: int = 200
    time: str = "none"
    n_time_buckets: int = 72
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        """Refuse what no model can be built from (ValueError naming field and value)."""
        check_counts(
            self,
            "hidden_size",
            "inner_size",
            "n_layers",
            "n_heads",
            "max_positions",
            "n_time_buckets",
        )
        check_dropout(self, "hidden_dropout_prob", "attn_dropout_prob")
        check_numbers(self, "initializer_range", above=0)
        check_choice(self, "loss_type")
        check_choice(self, "time", TIMES)
        if self.hidden_size % self.n_heads:
            raise ValueError(
                f"n_heads={self.n_heads} does not divide hidden_size={self.hidden_size}: each head "
                "has hidden_size / n_heads dimensions"
            )


class SASRecLayer(nn.Module):
    """Causal attention, then a feed-forward network, each with dropout, residual and norm."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        d = config.hidden_size
        self.n_heads = config.n_heads
        self.attn_dropout_prob = config.attn_dropout_prob
        self.query_key_value = nn.Linear(d, 3 * d)  # one product instead of three
        self.attention_out = nn.Linear(d, d)
        self.attention_norm = nn.LayerNorm(d, eps=LAYER_NORM_EPS)
        self.inner = nn.Linear(d, config.inner_size)
        self.outer = nn.Linear(config.inner_size, d)
        self.outer_norm = nn.LayerNorm(d, eps=LAYER_NORM_EPS)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """(B, L, d) to (B, L, d); bias (B, H, L, L) of the logits, which then says what is future.

        Padding stands to the right of everything real: what is causal never looks at it.
        """
        B, L, d = x.shape
        heads = self.query_key_value(x).view(B, L, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = heads.unbind(0)  # (B, H, L, d / H) each
        y = F.scaled_dot_product_attention(
            q, k, v,
            attn_mask=None if bias is None else bias.to(q.dtype),
            dropout_p=self.attn_dropout_prob if self.training else 0.0,
            is_causal=bias is None,
        )  # fmt: skip
        y = self.attention_out(y.transpose(1, 2).reshape(B, L, d))
        x = self.attention_norm(self.dropout(y) + x)  # (B, L, d)
        y = self.outer(F.gelu(self.inner(x)))
        return self.outer_norm(self.dropout(y) + x)


class SASRec(nn.Module):
    """Next-item recommender with self-attention.

    Positions are counted from the beginning of a row (as RecBole does): counted from the last real
    item, position k would change with what follows it, and one pass could not train all positions.

    Args:
        n_items: Number of items; ids run from 1 to n_items, 0 is padding.
        config: Shape and options.

    Raises:
        ValueError: `n_items` is not an integer of at least 1.
    """

    def __init__(self, n_items: int, config: SASRecConfig | None = None) -> None:
        super().__init__()
        self.n_items = check_size("n_items", n_items)
        self.config = config = config or SASRecConfig()
        d = config.hidden_size
        self.item_embedding = nn.Embedding(self.n_items + 1, d, padding_idx=0)
        self.position_embedding = nn.Embedding(config.max_positions, d)
        self.time_bias: TimeBias | None = None
        self.interval_embedding: nn.Embedding | None = None
        if config.time != "none":
            self.time_bias = TimeBias(config.n_layers, config.n_heads, config.n_time_buckets)
        if config.time == "intervals":
            self.interval_embedding = nn.Embedding(config.n_time_buckets, d)
        self.norm = nn.LayerNorm(d, eps=LAYER_NORM_EPS)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(SASRecLayer(config) for _ in range(config.n_layers))
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        """N(0, 0.02) for embeddings and Linear weights, 0 for Linear biases, as RecBole."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def forward(self, items: Tensor, delta: Tensor) -> Tensor:
        """Hidden states, causal in both arguments.

        Args:
            items: Item ids, (B, L), integer; right-padded with 0.
            delta: Seconds from each interaction to the next one, (B, L), floating, >= 0. The last
                one's reaches to the target: with `time`, the model is told when it happens.

        Returns:
            (B, L, hidden_size). Position k depends on items[:k+1] and, with `time`, delta[:k+1].

        Raises:
            ValueError: A row longer than `config.max_positions`, ids outside the catalogue, or
                intervals that are not seconds.
        """
        check_history(items, delta, self.n_items)
        L = items.shape[1]
        most = self.config.max_positions
        if most < L:
            raise ValueError(
                f"items has {L} positions, the model has embeddings for max_positions={most}: give "
                f"the most recent {most} (max_len of fit and evaluate_ranking), or make the model "
                "with larger max_positions"
            )
        x = self.item_embedding(items) + self.position_embedding.weight[:L]  # (B, L, d)
        if self.interval_embedding is not None:
            buckets = time_buckets(delta, self.config.n_time_buckets)  # (B, L)
            x = x + self.interval_embedding(buckets)
        x = self.dropout(self.norm(x))
        if self.time_bias is None:
            biases = [None] * len(self.layers)
        else:
            biases = self.time_bias(delta).unbind(0)  # (B, H, L, L) a layer
        for layer, bias in zip(self.layers, biases, strict=True):
            x = layer(x, bias)
        return x

    @property
    def score_weight(self) -> Tensor:
        """(n_items + 1, hidden_size), whose rows' inner products with hidden are the scores."""
        return self.item_embedding.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of all items, (..., hidden_size) -> (..., n_items + 1); column 0 is padding."""
        return hidden @ self.score_weight.T
