"""Parity with the published layers, from arrays that the real packages computed.

What the arrays are, and which versions made them: tests/fixtures/README.md. Differences are taken
relative to the largest entry of the array in question: 1e-5 in float32, 1e-10 in float64.
"""

import json
import os
import sys
import tomllib
from itertools import chain
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from ss4rec_lib.ssm import BACKENDS, S5, Mamba, selective_scan
from ss4rec_lib.ssm.kernels import mamba_ssm, reference

FIXTURES = Path(__file__).parent.parent / "fixtures"
TOLERANCE = {"": 1e-5, "float64.": 1e-10}  # by the prefix of the keys
DTYPE = {"": torch.float32, "float64.": torch.float64}
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # `make test-triton`
# The others have to run here, in float32 at least.
NEEDS_CUDA = {"mamba_ssm"} if INTERPRETED else {"mamba_ssm", "triton"}

backends = pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "auto"])
precisions = pytest.mark.parametrize("prefix", ["", "float64."], ids=["float32", "float64"])


def fixture(name: str) -> dict[str, torch.Tensor]:
    with np.load(FIXTURES / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays if key != "about"}


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float, name: str):
    difference = (found.detach().cpu() - expected).abs().max() / expected.abs().max()
    assert difference <= tolerance, f"{name}: {difference:.1e} of its largest entry"


def weighted_sum(output: torch.Tensor) -> torch.Tensor:
    """The scalar function whose gradients the fixtures hold: sum(output * (cos 0, cos 1, ...))."""
    weights = torch.cos(torch.arange(output.numel(), dtype=torch.float64)).view(output.shape)
    return (output * weights.to(output)).sum()


def run(backend: str, prefix: str, call):
    """`call(device)`, or a skip that gives the library's own reason."""
    device = "cuda" if backend in NEEDS_CUDA and torch.cuda.is_available() else "cpu"
    try:
        return call(device)
    except RuntimeError as error:
        optional = backend in NEEDS_CUDA or (backend in ("numba", "triton") and prefix)
        if not optional or "is not available" not in str(error):
            raise
        pytest.skip(str(error))


# ------------------------------------------------------------------------------- selective scan


@backends
@precisions
def test_selective_scan_equals_selective_scan_ref(backend, prefix):
    arrays, dtype, tolerance = fixture("mamba_ssm_selective_scan"), DTYPE[prefix], TOLERANCE[prefix]
    timed = {"u", "delta", "B", "C"}  # (B, channels, L) there, (B, L, channels) here

    def call(device):
        given = [
            (arrays[key].swapaxes(1, 2) if key in timed else arrays[key])
            .to(device, dtype)
            .contiguous()
            .requires_grad_()
            for key in ("u", "delta", "A", "B", "C", "D")
        ]
        return given, *selective_scan(*given, return_state=True, backend=backend)

    given, y, last = run(backend, prefix, call)
    assert_close(y, arrays[f"{prefix}out"].swapaxes(1, 2), tolerance, "out")
    assert_close(last, arrays[f"{prefix}last_state"], tolerance, "last_state")
    weighted_sum(y.swapaxes(1, 2)).backward()
    for key, tensor in zip(("u", "delta", "A", "B", "C", "D"), given, strict=True):
        expected = arrays[f"{prefix}grad.{key}"]
        expected = expected.swapaxes(1, 2) if key in timed else expected
        assert_close(tensor.grad, expected, tolerance, f"gradient of {key}")


# ----------------------------------------------------------------------------------- Mamba block


def published_state(arrays: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key[6:]: value for key, value in arrays.items() if key.startswith("state.")}


def test_state_dicts_of_mamba_go_both_ways():
    published = published_state(fixture("mamba_ssm_block"))
    block = Mamba(16, d_state=8, d_conv=4, expand=2)
    ours = block.state_dict()
    # What `load_state_dict(strict=True)` of the published module asks for: names and shapes.
    assert list(ours) == list(published)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in published.items()}
    assert {v.dtype for v in ours.values()} == {v.dtype for v in published.values()}
    block.load_state_dict(published, strict=True)
    assert all(torch.equal(block.state_dict()[name], published[name]) for name in published)


