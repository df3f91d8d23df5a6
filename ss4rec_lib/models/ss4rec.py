"""SS4Rec: a time-aware state space layer, then a relation-aware one, block after block.

Paper: "SS4Rec: Continuous-Time Sequential Recommendation with State Space Models",
arXiv 2502.08132. The computation is the published one:

    x = item_embedding(items)                      # no positional embedding, no input norm
    # SS4Rec+ only:     x = x + interval_embedding[bucket(delta)]
    for block in blocks:
        x = norm(dropout(s5(x, delta)) + x)        # one LayerNorm, shared by both sums of a block
        x = norm(dropout(mamba(x)) + x)
        # SS4Rec+ only:     x = norm(dropout(swiglu(x)) + x)
    scores = x @ item_embedding.weight.T           # tied weights, id 0 is padding

`delta[k]` is the time from interaction k to interaction k + 1, in seconds; at the last position it
reaches to the target. The model receives the *time* of the next interaction, never its item.
"""

from __future__ import annotations

import itertools
from typing import Any, Literal, NamedTuple, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ss4rec_lib.configuration import Count, NotNegative, Positive, Probability
from ss4rec_lib.models.additions import IntervalEmbedding, IntervalPlace, SwiGLU
from ss4rec_lib.models.base import Dropout, SequenceConfig, SequenceModel, check_history
from ss4rec_lib.ssm import S5, Mamba, MambaState

LAYER_NORM_EPS = 1e-12  # as published
LOG_SCALE = 2.5  # where the logarithm of the factor of `scores="cosine"` starts


class SS4RecConfig(SequenceConfig):
    """Shape and options of an SS4Rec model. The defaults are those published for MovieLens-1M.

    `model_type` is the ablation switch (the published code never reads it): `s5_only` leaves out
    the second line of a block, `mamba_only` the first. The third published ablation, intervals
    ignored, is a matter of data: `target_time="none"`.
    """

    hidden_size: Count = 64  # width of item embeddings and hidden states, d_model
    n_layers: Count = 2  # blocks, each an S5 layer followed by a Mamba layer
    model_type: Literal["ss4rec", "s5_only", "mamba_only"] = "ss4rec"
    dropout_prob: Probability = 0.2  # on the output of each layer, before the residual sum
    d_P: Count = 32  # states of S5
    d_H: Count = 64  # width of S5; must equal `hidden_size`
    # S5's learned steps start log-uniform between these; also the ends of `interval="clip"`.
    dt_min: Positive = 0.001
    dt_max: Positive = 0.1
    # The input of S5 computed from the seconds between interactions, and the smallest that S5
    # receives; with a floor above 0 tied interactions enter its state.
    interval: Literal["raw", "clip", "log1p"] = "raw"
    interval_floor: NotNegative = 0.0
    unconstrained: bool = False  # S5's eigenvalues are free, as published, see `ss4rec_lib.ssm.S5`
    d_state: Count = 32  # states of Mamba
    d_conv: Count = 4  # length of Mamba's convolution
    expand: Count = 2  # Mamba's inner width is expand * hidden_size
    # Not published, and off in `official`; see `plus`.
    interval_embedding: IntervalPlace = "none"  # where intervals enter beside S5
    n_time_buckets: Count = 72  # of `interval_embedding`; 72 reach past 60 years
    feed_forward: Literal["none", "swiglu"] = "none"  # a third line of a block
    # One LayerNorm for all sums of a block, one for each, or one before each layer and one at the
    # end of the model.
    norms: Literal["shared", "own", "before"] = "shared"
    # `cosine`: of the hidden state and the item's embedding, times a learned factor.
    scores: Literal["product", "cosine"] = "product"
    initializer_range: Positive = 0.02  # standard deviation of embeddings and Linear weights
    # Of the scans, see `ss4rec_lib.ssm`.
    backend: Literal["auto", "reference", "numba", "parallel", "triton", "mamba_ssm"] = "auto"

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.d_H != self.hidden_size:
            raise ValueError(f"d_H={self.d_H}, hidden_size={self.hidden_size}: must be equal")
        if self.dt_min > self.dt_max:
            raise ValueError(f"dt_min={self.dt_min} is above dt_max={self.dt_max}")
        return self

    def _name(self) -> str:
        names = {"ss4rec": "SS4Rec", "mamba_only": "Mamba4Rec", "s5_only": "S5 alone"}
        added = self.interval_embedding, self.feed_forward, self.norms, self.scores
        return names[self.model_type] + "+" * (added != ("none", "none", "shared", "product"))

    @property
    def uses_time(self) -> bool:
        """True unless nothing reads the intervals: no S5 layer and no embedding."""
        return self.model_type != "mamba_only" or self.interval_embedding != "none"

    @classmethod
    def official(cls, **changes: Any) -> Self:
        """As published: cross entropy, dropout 0.2, d_state 32, raw seconds."""
        return cls(**changes)

    @classmethod
    def bpr(cls, **changes: Any) -> Self:
        """The second configuration that circulates: BPR, dropout 0.5, d_state 16, clipped time."""
        base = {"loss_type": "BPR", "dropout_prob": 0.5, "d_state": 16, "interval": "clip"}
        return cls(**(base | changes))

    @classmethod
    def plus(cls, **changes: Any) -> Self:
        """With what helped on the validation part of MovieLens-1M, see lesson 06."""
        base: dict[str, Any] = {"interval_embedding": "input", "feed_forward": "swiglu"}
        base |= {"interval": "log1p", "interval_floor": 1.0}
        return cls(**(base | changes))


