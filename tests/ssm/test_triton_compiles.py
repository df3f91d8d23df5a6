"""The triton kernels are compiled for GPUs that are not here, to the code that such a GPU runs."""

import os
import runpy
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="make test-triton installs it")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter takes the place of the compiler", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from ss4rec_lib.ssm.kernels import triton_mamba, triton_s5  # noqa: E402

RATES = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "gpu_rates.py"))
S5 = {"TILE": 32}
MAMBA = {"CHUNK": 16, "TILE": 16, "STATES": 32}
ONE = {"CHUNK": 16, "TILE": 1, "STATES": 1}
# Triton makes a constant of an integer that is 1.
KERNELS = {
    "irregular_forward": (triton_s5.irregular_forward, S5),
    "irregular_forward, L 1": (triton_s5.irregular_forward, S5 | {"length": 1}),
    "irregular_backward": (triton_s5.irregular_backward, S5),
    "irregular_backward, L 1": (triton_s5.irregular_backward, S5 | {"length": 1}),
    "irregular_backward, P 1": (triton_s5.irregular_backward, {"TILE": 1, "P": 1}),
    "diagonal_forward": (triton_s5.diagonal_forward, S5),
    "diagonal_forward, L 1": (triton_s5.diagonal_forward, S5 | {"length": 1}),
    "selective_forward": (triton_mamba.selective_forward, MAMBA | {"KEEP": False}),
    "selective_forward, saving": (triton_mamba.selective_forward, MAMBA | {"KEEP": True}),
    "selective_forward, L 1": (
        triton_mamba.selective_forward,
        MAMBA | {"KEEP": True, "length": 1},
    ),
    "selective_backward": (triton_mamba.selective_backward, MAMBA),
    "selective_backward, L 1": (triton_mamba.selective_backward, MAMBA | {"length": 1}),
    "selective_backward, D 1, N 1": (
        triton_mamba.selective_backward,
        ONE | {"channels": 1, "N": 1},
    ),
    "the rate of exponentials": (RATES["_loop"], {"EXPONENTIAL": True, "SIZE": 256}),
    "the rate of multiply-adds": (RATES["_loop"], {"EXPONENTIAL": False, "SIZE": 256}),
}
TYPES = dict.fromkeys(("length", "P", "channels", "N", "times"), "i32") | {"cycles": "*fp64"}


@pytest.mark.parametrize("capability", [75, 80, 90])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_compile(name, capability, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # nothing is ready
    kernel, constants = KERNELS[name]
    signature = {argument: TYPES.get(argument, "*fp32") for argument in kernel.arg_names}
    source = ASTSource(
        kernel, signature=signature | dict.fromkeys(constants, "constexpr"), constexprs=constants
    )
    options = {"num_warps": 1, "enable_fp_fusion": True}  # as in `triton_s5.launch`
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert f".target sm_{capability}" in compiled.asm["ptx"]
    assert len(compiled.asm["cubin"]) > 1000
