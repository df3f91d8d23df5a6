"""SS4Rec: a time-aware state space layer, then a relation-aware one, block after block.

Paper: "SS4Rec: Continuous-Time Sequential Recommendation with State Space Models",
arXiv 2502.08132. The computation is the published one:

    x = item_embedding(items)                      # no positional embedding, no input norm
    for block in blocks:
        x = norm(dropout(s5(x, delta)) + x)        # one LayerNorm, shared by both sums of a block
        x = norm(dropout(mamba(x)) + x)
    scores = x @ item_embedding.weight.T           # tied weights, id 0 is padding

`SS4RecConfig.model_type` leaves out the first of the two lines of a block, or the second.

`delta[k]` is the time from interaction k to interaction k + 1, in seconds; at the last position it
runs to the target. The model is told *when* the next interaction happens, not what it is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ss4rec_lib.models.config import SS4RecConfig
from ss4rec_lib.models.dropout import Dropout
from ss4rec_lib.ssm import S5, Mamba, MambaState, check_intervals

LAYER_NORM_EPS = 1e-12  # as published

# What one block carries from position to position: (S5, Mamba); None for a layer left out.
BlockState = tuple[Tensor | None, MambaState | None]


class SS4RecState(NamedTuple):
    """All that a user's history leaves behind, of a size that does not depend on its length."""

    hidden: Tensor  # (B, d_model): what `logits` turns into scores
    layers: tuple[BlockState, ...]  # one a block


class SS4RecBlock(nn.Module):
    """S5 over real time, then Mamba over the sequence, each with dropout, residual and norm.

    `config.model_type` leaves one of the two out: it is None then, and so is its state.
    """

    def __init__(self, config: SS4RecConfig) -> None:
        super().__init__()
        self.s5: S5 | None = None
        self.mamba: Mamba | None = None
        if config.model_type != "mamba_only":
            self.s5 = S5(
                config.d_H,
                config.d_P,
                dt_min=config.dt_min,
                dt_max=config.dt_max,
                interval=config.interval,
                interval_floor=config.interval_floor,
                unconstrained=config.unconstrained,
                backend=config.backend,
            )
        if config.model_type != "s5_only":
            self.mamba = Mamba(
                config.hidden_size,
                config.d_state,
                config.d_conv,
                config.expand,
                backend=config.backend,
            )
        self.norm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)
        self.dropout = Dropout(config.dropout_prob)

    def forward(
        self, x: Tensor, delta: Tensor, state: BlockState | None = None
    ) -> tuple[Tensor, BlockState]:
        """Hidden (B, L, d_model) and seconds (B, L) to hidden and the state after position L."""
        s5_state, mamba_state = state if state is not None else (None, None)
        if self.s5 is not None:
            y, s5_state = self.s5(x, delta, s5_state, return_state=True)
            x = self.norm(self.dropout(y) + x)  # (B, L, d_model)
        if self.mamba is not None:
            y, mamba_state = self.mamba(x, mamba_state, return_state=True)
            x = self.norm(self.dropout(y) + x)  # (B, L, d_model)
        return x, (s5_state, mamba_state)

    def step(self, x: Tensor, delta: Tensor, state: BlockState) -> tuple[Tensor, BlockState]:
        """`forward` for one position: x (B, d_model), delta (B,) seconds."""
        s5_state, mamba_state = state
        if self.s5 is not None:
            y, s5_state = self.s5.step(x, delta, s5_state)
            x = self.norm(self.dropout(y) + x)  # (B, d_model)
        if self.mamba is not None:
            y, mamba_state = self.mamba.step(x, mamba_state)
            x = self.norm(self.dropout(y) + x)  # (B, d_model)
        return x, (s5_state, mamba_state)

    def initial_state(self, batch_size: int) -> BlockState:
        """The state before the first interaction."""
        return (
            None if self.s5 is None else self.s5.initial_state(batch_size),
            None if self.mamba is None else self.mamba.initial_state(batch_size),
        )


