"""S5: a diagonal state space layer whose steps are real time intervals.

Paper: Smith, Warrington, Linderman, "Simplified State Space Layers for Sequence Modeling",
arXiv 2208.04933. Independent reference: the package `s5-pytorch`, `s5.S5(width, state_width)`.

Glossary (symbol of the paper, name here, shape):
    u           u            (B, L, H)  input
    Lambda      Lambda       (P,)       eigenvalues of the continuous state matrix, complex
    B~          B_tilde      (P, H)     input matrix in the eigenbasis, complex; stored as `B`
    C~          C_tilde      (H, P)     output matrix in the eigenbasis, complex; stored as `C`
    D           D            (H,)       skip weight
    Delta       Delta        (B, L, P)  step sizes: interval (seconds) times exp(log_step)
    Lambda bar  Lambda_bar   (B, L, P)  exp(Lambda Delta)
    x           x            (B, L, P)  state
Complex parameters are stored as two real numbers in a last axis of size 2.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ss4rec_lib.ssm.discretization import METHODS, states
from ss4rec_lib.ssm.scan import check, irregular_kernels

INTERVALS = ("raw", "clip", "log1p")


class S5(nn.Module):
    """x_k = Lambda_bar_k x_{k-1} + B_bar_k u_k;  y_k = Re(C_tilde x_k) + D * u_k.

    As in s5-pytorch, all P eigenvalues are kept and the output is not doubled for conjugates.

    Args:
        d_H, d_P: Width H of input and output; number P of states.
        dt_min, dt_max: Learned steps exp(log_step) start log-uniform between these.
        interval: Transform of the seconds: `raw` (published), `clip` to [dt_min, dt_max], `log1p`.
        interval_floor: Smallest interval after that; above 0, tied interactions enter the state.
        discretization: `zoh` (published) or `bilinear`.
        unconstrained: Store `Lambda` freely, as published. By default Re(Lambda) = -exp(.) stays
            negative: above 0, exp(Lambda Delta) overflows for intervals of 1e6 s.
        backend: Scan backend, see `ss4rec_lib.ssm.scan`.
    """

    def __init__(
        self, d_H: int, d_P: int, *, dt_min: float = 0.001, dt_max: float = 0.1,
        interval: str = "raw", interval_floor: float = 0.0, discretization: str = "zoh",
        unconstrained: bool = False, backend: str = "auto",
    ) -> None:  # fmt: skip
        super().__init__()
        if d_H < 1 or d_P < 1:
            raise ValueError(f"d_H={d_H}, d_P={d_P}: expected both at least 1")
        if not 0 < dt_min <= dt_max:
            raise ValueError(f"dt_min={dt_min}, dt_max={dt_max}: expected 0 < dt_min <= dt_max")
        if interval not in INTERVALS:
            raise ValueError(f"interval={interval!r}: choose one of {', '.join(INTERVALS)}")
        if interval_floor < 0:
            raise ValueError(f"interval_floor={interval_floor}: expected seconds, at least 0")
        if discretization not in METHODS:
            raise ValueError(f"discretization={discretization!r}: choose one of {list(METHODS)}")
        self.d_H, self.d_P, self.dt_min, self.dt_max = d_H, d_P, dt_min, dt_max
        self.interval, self.interval_floor = interval, interval_floor
        self.discretization, self.unconstrained = discretization, unconstrained
        self.backend = backend
        with warnings.catch_warnings():  # s5-pytorch decorates with torch.jit.script, deprecated
            warnings.simplefilter("ignore", DeprecationWarning)
            from s5 import S5 as ReferenceS5
        # The HiPPO-N eigenvalues and the published draws of the other parameters.
        start = ReferenceS5(d_H, state_width=d_P, dt_min=dt_min, dt_max=dt_max).seq
        Lambda = start.Lambda.detach()
        self.Lambda_im = nn.Parameter(Lambda.imag.clone())  # (P,)
        if unconstrained:
            self.Lambda_re = nn.Parameter(Lambda.real.clone())  # (P,)
        else:
            self.log_neg_Lambda_re = nn.Parameter(torch.log(-Lambda.real))  # (P,)
        self.B = nn.Parameter(start.B.detach().clone())  # (P, H, 2)
        self.C = nn.Parameter(torch.view_as_real(start.C.detach()).clone())  # (H, P, 2)
        self.D = nn.Parameter(start.D.detach().clone())  # (H,)
        self.log_step = nn.Parameter(start.log_step.detach().clone())  # (P,)

    @property
    def Lambda(self) -> Tensor:
        """Eigenvalues (P,), complex; time in Lambda * exp(log_step) is counted in seconds."""
        return torch.complex(self._Lambda_re(), self.Lambda_im)

    def _Lambda_re(self) -> Tensor:
        return self.Lambda_re if self.unconstrained else -torch.exp(self.log_neg_Lambda_re)

    def initial_state(self, batch_size: int) -> Tensor:
        """Return the state before the first interaction: zeros, (batch_size, P), complex."""
        return self.D.new_zeros(batch_size, self.d_P, dtype=self.D.dtype.to_complex())

    def _transformed(self, delta: Tensor) -> Tensor:
        """Map seconds (B, L) to the factors of the learned steps."""
        if self.interval == "clip":
            delta = delta.clamp(self.dt_min, self.dt_max)
        elif self.interval == "log1p":
            delta = torch.log1p(delta)
        return delta.clamp_min(self.interval_floor) if self.interval_floor > 0 else delta

    def discretize(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Map seconds (B, L) to Lambda_bar and the scale of B_tilde, both (B, L, P), complex."""
        Delta = self._transformed(delta)[..., None] * torch.exp(self.log_step)  # (B, L, P)
        return METHODS[self.discretization](self.Lambda, Delta)

    def forward(
        self, u: Tensor, delta: Tensor, state: Tensor | None = None, return_state: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Map u (B, L, H) to y (B, L, H); with `return_state` also return the last state (B, P).

        `delta` (B, L) holds the seconds from each interaction to the next one, floating; that they
        are not negative is checked when a batch is made. `state` is complex; zeros when None.
        """
        check("u", u, (*u.shape[:2], self.d_H), "(B, L, H)", self.D)
        check("delta", delta, u.shape[:2], "(B, L)", self.D)
        if not delta.is_floating_point():
            # Subtract timestamps as int64 first; only their differences fit a float32.
            raise ValueError(f"delta has dtype {delta.dtype}, expected a floating dtype")
        if self.D.dtype.itemsize < 4:  # loaded or set so; `.bfloat16()` leaves them as they are
            wanted = "its complex states need float32 or float64. Convert it by .float()"
            raise TypeError(f"the parameters of S5 are {self.D.dtype}: {wanted}")
        dtype, u = u.dtype, u.to(torch.promote_types(u.dtype, self.D.dtype))
        # B_tilde u with u real: one real product for real and imaginary parts together.
        B_re_im = self.B.movedim(-1, 0).flatten(0, 1)  # (2P, H)
        # Under autocast the product is bfloat16; the recurrence keeps the parameters' precision.
        Bu = (u @ B_re_im.T).to(self.B.dtype)  # (B, L, 2P)
        if state is None:
            x0 = Bu.new_zeros(len(delta), 2 * self.d_P)
        else:
            check("initial_state", state, (len(delta), self.d_P), "(B, P)", self.D)
            x0 = torch.cat((state.real, state.imag), dim=-1).to(Bu.dtype)  # (B, 2P)
        Lambda = torch.cat((self._Lambda_re(), self.Lambda_im))  # (2P,)
        delta = self._transformed(delta).to(Bu.dtype)
        inputs = Lambda, torch.exp(self.log_step), delta, Bu, x0
        fused = irregular_kernels(self.backend, Bu) if self.discretization == "zoh" else None
        if fused is not None:
            x = fused.irregular_scan(*inputs)  # (B, L, 2P)
        else:
            x = states(*inputs, METHODS[self.discretization], self.backend)
        # Re(C_tilde x) = C_re x_re - C_im x_im, again one real product.
        C_re_im = torch.cat((self.C[..., 0], -self.C[..., 1]), dim=-1)  # (H, 2P)
        y = (x @ C_re_im.T + self.D * u).to(dtype)  # (B, L, H)
        return (y, torch.complex(*x[:, -1].chunk(2, dim=-1))) if return_state else y

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Stay float32 where other layers become 16 bits wide: no complex numbers are so small."""

        def wide(t: Tensor) -> Tensor:
            return new if (new := fn(t)).dtype.itemsize > 2 else t.to(new.device)

        return super()._apply(wide, recurse)

    def step(self, u: Tensor, delta: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Add one interaction in O(1): u (B, H), delta (B,) seconds, state (B, P)."""
        y, state = self(u[:, None], delta[:, None], state, return_state=True)  # with hooks
        return y[:, 0], state
