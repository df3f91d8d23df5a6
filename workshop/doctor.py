"""Check in under ten seconds whether a machine is ready for the lessons: `ss4rec doctor`.

Only the standard library is imported at the top, and nothing is newer than Python 3.9, so that
`python3 -m workshop.doctor` in a checkout also answers where nothing is installed.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ss4rec_lib.machine import available_memory, describe_machine, describe_versions

ROOT = Path(__file__).resolve().parents[1]
OK, WARNING, FAILURE = "ok", "warning", "FAILED"
OLDEST = (3, 11)  # Python, as in pyproject.toml
DISK, MEMORY = 1.0, 2.0  # GiB that must be free: for outputs; for lesson 04 and a browser
KERNEL_SECONDS = 20  # longest wait for a kernel
SPEED_SECONDS = 0.017  # `_speed` on the machine that the times of the lessons come from
INSTALL = 'make run, or: pip install -c requirements.lock -e ".[notebooks]"'


class Finding(NamedTuple):
    """Result of one check."""

    state: str
    text: str
    remedy: str = ""


def check_python() -> Finding:
    """Compare the version of Python with the oldest that the dependencies accept."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= OLDEST:
        return Finding(OK, found)
    return Finding(FAILURE, f"{found} is too old", "install Python 3.11 or newer; make run")


def check_packages(root: Path = ROOT) -> Finding:
    """Compare what the library and the lessons need, and what that needs, with the lock file."""
    try:
        wanted, ranges = locked(root)
    except FileNotFoundError:
        return Finding(WARNING, "not compared: requirements.lock is not beside the package")
    found, wrong, other = describe_versions(tuple(wanted)), [], []
    for name, pinned in wanted.items():
        here = found.get(name, "").partition("+")[0]  # 2.13.0+cpu is a build of 2.13.0
        if not here:
            wrong.append(f"{name} is missing")
        elif here != pinned:
            fits = name not in ranges or ranges[name].contains(here, prereleases=True)
            (other if fits else wrong).append(f"{name} {here} instead of {pinned}")
    if wrong:
        return Finding(FAILURE, f"{len(wrong)} of {len(wanted)}: {'; '.join(wrong[:6])}", INSTALL)
    if other:
        text = f"{len(other)} of {len(wanted)} differ from the lock: {'; '.join(other[:3])}"
        return Finding(WARNING, text, f"last digits may differ; for the locked versions: {INSTALL}")
    return Finding(OK, f"{len(wanted)} as in requirements.lock")


def locked(root: Path) -> tuple[dict[str, str], Mapping[Any, Any]]:
    """Return the locked versions of all that is needed, and the ranges of direct dependencies."""
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["notebooks"]]
    ranges = {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}
    versions, parents = {}, {}
    for line in (root / "requirements.lock").read_text(encoding="utf-8").splitlines():
        text, _, via = line.partition("  # via ")
        if via and ((entry := Requirement(text)).marker is None or entry.marker.evaluate()):
            name = canonicalize_name(entry.name)
            versions[name] = str(entry.specifier).removeprefix("==")
            parents[name] = set(re.findall(r"[\w.-]+", via))
    needed = set(ranges)
    while more := {name for name in versions if parents[name] & needed} - needed:
        needed |= more
    return {name: versions[name] for name in sorted(needed & set(versions))}, ranges


def check_disk(root: Path = ROOT) -> Finding:
    """Write a file beside the lessons, and compare the free space with what a run needs."""
    try:
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(bytes(1 << 20))
    except OSError as error:
        text = f"nothing can be written to {root}: {error.strerror}"
        return Finding(FAILURE, text, "free some space, or copy the folder to a place of your own")
    free = shutil.disk_usage(root).free / 2**30
    remedy = f"free some: {DISK:.0f} GiB is needed" if free < DISK else ""
    return Finding(FAILURE if remedy else OK, f"{free:.1f} GiB free", remedy)


def check_memory() -> Finding:
    """Compare the memory that is available now with what a lesson and a browser need."""
    available = available_memory()
    if available is None:
        return Finding(OK, "not known on this system; a machine with 4 GiB has enough")
    free = available / 2**30
    if free >= MEMORY:
        return Finding(OK, f"{free:.1f} GiB available")
    remedy = f"close other programs and notebooks: {MEMORY:.0f} GiB are needed"
    return Finding(WARNING if free >= MEMORY / 2 else FAILURE, f"{free:.1f} GiB available", remedy)


def check_cores() -> Finding:
    """Count the cores that this process may use."""
    cores = describe_machine()["cores"]
    if cores == 1:
        return Finding(WARNING, "1", "lessons take about twice as long; give the machine two cores")
    limits = [f"{n}={v}" for n, v in os.environ.items() if re.fullmatch("(OMP|NUMBA)_NUM_.*", n)]
    return Finding(OK, " ".join([str(cores), *limits]))


@functools.cache
def _speed() -> float:
    """Return the shortest seconds of a scan and a matrix product, as training has them."""
    import numba
    import numpy as np

    @numba.njit
    def scan(rates, inputs):
        state = np.zeros(rates.shape[1], np.float32)
        for row in range(rates.shape[0]):
            for n in range(rates.shape[1]):
                state[n] = np.exp(-rates[row, n]) * state[n] + inputs[row, n]
        return state

    values = np.ones((2000, 256), np.float32)
    times = timeit.repeat(lambda: (scan(values, values), values.dot(values.T)), number=1, repeat=6)
    return min(times)  # the first call compiles


