"""A checkpoint: one file from which training continues exactly where it was.

It is a safetensors file (no pickle), written to a temporary name, flushed and renamed, so a killed
process leaves the old file or the new one. `Checkpoint` describes its content.

The state that a model carries from one batch to the next is a nest of tuples of tensors, each with
the sequences of the batch as its first axis. `each`, `tensors_of` and `with_tensors` walk through.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ss4rec_lib.files import FileError, read_tensors, write_tensors
from ss4rec_lib.training.distributed import gather

if TYPE_CHECKING:
    from ss4rec_lib.training.loop import Run

FORMAT = "ss4rec-lab checkpoint 1"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used here; the message says why and what to do."""


@dataclass
class Progress:
    """How far training has come, apart from tensors."""

    epoch: int = 1  # under way, from 1
    position: int = 0  # batches done in it
    loss_sum: float = 0.0  # over the targets of these batches, nats
    n_targets: int = 0
    seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)  # one per finished epoch
    best_epoch: int = 0  # 0 for none
    stopped: str = ""  # why training ended; empty while it goes on


@dataclass
class Checkpoint:
    """The content of the file."""

    identity: dict[str, Any]  # what must be the same to continue
    progress: Progress
    model: dict[str, Tensor] = field(default_factory=dict)  # weights now
    best: dict[str, Tensor] = field(default_factory=dict)  # weights of the best epoch
    # Of each parameter: step, exp_avg, exp_avg_sq.
    optimizer: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    # Of each process: random number states (rng, rng_cuda), and tensors carried by each part.
    local: dict[str, dict[str, Any]] = field(default_factory=dict)


def save(run: Run, path: Path) -> None:
    """Write a checkpoint of a run atomically, or raise CheckpointError; all processes take part."""
    local: dict[str, Any] = {"rng": torch.get_rng_state()}
    if run.device.type == "cuda":
        local["rng_cuda"] = torch.cuda.get_rng_state(run.device)
    carried = ([tensor.cpu() for tensor in tensors_of(state)] for state in run.carried)
    local["carried"] = {part: dict(enumerate(tensors)) for part, tensors in enumerate(carried)}
    everybodys = gather(local)
    if not run.accelerator.is_main_process:
        return
    moments = {run.names[i]: state for i, state in run.optimizer.state_dict()["state"].items()}
    parts = {"model": run.model.state_dict(), "best": run.best, "optimizer": moments}
    parts["local"] = dict(enumerate(everybodys))
    texts = {"identity": json.dumps(run.identity), "progress": json.dumps(vars(run.progress))}
    try:
        write_tensors(path, _flat(parts, "/"), {"format": FORMAT, **texts})
    except FileError as error:
        raise CheckpointError(f"the checkpoint was not saved: {error}") from error


def load(run: Run, path: Path) -> None:
    """Go back to where the checkpoint was written, or raise CheckpointError and change nothing."""
    saved = read_checkpoint(path)
    there, here = (_flat(i, ".") for i in (saved.identity, json.loads(json.dumps(run.identity))))
    differences = "; ".join(
        f"{key} is {there.get(key)!r} there and {here.get(key)!r} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key) and key != "training.checkpoint_seconds"
    )
    if differences:
        raise CheckpointError(f"{path} is of another run, nothing was changed: {differences}")
    run.model.load_state_dict(saved.model)
    run.best = {name: tensor.to(run.device) for name, tensor in saved.best.items()}
    named = enumerate(run.names)  # a parameter without gradients has no moments
    moments = {i: saved.optimizer[name] for i, name in named if name in saved.optimizer}
    run.optimizer.load_state_dict({**run.optimizer.state_dict(), "state": moments})
    run.progress = saved.progress
    local = saved.local[str(run.accelerator.process_index)]
    torch.set_rng_state(local["rng"])
    if "rng_cuda" in local:
        torch.cuda.set_rng_state(local["rng_cuda"], run.device)
    for part, tensors in local.get("carried", {}).items():
        in_order = (tensors[str(i)] for i in range(len(tensors)))
        run.carried[int(part)] = with_tensors(run.model.initial_state(1), in_order)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; raise CheckpointError if it is truncated or another file."""
    try:
        tensors, metadata = read_tensors(path)
    except FileError as error:
        raise CheckpointError(str(error)) from error
    if (found := metadata.get("format")) != FORMAT:
        raise CheckpointError(f"{path} has the format {found!r}, expected {FORMAT!r}")
    progress = Progress(**json.loads(metadata["progress"]))
    return Checkpoint(json.loads(metadata["identity"]), progress, **_nested(tensors, "/"))


def _flat(nested: dict[str, Any], between: str) -> dict[str, Any]:
    """Return {"a": {"b": 1}} as {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= {f"{key}{between}{rest}": v for rest, v in _flat(value, between).items()}
        else:
            flat[key] = value
    return flat


def _nested(flat: dict[str, Any], between: str) -> dict[str, Any]:
    """Undo `_flat`."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, name = path.split(between)
        inner = nested
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = value
    return nested


def each(state: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return a carried state with every tensor changed; None stays None."""
    if state is None or isinstance(state, Tensor):
        return None if state is None else change(state)
    parts = [each(part, change) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def tensors_of(state: Any) -> list[Tensor]:
    """Return all tensors of a carried state in a fixed order, complex ones as real pairs."""
    found: list[Tensor] = []
    each(state, found.append)
    return [torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in found]


def with_tensors(template: Any, tensors: Iterator[Tensor]) -> Any:
    """Return what `tensors_of` returned in the structure of `template`."""

    def take(old: Tensor) -> Tensor:
        new = next(tensors).to(old.device)
        return torch.view_as_complex(new.contiguous()) if old.is_complex() else new

    return each(template, take)
