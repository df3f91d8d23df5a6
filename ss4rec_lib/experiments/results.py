"""The recorded runs in `results/`: reading them, naming them, grouping them over seeds."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ss4rec_lib.data import checkout
from ss4rec_lib.experiments.changes import as_text
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.settings import ALL_PRESETS, training_preset
from ss4rec_lib.models import FITTED, uses_time

T = TypeVar("T")

ABLATIONS = (
    "ablations"  # the folder of runs that settings are chosen by, within that of the records
)
RANKS = "ranks"  # the folder of the runs' ranks, within that of the records

# Kept out of comparisons: they say how a run was carried out, not what was computed.
_INCIDENTAL = ("seed", "device", "checkpoint_seconds")

_NEEDED = {
    "dataset", "model", "preset", "protocol", "config", "seed", "valid", "test", "arms",
    "data_verified", "train_seconds", "epochs", "best_epoch", "peak_rss_bytes", "machine",
    "versions", "revision",
}  # fmt: skip


def results_folder() -> Path:
    """The folder `results` of the checkout that this package runs from.

    Raises:
        ExperimentError: The package was installed without its checkout.
    """
    root = checkout()
    if root is None:
        raise ExperimentError(
            "recorded runs belong into a checkout of this project, and the package does not run "
            'from one: clone the repository and install it with pip install -e ".[dev]"'
        )
    return root / "results"


def load_records(folder: Path) -> dict[str, dict[str, Any]]:
    """All records of a folder by name, in the order of their names.

    Raises:
        ExperimentError: A JSON file that is no record, naming what it lacks.
    """
    return read_records(folder, check_record)


def read_beside(folder: Path, names: Sequence[str], read: Callable[[Path], T]) -> dict[str, T]:
    """What was kept beside records, by their names; records without such a file are left out.

    Args:
        folder: Where `NAME.npz` lies.
        names: Of the records.
        read: Reads one file, or raises an ExperimentError.
    """
    paths = {name: folder / f"{name}.npz" for name in names}
    return {name: read(path) for name, path in paths.items() if path.exists()}


def read_records(folder: Path, check: Callable[[str, Any], None]) -> dict[str, dict[str, Any]]:
    """The JSON files of a folder by name, each of them checked.

    Args:
        folder: Where they are; one that does not exist has none.
        check: Called with a file's name and content; refuses what is no record.

    Raises:
        ExperimentError: A file that is not JSON, or what `check` raises.
    """
    records = {}
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ExperimentError(f"{path.name} in {folder.name}/ is not JSON: {error}") from error
        check(path.name, record)
        records[path.stem] = record
    return records


def plain_name(name: str) -> str:
    """A record's name without `.json`; one with a folder is refused (ExperimentError)."""
    if name != Path(name).name or name.startswith(".") or not name:
        raise ExperimentError(f"--as {name!r}: expected a plain file name, without a folder")
    return name.removesuffix(".json")


def check_record(label: str, record: Any) -> None:
    """Refuse what is no record of a run (ExperimentError naming what lacks)."""
    missing = sorted(_NEEDED - record.keys()) if isinstance(record, dict) else sorted(_NEEDED)
    if missing:
        raise ExperimentError(f"{label} is no record of a run: it lacks {', '.join(missing)}")
    if record["preset"] not in ALL_PRESETS:
        known = ", ".join(ALL_PRESETS)
        raise ExperimentError(
            f"{label} has the preset {record['preset']!r}: expected one of {known}"
        )


