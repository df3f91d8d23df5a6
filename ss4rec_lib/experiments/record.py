"""The record of a run: one JSON object with everything that a figure must be read with.

    dataset, model, preset, protocol, config, seed, parameters
    data_verified       whether the ratings are the published ones, by hash
    valid, test         metrics with standard errors: own target time, seen items not masked
    arms                list of {target_time, masked, valid, test}; the first is `valid` and `test`
    epochs, best_epoch, stopped, curve      curve: the rows of the history
                        0, 0, `fitted` and no rows for baselines without epochs
    train_seconds, valid_seconds            of all epochs, also where the run was resumed
    wall_seconds        of the process that finished the run, everything included
    resumed             whether other processes did a part of it
    peak_rss_bytes      largest resident memory of the process until training ended; it cannot be
                        reset, so imports and reading the data are in it
    machine, versions, revision

Under the global-time split the protocol also has the cuts, `valid_from` and `test_from`, and how
many users have a target on their other side. A baseline that is fitted in one go has in its
`config` those options of training that matter to it, and its epoch, where it has any, is chosen
with seen items masked (`masked_ndcg@10` of the curve).

Paths and names of hosts or people are left out. Numbers that are not finite are null.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ss4rec_lib.data import Split
from ss4rec_lib.evaluation import rank_targets
from ss4rec_lib.experiments.settings import Settings
from ss4rec_lib.machine import describe_machine, describe_versions
from ss4rec_lib.models import FITTED, TRAINED_WITH, model_for, model_name, n_learned
from ss4rec_lib.training import FitResult, TrainingConfig

PACKAGES = (
    "torch", "numpy", "pandas", "scipy", "numba", "s5-pytorch", "accelerate", "safetensors",
    "implicit", "ss4rec-lab",
)  # fmt: skip
_CUTS = ("valid_from", "test_from", "n_valid", "n_test")


def evaluate_arms(model: nn.Module, split: Split, training: TrainingConfig) -> list[dict[str, Any]]:
    """Validation and test, with seen items in the ranking and masked out.

    A model trained with the target's time known is also asked with that time hidden: its last
    interval is then the constant fitted on the training part.

    Returns:
        An arm each: `target_time`, `masked`, and a `RankingResult` for `valid` and for `test`.
    """
    times = [training.target_time] + ["hidden"] * (training.target_time == "known")
    found = {
        (time, part): rank_targets(
            model_for(model, split, part),
            split,
            part,
            max_len=training.eval_max_len,
            target_time=time,
        )  # fmt: skip
        for time in times
        for part in ("valid", "test")
    }
    return [
        {"target_time": time, "masked": masked}
        | {part: found[time, part][masked] for part in ("valid", "test")}
        for time in times
        for masked in (False, True)
    ]


def make_record(
    settings: Settings,
    split: Split,
    model: nn.Module,
    result: FitResult,
    arms: list[dict[str, Any]],
    measured: Mapping[str, Any],
    processes: int = 1,
) -> dict[str, Any]:
    """Put a record together.

    Args:
        settings: What the run was made with.
        split: Its data.
        model: The trained model.
        result: What training returned.
        arms: What `evaluate_arms` returned.
        measured: `data_verified`, `wall_seconds`, `peak_rss_bytes`, `resumed`, `revision`.
        processes: How many trained it.

    Returns:
        Plain JSON: text, finite numbers, true, false, null, lists and objects.
    """
    training, data = settings.training_config(), split.describe()
    config = settings.model_config()
    device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    machine = describe_machine() | {
        "torch_threads": torch.get_num_threads(),
        "device": "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device),
        "processes": processes,
    }
    record = {
        "dataset": settings.dataset,
        "model": model_name(config),
        "preset": settings.preset,
        "protocol": {
            "ordering": data["ordering"],
            "split": data["split"],
            "min_interactions": data["min_interactions"],
            "target_time": training.target_time,
            "masked": False,
            "max_len": training.eval_max_len,
            "catalogue": data["catalogue"],
            "users": data["users"],
            "interactions": data["rows"],
            "fingerprint": split.fingerprint(),
            **{name: data[name] for name in _CUTS if settings.split == "global-time"},
        },
        "config": {
            "model": config.model_dump(),
            "training": _that_matter(config, dataclasses.asdict(training)),
        },
        "seed": settings.seed,
        "parameters": n_learned(model),
        "valid": arms[0]["valid"],
        "test": arms[0]["test"],
        "arms": arms,
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "stopped": result.stopped,
        "train_seconds": result.train_seconds,
        "valid_seconds": float(result.history["valid_seconds"].sum()),
        **measured,
        "machine": machine,
        "versions": describe_versions(PACKAGES),
        "curve": result.history.to_dict("records"),
    }
    return _plain(record)


def summary(record: Mapping[str, Any]) -> str:
    """A finished run in a few lines, for a terminal."""
    lines = []
    for arm in record["arms"]:
        seen = "masked" if arm["masked"] else "not masked"
        figures = ", ".join(
            f"{name.upper()} {with_error(arm['test'], name)}"
            for name in ("hr@10", "ndcg@10", "mrr@10")
        )
        lines.append(f"test, target time {arm['target_time']}, seen items {seen}: {figures}")
    # What the choice is made by: baselines fitted in one go are asked with seen items masked.
    masked = record["preset"] in FITTED
    valid = next(arm["valid"] for arm in record["arms"] if arm["masked"] == masked)
    figure = f"NDCG@10 {with_error(valid, 'ndcg@10')}" + ", seen items masked" * masked
    if record["epochs"]:
        lines.append(
            f"epoch {record['best_epoch']} of {record['epochs']} chosen on validation ({figure}); "
            f"{record['train_seconds']:.0f} s of training"
        )
    else:
        lines.append(f"validation: {figure}; {record['train_seconds']:.1f} s of fitting")
    return "\n".join(lines)


def with_error(metrics: Mapping[str, float | None], name: str) -> str:
    """`0.3561 ± 0.0061`: a metric and its standard error over users."""
    error = metrics.get(f"{name}_se")
    value = f"{metrics[name]:.4f}"
    return value if error is None or math.isnan(error) else f"{value} ± {error:.4f}"


def _that_matter(config: Any, training: dict[str, Any]) -> dict[str, Any]:
    """The options of training that a model of this configuration looks at."""
    names = TRAINED_WITH.get(type(config))
    if names is None:
        return training
    return {name: training[name] for name in ("seed", "target_time", *names)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
