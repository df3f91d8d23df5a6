"""SS4Rec: a time-aware state space layer, then a relation-aware one, block after block.

Paper: "SS4Rec: Continuous-Time Sequential Recommendation with State Space Models",
arXiv 2502.08132. The computation is the published one:

    x = item_embedding(items)                      # no positional embedding, no input norm
    for block in blocks:
        x = norm(dropout(s5(x, delta)) + x)        # one LayerNorm, shared by both sums of a block
        x = norm(dropout(mamba(x)) + x)
    scores = x @ item_embedding.weight.T           # tied weights, id 0 is padding

`delta[k]` is the time from interaction k to interaction k + 1, in seconds; at the last position it
runs to the target. The model is told *when* the next interaction happens, not what it is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ss4rec_lib.models.config import SS4RecConfig
from ss4rec_lib.ssm import S5, Mamba, MambaState
from ss4rec_lib.ssm.intervals import check_intervals

LAYER_NORM_EPS = 1e-12  # as published


class SS4RecState(NamedTuple):
    """All that a user's history leaves behind, of a size that does not depend on its length."""

    hidden: Tensor  # (B, d_model): what `logits` turns into scores
    layers: tuple[tuple[Tensor, MambaState], ...]  # a pair (S5, Mamba) a block


class SS4RecBlock(nn.Module):
    """S5 over real time, then Mamba over the sequence, each with dropout, residual and norm."""

    def __init__(self, config: SS4RecConfig) -> None:
        super().__init__()
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
        self.mamba = Mamba(
            config.hidden_size, config.d_state, config.d_conv, config.expand, backend=config.backend
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(config.dropout_prob)

    def forward(
        self, x: Tensor, delta: Tensor, state: tuple[Tensor, MambaState] | None = None
    ) -> tuple[Tensor, tuple[Tensor, MambaState]]:
        """Hidden (B, L, d_model) and seconds (B, L) to hidden and the state after position L."""
        s5_state, mamba_state = state if state is not None else (None, None)
        y, s5_state = self.s5(x, delta, s5_state, return_state=True)
        x = self.norm(self.dropout(y) + x)  # (B, L, d_model)
        y, mamba_state = self.mamba(x, mamba_state, return_state=True)
        x = self.norm(self.dropout(y) + x)  # (B, L, d_model)
        return x, (s5_state, mamba_state)


class SS4Rec(nn.Module):
    """Next-item recommender over a timestamped history.

    Args:
        n_items: Number of items; ids run from 1 to n_items, 0 is padding.
        config: Shape and options; `SS4RecConfig.official()` by default.

    Raises:
        ValueError: `n_items` below 1.
    """

    def __init__(self, n_items: int, config: SS4RecConfig | None = None) -> None:
        super().__init__()
        if n_items < 1:
            raise ValueError(f"n_items={n_items}: expected at least 1")
        self.n_items = n_items
        self.config = config or SS4RecConfig.official()
        self.item_embedding = nn.Embedding(n_items + 1, self.config.hidden_size, padding_idx=0)
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
        low, high = int(items.min()), int(items.max())
        if low < 0 or high > self.n_items:
            raise ValueError(
                f"items holds the id {low if low < 0 else high}, expected 0 (padding) to "
                f"{self.n_items}"
            )
        check_intervals(delta, tuple(items.shape))

    def forward(self, items: Tensor, delta: Tensor) -> Tensor:
        """Hidden states, causal in both arguments.

        Args:
            items: Item ids, (B, L), integer; right-padded with 0.
            delta: Seconds from each interaction to the next one, (B, L), floating, >= 0.

        Returns:
            (B, L, d_model). Position k depends on items[:k+1] and delta[:k+1].

        Raises:
            ValueError: Ids outside the catalogue, or intervals that are not seconds.
        """
        self._check(items, delta)
        x = self.item_embedding(items)  # (B, L, d_model)
        for block in self.blocks:
            x, _ = block(x, delta)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of all items, (..., d_model) -> (..., n_items + 1); column 0 is padding."""
        return hidden @ self.item_embedding.weight.T

    def initial_state(self, batch_size: int) -> SS4RecState:
        """The state of a user without history."""
        layers = tuple(
            (block.s5.initial_state(batch_size), block.mamba.initial_state(batch_size))
            for block in self.blocks
        )
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
        items, delta = item[:, None], delta[:, None]  # (B, 1)
        self._check(items, delta)
        x = self.item_embedding(items)  # (B, 1, d_model)
        layers = []
        for block, layer_state in zip(self.blocks, state.layers, strict=True):
            x, layer_state = block(x, delta, layer_state)
            layers.append(layer_state)
        return SS4RecState(x[:, 0], tuple(layers))
