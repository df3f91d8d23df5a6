"""A training step: its time, the arithmetic it cannot do without, the published way beside it.

    python benchmarks/training.py                      # MovieLens-1M, official model; some minutes
    python benchmarks/training.py --dataset planted --quick   # does everything run?

Writes training.json and training.md. What is measured and how: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import ss4rec_lib  # noqa: F401  before torch: it tells OpenMP how to wait

# isort: split
import torch
from floor import Count, count, floor_seconds, measure_rates
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from ss4rec_lib.data import Batch, DataWarning, Split, eval_batches, leave_one_out, load_movielens
from ss4rec_lib.machine import describe_machine, describe_versions, peak_rss_bytes
from ss4rec_lib.models import SS4Rec, SS4RecConfig
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import Run, TrainingConfig, linear_cross_entropy
from ss4rec_lib.training.linear_cross_entropy import _LOGITS

PARTS = {  # of a step: what the profiler calls the operations
    "matrix products": ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm"),
    "selective scan, convolution, gates": ("_MambaInner", "_MambaInnerBackward"),
    "S5 scan": ("_IrregularScan", "_IrregularScanBackward"),
    "softmax of the head": ("_LinearCrossEntropy",),
    "optimizer": ("aten::_fused_adam_", "Optimizer.step#Adam.step", "aten::linalg_vector_norm"),
    "random numbers": ("aten::random_", "aten::bernoulli_"),
}


class _Products(TorchDispatchMode):
    """Notes the shapes of all matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: Counter[tuple[int, int, int]] = Counter()

    def __torch_dispatch__(self, function, types, given=(), named=None):
        name = str(function)
        if name.startswith(("aten.mm.", "aten.addmm")):
            left, right = given[-2:] if "addmm" in name else given[:2]
            self.shapes[left.shape[0], left.shape[1], right.shape[1]] += 1
        return function(*given, **(named or {}))


def load(dataset: str) -> Split:
    """The data of the published figures: leave-one-out in the order of RecBole."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return leave_one_out(load_movielens(dataset), ordering="recbole-float32")


class Trainee:
    """A model in training, one epoch after the other without end."""

    def __init__(
        self, split: Split, config: TrainingConfig, model: SS4RecConfig | None = None
    ) -> None:
        seed_everything(0)
        self.run = Run(SS4Rec(split.sequences.n_items, model), split, config)
        self.run.model.train()
        self._batches = self._endless()

    def _endless(self) -> Iterator[Batch]:
        epoch = 0
        while True:
            epoch += 1
            yield from self.run.plan(epoch)

    def steps(self, n: int) -> tuple[int, int]:
        """Train n steps; targets and tokens done."""
        targets = tokens = 0
        for _ in range(n):
            batch = next(self._batches)
            self.run.train_step(batch)
            self.run.optimizer.step()
            targets += batch.n_targets
            tokens += batch.items.numel()
        return targets, tokens


def scans_of(model: SS4Rec, tokens: int) -> Count:
    """Operations of the model's scans, convolutions and gates, without their matrix products."""
    config, here = model.config, {"B": 1, "L": tokens}
    mamba = count("mamba", here | {"d_model": config.hidden_size, "N": config.d_state}, True)
    s5 = count("s5", here | {"P": config.d_P, "H": config.hidden_size}, True)
    layers = config.n_layers
    vector, exps = (layers * (a + b) for a, b in zip(mamba[1:3], s5[1:3], strict=True))
    return Count(0, vector, exps, 0)


def replay(shapes: Counter[tuple[int, int, int]]) -> Callable[[], float]:
    """A function that does these products and nothing else, and returns its seconds."""
    pairs = [(torch.randn(m, k), torch.randn(k, n), times) for (m, k, n), times in shapes.items()]

    def run() -> float:
        begin = time.perf_counter()
        for left, right, times in pairs:
            for _ in range(times):
                torch.mm(left, right)
        return time.perf_counter() - begin

    return run


