"""What a group of runs is called in tables: its data, protocol, model, budget and seconds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ss4rec_lib.experiments.results import Group, Seeds


def dataset_of(group: Seeds) -> str:
    """The data set, starred where the file was not the published one."""
    return group.first["dataset"] + ("" if group.verified else " \\*")


def protocol_of(group: Group) -> str:
    """Split (unless leave-one-out), order, filter and size of the catalogue."""
    protocol = group.first["protocol"]
    k = protocol["min_interactions"]
    core = f"{k}-core" if k > 1 else "no filter"
    split = "" if protocol["split"] == "leave-one-out" else f"{protocol['split']}, "
    return f"{split}{protocol['ordering']}, {core}, {protocol['catalogue']:,} items"


def budget_of(group: Group) -> str:
    """How many epochs there were to train."""
    return counted(group.first["config"]["training"]["epochs"], "epoch")


def named(group: Group) -> str:
    """A model of a comparison, with its settings where the name does not say them."""
    differs = [
        change for change in group.differs.split(", ")
        if not change.startswith(("official", "epochs=", "target_time=", "model_type="))
        and change != group.first["preset"]
    ]  # fmt: skip
    return ", ".join([group.first["model"], *differs])


def mean_seconds(group: Group) -> str:
    """Seconds of training, mean over the runs."""
    return f"{statistics.mean(record['train_seconds'] for record in group.records):,.0f}"


def listed(values: Sequence[object]) -> str:
    """Values with commas between."""
    return ", ".join(map(str, values))


def counted(n: int, thing: str) -> str:
    """A number with its noun, in the plural unless it is one."""
    return f"{n} {thing}{'s' * (n != 1)}"
