"""Time and memory of the two state space layers beside public packages and the counted floor.

    python benchmarks/layers.py            # some 15 minutes on two cores; wants a quiet machine
    python benchmarks/layers.py --quick    # small sizes: does everything run?

Writes layers.json (every number), layers.md (one table of them) and a plot for each operation.
What is measured and how: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import sys
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ss4rec_lib

# isort: split
import torch
from floor import count, floor_seconds, measure_rates
from memory import peak_memory_in_a_fresh_process
from peers import Call, Missing, build, contenders
from timing import MODES, interleaved

WIDTHS = {
    "selective_scan": {"D": 128, "N": 32},
    "mamba": {"d_model": 64, "N": 32},
    "s5": {"P": 32, "H": 64},
}
"""Widths of the published ML-1M configuration."""

OURS = "ours numba"


@dataclass(frozen=True)
class Plan:
    """What is measured; `full` is what the committed results were made with."""

    batch: int = 32  # of the side-by-side table
    length: int = 200
    rounds: int = 5
    limit: float = 12.0  # seconds for one contender; when spent, no further round
    tokens: int = 12_800  # B L along the sweep over lengths
    lengths: tuple[int, ...] = (50, 200, 800, 3200, 12_800)
    peer_lengths: tuple[int, ...] = (50, 200, 800)  # and of their memory
    batches: tuple[int, ...] = (1, 4, 16, 64)
    sweep_rounds: int = 5
    sweep_limit: float = 2.0  # as `limit`, at one point; one call above it ends the sweep
    effort: float = 1.0  # of the rates


PLANS = {
    "full": Plan(),
    "quick": Plan(
        batch=8, length=100, rounds=3, limit=2.0, tokens=1600, lengths=(50, 200, 1600),
        peer_lengths=(50,), batches=(1, 8, 32), sweep_rounds=2, sweep_limit=1.0, effort=0.2,
    ),
}  # fmt: skip


# -------------------------------------------------------------------------------------- agreement


def evaluate(call: Call) -> tuple[torch.Tensor, dict[str, float]]:
    """The output as (B, L, ...), and the norm of each leaf's gradient of a fixed function."""
    output = call.view(call.run())
    weights = torch.cos(torch.arange(output.numel(), device=output.device)).view(output.shape)
    gradients = torch.autograd.grad((output * weights).sum(), list(call.leaves.values()))
    norms = {name: g.norm().item() for name, g in zip(call.leaves, gradients, strict=True)}
    return output.detach(), norms


@cache
def disagreement(operation: str, contender: str, device: str = "cpu") -> float:
    """How far a contender is from the reference loop, at a small size; values and gradients.

    Whoever computes something else has no place in the table.
    """
    sizes = {"B": 3, "L": 40, **WIDTHS[operation]}
    expected, norms = evaluate(build(operation, "ours reference", sizes, device))
    found, found_norms = evaluate(build(operation, contender, sizes, device))
    errors = [((found - expected).abs().max() / expected.abs().max()).item()]
    errors += [abs(found_norms[k] - norms[k]) / norms[k] for k in norms.keys() & found_norms.keys()]
    return max(errors)


# ------------------------------------------------------------------------------------------- time


def row_of(operation: str, contender: str, sizes: dict, mode: str, taken: list[float]) -> dict:
    """One contender at one size: the median of its times, and their ends."""
    return {
        "operation": operation,
        "contender": contender,
        "sizes": sizes,
        "mode": mode,
        "seconds": statistics.median(taken),
        "fastest": min(taken),
        "slowest": max(taken),
        "repeats": len(taken),
        "us_per_token": 1e6 * statistics.median(taken) / (sizes["B"] * sizes["L"]),
    }


def sweep(operation: str, shapes: list[tuple[int, int]], names: list[str], plan: Plan) -> list:
    """Rows for every contender and (B, L) in increasing cost.

    Ours first at all shapes in the same rounds, so that drift cannot bend the curve; then the
    others, each until one call exceeds the limit.
    """
    rows, stopped = [], set()
    ours = [name for name in names if name in (OURS, "ours parallel")]
    others = [name for name in names if name not in ours]
    groups = [(ours, shapes)]
    groups += [(others, [(B, L)]) for B, L in shapes if others and L in plan.peer_lengths]
    for group, some in groups:
        for mode in MODES:
            keys = [(name, B, L) for B, L in some for name in group if (name, mode) not in stopped]
            calls = {
                (name, B, L): build(operation, name, {"B": B, "L": L, **WIDTHS[operation]})
                for name, B, L in keys
            }
            taken = interleaved(calls, mode, plan.sweep_rounds, plan.sweep_limit)
            for (name, B, L), seconds in taken.items():
                sizes = {"B": B, "L": L, **WIDTHS[operation]}
                rows.append(row_of(operation, name, sizes, mode, seconds))
                if rows[-1]["seconds"] > plan.sweep_limit:
                    stopped.add((name, mode))
    return rows


