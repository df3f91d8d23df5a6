"""The machine that a figure was measured on, its memory, and the versions of libraries."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def peak_rss_bytes() -> int | None:
    """Return the largest resident memory of this process so far, in bytes; None if unknown."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        # On Linux `ru_maxrss` of a new program begins with that of the process that started it.
        with open("/proc/self/status", encoding="utf-8") as lines:
            line = next(line for line in lines if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024  # the kernel writes KiB, as "kB"
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def available_memory() -> int | None:
    """Return the bytes that a new program can use, within a container's limit; None if unknown."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        with open("/proc/meminfo", encoding="utf-8") as lines:
            line = next(line for line in lines if line.startswith("MemAvailable:"))
        free = int(line.split()[1]) * 1024
        with contextlib.suppress(OSError, ValueError):  # "max": this group has no limit
            limit, used = (
                int(Path("/sys/fs/cgroup", name).read_text())
                for name in ("memory.max", "memory.current")
            )
            free = min(free, limit - used)
        return free
    return None


def describe_machine() -> dict[str, object]:
    """Return processor, usable cores and system; nothing that names a person or a host."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": model, "cores": cores, "system": platform.system()}


def describe_versions(
    packages: tuple[str, ...] = ("torch", "numpy", "pandas", "numba", "s5-pytorch", "ss4rec-lab"),
) -> dict[str, str]:
    """Return the versions of Python and of those `packages` that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
