"""One door to the two scans; behind it, one kernel file a backend.

`diagonal_scan` is the recurrence of S5, `selective_scan` that of Mamba. `backend` is

* `"reference"`: a loop over time that reads like the paper; any device and dtype;
* `"numba"`: compiled loops, float32/complex64 on the CPU;
* `"auto"`: numba where it applies, the reference elsewhere. It never fails, and says once, through
  `logging`, what it chose.

Glossary: (B, L, D, N) = batch, length, channels, states a channel; P = states of S5.
"""

from __future__ import annotations

import logging
from functools import cache, lru_cache

import torch
from torch import Tensor

from ss4rec_lib.ssm.kernels import reference

BACKENDS = ("auto", "reference", "numba")

_log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def _numba_kernels():
    """The numba backend's module, or the reason why it cannot be had."""
    try:
        from ss4rec_lib.ssm.kernels import numba_cpu
    except ImportError as error:  # numba is a dependency, but a broken install must not be fatal
        return None, str(error)
    return numba_cpu, ""


@cache
def _say_once(operation: str, backend: str, device: str, dtype: torch.dtype) -> None:
    _log.info("%s on %s, %s: backend %r", operation, device, dtype, backend)


def _kernels(operation: str, backend: str, sample: Tensor, supported: torch.dtype):
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is unknown; choose one of {', '.join(BACKENDS)}")
    numba_cpu, why_not = _numba_kernels()
    if numba_cpu is not None and (sample.device.type != "cpu" or sample.dtype != supported):
        why_not = f"it takes {supported} on the CPU, not {sample.dtype} on {sample.device}"
    if backend == "numba" and why_not:
        raise RuntimeError(
            f"{operation}: backend 'numba' is not available: {why_not}. "
            "Install numba, convert the input, or use backend='auto'."
        )
    chosen = backend if backend != "auto" else ("reference" if why_not else "numba")
    if backend == "auto":
        _say_once(operation, chosen, str(sample.device), sample.dtype)
    return reference if chosen == "reference" else numba_cpu


def _check_shape(name: str, tensor: Tensor, expected: tuple[int, ...], meaning: str) -> None:
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {meaning} = {expected}")


def diagonal_scan(
    a: Tensor,
    b: Tensor,
    initial_state: Tensor | None = None,
    *,
    return_state: bool = False,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """x_k = a_k x_{k-1} + b_k for every sequence and state (S5, arXiv 2208.04933, eq. 2).

    Args:
        a: Multipliers (`Lambda_bar`), (B, L, P), real or complex.
        b: Inputs (`B_bar u`), (B, L, P), dtype of `a`.
        initial_state: x_{-1}, (B, P); zeros when None.
        return_state: Also return the last state, to continue from it.
        backend: See the module's docstring.

    Returns:
        States (B, L, P); with `return_state` also the last one, (B, P).

    Raises:
        ValueError: A shape or dtype that does not fit, an empty sequence, an unknown backend.
        RuntimeError: A backend asked for by name that is not available.
    """
    if a.ndim != 3 or a.shape[1] == 0:
        raise ValueError(f"a has shape {tuple(a.shape)}, expected (B, L, P) with L >= 1")
    batch, _, states = a.shape
    _check_shape("b", b, tuple(a.shape), "(B, L, P)")
    if b.dtype != a.dtype:
        raise ValueError(f"b has dtype {b.dtype}, expected that of a, {a.dtype}")
    if initial_state is None:
        initial_state = a.new_zeros(batch, states)
    _check_shape("initial_state", initial_state, (batch, states), "(B, P)")
    dtype = torch.complex64 if a.is_complex() else torch.float32
    kernels = _kernels("diagonal_scan", backend, a, dtype)
    x, last = kernels.diagonal_scan(a, b, initial_state.to(a.dtype))
    return (x, last) if return_state else x


def selective_scan(
    u: Tensor,
    Delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
    *,
    return_state: bool = False,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Mamba's selective scan (arXiv 2312.00752, algorithm 2), time before channels.

    x_k = exp(Delta_k A) x_{k-1} + Delta_k B_k u_k;  y_k = C_k x_k + D u_k. It mirrors
    `mamba_ssm.ops.selective_scan_interface.selective_scan_ref`, where u is (B, D, L), with
    `Delta` after its softplus.

    Args:
        u: Input, (B, L, D).
        Delta: Step sizes, not negative, (B, L, D).
        A: Continuous state matrix, not positive, (D, N).
        B: Input projection, (B, L, N).
        C: Output projection, (B, L, N).
        D: Skip weight, (D,); zeros when None.
        initial_state: (B, D, N); zeros when None.
        return_state: Also return the last state, to continue from it.
        backend: See the module's docstring.

    Returns:
        y, (B, L, D); with `return_state` also the last state, (B, D, N).

    Raises:
        ValueError: A shape or dtype that does not fit, a positive A, an unknown backend.
        RuntimeError: A backend asked for by name that is not available.
    """
    if u.ndim != 3 or u.shape[1] == 0:
        raise ValueError(f"u has shape {tuple(u.shape)}, expected (B, L, D) with L >= 1")
    batch, length, channels = u.shape
    if A.ndim != 2 or A.shape[0] != channels:
        raise ValueError(f"A has shape {tuple(A.shape)}, expected (D, N) with D = {channels}")
    N = A.shape[1]
    if D is None:
        D = u.new_zeros(channels)
    if initial_state is None:
        initial_state = u.new_zeros(batch, channels, N)
    _check_shape("Delta", Delta, tuple(u.shape), "(B, L, D)")
    _check_shape("B", B, (batch, length, N), "(B, L, N)")
    _check_shape("C", C, (batch, length, N), "(B, L, N)")
    _check_shape("D", D, (channels,), "(D,)")
    _check_shape("initial_state", initial_state, (batch, channels, N), "(B, D, N)")
    for name, tensor in (("Delta", Delta), ("A", A), ("B", B), ("C", C), ("D", D)):
        if tensor.dtype != u.dtype:
            raise ValueError(f"{name} has dtype {tensor.dtype}, expected that of u, {u.dtype}")
    if (A.detach() > 0).any():
        raise ValueError(
            f"A has a positive entry ({A.max().item():g}): the state would grow without bound; "
            "expected A <= 0, as in A = -exp(A_log)"
        )
    kernels = _kernels("selective_scan", backend, u, torch.float32)
    y, last = kernels.selective_scan(u, Delta, A, B, C, D, initial_state.to(u.dtype))
    return (y, last) if return_state else y