def check_data(name: str = "ml-100k") -> Finding:
    """Look for the data set of the lessons and verify it, without downloading anything."""
    from ss4rec_lib.data import DataError, find_local

    get = f"ss4rec data {name} (5 MB); without a network put {name}.zip into data/{name}/"
    try:
        found = find_local(name)
    except DataError as error:
        return Finding(FAILURE, str(error), f"delete or replace it, then: {get}")
    if found is None:
        return Finding(FAILURE, f"{name} is not here", f"{get}; or dataset = 'planted' in a lesson")
    if not found.verified:
        return Finding(WARNING, f"{name}: {found.doubt}", f"numbers will differ; {get}")
    return Finding(OK, found.description)


def check_kernel() -> Finding:
    """Start a kernel as a notebook does, and import the library in it."""
    from jupyter_client.manager import run_kernel

    said: list[str] = []
    # Elsewhere than in the checkout, where the library would be found without being installed.
    how: dict[str, Any] = {"cwd": tempfile.gettempdir(), "stderr": subprocess.DEVNULL}
    with run_kernel(startup_timeout=KERNEL_SECONDS, kernel_name="python3", **how) as client:
        reply = client.execute_interactive(  # pyright: ignore[reportAttributeAccessIssue]
            "import sys, ss4rec_lib; print(sys.executable)",
            timeout=KERNEL_SECONDS,
            output_hook=lambda message: said.append(message["content"].get("text", "")),
        )["content"]
    if reply["status"] != "ok":
        return Finding(FAILURE, f"starts, but {reply['ename']}: {reply['evalue']}", INSTALL)
    there = Path("".join(said).strip())
    if there.parent.resolve() == Path(sys.executable).parent.resolve():
        return Finding(OK, "starts and imports ss4rec_lib")
    remedy = f"{sys.executable} -m ipykernel install --sys-prefix"
    return Finding(WARNING, f"python3 is the kernel of another Python, {there}", remedy)


def check_gpu() -> Finding:
    """Report the GPU and run a scan on it. No lesson needs one."""
    import torch

    if not torch.cuda.is_available():
        driver = shutil.which("nvidia-smi") is not None
        return Finding(OK, "none, and none is needed" + "; this torch cannot use it" * driver)
    from ss4rec_lib.ssm import choose, selective_scan

    name = torch.cuda.get_device_name()
    try:
        u, b = torch.ones(1, 4, 2, device="cuda"), torch.ones(1, 4, 3, device="cuda")
        selective_scan(u, u, -torch.ones(2, 3, device="cuda"), b, b)
        torch.cuda.synchronize()
    except Exception as error:  # a build without this GPU's code, a kernel that does not load
        return Finding(WARNING, f"{name}: {error}", "use the CPU: CUDA_VISIBLE_DEVICES= make lab")
    return Finding(OK, f"{name}, {choose('selective_scan', 'auto', u)} scan")


def check_time(root: Path = ROOT) -> Finding:
    """Estimate the minutes of lesson 04 from its time in the README and the speed of this machine.

    The notebook itself may have been run and saved here, on another machine than the README's.
    """
    page = root / "README.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    time = re.search(r"\(notebooks/04_\w+\.ipynb\).*\| ([\d.]+) (s|min) \|", text)
    if time is None:
        return Finding(WARNING, "not known: the README beside the package has no time of lesson 04")
    slower = _speed() / SPEED_SECONDS * (2 if describe_machine()["cores"] == 1 else 1)
    minutes = float(time[1]) / (60 if time[2] == "s" else 1) * slower
    said = f"about {minutes:.1f} min for lesson 04 at this load; the first time 1 more to compile"
    if minutes <= 5:
        return Finding(OK, said)
    return Finding(WARNING, said, "choose dataset = 'planted' or fewer epochs in the lessons")


CHECKS: dict[str, Callable[[], Finding]] = {
    "Python": check_python,
    "packages": check_packages,
    "disk": check_disk,
    "memory": check_memory,
    "cores": check_cores,
    "numba": lambda: Finding(OK, f"compiles; a scan and a product take {1000 * _speed():.0f} ms"),
    "data": check_data,
    "kernel": check_kernel,
    "GPU": check_gpu,
    "time": check_time,
}


def doctor() -> int:
    """Print one line per check, and what to do where one fails. Return 1 if one failed, else 0."""
    begin, states = time.perf_counter(), []
    for name, check in CHECKS.items():
        try:
            found = check()
        except Exception as error:  # a broken machine: the other checks still have something to say
            found = Finding(FAILURE, f"{type(error).__name__}: {error}", INSTALL)
        states.append(found.state)
        line = f"{found.state:<8} {name:<9} {' '.join(found.text.split())}"
        print(line + (f"\n{'':18} -> {found.remedy}" if found.remedy else ""), flush=True)
    failed, warned = states.count(FAILURE), states.count(WARNING)
    said = f"{failed} failed, {warned} with a warning" if failed or warned else "ready"
    print(f"{said} ({time.perf_counter() - begin:.1f} s)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(doctor())
