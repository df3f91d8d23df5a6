"""The machine that a figure was measured on, its memory, and the versions of libraries."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def _entry(file: str, label: str) -> str | None:
    """Return what the first line with a label says in a file of Linux; None if there is none."""
    with contextlib.suppress(OSError, StopIteration), open(file, encoding="utf-8") as lines:
        return next(line for line in lines if line.startswith(label)).split(":", 1)[1].strip()
    return None


def peak_rss_bytes() -> int | None:
    """Return the largest resident memory of this process so far, in bytes; None if unknown."""
    # On Linux `ru_maxrss` of a new program begins with that of the process that started it.
    if own := _entry("/proc/self/status", "VmHWM:"):
        return int(own.split()[0]) * 1024  # the kernel writes KiB, as "kB"
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def available_memory() -> int | None:
    """Return the bytes that a new program can use, within a container's limit; None if unknown."""
    if (entry := _entry("/proc/meminfo", "MemAvailable:")) is None:
        return None
    free, group = int(entry.split()[0]) * 1024, Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # "max": this group has no limit
        limit, used = (int((group / f"memory.{n}").read_text()) for n in ("max", "current"))
        free = min(free, limit - used)
    return free


def describe_machine() -> dict[str, object]:
    """Return processor, usable cores and system; nothing that names a person or a host."""
    model = _entry("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": model, "cores": cores, "system": platform.system()}


def describe_versions(
    packages: tuple[str, ...] = ("torch", "numpy", "pandas", "numba", "s5-pytorch", "ss4rec-lab"),
) -> dict[str, str]:
    """Return the versions of Python and of those `packages` that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
