"""The contenders: this library's backends and the public packages, behind one calling convention.

`contenders(operation)` names them; `build(operation, contender, sizes)` gives a `Call` whose `run`
is one forward pass, on the same random numbers and parameters for every contender, laid out in
memory as that contender wants them. A peer that is not installed is not an error: `build` raises
`Missing`, which says why; benchmarks/README.md says how to install it.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple
from unittest import mock

import torch
from mamba_ssm_on_cpu import import_mamba_ssm
from torch import Tensor
from torch.nn import functional as F


class Missing(Exception):
    """A contender that cannot run here; the message says why."""


class Call(NamedTuple):
    """One contender, ready to be timed."""

    run: Callable[[], Tensor]  # forward; any layout
    view: Callable[[Tensor], Tensor]  # its output as (B, L, ...), to compare contenders
    leaves: dict[str, Tensor]  # what gets a gradient; equal names mean equal quantities


# -------------------------------------------------------------------------------- selective scan


def _numbers(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _scan_inputs(B: int, L: int, D: int, N: int) -> dict[str, Tensor]:
    """Inputs as they are after a few epochs: steps around 0.1, A from -1 to -N."""
    g = _numbers()
    return {
        "u": torch.randn(B, L, D, generator=g),
        "Delta": F.softplus(torch.randn(B, L, D, generator=g) - 2),
        "A": -torch.arange(1.0, N + 1).repeat(D, 1),
        "B": torch.randn(B, L, N, generator=g),
        "C": torch.randn(B, L, N, generator=g),
        "D": torch.randn(D, generator=g),
    }


def _associative_scan(a: Tensor, b: Tensor) -> Tensor:
    """PyTorch's own operator, uncompiled, on x -> a x + b along dimension 1."""
    from torch._higher_order_ops import associative_scan

    def compose(first, then):
        return then[0] * first[0], then[0] * first[1] + then[1]

    return associative_scan(compose, (a, b), dim=1, combine_mode="generic")[1]


def _selective_scan_by_torch(u, Delta, A, B, C, D, state=None, *, return_state=False, **_):
    x = _associative_scan(torch.exp(Delta[..., None] * A), (Delta * u)[..., None] * B[:, :, None])
    y = torch.einsum("bldn,bln->bld", x, C) + D * u
    return (y, x[:, -1]) if return_state else y


def _identity(output: Tensor) -> Tensor:
    return output


def _selective_scan(contender: str, sizes: dict[str, int], device: str) -> Call:
    leaves = {name: t.to(device) for name, t in _scan_inputs(**sizes).items()}
    view = _identity
    if contender.startswith("ours "):
        from ss4rec_lib.ssm import selective_scan

        backend = contender.removeprefix("ours ")

        def run():
            return selective_scan(**leaves, backend=backend)

    elif contender == "torch associative_scan":

        def run():
            return _selective_scan_by_torch(**leaves)

    elif contender == "mambapy":
        scan = _mambapy().MambaBlock.selective_scan  # a method that never looks at self

        def run():
            return scan(None, *leaves.values())

    else:
        reference = import_mamba_ssm().interface.selective_scan_ref
        for name in ("u", "Delta", "B", "C"):  # channels before time
            leaves[name] = leaves[name].transpose(1, 2).contiguous()

        def run():
            return reference(*leaves.values())

        def view(y):
            return y.transpose(1, 2)

    return Call(run, view, {name: leaf.requires_grad_() for name, leaf in leaves.items()})


# ------------------------------------------------------------------------------------ the layers


def _mambapy() -> ModuleType:
    return importlib.import_module("mambapy.mamba")


def _call_of(module: torch.nn.Module, x: Tensor, run: Callable[[], Tensor]) -> Call:
    leaves = {"input": x.requires_grad_(), **dict(module.named_parameters())}
    return Call(run, _identity, {name.removeprefix("seq."): t for name, t in leaves.items()})


