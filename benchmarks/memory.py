"""Peak memory of one call in a process of its own."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path

import ss4rec_lib  # noqa: F401  before torch: it tells OpenMP how to wait

# isort: split
import torch
from peers import build
from timing import once


def _peak_bytes() -> int:
    """Largest resident set so far.

    On Linux of this process image alone: `ru_maxrss` starts from what the parent used before it
    became this process.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _reset_peak() -> None:
    """Let the peak start again from what is resident now, where the system can."""
    gc.collect()
    # Memory that a warm-up freed would otherwise be reused without being counted. Only glibc has
    # this function.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(operation: str, contender: str, sizes: dict[str, int]) -> int:
    """Bytes that forward and backward add to this process; for a fresh process only.

    Imports, compilation and inputs come before the baseline; a small call has warmed everything.
    """
    once(build(operation, contender, sizes | {"B": 2, "L": 16}), "forward+backward")
    call = build(operation, contender, sizes)
    _reset_peak()
    before = _peak_bytes()
    once(call, "forward+backward")
    return max(0, _peak_bytes() - before)


def peak_memory_in_a_fresh_process(
    operation: str, contender: str, sizes: dict[str, int]
) -> int | None:
    """`peak_memory` in a new interpreter; None if that one did not survive."""
    question = json.dumps([operation, contender, sizes])
    command = [sys.executable, __file__, question, str(torch.get_num_threads())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else None


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    print(peak_memory(*json.loads(sys.argv[1])))