@backends
@precisions
def test_mamba_equals_mamba_simple(backend, prefix):
    arrays, dtype, tolerance = fixture("mamba_ssm_block"), DTYPE[prefix], TOLERANCE[prefix]
    block = Mamba(16, d_state=8, d_conv=4, expand=2, backend=backend)
    block.load_state_dict(published_state(arrays), strict=True)

    def call(device):
        x = arrays["input"].to(device, dtype).requires_grad_()
        return x, block.to(device, dtype)(x)

    x, output = run(backend, prefix, call)
    assert_close(output, arrays[f"{prefix}output"], tolerance, "output")
    weighted_sum(output).backward()
    assert_close(x.grad, arrays[f"{prefix}grad.input"], tolerance, "gradient of the input")
    for name, parameter in block.named_parameters():
        expected = arrays[f"{prefix}grad.{name}"]
        assert_close(parameter.grad, expected, tolerance, f"gradient of {name}")


def test_mamba_step_by_step_equals_mamba_simple():
    arrays = fixture("mamba_ssm_block")
    block = Mamba(16, d_state=8, d_conv=4, expand=2)
    block.load_state_dict(published_state(arrays), strict=True)
    state, outputs = block.initial_state(2), []
    with torch.no_grad():
        for x in arrays["input"].unbind(1):
            y, state = block.step(x, state)
            outputs.append(y)
    assert_close(torch.stack(outputs, 1), arrays["output"], 1e-5, "output")


# -------------------------------------------------------------------------------------------- S5


def s5_like(published: dict[str, torch.Tensor], **options) -> S5:
    """Our layer with the parameters of s5-pytorch's."""
    states, width = published["seq.B"].shape[:2]
    layer = S5(width, states, **options)
    Lambda = published["seq.Lambda"]
    with torch.no_grad():
        layer.Lambda_im.copy_(Lambda.imag)
        if layer.unconstrained:
            layer.Lambda_re.copy_(Lambda.real)
        else:
            layer.log_neg_Lambda_re.copy_(torch.log(-Lambda.real))
        layer.C.copy_(torch.view_as_real(published["seq.C"]))
        for name in ("B", "D", "log_step"):
            getattr(layer, name).copy_(published[f"seq.{name}"])
    return layer


@backends
@precisions
@pytest.mark.parametrize("rule", ["zoh", "bilinear"])
def test_s5_equals_s5_pytorch_at_irregular_intervals(backend, prefix, rule):
    arrays, dtype, tolerance = fixture("s5_irregular"), DTYPE[prefix], TOLERANCE[prefix]
    assert (arrays["step_scale"] == 0).any() and (arrays["step_scale"] == 1e6).any()
    layer = s5_like(
        published_state(arrays), unconstrained=True, discretization=rule, backend=backend
    )

    def call(device):
        u = arrays["input"].to(device, dtype).requires_grad_()
        return u, layer.to(device, dtype)(u, arrays["step_scale"].to(device, dtype))

    u, output = run(backend, prefix, call)
    key = prefix + ("bilinear." if rule == "bilinear" else "")
    assert_close(output, arrays[f"{key}output"], tolerance, "output")
    weighted_sum(output).backward()
    Lambda = arrays[f"{key}grad.seq.Lambda"]
    pairs = {
        "input": (u.grad, arrays[f"{key}grad.input"]),
        "Re(Lambda)": (layer.Lambda_re.grad, Lambda.real),
        "Im(Lambda)": (layer.Lambda_im.grad, Lambda.imag),
        "C": (layer.C.grad, torch.view_as_real(arrays[f"{key}grad.seq.C"])),
    }
    for name in ("B", "D", "log_step"):
        pairs[name] = (getattr(layer, name).grad, arrays[f"{key}grad.seq.{name}"])
    for name, (found, expected) in pairs.items():
        assert_close(found, expected, tolerance, f"gradient of {name}")


