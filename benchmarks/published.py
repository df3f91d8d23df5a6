"""The published composition: s5-pytorch and mamba_ssm's modules, every prefix a row of its own."""

from __future__ import annotations

import warnings

import torch
from mamba_ssm_on_cpu import import_mamba_ssm
from torch import Tensor, nn
from torch.nn import functional as F

from ss4rec_lib.models import SS4Rec, official_state_dict


class _Block(nn.Module):
    def __init__(self, mamba: type[nn.Module], s5: type[nn.Module], config) -> None:
        super().__init__()
        self.S5 = s5(config.d_H, state_width=config.d_P)
        self.S6 = mamba(
            config.hidden_size, config.d_state, config.d_conv, config.expand, use_fast_path=False
        )
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=1e-12)

    def forward(self, x: Tensor, delta: Tensor, p: float) -> Tensor:
        x = self.LayerNorm(F.dropout(self.S5(x, step_scale=delta), p) + x)
        return self.LayerNorm(F.dropout(self.S6(x), p) + x)


class Published(nn.Module):
    """The published forward pass with the weights of one of ours; `loss` of rows of prefixes.

    Raises:
        ImportError: s5-pytorch or mamba-ssm's Python files are not installed.
    """

    def __init__(self, model: SS4Rec) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            from s5 import S5
        mamba = import_mamba_ssm().mamba_simple.Mamba
        config = model.config
        self.item_embedding = nn.Embedding(model.n_items + 1, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=1e-12)  # published, never used
        self.model = nn.ModuleList(_Block(mamba, S5, config) for _ in range(config.n_layers))
        self.load_state_dict(official_state_dict(model))
        self.p = config.dropout_prob

    def loss(self, items: Tensor, delta: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """Mean cross entropy at the last position of each row; items and delta (B, L)."""
        x = self.item_embedding(items)  # (B, L, d_model)
        p = self.p if self.training else 0.0
        for block in self.model:
            x = block(x, delta, p)
        last = x[torch.arange(len(x)), lengths - 1]  # (B, d_model)
        return F.cross_entropy(last @ self.item_embedding.weight.T, targets)
