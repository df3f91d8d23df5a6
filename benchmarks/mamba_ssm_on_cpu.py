"""Import mamba-ssm's Python files on a machine without CUDA, nvcc or Triton.

What they are for: an independent reference on the CPU. Installing them there: benchmarks/README.md.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import NamedTuple
from unittest import mock


class MambaSSM(NamedTuple):
    """The two modules of mamba-ssm that run without a GPU."""

    interface: ModuleType  # mamba_ssm.ops.selective_scan_interface
    mamba_simple: ModuleType  # mamba_ssm.modules.mamba_simple

    @contextmanager
    def reference_scan(self):
        """`mamba_simple.Mamba(use_fast_path=False)` calls `selective_scan_ref` in this block."""
        reference = self.interface.selective_scan_ref
        with mock.patch.object(self.mamba_simple, "selective_scan_fn", reference):
            yield


@cache
def import_mamba_ssm() -> MambaSSM:
    """Import mamba-ssm's Python files where its CUDA extension and Triton are absent.

    The package's own `__init__` imports everything; an empty package of that name, pointing at the
    same folder, lets the two files that matter be imported alone. `selective_scan_cuda` and one
    Triton file, needed by name only, are replaced while they are imported.

    Raises:
        ImportError: mamba-ssm, or einops that it needs, is not installed.
    """
    found = importlib.util.find_spec("mamba_ssm")
    if found is None or not found.submodule_search_locations:
        raise ImportError("No module named 'mamba_ssm'")
    package = ModuleType("mamba_ssm")
    package.__path__ = list(found.submodule_search_locations)
    layer_norm = ModuleType("mamba_ssm.ops.triton.layer_norm")
    names = ("_layer_norm_fwd", "RMSNorm", "layer_norm_fn", "rms_norm_fn")
    vars(layer_norm).update(dict.fromkeys(names))
    stubs = {"mamba_ssm": package, layer_norm.__name__: layer_norm}
    if importlib.util.find_spec("selective_scan_cuda") is None:
        stubs["selective_scan_cuda"] = ModuleType("selective_scan_cuda")
    sys.modules.update(stubs)
    try:
        return MambaSSM(
            importlib.import_module("mamba_ssm.ops.selective_scan_interface"),
            importlib.import_module("mamba_ssm.modules.mamba_simple"),
        )
    finally:  # whoever looks for the real package must not find the empty one
        for name in [name for name in sys.modules if name.partition(".")[0] == "mamba_ssm"]:
            del sys.modules[name]
        if "selective_scan_cuda" in stubs:
            del sys.modules["selective_scan_cuda"]