def parts_of(trainee: Trainee, steps: int) -> dict[str, float]:
    """Share of a step's time that each of `PARTS` takes by itself, by PyTorch's profiler."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        trainee.steps(steps)
    taken = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    total = sum(taken.values())
    shares = {
        part: sum(taken.get(name, 0.0) for name in names) / total for part, names in PARTS.items()
    }
    return shares | {"all else": 1.0 - sum(shares.values())}


def heads(targets: int, columns: int, rounds: int) -> dict[str, float]:
    """Softmax cross entropy of the head, forward and backward: µs a target, median of the rounds.

    PyTorch's two ways, its chunked one with its own and with our number of rows, and ours.
    """
    seed_everything(0)
    hidden = torch.randn(targets, 64, requires_grad=True)
    weight = (0.1 * torch.randn(columns, 64)).requires_grad_()
    ids = torch.randint(1, columns, (targets,))
    plain = {"reduction": "sum"}
    auto = torch.nn.LinearCrossEntropyOptions()
    ours = max(1, min(targets, _LOGITS // columns))
    rows = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=ours, chunking_method=None)
    ways = {
        "cross_entropy(h @ W.T)": lambda: F.cross_entropy(hidden @ weight.T, ids, **plain),
        "linear_cross_entropy": lambda: F.linear_cross_entropy(hidden, weight, ids, **plain),
        "linear_cross_entropy, chunked": lambda: F.linear_cross_entropy(
            hidden, weight, ids, **plain, options=auto
        ),
        f"linear_cross_entropy, {ours} rows a chunk": lambda: F.linear_cross_entropy(
            hidden, weight, ids, **plain, options=rows
        ),
        "ours": lambda: linear_cross_entropy(hidden, weight, ids),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            torch.autograd.grad(way(), (hidden, weight))
            taken[name].append(1e6 * (time.perf_counter() - begin) / targets)
    return {name: statistics.median(values[1:]) for name, values in taken.items()}


def published_seconds(split: Split, model: SS4Rec, rows: int, max_len: int) -> dict[str, float]:
    """Seconds a target of the published composition: a prefix a row, padded to `max_len`.

    Also how far its loss is from ours on the same rows.
    """
    from mamba_ssm_on_cpu import import_mamba_ssm
    from published import Published

    published = Published(model)
    batch = next(iter(eval_batches(split, "valid", max_tokens=rows * max_len, max_len=max_len)))
    items, delta = (torch.zeros(rows, max_len, dtype=t.dtype) for t in (batch.items, batch.delta))
    width = batch.items.shape[1]
    items[:, :width], delta[:, :width] = batch.items[:rows], batch.delta[:rows]
    lengths = batch.lengths[:rows]
    targets = batch.targets[torch.arange(rows), lengths - 1]
    with import_mamba_ssm().reference_scan():
        published.eval(), model.eval()
        with torch.no_grad():
            theirs = published.loss(items, delta, lengths, targets).item()
            hidden = model(items, delta)[torch.arange(rows), lengths - 1]
            ours = F.cross_entropy(model.logits(hidden), targets).item()
        published.train()
        begin = time.perf_counter()
        published.loss(items, delta, lengths, targets).backward()
        seconds = time.perf_counter() - begin
    return {"seconds_a_target": seconds / rows, "loss_difference": abs(theirs - ours) / ours}


def measure(dataset: str, steps: int, rounds: int, rows: int, effort: float) -> dict:
    """Everything that training.json holds."""
    split = load(dataset)
    config = TrainingConfig.ml_1m()
    trainees = {
        "windows": Trainee(split, config),
        "full history": Trainee(split, config.replace(history="full")),
        "SS4Rec+": Trainee(split, config, SS4RecConfig.plus()),
    }
    flops, counted = {}, {}
    for name in ("SS4Rec+", "windows"):
        noted = _Products()
        with noted:  # PyTorch's own counter hooks every module, and a hooked layer is called apart
            targets, tokens = trainees[name].steps(steps)
        total = sum(2 * math.prod(shape) * times for shape, times in noted.shapes.items())
        scans = scans_of(trainees[name].run.model, tokens)
        flops[name] = total / targets
        counted[name] = Count(*(n / targets for n in scans._replace(matrix_flop=total)))
    flop, products = flops["windows"], replay(noted.shapes)
    products()
    samples: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, trainee in trainees.items():
            begin = time.perf_counter()
            done, padded = trainee.steps(steps)
            seconds = time.perf_counter() - begin
            samples.setdefault(f"{name}, us a target", []).append(1e6 * seconds / done)
            samples.setdefault(f"{name}, us a token", []).append(1e6 * seconds / padded)
        samples.setdefault("products alone, us a target", []).append(1e6 * products() / targets)
        rates = measure_rates(config.max_tokens, 3, effort)
        samples.setdefault("best matrix rate, FLOP/s", []).append(rates["matrix_flop_s"])
        for name, each in counted.items():
            floor = 1e6 * floor_seconds(each, rates)
            samples.setdefault(f"{name}, floor, us a target", []).append(floor)
    middle = {name: statistics.median(values) for name, values in samples.items()}
    step = middle["windows, us a target"]
    floor = middle["windows, floor, us a target"]
    of_products = 1e6 * flop / middle["best matrix rate, FLOP/s"]
    result = {
        "dataset": dataset,
        "config": config.model_dump(),
        "machine": describe_machine() | {"torch_threads": torch.get_num_threads()},
        "versions": describe_versions(("torch", "numpy", "numba", "s5-pytorch", "mamba-ssm")),
        "steps": steps,
        "rounds": rounds,
        "matrix_flop_a_target": flop,
        "samples": samples,
        "median": middle,
        "floor_us_a_target": floor,
        "products_floor_us_a_target": of_products,
        "over_floor": step / floor,
        "plus": {
            "us_a_target": middle["SS4Rec+, us a target"],
            "matrix_flop_a_target": flops["SS4Rec+"],
            "over_floor": middle["SS4Rec+, us a target"] / middle["SS4Rec+, floor, us a target"],
            "over_published": middle["SS4Rec+, us a target"] / step,
        },
        "over_products": step / middle["products alone, us a target"],
        "targets_per_second": 1e6 / step,
        "full_over_windows": middle["full history, us a token"] / middle["windows, us a token"],
        "parts": parts_of(trainees["windows"], steps),
        "heads": heads(config.max_tokens, split.sequences.n_items + 1, 3 * rounds),
    }
    try:
        published = published_seconds(split, trainees["windows"].run.model, rows, config.max_len)
        result["published"] = published | {
            "ratio": 1e6 * published["seconds_a_target"] / step, "rows": rows
        }  # fmt: skip
    except ImportError as error:
        result["published"] = {"missing": str(error)}
    result["peak_rss_bytes"] = _peak_memory(dataset, steps)
    return result


def _peak_memory(dataset: str, steps: int) -> int:
    """Peak resident memory of a fresh process that loads the data and trains some steps."""
    command = [sys.executable, __file__, "--dataset", dataset, "--memory", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def table(result: dict) -> str:
    """training.md."""
    machine, middle = result["machine"], result["median"]
    published = result["published"]
    rows = [
        ("training step, µs a target", f"{middle['windows, us a target']:.1f}"),
        ("targets a second", f"{result['targets_per_second']:,.0f}"),
        ("matrix products, MFLOP a target", f"{result['matrix_flop_a_target'] / 1e6:.2f}"),
        ("best rate of this machine, GFLOP/s", f"{middle['best matrix rate, FLOP/s'] / 1e9:.0f}"),
        ("their quotient, µs a target", f"{result['products_floor_us_a_target']:.1f}"),
        ("floor: with the scans' arithmetic, µs a target", f"{result['floor_us_a_target']:.1f}"),
        ("**step : floor**", f"**{result['over_floor']:.2f}**"),
        ("the step's own products, alone, µs", f"{middle['products alone, us a target']:.1f}"),
        ("step : its products alone", f"{result['over_products']:.2f}"),
        ("SS4Rec+ : this step", f"{result['plus']['over_published']:.2f}"),
        ("SS4Rec+, step : its floor", f"{result['plus']['over_floor']:.2f}"),
        ("full history : windows, time a token", f"{result['full_over_windows']:.2f}"),
        ("peak resident memory, MB", f"{result['peak_rss_bytes'] / 1e6:,.0f}"),
    ]
    if "missing" in published:
        rows.append(("published composition", f"not installed: {published['missing']}"))
    else:
        rows += [
            ("published composition, s a target", f"{published['seconds_a_target']:.3f}"),
            ("**published : ours**", f"**{published['ratio']:,.0f}**"),
            ("their losses differ by", f"{published['loss_difference']:.0e}"),
        ]
    lines = [
        "# A training step",
        "",
        "Written by `benchmarks/training.py`; what is measured and how: `benchmarks/README.md`.",
        "",
        f"{result['dataset']}, official configuration, batches of "
        f"{result['config']['max_tokens']:,} tokens; {machine['processor']}, {machine['cores']} "
        f"cores, {machine['torch_threads']} threads; "
        + ", ".join(f"{name} {version}" for name, version in result["versions"].items())
        + f". Median of {result['rounds']} rounds of {result['steps']} steps.",
        "",
        "| measured | |",
        "| --- | ---: |",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        "Where a step's time goes, by PyTorch's profiler:",
        "",
        "| part | share |",
        "| --- | ---: |",
        *(f"| {name} | {share:.0%} |" for name, share in result["parts"].items()),
        "",
        "The head alone, forward and backward:",
        "",
        "| softmax cross entropy | µs a target |",
        "| --- | ---: |",
        *(f"| `{name}` | {value:.1f} |" for name, value in result["heads"].items()),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, then write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="ml-1m")
    parser.add_argument("--quick", action="store_true", help="few steps and rounds")
    folder = Path(__file__).parent / "results"
    parser.add_argument("--out", type=Path, default=folder, help="folder of the results")
    parser.add_argument("--memory", type=int, metavar="STEPS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        Trainee(load(options.dataset), TrainingConfig.ml_1m()).steps(options.memory)
        print(peak_rss_bytes())
        return
    plan = (5, 2, 2, 0.1) if options.quick else (40, 7, 8, 0.5)
    result = measure(options.dataset, *plan)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "training.json").write_text(json.dumps(result, indent=2) + "\n")
    (options.out / "training.md").write_text(table(result))
    print(table(result))


if __name__ == "__main__":
    main()
