"""From the numbers of `layers.py` and `gpu.py` to JSON, Markdown documents and plots."""

from __future__ import annotations

import json
from pathlib import Path

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ss4rec_lib.lessons import use_style

OURS = "ours numba"
TITLES = {
    "selective_scan": "Selective scan",
    "mamba": "Mamba layer",
    "s5": "S5 layer, one interval a position",
}
MODES = ("forward", "forward+backward")


def _sizes(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {value:,}" for name, value in sizes.items())


def _pick(rows: list[dict], **wanted) -> list[dict]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _table(header: list[str], lines: list[list[str]]) -> list[str]:
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *lines)] + [""]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f}" if seconds < 1 else f"{1e3 * seconds:,.0f}"


def _side_by_side(result: dict, operation: str) -> list[str]:
    rows = _pick(result["side_by_side"], operation=operation)
    sizes = rows[0]["sizes"]
    memory = {
        row["contender"]: row["peak_bytes"]
        for row in _pick(result["memory"], operation=operation, sizes=sizes)
    }
    ours = {mode: _pick(rows, contender=OURS, mode=mode)[0]["seconds"] for mode in MODES}
    lines = []
    for name in dict.fromkeys(row["contender"] for row in rows):
        cells = [name]
        for mode in MODES:
            (row,) = _pick(rows, contender=name, mode=mode)
            cells += [_ms(row["seconds"]), f"{row['seconds'] / ours[mode]:.1f}"]
            cells.append(f"{row['over_floor']:.1f}")
        peak = memory.get(name)
        cells.append("-" if peak is None else f"{peak / 1e6:,.0f}")
        usable = peak is not None and memory.get(OURS)
        cells.append(f"{peak / memory[OURS]:.1f}" if usable else "-")
        cells.append(f"{row['disagreement']:.0e}")
        lines.append(cells)
    floors = {mode: _pick(rows, contender=OURS, mode=mode)[0]["floor_seconds"] for mode in MODES}
    floor = ["counted floor"]
    for mode in MODES:
        floor += [_ms(floors[mode]), f"{floors[mode] / ours[mode]:.2f}", "1.0"]
    lines.append([*floor, "-", "-", "-"])
    header = ["", "forward, ms", "x ours", "x floor", "forward + backward, ms", "x ours", "x floor"]
    header += ["peak memory, MB", "x ours", "disagreement"]
    return [f"## {TITLES[operation]} ({_sizes(sizes)})", "", *_table(header, lines)]


def _lengths(result: dict) -> list[str]:
    lines = []
    lengths = sorted({row["sizes"]["L"] for row in result["lengths"]})
    for operation in TITLES:
        for mode in MODES:
            rows = _pick(result["lengths"], operation=operation, mode=mode, contender=OURS)
            cost = {row["sizes"]["L"]: row["us_per_token"] for row in rows}
            long = [value for length, value in cost.items() if length >= 200]
            name = f"{TITLES[operation]}, {mode}"
            spread = f"{max(long) / min(long):.2f}"
            lines.append([name, *(f"{cost[length]:.2f}" for length in lengths), spread])
    header = ["µs a position", *(f"L {length:,}" for length in lengths), "largest : smallest"]
    text = f"B L = {result['plan']['tokens']:,} positions; the ratio is that of L >= 200."
    return [f"## Cost against length, {OURS}", "", text, "", *_table(header, lines)]


def _batches(result: dict) -> list[str]:
    lines = []
    batches = sorted({row["sizes"]["B"] for row in result["batches"]})
    for operation in TITLES:
        for mode in MODES:
            rows = _pick(result["batches"], operation=operation, mode=mode)
            cost = {row["sizes"]["B"]: row["us_per_token"] for row in rows}
            name = f"{TITLES[operation]}, {mode}"
            lines.append([name, *(f"{cost[batch]:.2f}" for batch in batches)])
    header = ["µs a position", *(f"B {batch}" for batch in batches)]
    title = f"## Cost against batch size, {OURS}, L {result['plan']['length']}"
    return [title, "", *_table(header, lines)]


