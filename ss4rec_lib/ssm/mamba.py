"""The Mamba block (S6): a state space layer whose steps depend on its input.

Paper: Gu, Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
arXiv 2312.00752. Independent reference: `mamba_ssm.modules.mamba_simple.Mamba`, whose parameter
names, shapes and initialisation are kept, so that state dicts go both ways.

Glossary (name, shape):
    d_inner         expand * d_model, the width D of the scan
    in_proj         d_model -> 2 d_inner: the input of the scan and its gate `z`
    conv1d          causal depthwise convolution over d_conv positions, (d_inner, 1, d_conv)
    x_proj          d_inner -> dt_rank + 2 d_state: low-rank step, B and C of the input
    dt_proj         dt_rank -> d_inner; softplus of it is Delta
    A_log           (d_inner, d_state), A = -exp(A_log)
    D               (d_inner,) skip weight
    out_proj        d_inner -> d_model
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ss4rec_lib.ssm.scan import asked_once, check, is_plain, numba_applies, selective_scan

INNER_LAYERS = ("conv1d", "x_proj", "dt_proj")


class MambaState(NamedTuple):
    """The state of a Mamba block between two positions."""

    conv: Tensor  # (B, d_inner, d_conv - 1): the last inputs of the convolution
    ssm: Tensor  # (B, d_inner, d_state): x


class Mamba(nn.Module):
    """in_proj -> causal convolution -> SiLU -> selective scan -> gate -> out_proj.

    `dt_rank` is ceil(d_model / 16) by default, as published. Initial steps softplus(dt_proj.bias)
    are log-uniform in [dt_min, dt_max]. `backend` is that of `ss4rec_lib.ssm.scan`.
    """

    def __init__(
        self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2,
        dt_rank: int | None = None, *, dt_min: float = 0.001, dt_max: float = 0.1,
        backend: str = "auto",
    ) -> None:  # fmt: skip
        super().__init__()
        self.dt_rank = math.ceil(d_model / 16) if dt_rank is None else dt_rank
        sizes = {"d_model": d_model, "d_state": d_state, "d_conv": d_conv, "expand": expand}
        for name, value in {**sizes, "dt_rank": self.dt_rank}.items():
            if value < 1:
                raise ValueError(f"{name}={value}: expected at least 1")
        if not 0 < dt_min <= dt_max:
            raise ValueError(f"dt_min={dt_min}, dt_max={dt_max}: expected 0 < dt_min <= dt_max")
        self.d_model, self.d_state, self.d_conv = d_model, d_state, d_conv
        self.d_inner = d_inner = expand * d_model
        self.backend = backend
        self.in_proj = nn.Linear(d_model, 2 * d_inner, bias=False)
        conv1d = nn.Conv1d(d_inner, d_inner, d_conv, groups=d_inner, padding=d_conv - 1)
        self.conv1d: Any = conv1d  # or what was put in its place
        self.x_proj = nn.Linear(d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, d_inner)
        self._made = {name: getattr(self, name).extra_repr() for name in INNER_LAYERS}
        A = torch.arange(1, d_state + 1, dtype=torch.float32).repeat(d_inner, 1)
        self.A_log = nn.Parameter(torch.log(A))  # (d_inner, d_state)
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, d_model, bias=False)
        # dt_proj starts as in `mamba_simple.Mamba.__init__` with dt_init='random'.
        nn.init.uniform_(self.dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        low, high = math.log(dt_min), math.log(dt_max)
        dt = torch.exp(torch.rand(d_inner) * (high - low) + low).clamp(min=1e-4)
        self.dt_proj.bias.data.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus^-1(dt)

    def initial_state(self, batch_size: int) -> MambaState:
        """Return the state before the first position: zeros."""
        sizes = self.d_conv - 1, self.d_state
        return MambaState(*(self.D.new_zeros(batch_size, self.d_inner, size) for size in sizes))

    @asked_once
    def _as_made(self, *names: str) -> bool:
        """Return True if the weights of these inner layers may be used without calling them."""
        same = (getattr(self, name).extra_repr() == self._made[name] for name in names)
        return is_plain(*(getattr(self, name) for name in names)) and all(same)

    def _convolve(self, x: Tensor, before: Tensor) -> Tensor:
        """Convolve x (B, L, d_inner), causally per channel, after `before` (B, D, d_conv - 1)."""
        length, edge = x.shape[1], self.d_conv - 1
        padded = torch.cat((before.transpose(1, 2), x), dim=1)  # (B, d_conv - 1 + L, d_inner)
        if not self._as_made("conv1d"):
            out = self.conv1d(padded.transpose(1, 2)).transpose(1, 2)
            check("conv1d's output", out, (len(x), length + 2 * edge, self.d_inner), "(B, ., D)", x)
            return out[:, edge : edge + length]
        # A sum of shifted products: `F.conv1d` needs channels before time, and its backward on the
        # CPU is several times slower for some lengths than for others.
        weight = self.conv1d.weight[:, 0]  # (d_inner, d_conv); the last meets the newest input
        out = self.conv1d.bias + weight[:, 0] * padded[:, :length]
        for j in range(1, self.d_conv):
            out = torch.addcmul(out, weight[:, j], padded[:, j : j + length])
        return out

    def _selection(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return Delta (..., d_inner), A (d_inner, d_state), B and C (..., d_state) for x."""
        dt, B, C = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return F.softplus(self.dt_proj(dt)), -torch.exp(self.A_log), B, C

    def forward(
        self, hidden: Tensor, state: MambaState | None = None, return_state: bool = False
    ) -> Tensor | tuple[Tensor, MambaState]:
        """Map (B, L, d_model) to the same shape; with `return_state` return also the last state."""
        check("hidden", hidden, (*hidden.shape[:2], self.d_model), "(B, L, d_model)", self.D)
        sizes = hidden.shape[0], self.d_inner
        before, x0 = state or (hidden.new_zeros(*sizes, self.d_conv - 1), None)
        if x0 is not None:
            check("state.conv", before, (*sizes, self.d_conv - 1), "(B, D, d_conv - 1)", self.D)
            check("state.ssm", x0, (*sizes, self.d_state), "(B, D, N)", self.D)
        xz = self.in_proj(hidden)  # (B, L, 2 d_inner)
        before = before.to(xz.dtype)
        newest = xz[:, -self.d_conv :, : self.d_inner].transpose(1, 2)
        window = torch.cat((before, newest), dim=-1)  # (B, d_inner, up to 2 d_conv - 1)
        if x0 is not None and self._is_step(xz, x0):
            y, ssm = self._step(xz[:, 0], window, x0)
        elif self._can_fuse(xz):
            y, ssm = self._fused(xz, before, x0)
        else:
            y, ssm = self._inner(xz, before, x0)
        out = self.out_proj(y)  # (B, L, d_model)
        return (out, MambaState(window[..., newest.shape[-1] :], ssm)) if return_state else out

    def _inner(self, xz: Tensor, before: Tensor, x0: Tensor | None) -> tuple[Tensor, Any]:
        """Map (B, L, 2 d_inner) to (B, L, d_inner) and x, between the outer projections."""
        x, z = xz.chunk(2, dim=-1)  # (B, L, d_inner) each
        x = F.silu(self._convolve(x, before))
        # Products may be 16 bits wide, under autocast or for such weights; the recurrence is not.
        dtype = torch.promote_types(self.D.dtype, torch.float32)
        terms = (t.to(dtype) for t in (x, *self._selection(x), self.D))
        y, ssm = selective_scan(*terms, initial_state=x0, return_state=True, backend=self.backend)
        return (y * F.silu(z)).to(xz.dtype), ssm  # (B, L, d_inner)

    def _is_step(self, xz: Tensor, x0: Tensor) -> bool:
        """Return True if `_step` is faster; training sums up gradients as for all lengths."""
        same = xz.dtype == self.D.dtype == x0.dtype in (torch.float32, torch.float64)
        return same and xz.shape[1] == 1 and not xz.requires_grad and self._as_made("conv1d")

    def _step(self, xz: Tensor, window: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Compute `_inner` of one position (B, 2 d_inner), the recurrence written out."""
        x, z = xz.chunk(2, dim=-1)  # (B, d_inner) each
        x = F.silu((window * self.conv1d.weight[:, 0]).sum(-1) + self.conv1d.bias)
        Delta, A, B, C = self._selection(x)
        ssm = torch.exp(Delta[..., None] * A) * x0 + (Delta * x)[..., None] * B[:, None]
        y = (ssm @ C[..., None])[..., 0] + self.D * x  # (B, d_inner)
        return (y * F.silu(z))[:, None], ssm

    def _can_fuse(self, xz: Tensor) -> bool:
        """Return True if the compiled passes can do this call; they equal `_inner`."""
        if not numba_applies(self.backend, xz) or torch.is_autocast_enabled("cpu"):
            return False
        modules = self, self.conv1d, self.x_proj, self.dt_proj
        tensors = (p for m in modules for p in m._parameters.values() if p is not None)
        same = self._as_made(*INNER_LAYERS) and all(p.dtype == xz.dtype for p in tensors)
        return same and xz.shape[1] > 0

    def _fused(self, xz: Tensor, before: Tensor, x0: Tensor | None) -> tuple[Tensor, Tensor]:
        from ss4rec_lib.ssm.kernels.numba_mamba import mamba_inner

        x0 = self.initial_state(len(xz)).ssm if x0 is None else x0.to(xz.dtype)
        return mamba_inner(
            xz, self.conv1d.weight[:, 0].T, self.conv1d.bias, before.transpose(1, 2),
            self.x_proj.weight, self.dt_proj.weight, self.dt_proj.bias, -torch.exp(self.A_log),
            self.D, x0,
        )  # fmt: skip

    def step(self, hidden: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """Add one position in O(1): hidden (B, d_model)."""
        y, state = self(hidden[:, None], state, return_state=True)  # with hooks, as in `forward`
        return y[:, 0], state