# ----------------------------------------------------------------------------------------- the run


def _machine() -> dict:
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": model,
        "cores": cores,
        "torch_threads": torch.get_num_threads(),
        "system": platform.system(),
        "architecture": platform.machine(),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "ss4rec_lib": ss4rec_lib.__version__}
    for name in ("torch", "numpy", "numba", "s5-pytorch", "mambapy", "mamba-ssm"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def available(operation: str) -> tuple[list[str], dict[str, str]]:
    """Contenders that run here, and why the others do not."""
    names, missing = [], {}
    for name in contenders(operation):
        try:
            build(operation, name, {"B": 1, "L": 2, **WIDTHS[operation]})
        except Missing as why:
            missing[name] = str(why)
        else:
            names.append(name)
    return names, missing


def run(plan: Plan, say=lambda text: print(text, file=sys.stderr, flush=True)) -> dict:
    """Everything that layers.json holds."""
    say("rates of this machine")
    rates = measure_rates(plan.batch * plan.length, effort=plan.effort)
    result = {
        "plan": asdict(plan),
        "machine": _machine(),
        "versions": _versions(),
        "rates": rates,
        "missing": {},
        "side_by_side": [],
        "lengths": [],
        "memory": [],
        "batches": [],
    }
    for operation, widths in WIDTHS.items():
        names, result["missing"][operation] = available(operation)
        sizes = {"B": plan.batch, "L": plan.length, **widths}
        say(f"{operation}: side by side")
        calls = {(name,): build(operation, name, sizes) for name in names}
        rows = []
        for mode in MODES:
            taken = interleaved(calls, mode, plan.rounds, plan.limit)
            rows += [row_of(operation, name, sizes, mode, s) for (name,), s in taken.items()]
        for row in rows:
            row["disagreement"] = disagreement(operation, row["contender"])
        result["side_by_side"] += rows
        del calls

        say(f"{operation}: over lengths")
        shapes = [(max(1, plan.tokens // L), L) for L in plan.lengths]
        rows = sweep(operation, shapes, names, plan)
        result["lengths"] += rows
        say(f"{operation}: over batches")
        shapes = [(B, plan.length) for B in plan.batches]
        result["batches"] += sweep(operation, shapes, [OURS], plan)

        say(f"{operation}: memory")
        reached = {(r["contender"], r["sizes"]["L"]) for r in rows if r["mode"] == MODES[1]}
        points = [(name, plan.batch, plan.length) for name in names]
        points += [
            (name, max(1, plan.tokens // L), L)
            for L in plan.lengths
            for name in names
            if (name, L) in reached
        ]
        for name, B, L in dict.fromkeys(points):
            at = {"B": B, "L": L, **widths}
            peak = peak_memory_in_a_fresh_process(operation, name, at)
            row = {"operation": operation, "contender": name, "sizes": at, "peak_bytes": peak}
            result["memory"].append(row)
    say("rates of this machine, again")
    after = measure_rates(plan.batch * plan.length, effort=plan.effort)
    result["rates_after"] = after
    # A disturbance only slows down. `matrix_sizes` holds the products behind the best one.
    best = {name: max(rates[name], after[name]) for name in rates if name != "matrix_sizes"}
    for part in ("side_by_side", "lengths", "batches"):
        for row in result[part]:
            counted = count(row["operation"], row["sizes"], row["mode"] == MODES[1])
            row["floor_seconds"] = floor_seconds(counted, best)
            row["over_floor"] = row["seconds"] / row["floor_seconds"]
    return result


def main() -> None:
    """Measure, then write the three kinds of files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    folder = Path(__file__).parent / "results"
    parser.add_argument("--out", type=Path, default=folder, help="folder of the results")
    parser.add_argument("--threads", type=int, help="of PyTorch and of the compiled kernels")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    from report import write_report

    result = run(PLANS["quick" if options.quick else "full"])
    write_report(result, options.out)
    print((options.out / "layers.md").read_text())


if __name__ == "__main__":
    main()
