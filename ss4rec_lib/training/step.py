"""From a batch to the loss of all its positions: one module, one `forward`.

Keeping model and objective together matters when several processes train: what wraps the model to
add up their gradients must see the whole way from batch to loss.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ss4rec_lib.data import Batch
from ss4rec_lib.training.carry import detached
from ss4rec_lib.training.objectives import Objective


class Step(nn.Module):
    """A model and what it is trained for.

    Args:
        model: `forward(items, delta) -> (B, L, d_model)`; to carry a state also
            `forward(items, delta, state, return_state=True)`.
        objective: See `ss4rec_lib.training.objectives`.
        precision: `float32`, or `bf16` for matrix products under autocast.
    """

    def __init__(self, model: nn.Module, objective: Objective, precision: str) -> None:
        super().__init__()
        self.model = model
        self._objective = objective
        self._autocast = precision == "bf16"

    def forward(
        self, batch: Batch, n: int, state: Any, carry: bool
    ) -> tuple[Tensor, Any]:
        """Loss of a batch, or of a part of one.

        Args:
            batch: Sequences and targets.
            n: Targets of the whole step: what the sum is divided by.
            state: What to continue from; None for the beginning.
            carry: Whether to return a state.

        Returns:
            The loss, and the state after the batch without its gradient (None unless `carry`).
        """
        with torch.autocast(batch.items.device.type, torch.bfloat16, enabled=self._autocast):
            if carry:
                hidden, state = self.model(batch.items, batch.delta, state, return_state=True)
            else:
                hidden, state = self.model(batch.items, batch.delta), None
            hidden = hidden.flatten(0, 1)  # (B L, d_model)
            targets = batch.targets.flatten()  # (B L,)
            kept = batch.positions  # (M,): no loss at padding
            if len(kept) < len(targets):
                hidden, targets = hidden.index_select(0, kept), targets.index_select(0, kept)
            return self._objective(self.model, hidden, targets, n), detached(state)
