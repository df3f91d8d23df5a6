"""Dispatch both scans to a backend.

`diagonal_scan` is the recurrence of S5, `selective_scan` that of Mamba. `backend` is

* `"reference"`: a loop over time that reads like the paper; any device and dtype;
* `"numba"`: compiled loops, float32 (complex64) on the CPU;
* `"parallel"`: log-depth scan in plain PyTorch, any device and dtype, memory bounded by chunks;
* `"triton"`: fused kernels for CUDA in float32, and slowly on a CPU under TRITON_INTERPRET=1;
* `"mamba_ssm"`: the fused CUDA kernel of the package mamba-ssm; selective scan from an empty state;
* `"auto"`: numba on the CPU, triton on CUDA, else parallel; it never fails, and logs its choice.

On CUDA triton comes before mamba_ssm, which is taken only when it is named: Triton is part of every
CUDA build of PyTorch for Linux, and its kernels scan S5 too and continue from a state.

Under `torch.jit.trace`, `torch.export` and `torch.func`, which see PyTorch's operators only, `auto`
takes the reference; second derivatives are the reference's too, and as slow. A named backend that
does not apply raises RuntimeError. Checks look at shapes, dtypes and devices, never at values.
Glossary: (B, L, D, N) = batch, length, channels, states per channel; P = states of S5.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sysconfig
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ss4rec_lib.ssm.kernels import mamba_ssm, parallel, reference
from ss4rec_lib.ssm.kernels.reference import transformed

BACKENDS = ("auto", "reference", "numba", "parallel", "triton", "mamba_ssm")
OLDEST_TRITON = (3, 6)  # the version that torch 2.11 brings; older ones have not been tried

_log = logging.getLogger(__name__)


@cache
def _numba_kernels() -> tuple[ModuleType | None, str]:
    """Return the module of the numba backend, or None and the reason."""
    try:
        from ss4rec_lib.ssm.kernels import numba_loops
    except ImportError as error:  # numba is a dependency, but a broken install must not be fatal
        return None, f"{error}; install numba"
    return numba_loops, ""


@cache
def _without_triton() -> str:
    """Return why the triton backend cannot be loaded here; empty when it can."""
    try:
        import triton
    except ImportError as error:
        return f"{error}; CUDA builds of torch for Linux bring it, elsewhere use backend='parallel'"
    if tuple(map(int, triton.__version__.split(".")[:2])) < OLDEST_TRITON:
        oldest = ".".join(map(str, OLDEST_TRITON))
        return f"triton {triton.__version__} is too old, it needs {oldest} or newer"
    return ""


@cache
def _without_launcher() -> str:
    """Return why Triton cannot build the small C library that starts its kernels on a GPU."""
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "Triton needs a C compiler for its launcher: install gcc"
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")  # as Triton does
    header = Path(sysconfig.get_path("include", scheme), "Python.h")
    return (
        "" if header.is_file() else f"Triton needs {header} for its launcher: install python3-dev"
    )


def numba_available() -> bool:
    """Return True if the numba backend can be loaded here."""
    return _numba_kernels()[0] is not None


def numba_applies(backend: str, sample: Tensor) -> bool:
    """Return True if `backend` leaves a call to the compiled passes and they take its tensors."""
    given = "numba", "", sample.device, sample.dtype, False
    return backend in ("auto", "numba") and not _why_not(*given)


def irregular_kernels(backend: str, sample: Tensor) -> Any:
    """Return the module whose `irregular_scan` fuses S5's discretisation and scan, or None."""
    chosen = choose("diagonal_scan", backend, sample)
    if chosen == "numba":
        from ss4rec_lib.ssm.kernels import numba_s5 as kernels
    elif chosen == "triton":
        from ss4rec_lib.ssm.kernels import triton_s5 as kernels
    else:
        return None
    return kernels