def test_s5_with_re_lambda_kept_negative_is_the_same_function():
    arrays = fixture("s5_irregular")
    layer = s5_like(published_state(arrays)).double()
    with torch.no_grad():  # the logarithm was taken in float32: take it again
        layer.log_neg_Lambda_re.copy_(torch.log(-arrays["state.seq.Lambda"].real.double()))
    output = layer(arrays["input"].double(), arrays["step_scale"].double())
    assert_close(output, arrays["float64.output"], 1e-10, "output")


# ------------------------------------------------------------- calling convention of mamba_ssm


def stand_in(called: list[dict]) -> ModuleType:
    """A module whose `selective_scan_fn` has the real one's signature and our reference inside."""
    signature = json.loads((FIXTURES / "mamba_ssm_signature.json").read_text())["selective_scan_fn"]

    def compute(given: dict):
        called.append(given)
        u, delta = given["u"].swapaxes(1, 2), given["delta"].swapaxes(1, 2)
        B, C = given["B"].swapaxes(1, 2), given["C"].swapaxes(1, 2)
        zeros = torch.zeros(u.shape[0], *given["A"].shape, dtype=u.dtype)
        y, last = reference.selective_scan(u, delta, given["A"], B, C, given["D"], zeros)
        out = y.swapaxes(1, 2)
        return (out, last) if given["return_last_state"] else out

    namespace = {"compute": compute}
    exec(f"def selective_scan_fn{signature}:\n    return compute(locals())", namespace)
    module = ModuleType("mamba_ssm.ops.selective_scan_interface")
    module.selective_scan_fn = namespace["selective_scan_fn"]
    return module


def test_the_mamba_ssm_backend_calls_the_real_signature(monkeypatch):
    called = []
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    module = stand_in(called)
    monkeypatch.setitem(sys.modules, module.__name__, module)

    arrays = fixture("mamba_ssm_selective_scan")
    u, Delta, B, C = (arrays[key].swapaxes(1, 2) for key in ("u", "delta", "B", "C"))
    y, last = mamba_ssm.selective_scan(u, Delta, arrays["A"], B, C, arrays["D"], None)

    (given,) = called
    for key in ("u", "delta", "A", "B", "C", "D"):  # the real one's layout, value for value
        assert torch.equal(given[key], arrays[key]), key
    assert given["z"] is None and given["delta_bias"] is None
    assert given["delta_softplus"] is False  # Delta has had its softplus already
    assert_close(y, arrays["out"].swapaxes(1, 2), 1e-5, "out")
    assert_close(last, arrays["last_state"], 1e-5, "last_state")


def test_the_recorded_versions_are_those_that_the_library_is_tested_with():
    root = FIXTURES.parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    ranges = {requirement.name: requirement.specifier for requirement in map(Requirement, lines)}
    locked = (root / "requirements.lock").read_text()
    for path in sorted(FIXTURES.glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            made_by = json.loads(str(arrays["about"]))
        packages = made_by.keys() & {"mamba-ssm", "s5-pytorch", "scikit-surprise"}
        assert packages, path.name
        for package in packages:
            version = made_by[package]
            assert ranges[package].contains(version), (path.name, package, version)
            if f"\n{package}==" in locked:
                assert f"\n{package}=={version} " in locked, (path.name, package, version)
    assert sum(path.stat().st_size for path in FIXTURES.glob("*.npz")) < 450_000


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["auto", "mamba_ssm"])
def test_on_a_gpu_mamba_equals_the_real_one(backend):
    """`mamba_ssm.Mamba` itself, at the sizes of training, with its CUDA kernels."""
    real = pytest.importorskip("mamba_ssm").Mamba
    torch.manual_seed(0)
    theirs = real(64, d_state=32, d_conv=4, expand=2, device="cuda")
    ours = Mamba(64, d_state=32, d_conv=4, expand=2, backend=backend).cuda()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x, found = torch.randn(4, 200, 64), []
    for block in (theirs, ours):
        given = x.cuda().requires_grad_()
        output = block(given)
        weighted_sum(output).backward()
        gradients = {name: p.grad.cpu() for name, p in block.named_parameters()}
        found.append({"output": output.detach().cpu(), "x": given.grad.cpu()} | gradients)
    for name, expected in found[0].items():  # its exponentials are the fast ones of CUDA
        assert_close(found[1][name], expected, 1e-4, name)