def _mamba(contender: str, sizes: dict[str, int], device: str) -> Call:
    from ss4rec_lib.ssm import Mamba, mamba

    B, L, d_model, N = (sizes[name] for name in ("B", "L", "d_model", "N"))
    torch.manual_seed(0)
    ours = Mamba(d_model, d_state=N).to(device)
    x = torch.randn(B, L, d_model, generator=_numbers()).to(device)
    if contender.startswith("ours "):
        ours.backend = contender.removeprefix("ours ")
        return _call_of(ours, x, lambda: ours(x))
    if contender == "torch associative_scan":
        ours.backend = "parallel"  # the compiled pass would never call a scan

        def run():
            with mock.patch.object(mamba, "selective_scan", _selective_scan_by_torch):
                return ours(x)

        return _call_of(ours, x, run)
    if contender == "mambapy":
        package = _mambapy()
        block = package.MambaBlock(package.MambaConfig(d_model=d_model, n_layers=1, d_state=N))
        block.load_state_dict(ours.state_dict())
        return _call_of(block, x, lambda: block(x))
    package = import_mamba_ssm()
    block = package.mamba_simple.Mamba(d_model, d_state=N, use_fast_path=False)
    block.load_state_dict(ours.state_dict())

    def run():
        with package.reference_scan():
            return block(x)

    return _call_of(block, x, run)


def _s5(contender: str, sizes: dict[str, int], device: str) -> Call:
    from ss4rec_lib.ssm import S5

    B, L, P, H = (sizes[name] for name in ("B", "L", "P", "H"))
    torch.manual_seed(0)
    ours = S5(H, P, unconstrained=True)  # the parameters of s5-pytorch
    u = torch.randn(B, L, H, generator=_numbers())
    delta = 10 ** (6 * torch.rand(B, L, generator=_numbers(1)))  # seconds, up to 12 days
    delta[torch.rand(B, L, generator=_numbers(2)) < 0.4] = 0  # ties
    ours, u, delta = ours.to(device), u.to(device), delta.to(device)
    if contender.startswith("ours "):
        ours.backend = contender.removeprefix("ours ")
        return _call_of(ours, u, lambda: ours(u, delta))
    if contender == "torch associative_scan":

        def run():
            Lambda_bar, scale = ours.discretize(delta)
            B_u = (u + 0j) @ torch.view_as_complex(ours.B).T  # the factored input, as ours
            x = _associative_scan(Lambda_bar, scale * B_u)
            return (x @ torch.view_as_complex(ours.C).T).real + ours.D * u

        return _call_of(ours, u, run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from s5 import S5 as PublicS5
    public = PublicS5(H, state_width=P)
    with torch.no_grad():
        public.seq.Lambda.copy_(ours.Lambda)
        public.seq.C.copy_(torch.view_as_complex(ours.C))
        for name in ("B", "D", "log_step"):
            getattr(public.seq, name).copy_(getattr(ours, name))
    return _call_of(public, u, lambda: public(u, step_scale=delta))


# ------------------------------------------------------------------------------------- one door

_BUILDERS = {"selective_scan": _selective_scan, "mamba": _mamba, "s5": _s5}
_PEERS = {
    "selective_scan": ("mamba_ssm selective_scan_ref", "mambapy", "torch associative_scan"),
    "mamba": ("mamba_ssm, reference scan", "mambapy", "torch associative_scan"),
    "s5": ("s5-pytorch", "torch associative_scan"),
}


def contenders(operation: str) -> list[str]:
    """Names, ours first; `ours reference` is the plain PyTorch loop."""
    from ss4rec_lib.ssm import BACKENDS

    return [f"ours {name}" for name in BACKENDS if name != "auto"] + list(_PEERS[operation])


def build(operation: str, contender: str, sizes: dict[str, int], device: str = "cpu") -> Call:
    """Prepare one contender.

    Args:
        operation: `selective_scan` (sizes B, L, D, N), `mamba` (B, L, d_model, N) or
            `s5` (B, L, P, H).
        contender: One of `contenders(operation)`.
        sizes: As named above.
        device: Where it runs; the public peers are measured on the CPU only.

    Raises:
        Missing: It cannot run here.
    """
    try:
        call = _BUILDERS[operation](contender, sizes, device)
        if contender.startswith("ours "):  # an unavailable backend says so when it is called
            with torch.no_grad():
                _BUILDERS[operation](contender, sizes | {"B": 1, "L": 2}, device).run()
    except ImportError as error:
        raise Missing(str(error)) from error
    except RuntimeError as error:
        if "is not available" not in str(error):
            raise
        raise Missing(str(error)) from error
    return call