def is_plain(*modules: nn.Module) -> bool:
    """Return True if using the weights of layers is the same as calling them.

    It is not for a subclass or wrapper (adapters, parametrisations, int8), with hooks (pruning), a
    `forward` of its own, a `max_norm`, or weights of a subclass of Tensor.
    """
    hooks = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
    return not nn.modules.module._has_any_global_hook() and all(
        type(m) in (nn.Linear, nn.Conv1d, nn.Embedding, nn.Sequential)
        and type(getattr(m, "weight", None)) in (Tensor, nn.Parameter, type(None))
        and getattr(m, "max_norm", None) is None
        and not any(vars(m)[name] for name in ("forward", *hooks) if name in vars(m))
        for m in modules
    )


@cache
def _log_once(operation: str, backend: str, device: str, dtype: torch.dtype) -> None:
    _log.info("%s on %s, %s: backend %r", operation, device, dtype, backend)


def asked_once(function: Any) -> Any:
    """Mark it as `torch.compiler.assume_constant_result` does: torch.compile does not look inside.

    Calling that would import torch._dynamo, which takes as long as importing the rest of torch.
    """
    function._dynamo_marked_constant = True
    return function


@asked_once
def _why_not(
    backend: str, operation: str, device: torch.device, dtype: torch.dtype, carries_state: bool
) -> str:
    """Return why a backend does not apply to this call; empty when it does."""
    if backend != "reference" and transformed():
        return "torch.jit.trace, torch.export and torch.func need backend='reference' or 'auto'"
    if backend == "numba":
        expected = torch.complex64 if dtype.is_complex else torch.float32
        if device.type != "cpu" or dtype != expected:
            return f"it takes {expected} on the CPU, not {dtype} on {device}"
        return _numba_kernels()[1]
    if backend == "triton":
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        if device.type not in ("cuda", "meta") and not interpreted:
            return f"it takes CUDA tensors, not tensors on {device}; use backend='auto'"
        if dtype in (torch.float64, torch.complex128):
            return f"it computes in float32 and does not take {dtype}"
        if device.type == "cuda" and torch.cuda.get_device_capability(device) < (7, 5):
            return f"the compute capability of {device} is below 7.5"
        return _without_triton() or (_without_launcher() if device.type == "cuda" else "")
    if backend == "mamba_ssm":
        if operation != "selective_scan":
            return "it has no diagonal scan; use backend='parallel'"
        if importlib.util.find_spec("mamba_ssm") is None:
            return f"the package mamba-ssm is missing; {mamba_ssm.HOW_TO_INSTALL}"
        if device.type != "cuda" or dtype == torch.float64:
            return f"it takes CUDA tensors below float64, not {dtype} on {device}"
        if carries_state:
            return "its kernel starts from an empty state; use backend='parallel' to continue one"
    return ""


def choose(operation: str, backend: str, sample: Tensor, carries_state: bool = False) -> str:
    """Return the backend of a call; raise RuntimeError if the one that is named can't do it."""
    return _choose(operation, backend, sample.device, sample.dtype, carries_state)


@asked_once
def _choose(
    operation: str, backend: str, device: torch.device, dtype: torch.dtype, carries_state: bool
) -> str:
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is unknown; choose one of {', '.join(BACKENDS)}")
    given = operation, device, dtype, carries_state
    if backend == "auto":
        order = ("triton" if device.type == "cuda" else "numba"), "parallel", "reference"
        backend = next(b for b in order if not _why_not(b, *given))
        _log_once(operation, backend, str(device), dtype)
    elif why_not := _why_not(backend, *given):
        raise RuntimeError(f"{operation}: backend {backend!r} is not available: {why_not}")
    return backend


def _kernels(operation: str, backend: str, sample: Tensor, carries_state: bool) -> Any:
    backend = choose(operation, backend, sample, carries_state)
    if backend == "triton":
        from ss4rec_lib.ssm.kernels import triton_mamba, triton_s5

        return triton_s5 if operation == "diagonal_scan" else triton_mamba
    modules = {"reference": reference, "parallel": parallel, "mamba_ssm": mamba_ssm}
    return modules.get(backend) or _numba_kernels()[0]