# State of one block between positions: (S5, Mamba); None for a layer that is left out.
BlockState = tuple[Tensor | None, MambaState | None]


class SS4RecState(NamedTuple):
    """The state after a user's history; its size does not depend on the history's length."""

    hidden: Tensor  # (B, d_model): the input of `logits`
    layers: tuple[BlockState, ...]  # one per block


class SS4RecBlock(nn.Module):
    """S5 over real time, then Mamba over the sequence; one that is left out is None."""

    def __init__(self, config: SS4RecConfig) -> None:
        super().__init__()
        kind = config.model_type
        names = {"dt_min", "dt_max", "interval", "interval_floor", "unconstrained", "backend"}
        options = config.model_dump(include=names)
        sizes = (config.hidden_size, config.d_state, config.d_conv, config.expand)
        self.s5 = None if kind == "mamba_only" else S5(config.d_H, config.d_P, **options)
        self.mamba = None if kind == "s5_only" else Mamba(*sizes, backend=config.backend)
        self.feed_forward = SwiGLU(config.hidden_size) if config.feed_forward == "swiglu" else None
        layers = (self.s5, self.mamba, self.feed_forward)
        n_norms = 1 if config.norms == "shared" else sum(layer is not None for layer in layers)
        norms = [nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS) for _ in range(n_norms)]
        self.norm, self.more_norms = norms[0], nn.ModuleList(norms[1:])
        self.before, self.dropout = config.norms == "before", Dropout(config.dropout_prob)

    def forward(
        self, x: Tensor, delta: Tensor, state: BlockState | None = None
    ) -> tuple[Tensor, BlockState]:
        """Map hidden (B, L, d_model) and seconds (B, L) to hidden and the state after L."""
        s5_state, mamba_state = state or (None, None)
        norms = itertools.chain([self.norm], self.more_norms or itertools.repeat(self.norm))
        if self.s5 is not None:
            x, s5_state = self._add(next(norms), self.s5, x, delta, s5_state)
        if self.mamba is not None:
            x, mamba_state = self._add(next(norms), self.mamba, x, mamba_state)
        if self.feed_forward is not None:
            x, _ = self._add(next(norms), self.feed_forward, x)
        return x, (s5_state, mamba_state)

    def _add(self, norm: Any, layer: Any, x: Tensor, *given: Any) -> tuple[Tensor, Any]:
        """Return x after a layer, dropout, residual sum and norm, and the layer's state, if any."""
        inside = norm(x) if self.before else x
        if layer is self.feed_forward:
            y, state = layer(inside), None
        else:
            y, state = layer(inside, *given, return_state=True)
        x = self.dropout(y) + x
        return (x if self.before else norm(x)), state

    def initial_state(self, batch_size: int) -> BlockState:
        """Return the state before the first interaction."""
        layers: Any = self.s5, self.mamba
        s5, mamba = (layer and layer.initial_state(batch_size) for layer in layers)
        return s5, mamba