def _memory(result: dict) -> list[str]:
    tokens = result["plan"]["tokens"]
    lengths = result["plan"]["lengths"]
    lines = []
    for operation in TITLES:
        rows = _pick(result["memory"], operation=operation)
        swept = [row for row in rows if row["sizes"]["B"] == max(1, tokens // row["sizes"]["L"])]
        for name in dict.fromkeys(row["contender"] for row in swept):
            peak = {r["sizes"]["L"]: r["peak_bytes"] for r in _pick(swept, contender=name)}
            cells = [peak.get(length) for length in lengths]
            texts = ["-" if cell is None else f"{cell / 1e6:,.0f}" for cell in cells]
            lines.append([f"{TITLES[operation]}: {name}", *texts])
    header = ["MB", *(f"L {length:,}" for length in lengths)]
    text = f"Forward and backward, B L = {tokens:,} positions. A dash: not measured, too slow."
    return ["## Peak memory against length", "", text, "", *_table(header, lines)]


def _rates(result: dict) -> list[str]:
    names = {
        "matrix_flop_s": ("matrix products, GFLOP/s", 1e9),
        "vector_flop_s": ("vector multiply-add, GFLOP/s", 1e9),
        "exp_s": ("exponentials, 1e9/s", 1e9),
        "copy_byte_s": ("copy, read + written, GB/s", 1e9),
    }
    lines = [
        [text, f"{result['rates'][key] / unit:.1f}", f"{result['rates_after'][key] / unit:.1f}"]
        for key, (text, unit) in names.items()
    ]
    text = "The floors use the faster of the two. Far apart: the machine was not quiet."
    header = ["measured rate", "before", "after"]
    return ["## The machine's rates", "", text, "", *_table(header, lines)]


def markdown(result: dict) -> str:
    """The whole document."""
    machine, plan = result["machine"], result["plan"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [
        "# Layers: time and memory",
        "",
        "Written by `benchmarks/layers.py`; what is measured and how: `benchmarks/README.md`.",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['torch_threads']} threads; "
        f"{versions}. Median of up to {plan['rounds']} interleaved rounds.",
        "",
    ]
    for operation in TITLES:
        lines += _side_by_side(result, operation)
        for name, why in result["missing"][operation].items():
            lines += [f"Not here: {name}: {why}", ""]
    lines += _lengths(result) + _batches(result) + _memory(result) + _rates(result)
    return "\n".join(lines).rstrip() + "\n"


def _colours(result: dict) -> dict[str, tuple]:
    """One colour a contender, the same in every plot."""
    names = list(dict.fromkeys(row["contender"] for row in result["lengths"]))
    names.sort(key=lambda name: (name != OURS, not name.startswith("ours ")))
    return dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))


def _by_length(rows: list[dict], key) -> tuple[list[int], list[float]]:
    some = sorted(rows, key=lambda row: row["sizes"]["L"])
    return [row["sizes"]["L"] for row in some], [key(row) for row in some]