class SS4Rec(nn.Module):
    """Next-item recommender over a timestamped history.

    Args:
        n_items: Number of items; ids run from 1 to n_items, 0 is padding.
        config: Shape and options; `SS4RecConfig.official()` by default.

    Raises:
        ValueError: `n_items` is not an integer of at least 1.
    """

    def __init__(self, n_items: int, config: SS4RecConfig | None = None) -> None:
        super().__init__()
        if isinstance(n_items, bool) or not hasattr(n_items, "__index__") or n_items < 1:
            raise ValueError(f"n_items={n_items!r}: expected an integer of at least 1")
        self.n_items = int(n_items)
        self.config = config or SS4RecConfig.official()
        self.item_embedding = nn.Embedding(self.n_items + 1, self.config.hidden_size, padding_idx=0)
        self.blocks = nn.ModuleList(SS4RecBlock(self.config) for _ in range(self.config.n_layers))
        self.apply(self._published_initialisation)

    def _published_initialisation(self, module: nn.Module) -> None:
        """N(0, 0.02) for embeddings and Linear weights, 0 for Linear biases.

        As published, this also overwrites Mamba's own initialisation of `dt_proj`, and the row of
        the padding id.
        """
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def _check(self, items: Tensor, delta: Tensor) -> None:
        if items.ndim != 2 or items.shape[1] == 0:
            raise ValueError(f"items has shape {tuple(items.shape)}, expected (B, L) with L >= 1")
        if items.is_floating_point() or items.is_complex() or items.dtype == torch.bool:
            raise ValueError(f"items has dtype {items.dtype}, expected an integer dtype")
        low, high = (int(extreme) for extreme in items.aminmax())
        if low < 0 or high > self.n_items:
            raise ValueError(
                f"items holds the id {low if low < 0 else high}, expected 0 (padding) to "
                f"{self.n_items}"
            )
        check_intervals(delta, tuple(items.shape))

    def _check_state(self, state: SS4RecState) -> None:
        """Refuse the state of a model with other layers; each layer checks its own shapes."""
        here = [(block.s5 is not None, block.mamba is not None) for block in self.blocks]
        there = [(s5 is not None, mamba is not None) for s5, mamba in state.layers]
        if here != there:
            raise ValueError(
                f"state is of a model with other layers: it holds (S5, Mamba) = {there}, expected "
                f"{here}; take it from this model's initial_state, step or "
                "forward(return_state=True)"
            )

    def forward(
        self,
        items: Tensor,
        delta: Tensor,
        state: SS4RecState | None = None,
        return_state: bool = False,
        extra: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, SS4RecState]:
        """Hidden states, causal in both arguments.

        Args:
            items: Item ids, (B, L), integer; right-padded with 0.
            delta: Seconds from each interaction to the next one, (B, L), floating, >= 0.
            state: What the interactions before these left behind; None for nothing.
            return_state: Also return the state after position L (of a row without padding).
            extra: What else is known of each interaction, (B, L, d_model), added to its item's
                embedding; None for nothing, as published.

        Returns:
            (B, L, d_model). Position k depends on items[:k+1] and delta[:k+1] (and `state`). With
            `return_state` also a `SS4RecState` to continue from.

        Raises:
            ValueError: Ids outside the catalogue, intervals that are not seconds, or a state of
                another batch size or of a model with other layers.
        """
        self._check(items, delta)
        if state is not None:
            self._check_state(state)
        before = (None,) * len(self.blocks) if state is None else state.layers
        x = self.item_embedding(items)  # (B, L, d_model)
        if extra is not None:
            x = x + extra
        layers = []
        for block, layer_state in zip(self.blocks, before, strict=True):
            x, layer_state = block(x, delta, layer_state)
            layers.append(layer_state)
        return (x, SS4RecState(x[:, -1], tuple(layers))) if return_state else x

    @property
    def score_weight(self) -> Tensor:
        """(n_items + 1, d_model), whose rows' inner products with hidden are the scores.

        A loss that has it need not store the scores of all items.
        """
        return self.item_embedding.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of all items, (..., d_model) -> (..., n_items + 1); column 0 is padding."""
        return hidden @ self.score_weight.T

    def initial_state(self, batch_size: int) -> SS4RecState:
        """The state of a user without history."""
        layers = tuple(block.initial_state(batch_size) for block in self.blocks)
        hidden = self.item_embedding.weight.new_zeros(batch_size, self.config.hidden_size)
        return SS4RecState(hidden, layers)

    def step(self, state: SS4RecState, item: Tensor, delta: Tensor) -> SS4RecState:
        """One interaction more, in time and memory independent of the history's length.

        Args:
            state: State before this interaction.
            item: Item ids, (B,).
            delta: Seconds from this interaction to the next one (or to now), (B,).

        Returns:
            The state after it; its `hidden` (B, d_model) equals what `forward` gives at this
            position.
        """
        self._check(item[:, None], delta[:, None])
        self._check_state(state)
        x = self.item_embedding(item)  # (B, d_model)
        layers = []
        for block, layer_state in zip(self.blocks, state.layers, strict=True):
            x, layer_state = block.step(x, delta, layer_state)
            layers.append(layer_state)
        return SS4RecState(x, tuple(layers))