def changes_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the recorded configuration has other than the presets of *this* version.

    The full configuration is recorded, so a later change of a preset shows up here, and the
    command line made from it still means the same run. That a model blind to time was told nothing
    of it is no change: it cannot be otherwise.
    """
    preset = record["preset"]
    model = json.loads(json.dumps(ALL_PRESETS[preset]().model_dump()))  # tuples to lists
    training = dataclasses.asdict(training_preset(record["dataset"], preset))
    if _is_blind(record):
        training["target_time"] = "none"
    presets = {"model": model, "training": training}
    missing = object()
    return {
        key: value
        for part, preset in presets.items()
        for key, value in record["config"][part].items()
        if key not in _INCIDENTAL and preset.get(key, missing) != value
    }


def _is_blind(record: Mapping[str, Any]) -> bool:
    """Whether the recorded model does not look at time."""
    if record["preset"] in FITTED:
        return True
    preset = ALL_PRESETS[record["preset"]]()
    names = type(preset).model_fields.keys()
    recorded = record["config"]["model"]
    return not uses_time(
        preset.replace(**{k: v for k, v in recorded.items() if k in names})
    )


def record_name(record: Mapping[str, Any]) -> str:
    """A file name that says what the run was: data, protocol, model, changes, seed."""
    protocol = record["protocol"]
    parts = [record["dataset"], protocol["ordering"]]
    if protocol["split"] != "leave-one-out":
        parts.append(protocol["split"])
    parts.append("ss4rec")
    if protocol["min_interactions"] != 5:
        parts.append(f"{protocol['min_interactions']}-core")
    if record["preset"] != "official":
        parts.append(record["preset"])
    parts += [f"{key}-{as_text(value)}" for key, value in changes_of(record).items()]
    parts.append(f"seed{record['seed']}")
    return re.sub(r"[^\w.-]", "-", "_".join(parts))


@dataclass(frozen=True)
class Seeds:
    """Runs that differ in nothing but the seed.

    Attributes:
        names: Of the records, by ascending seed.
        records: The records in that order.
    """

    names: list[str]
    records: list[dict[str, Any]]

    @property
    def first(self) -> dict[str, Any]:
        """The record with the lowest seed, which speaks for what all share."""
        return self.records[0]

    @property
    def seeds(self) -> list[int]:
        """Ascending."""
        return [record["seed"] for record in self.records]

    @property
    def verified(self) -> bool:
        """Whether all were made from the published ratings, by hash."""
        return all(record["data_verified"] for record in self.records)


class Group(Seeds):
    """Runs of `ss4rec train` that differ in nothing but the seed."""

    @property
    def differs(self) -> str:
        """The preset and what is changed in it, in words of `--set`."""
        changes = [f"{key}={as_text(value)}" for key, value in changes_of(self.first).items()]
        return ", ".join([self.first["preset"], *changes])

    def arm(self, target_time: str, masked: bool) -> list[dict[str, Any]]:
        """One arm of every record."""
        return [
            arm
            for record in self.records
            for arm in record["arms"]
            if (arm["target_time"], arm["masked"]) == (target_time, masked)
        ]

    def command(self, seed: int) -> str:
        """The command line that makes the run of a seed again."""
        protocol = self.first["protocol"]
        words = ["ss4rec", "train", "--dataset", self.first["dataset"]]
        words += ["--preset", self.first["preset"], "--protocol", protocol["ordering"]]
        if protocol["split"] != "leave-one-out":
            words += ["--split", protocol["split"]]
        if protocol["min_interactions"] != 5:
            words += ["--min-interactions", str(protocol["min_interactions"])]
        for key, value in changes_of(self.first).items():
            words += ["--set", f"{key}={as_text(value)}"]
        name = self.names[self.seeds.index(seed)]
        return shlex.join([*words, "--seed", str(seed), "--out", f"runs/{name}"])


def grouped(records: Mapping[str, dict[str, Any]]) -> list[Group]:
    """Records that differ only in seed (and in how long it took, where) come together.

    Raises:
        ExperimentError: Two records of the same run: its seed would count twice.
    """

    def shared(record: Mapping[str, Any]) -> list[Any]:
        config = {
            part: {key: value for key, value in values.items() if key not in _INCIDENTAL}
            for part, values in record["config"].items()
        }
        return [record["dataset"], record["preset"], record["protocol"], config]

    return sorted((Group(*each) for each in by_seed(records, shared)), key=_place)


def by_seed(
    records: Mapping[str, dict[str, Any]], shared: Callable[[Mapping[str, Any]], Any]
) -> list[tuple[list[str], list[dict[str, Any]]]]:
    """Names and records that have the same `shared(record)`, each by ascending seed.

    Raises:
        ExperimentError: Two records of the same run: its seed would count twice.
    """
    groups: dict[str, list[str]] = {}
    for name, record in records.items():
        groups.setdefault(json.dumps(shared(record), sort_keys=True), []).append(name)
    for names in groups.values():
        names.sort(key=lambda name: records[name]["seed"])
        for one, other in zip(names, names[1:], strict=False):
            if records[one]["seed"] == records[other]["seed"]:
                raise ExperimentError(
                    f"{one}.json and {other}.json are the same run (seed {records[one]['seed']}): "
                    "keep one of them"
                )
    return [(names, [records[name] for name in names]) for names in groups.values()]


def _place(group: Group) -> tuple:
    """Where a group stands in a table: by data, protocol, then what is changed."""
    record, protocol = group.first, group.first["protocol"]
    core = protocol["min_interactions"]
    later = protocol["split"] != "leave-one-out"
    return (record["dataset"], later, protocol["ordering"], core, record["model"], group.differs)