def _figure(result: dict, operation: str) -> Figure:
    """Time forward, time with backward, and peak memory, against length."""
    use_style()
    figure = Figure(figsize=(13, 4.8))
    panels = figure.subplots(1, 3)
    rows = _pick(result["lengths"], operation=operation)
    tokens = result["plan"]["tokens"]
    memory = [
        row
        for row in _pick(result["memory"], operation=operation)
        if row["peak_bytes"] and row["sizes"]["B"] == max(1, tokens // row["sizes"]["L"])
    ]
    shown = {row["contender"] for row in rows}
    colours = {name: c for name, c in _colours(result).items() if name in shown}
    style = {"marker": "o", "ms": 4}
    for axes, mode in zip(panels, MODES, strict=False):
        some = _pick(rows, mode=mode)
        for name, colour in colours.items():
            x, y = _by_length(_pick(some, contender=name), lambda row: row["us_per_token"])
            axes.plot(x, y, color=colour, label=name, zorder=3 if name == OURS else 2, **style)
        x, y = _by_length(
            _pick(some, contender=OURS),
            lambda row: 1e6 * row["floor_seconds"] / (row["sizes"]["B"] * row["sizes"]["L"]),
        )
        axes.plot(x, y, "--", color="0.3", label="counted floor")
        axes.set_title(f"Time, {mode}")
        axes.set_ylabel("µs a position")
    for name, colour in colours.items():
        x, y = _by_length(_pick(memory, contender=name), lambda row: row["peak_bytes"] / 1e6)
        panels[2].plot(x, y, color=colour, **style)
    panels[2].set_title(f"Peak memory, {MODES[1]}")
    panels[2].set_ylabel("MB")
    for axes in panels:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(sorted({row["sizes"]["L"] for row in rows}))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.minorticks_off()
        axes.tick_params(axis="x", rotation=45)
        axes.set_xlabel(f"length L (B L = {tokens:,} positions)")
    figure.suptitle(TITLES[operation], x=0.01, ha="left")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def write_report(result: dict, folder: Path) -> None:
    """Write layers.json, layers.md and layers_OPERATION.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "layers.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / "layers.md").write_text(markdown(result))
    for operation in TITLES:
        figure = _figure(result, operation)
        figure.savefig(folder / f"layers_{operation}.png", dpi=110, metadata={"Software": None})


# ------------------------------------------------------------------------------------- one GPU


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:,.0f}"


def _missing(part: dict) -> list[str]:
    return [
        line for name, why in part["missing"].items() for line in (f"Not here: {name}: {why}", "")
    ]


def _gpu_scans(part: dict) -> list[str]:
    lines = []
    for row in part["rows"]:
        name = f"{TITLES[row['operation']]}, {row['contender']}, {row['mode']}"
        sizes = [str(row["sizes"][size]) for size in ("B", "L")]
        cost = [f"{1e3 * row['seconds']:.3f}", f"{row['over_floor']:.1f}"]
        lines.append(
            [name, *sizes, *cost, _megabytes(row["peak_bytes"]), f"{row['disagreement']:.0e}"]
        )
    header = ["", "B", "L", "ms", "x floor", "peak memory, MB", "disagreement"]
    return _table(header, lines) + _missing(part)


def _gpu_steps(part: dict) -> list[str]:
    lines = [
        [
            f"{row['backend']}, {row['precision']}",
            f"{row['tokens']:,}",
            f"{row['ms_per_step']:.1f}",
            f"{row['targets_per_second']:,.0f}",
            _megabytes(row["peak_bytes"]),
        ]
        for row in part["rows"]
    ]
    header = [
        "scans, precision",
        "tokens per step",
        "ms per step",
        "targets per second",
        "peak memory, MB",
    ]
    return _table(header, lines) + _missing(part)


def _gpu_plain(part: dict) -> list[str]:
    """A part without a table of its own: its entries, then its rows."""

    def text(value: object) -> str:
        if not isinstance(value, float):
            return str(value)
        return f"{value:.3g}" if value >= 1e6 else f"{value:,.4f}"

    shown = {name: value for name, value in part.items() if name not in ("rows", "courses")}
    entries = [f"- {name}: {text(value)}" for name, value in shown.items()]
    lines = [*entries, ""] if entries else []
    if rows := part.get("rows"):
        header = list(rows[0])
        lines += _table(header, [[text(row[name]) for name in header] for row in rows])
    return lines


GPU_PARTS = {
    "tests": "Tests",
    "limits": "The card's rates, per second",
    "scans": "Layers",
    "steps": "A training step of the official model",
    "epoch": "One epoch",
    "goal": "Seconds of training until validation NDCG@10 reaches a goal",
    "waits": "How often Python waits for the GPU in a step",
    "tiles": "Mamba's kernels with other numbers of states in a program",
    "compiled": "torch.compile and CUDA graphs",
    "processes": "Several processes",
}


def gpu_markdown(result: dict) -> str:
    """gpu.md."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [
        "# One GPU",
        "",
        "Written by `make gpu-check`; what is measured: `benchmarks/README.md`.",
    ]
    lines += ["", f"{result['device']}; {versions}. Data: {result['dataset']}.", ""]
    tables = {"scans": _gpu_scans, "steps": _gpu_steps}
    for name, title in GPU_PARTS.items():
        part = result[name]
        lines += [f"## {title}", ""]
        for state in ("failed", "skipped"):
            lines += [f"{state.capitalize()}: {part[state]}", ""] if state in part else []
        rest = {key: value for key, value in part.items() if key not in ("failed", "skipped")}
        lines += tables.get(name, _gpu_plain)(rest) if rest else []
    return "\n".join(lines).rstrip() + "\n"


def write_gpu_report(result: dict, folder: Path) -> None:
    """Write gpu.json and gpu.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / "gpu.md").write_text(gpu_markdown(result))
