"""What a run is made with: data, protocol, preset, seed, and what differs from the preset."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ss4rec_lib.data import DATASETS, ORDERINGS, check_min_interactions
from ss4rec_lib.experiments.changes import (
    KEYS,
    TRAINING_KEYS,
    as_text,
    did_you_mean,
    parse_changes,
    split_changes,
    unknown_key,
)
from ss4rec_lib.experiments.errors import SettingsError
from ss4rec_lib.files import write_text
from ss4rec_lib.models import FITTED, PRESETS, TRAINED_WITH, config_fields, uses_time
from ss4rec_lib.training import TrainingConfig

FORMAT = 1
SPLITS = ("leave-one-out", "global-time")

ALL_PRESETS: Mapping[str, Callable[..., Any]] = {
    **{name: preset.config.replace for name, preset in PRESETS["ranking"].items()},
    **FITTED,
}
"""Configurations by name: models that are trained, then baselines that are fitted."""


@dataclass(frozen=True)
class Settings:
    """Everything a run depends on, beside the code and the machine.

    Attributes:
        dataset: One of `ss4rec_lib.data.DATASETS`.
        path: A folder, file or archive to read it from; None for the usual places.
        ordering: `exact-time` or `recbole-float32`; `--protocol` on the command line.
        min_interactions: k of the k-core filter, 0 for none.
        preset: A configuration of `ALL_PRESETS`; it says which model. Training starts from
            `TrainingConfig.ml_1m()` on `ml-1m` and from `TrainingConfig()` elsewhere.
        seed: Of initial weights, batch order, dropout and negatives.
        model: Fields of the model's configuration that differ from the preset, by name.
        training: Fields of `TrainingConfig` that differ from the preset, by name; not `seed`.
        split: `leave-one-out` or `global-time`, see `ss4rec_lib.data.splits`.
    """

    dataset: str
    path: str | None = None
    ordering: str = "exact-time"
    min_interactions: int = 5
    preset: str = "official"
    seed: int = 0
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    split: str = "leave-one-out"

    def __post_init__(self) -> None:
        """Refuse settings that nothing can be run with.

        Raises:
            SettingsError: Naming the field, its value and what was expected.
        """
        for name, value, allowed in (
            ("dataset", self.dataset, DATASETS),
            ("protocol (ordering)", self.ordering, ORDERINGS),
            ("split", self.split, SPLITS),
            ("preset", self.preset, tuple(ALL_PRESETS)),
        ):
            if value not in allowed:
                raise SettingsError(
                    f"{name} is {value!r}: choose one of {', '.join(allowed)}."
                    f"{did_you_mean(value, allowed)}"
                )
        if "seed" in self.training:
            raise SettingsError("seed is a setting of its own: give Settings(seed=...)")
        kind = type(ALL_PRESETS[self.preset]())
        of_model = [name for name in config_fields(kind) if name not in TRAINING_KEYS]
        of_training = TRAINING_KEYS
        if kind in TRAINED_WITH:
            of_training = (*TRAINED_WITH[kind], "target_time")
        for part, known in (("model", of_model), ("training", of_training)):
            for name, value in getattr(self, part).items():
                if name not in KEYS:
                    raise unknown_key(name, value)
                if name not in known:
                    raise SettingsError(
                        f"{name}={as_text(value)} is no option of the {part} part with preset "
                        f"{self.preset}: expected {_one_of(known)}"
                    )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise SettingsError(f"seed={self.seed!r}: expected an integer")
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"seed={self.seed}: expected 0 <= seed < 2**32")
        try:
            check_min_interactions(self.min_interactions)
            self.model_config()
            self.training_config()
        except (TypeError, ValueError) as error:  # their own messages name field and value
            raise SettingsError(str(error)) from error

    def model_config(self) -> Any:
        """The preset with the changes, and with what training has under the same name."""
        training = self.training_config()
        shared = {name: getattr(training, name) for name in _shared(self.preset)}
        return self._own_config(**shared)

    def training_config(self) -> TrainingConfig:
        """The dataset's preset with the changes and the seed.

        A model that does not look at time is told nothing of it, whatever was asked for: arms that
        differ in it would be one and the same.
        """
        training = dataclasses.replace(
            training_preset(self.dataset, self.preset), **self.training, seed=self.seed
        )
        if not uses_time(self._own_config()):
            training = dataclasses.replace(training, target_time="none")
        return training

    def _own_config(self, **shared: Any) -> Any:
        return ALL_PRESETS[self.preset](**self.model, **shared)

    def resolved(self) -> dict[str, Any]:
        """Every value in force by name, those of the presets included."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del own["model"], own["training"]
        model, training = self.model_config(), self.training_config()
        return own | model.model_dump() | dataclasses.asdict(training)

    def write(self, path: Path) -> None:
        """Write them as JSON, whole or not at all (FileError if that cannot be done)."""
        content = {"format": FORMAT, **dataclasses.asdict(self)}
        write_text(path, json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read what `write` wrote.

        Raises:
            SettingsError: Not there, not such a file, or not usable with this version.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format", None) != FORMAT:
                raise SettingsError(f"expected format {FORMAT}")
            model = content.get("model", {}).items()  # JSON has no tuples
            content["model"] = {k: tuple(v) if isinstance(v, list) else v for k, v in model}
            return cls(**content)
        except FileNotFoundError:
            raise SettingsError(f"{path.parent} holds no run: it has no {path.name}") from None
        except (OSError, AttributeError, TypeError, ValueError) as error:
            raise SettingsError(f"{path} cannot be used: {error}") from error


def training_preset(dataset: str, preset: str = "official") -> TrainingConfig:
    """What training on a dataset starts from; a default that is the model's own is kept."""
    training = TrainingConfig.ml_1m() if dataset == "ml-1m" else TrainingConfig()
    config, own = ALL_PRESETS[preset](), set(_shared(preset)) - {"seed"}
    return dataclasses.replace(training, **{name: getattr(config, name) for name in own})


def _shared(preset: str) -> list[str]:
    """Fields that the model's configuration and `TrainingConfig` both have."""
    return [name for name in config_fields(type(ALL_PRESETS[preset]())) if name in TRAINING_KEYS]


def _one_of(names: Iterable[str]) -> str:
    return f"one of {', '.join(names)}" if names else "none"


def settings_from_options(
    given: Mapping[str, Any], changes: Sequence[str] = (), saved: Path | None = None
) -> Settings:
    """Settings from what a command line names; what it leaves out has its default.

    Args:
        given: Fields of `Settings` by name; None for those left out.
        changes: `key=value` texts, see `parse_changes`.
        saved: The settings file of a run to go on with: everything comes from there, and what is
            given must agree with it.

    Raises:
        SettingsError: See `Settings` and `parse_changes`; also no dataset, a seed given twice, or
            a disagreement with `saved`.
    """
    given = {name: value for name, value in given.items() if value is not None}
    values = parse_changes(changes)
    if "seed" in values:
        if "seed" in given:
            raise SettingsError("the seed is given twice: by --seed and by --set seed")
        given["seed"] = values.pop("seed")
    if saved is not None:
        settings = Settings.read(saved)
        refuse_differences(saved.parent, settings, given | values)
        return settings
    if "dataset" not in given:
        raise SettingsError("no dataset is named: give --dataset, for example --dataset ml-100k")
    model, training = split_changes(values)
    return Settings(**given, model=model, training=training)


def refuse_differences(folder: Path, saved: Settings, given: Mapping[str, Any]) -> None:
    """Refuse to go on with a run under other settings.

    Raises:
        SettingsError: Naming every difference, with both values.
    """
    found = saved.resolved()
    different = [
        f"{name} is {as_text(found.get(name, 'no option'))} there and {as_text(value)} here"
        for name, value in given.items()
        if name not in found or found[name] != value
    ]
    if different:
        raise SettingsError(
            f"{folder} is a run with other settings: {'; '.join(different)}. Nothing was changed. "
            "Leave the settings out to go on with those it was made with, or choose another folder."
        )