def check(
    name: str, tensor: Tensor, shape: tuple, meaning: str, beside: Tensor,
    dtype: torch.dtype | None = None,
) -> None:  # fmt: skip
    """Raise ValueError with the name of a tensor of another shape, device or dtype than expected.

    It has to be on the device of the tensor `beside` it.
    """
    if tensor.shape != shape:
        found, expected = tuple(tensor.shape), tuple(shape)
        raise ValueError(f"{name} has shape {found}, expected {meaning} = {expected}")
    if tensor.device != beside.device:
        raise ValueError(f"{name} is on {tensor.device}, expected {beside.device}")
    if dtype not in (None, tensor.dtype):
        raise ValueError(f"{name} has dtype {tensor.dtype}, expected {dtype}")


def diagonal_scan(
    a: Tensor, b: Tensor, initial_state: Tensor | None = None, *,
    return_state: bool = False, backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
    """Compute x_k = a_k x_{k-1} + b_k for every sequence and state (S5, arXiv 2208.04933, eq. 2).

    a (`Lambda_bar`) and b (`B_bar u`) are (B, L, P), real or complex, x_{-1} is (B, P), by default
    zeros. Return the states (B, L, P); with `return_state` also the last one, to continue from it.
    """
    if a.ndim != 3 or a.shape[1] == 0:
        raise ValueError(f"a has shape {tuple(a.shape)}, expected (B, L, P) with L >= 1")
    check("b", b, a.shape, "(B, L, P)", a, a.dtype)
    kernels = _kernels("diagonal_scan", backend, a, initial_state is not None)
    initial_state = a.new_zeros(a[:, 0].shape) if initial_state is None else initial_state
    check("initial_state", initial_state, a[:, 0].shape, "(B, P)", a)
    x = kernels.diagonal_scan(a, b, initial_state.to(a.dtype))
    return (x, x[:, -1].clone()) if return_state else x  # a copy, which does not keep all of x


def selective_scan(
    u: Tensor, Delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None,
    initial_state: Tensor | None = None, *, return_state: bool = False, backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
    """Compute the selective scan of Mamba (arXiv 2312.00752, algorithm 2), time before channels.

    x_k = exp(Delta_k A) x_{k-1} + Delta_k B_k u_k;  y_k = C_k x_k + D u_k. It mirrors
    `mamba_ssm.ops.selective_scan_interface.selective_scan_ref`, where u is (B, D, L), with
    `Delta` after its softplus. The numba backend refuses a positive entry of A.

    The input u and the steps Delta, not negative, are (B, L, D), A (D, N), B and C (B, L, N). D
    (D,) and the initial state (B, D, N) are zeros by default. Return y (B, L, D); with
    `return_state` also the last state, to continue from it.
    """
    if u.ndim != 3 or u.shape[1] == 0:
        raise ValueError(f"u has shape {tuple(u.shape)}, expected (B, L, D) with L >= 1")
    (batch, length, channels), N = u.shape, A.shape[-1]
    D = u.new_zeros(channels) if D is None else D
    check("Delta", Delta, u.shape, "(B, L, D)", u, u.dtype)
    check("A", A, (channels, N), "(D, N)", u, u.dtype)
    check("B", B, (batch, length, N), "(B, L, N)", u, u.dtype)
    check("C", C, (batch, length, N), "(B, L, N)", u, u.dtype)
    check("D", D, (channels,), "(D,)", u, u.dtype)
    kernels = _kernels("selective_scan", backend, u, initial_state is not None)
    if initial_state is not None:
        check("initial_state", initial_state, (batch, channels, N), "(B, D, N)", u)
        initial_state = initial_state.to(u.dtype)
    elif kernels is not mamba_ssm:
        initial_state = u.new_zeros(batch, channels, N)
    y, last = kernels.selective_scan(u, Delta, A, B, C, D, initial_state)
    return (y, last) if return_state else y
