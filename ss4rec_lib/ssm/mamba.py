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
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ss4rec_lib.ssm.scan import check, numba_applies, selective_scan


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
        self.conv1d = nn.Conv1d(d_inner, d_inner, d_conv, groups=d_inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, d_inner)
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

    def _check(self, hidden: Tensor, state: MambaState | None, ndim: int, meaning: str) -> None:
        if hidden.ndim != ndim or hidden.shape[-1] != self.d_model:
            raise ValueError(f"hidden has shape {tuple(hidden.shape)}, expected {meaning}")
        if state is not None:
            sizes = hidden.shape[0], self.d_inner
            check("state.conv", state.conv, (*sizes, self.d_conv - 1), "(B, D, d_conv - 1)")
            check("state.ssm", state.ssm, (*sizes, self.d_state), "(B, D, N)")

    def _convolution(self) -> tuple[Tensor, Tensor]:
        assert self.conv1d.bias is not None
        return self.conv1d.weight[:, 0], self.conv1d.bias  # (d_inner, d_conv), (d_inner,)

    def _convolve(self, x: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """Convolve x (B, L, d_inner), causally and per channel; return also the last inputs."""
        # A sum of shifted products: `F.conv1d` needs channels before time, and its backward on the
        # CPU is several times slower for some lengths than for others.
        length = x.shape[1]
        if before is None:
            before = x.new_zeros(x.shape[0], self.d_inner, self.d_conv - 1)
        padded = torch.cat((before.transpose(1, 2), x), dim=1)  # (B, d_conv - 1 + L, d_inner)
        weight, bias = self._convolution()
        out = bias + weight[:, 0] * padded[:, :length]
        for j in range(1, self.d_conv):  # the last weight meets the newest input
            out = torch.addcmul(out, weight[:, j], padded[:, j : j + length])
        return out, padded[:, length:].transpose(1, 2)  # (B, L, d_inner), (B, d_inner, d_conv - 1)

    def forward(
        self, hidden: Tensor, state: MambaState | None = None, return_state: bool = False
    ) -> Tensor | tuple[Tensor, MambaState]:
        """Map (B, L, d_model) to the same shape; with `return_state` return also the last state."""
        self._check(hidden, state, 3, f"(B, L, {self.d_model})")
        xz = self.in_proj(hidden)  # (B, L, 2 d_inner)
        if self._can_fuse(xz):
            y, after = self._fused(xz, state or self.initial_state(len(xz)))
        else:
            y, after = self._inner(xz, state)
        out = self.out_proj(y)  # (B, L, d_model)
        return (out, after) if return_state else out

    def _inner(self, xz: Tensor, state: MambaState | None) -> tuple[Tensor, MambaState]:
        """Map (B, L, 2 d_inner) to (B, L, d_inner) and the state, between the outer projections."""
        x, z = xz.chunk(2, dim=-1)  # (B, L, d_inner) each
        before, x0 = state or (None, None)
        x, conv = self._convolve(x, before)
        x = F.silu(x)
        # Under autocast products are bfloat16; the recurrence keeps the parameters' precision.
        terms = (t.to(self.D.dtype) for t in (x, *self._selection(x), self.D))
        y, ssm = selective_scan(*terms, initial_state=x0, return_state=True, backend=self.backend)
        return y * F.silu(z), MambaState(conv, ssm)  # (B, L, d_inner)

    def _selection(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return Delta (..., d_inner), A (d_inner, d_state), B and C (..., d_state) for x."""
        dt, B, C = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return F.softplus(self.dt_proj(dt)), -torch.exp(self.A_log), B, C

    def _can_fuse(self, xz: Tensor) -> bool:
        """Return True if the compiled passes can do this call; they equal `_inner`."""
        # They read the weights of the inner layers, without a call that would run a forward hook.
        layers = (self.x_proj, self.dt_proj, self.conv1d)
        hooked = any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
        same_dtype = xz.dtype == self.A_log.dtype
        return not hooked and same_dtype and xz.shape[1] > 0 and numba_applies(self.backend, xz)

    def _fused(self, xz: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        from ss4rec_lib.ssm.kernels.numba_mamba import mamba_inner

        weight, bias = self._convolution()
        y, ssm = mamba_inner(
            xz, weight.T, bias, state.conv.transpose(1, 2), self.x_proj.weight, self.dt_proj.weight,
            self.dt_proj.bias, -torch.exp(self.A_log), self.D, state.ssm,
        )  # fmt: skip
        newest = xz[:, -self.d_conv :, : self.d_inner].transpose(1, 2)
        conv = torch.cat((state.conv, newest), dim=-1)[..., newest.shape[-1] :]
        return y, MambaState(conv, ssm)

    def step(self, hidden: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """Add one position (B, d_model) in O(1): `forward` with the recurrence written out."""
        self._check(hidden, state, 2, f"(B, {self.d_model})")
        x, z = self.in_proj(hidden).chunk(2, dim=-1)  # (B, d_inner) each
        window = torch.cat((state.conv, x[..., None]), dim=-1)  # (B, d_inner, d_conv)
        weight, bias = self._convolution()
        x = F.silu((window * weight).sum(-1) + bias)
        Delta, A, B, C = self._selection(x)
        ssm = torch.exp(Delta[..., None] * A) * state.ssm + (Delta * x)[..., None] * B[:, None]
        y = (ssm @ C[..., None])[..., 0] + self.D * x  # (B, d_inner)
        return self.out_proj(y * F.silu(z)), MambaState(window[..., 1:], ssm)