class SS4Rec(SequenceModel):
    """Next-item recommender over irregularly timed interactions."""

    carries_state = True
    config_type = SS4RecConfig
    config: SS4RecConfig

    def __init__(self, n_items: int, config: SS4RecConfig | None = None) -> None:
        super().__init__(n_items, config)
        config = self.config
        self.item_embedding = nn.Embedding(self.n_items + 1, config.hidden_size, padding_idx=0)
        self.blocks: Any = nn.ModuleList(SS4RecBlock(config) for _ in range(config.n_layers))
        ending = config.norms == "before"
        self.norm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS) if ending else None
        place, sizes = config.interval_embedding, (config.hidden_size, config.n_time_buckets)
        self.intervals = None if place == "none" else IntervalEmbedding(sizes[0], place, sizes[1])
        cosine = config.scores == "cosine"
        self.log_scale = nn.Parameter(torch.tensor(LOG_SCALE)) if cosine else None
        self.apply(self.initialise)  # as published, Mamba's own `dt_proj` too

    def forward(
        self, items: Tensor, delta: Tensor, state: SS4RecState | None = None,
        return_state: bool = False, extra: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, SS4RecState]:  # fmt: skip
        """Return hidden states, (B, L, d_model), as `Recommender.forward`, continued from `state`.

        `return_state` also returns the state after position L (of a row without padding). `extra`,
        (B, L, d_model), is added to the embeddings of the items.
        """
        check_history(items, delta)
        x = self.item_embedding(items)  # (B, L, d_model)
        x = x if extra is None else x + extra
        place = self.config.interval_embedding
        if self.intervals is not None and place == "input":
            x = self.intervals(x, delta)
        if state is not None:  # the layers check shapes
            here = [(block.s5 is not None, block.mamba is not None) for block in self.blocks]
            there = [(s5 is not None, mamba is not None) for s5, mamba in state.layers]
            if here != there:
                raise ValueError(f"state is of a model with other layers: {there}, not {here}")
        after = []
        for i, block in enumerate(self.blocks):
            x, block_state = block(x, delta, state and state.layers[i])
            after.append(block_state)
        x = x if self.norm is None else self.norm(x)
        if self.intervals is not None and place != "input":
            x = self.intervals(x, delta)
        if self.log_scale is not None:
            x = F.normalize(x, dim=-1) * self.log_scale.exp()
        return (x, SS4RecState(x[:, -1], tuple(after))) if return_state else x

    @property
    def score_weight(self) -> Tensor:
        """The item embeddings, (n_items + 1, d_model), of length 1 for `scores="cosine"`."""
        weight = self._item_weight()
        return weight if self.log_scale is None else F.normalize(weight, dim=-1)

    def initial_state(self, batch_size: int) -> SS4RecState:
        """Return the state of a user without history."""
        layers = tuple(block.initial_state(batch_size) for block in self.blocks)
        hidden = next(self.parameters()).new_zeros(batch_size, self.config.hidden_size)
        return SS4RecState(hidden, layers)

    def step(self, state: SS4RecState, item: Tensor, delta: Tensor) -> SS4RecState:
        """Add one interaction, in time and memory independent of the length of the history.

        `item` are ids, (B,), `delta` the seconds to the next interaction (or to now), (B,).
        """
        return self(item[:, None], delta[:, None], state, return_state=True)[1]
