"""A run's configuration: data, model, training, task and seed, from Python, YAML or `--set`.

    task: ranking
    data: {dataset: ml-100k, split: leave-one-out}
    model: {name: official, dropout_prob: 0.1}
    training: {epochs: 8}
    seed: 0

`model_options` and `training_options` are the complete configurations. Every error is a
`ConfigError`, in the same words wherever the value came from.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, model_validator

from ss4rec_lib.configuration import Config, ConfigError, as_text, did_you_mean, parse_assignments
from ss4rec_lib.data import DATASETS, checkout, is_path, lookup
from ss4rec_lib.files import write_json
from ss4rec_lib.models import PRESETS, ModelConfig, Preset
from ss4rec_lib.training import TrainingConfig

FORMAT = 2
FOLDS = 5
INCIDENTAL = ("seed", "device", "checkpoint_seconds")  # how a run is carried out, not what it is
IDENTITY = ("fingerprint", "users", "interactions", "catalogue")  # in a protocol: of the same data

_SPLITS = {
    "ranking": ("leave-one-out", "global-time"),
    "rating": ("leave-one-out", "global-time", "random", "5-fold"),
}
_UNFILTERED = ("random", "5-fold")  # splits of published rating figures, made without a k-core
_SECTIONS = ("data", "model", "training")


class DataConfig(Config):
    """Which data, and how they are split."""

    dataset: str  # one of `ss4rec_lib.data.DATASETS`, or the path of a file of one's own
    path: str | None = None  # another place of the data; None for the usual places
    ordering: Literal["exact-time", "recbole-float32"] = "exact-time"  # no effect on 5-fold
    split: Literal["leave-one-out", "global-time", "random", "5-fold"] = "leave-one-out"
    # k of the k-core filter, 0 for none; by default 0 for the splits of single ratings.
    min_interactions: int = Field(5, ge=0)
    folds: int = Field(FOLDS, ge=1, le=FOLDS)  # with 5-fold, how many are run

    @model_validator(mode="before")
    @classmethod
    def _usual_filter(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {"min_interactions": 0 if values.get("split") in _UNFILTERED else 5} | values

    @model_validator(mode="after")
    def _fits_together(self) -> DataConfig:
        if self.dataset not in DATASETS and not is_path(self.dataset):
            lookup(self.dataset)  # its error
        if self.folds != FOLDS and self.split != "5-fold":
            raise ValueError(f"folds={self.folds}: split={self.split!r} has no folds, only 5-fold")
        return self

    def named(self) -> str | None:
        """Return the place that the data were named by: an option, a file or a variable, if any."""
        if self.path is not None or self.dataset == "planted":
            return self.path
        if self.dataset not in DATASETS:
            return self.dataset
        return os.environ.get(lookup(self.dataset).variable, "").strip() or None

    def changes(self) -> dict[str, Any]:
        """Return the options that are not the usual ones of this data set, path and split."""
        return self.overrides(DataConfig(**self.model_dump(include={"dataset", "path", "split"})))


def absolute(place: str) -> str:
    """Return a place as an absolute path, from the working folder or else the checkout."""
    roots, place = (os.getcwd(), checkout() or ""), os.path.expanduser(place)
    places = [os.path.abspath(os.path.join(root, place)) for root in roots]
    return next(filter(os.path.exists, places), places[0])


def portable(dataset: str) -> str:
    """Return a data set for a command line: a name, or a file without absolute folders."""
    return os.path.basename(dataset) if os.path.isabs(dataset) else dataset


def _one_of(name: str, value: str, allowed: Collection[str], hint: str = "") -> None:
    if value not in list(allowed):  # a list, because the value may not be hashable
        hint = hint or did_you_mean(value, allowed)
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(allowed)}.{hint}")


def _section(value: Any) -> Any:
    """Return the options of a section, given as a mapping, or for `model` as its name alone."""
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, Mapping):
        raise ValueError(f"{as_text(value)!r}: expected options by name, such as epochs: 8")
    return {str(k): tuple(v) if isinstance(v, list) else v for k, v in value.items()}


def _data_section(value: Any) -> Any:
    return value if isinstance(value, DataConfig) else DataConfig(**_section(value))


def _model_section(value: Any) -> Any:
    return {"name": "official", **_section(value)}


class RunConfig(Config):
    """Everything that a run depends on, beside the code and the machine.

    `model` has the `name` of one of the task's presets in `ss4rec_lib.models.PRESETS` and, as
    `training`, the options that differ from it. `seed` is that of everything that is drawn.
    """

    data: Annotated[DataConfig, BeforeValidator(_data_section)]
    model: Annotated[dict[str, Any], BeforeValidator(_model_section)] = Field(
        default_factory=lambda: _model_section({})
    )
    training: Annotated[dict[str, Any], BeforeValidator(_section)] = Field(default_factory=dict)
    task: Literal["ranking", "rating"] = "ranking"
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        """Refuse what nothing can be run with; the sections' own classes check their values."""
        name = self.model["name"]
        other = next((task for task in PRESETS if name in list(PRESETS[task])), None)
        hint = f" It is a model of task={other!r}." if other else ""
        _one_of("model", name, PRESETS[self.task], hint)
        _one_of("split", self.data.split, _SPLITS[self.task], f" The task is {self.task!r}.")
        if self.data.split == "5-fold" and self.preset.model.chooses_epoch:
            raise ValueError(
                f"split='5-fold' has no validation part, by which {name} chooses its epoch: take "
                "leave-one-out, global-time or random"
            )
        known = self._training_names()
        for key in self.training.keys() - known:
            raise ValueError(_unknown(key, self.training[key], known, f"the training of {name}"))
        training = self.training_options  # raises its own errors, as that of the model does
        if training.history == "full" and not self.preset.model.carries_state:
            raise ValueError(f"history='full': {name} carries no state; expected windows")
        return self

    def _training_names(self) -> list[str]:
        """The options of training that matter to the preset."""
        names = self.preset.model.trained_with
        if names is None:
            return [name for name in TrainingConfig.model_fields if name != "seed"]
        return [*names, "target_time"] if self.task == "ranking" else list(names)

    @property
    def name(self) -> str:
        """The preset's name."""
        return self.model["name"]

    @property
    def preset(self) -> Preset:
        """The preset that `model.name` names."""
        return PRESETS[self.task][self.name]

    @cached_property
    def model_options(self) -> ModelConfig:
        """The model's complete configuration."""
        changes = {key: value for key, value in self.model.items() if key != "name"}
        return self.preset.config.replace(**changes)

    @cached_property
    def training_options(self) -> TrainingConfig:
        """The complete options of training."""
        return self._training(**self.training, seed=self.seed)

    def _training(self, **changes: Any) -> TrainingConfig:
        # Without time in the model, runs that differ only in `target_time` would be the same run.
        on_ml_1m = self.task == "ranking" and self.data.dataset == "ml-1m"
        base = TrainingConfig.ml_1m() if on_ml_1m else TrainingConfig()
        training = base.replace(**{**self.preset.training, **changes})
        return training if self.model_options.uses_time else training.replace(target_time="none")

    def overrides(self) -> dict[str, Any]:
        """Return the options of model and training that differ from the preset, JSON-able."""
        names = [name for name in self._training_names() if name not in INCIDENTAL]
        changed = self.training_options.overrides(self._training())
        found = self.model_options.overrides(self.preset.config)
        return found | {name: value for name, value in changed.items() if name in names}

    def at(self, path: str | None) -> RunConfig:
        """Return the same run with its data at another place."""
        return self.replace(data=self.data.replace(path=path))

    def in_force(self) -> dict[str, Any]:
        """Return every option by name, those of the preset included, without the data's place."""
        training = self.training_options.model_dump(mode="json")
        return {
            "task": self.task,
            "model": self.name,
            **self.data.model_dump(mode="json", exclude={"path"}),
            **self.model_options.model_dump(mode="json"),
            **{name: training[name] for name in self._training_names()},
            "seed": self.seed,
        }

    def command(self, out: str) -> str:
        """Return the command line that makes this run again, without the data's path."""
        data, words = self.data, ["ss4rec", "train"]
        words += ["--task", self.task] if self.task != "ranking" else []
        words += ["--dataset", portable(data.dataset), "--model", self.name]
        words += ["--split", data.split] if data.split != "leave-one-out" else []
        for name, value in data.changes().items():
            option = "protocol" if name == "ordering" else name.replace("_", "-")
            words += [f"--{option}", str(value)]
        for key, value in self.overrides().items():
            words += ["--set", f"{key}={as_text(value)}"]
        return shlex.join([*words, "--seed", str(self.seed), "--out", out])

    def check_packages(self) -> None:
        """Raise a `ConfigError` if the model's library is not installed."""
        package = self.preset.model.requires
        if package is not None and importlib.util.find_spec(package) is None:
            missing = f"model={self.name!r} needs the package {package!r}, which is not installed"
            raise ConfigError(f'{missing}: pip install -e ".[peers]"')

    def write(self, path: Path, protocol: Mapping[str, Any] | None = None) -> None:
        """Write the configuration as JSON, with the place of the data and what identifies them."""
        place = self.data.named()
        same = {name: value for name, value in (protocol or {}).items() if name in IDENTITY}
        found = {"resolved": place and absolute(place), "identity": same}
        write_json(path, {"format": FORMAT, **self.model_dump(mode="json"), **found})

    @classmethod
    def read(cls, path: Path) -> RunConfig:
        """Read what `write` wrote; raise a `ConfigError` if it cannot be used."""
        if not path.exists():
            raise ConfigError(f"{path.parent} holds no run: it has no {path.name}")
        beside = ("format", "resolved", "identity")
        content = read_format(path, ConfigError)
        try:
            return cls(**{k: v for k, v in content.items() if k not in beside})
        except ConfigError as error:
            raise ConfigError(f"{path} cannot be used: {error}") from error


def read_format(path: Path, kind: type[ValueError]) -> dict[str, Any]:
    """Read a JSON object of this version's format; an error of a `kind` names the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("format", 1)
    except (OSError, AttributeError, ValueError) as error:
        raise kind(f"{path} cannot be read: {error}") from error
    if version != FORMAT:
        raise kind(
            f"{path} has format {version!r}, this version reads format {FORMAT}: make the run "
            "again, or read it with the release that wrote it"
        )
    return content


def run_config(
    given: Mapping[str, Any] | None = None, assignments: Iterable[str] = (),
    file: str | Path | None = None, saved: Path | None = None,
) -> RunConfig:  # fmt: skip
    """Build a configuration from what a command line names.

    `given` are options by name, None for those left out, `assignments` texts such as `epochs=8` or
    `training.epochs=8`. They overrule the sections of `RunConfig` in `file`, a YAML file. `saved`
    is the configuration of a run to continue, with which everything given must agree.
    """
    given = {name: value for name, value in (given or {}).items() if value is not None}
    values = parse_assignments(assignments)
    for name in given.keys() & values.keys():
        raise ConfigError(f"{name} is given twice: as an option of its own and by --set")
    tree: dict[str, Any] = {section: {} for section in _SECTIONS}
    tree |= read_yaml(file) if file is not None else {}
    if "model" in given:
        tree["model"]["name"] = given.pop("model")
    for name, value in given.items():
        (tree if name in ("task", "seed") else tree["data"])[name] = value
    if saved is not None:
        config = RunConfig.read(saved)
        asked = {name: value for name, value in tree.items() if name not in _SECTIONS}
        asked |= tree["data"] | tree["model"] | tree["training"]
        asked |= {key.rpartition(".")[2]: value for key, value in values.items()}
        if "name" in asked:
            asked["model"] = asked.pop("name")
        place = asked.pop("path", None)
        refuse_differences(saved.parent, config, asked)
        return config if place is None else config.at(place)
    if not {"dataset", "data.dataset"} & {*values, *tree["data"]}:
        raise ConfigError("no data set is named: give --dataset, for example --dataset ml-100k")
    _assign(tree, values)
    return RunConfig(**tree)


def _assign(tree: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Put each `key=value` into its section, decided by the name where no section is given."""
    task, name = tree.get("task", "ranking"), tree["model"].get("name", "official")
    preset = PRESETS.get(task, {}).get(name) if isinstance(name, str) else None
    model = list(type(preset.config).model_fields) if preset else []
    names = {"model": model, "training": list(TrainingConfig.model_fields)}
    names["data"] = list(DataConfig.model_fields)
    for key, value in values.items():
        section, _, option = key.rpartition(".")
        if option in ("task", "seed") and not section:
            tree[option] = value
            continue
        if not section:
            # An unknown model has unknown options: the model is what the error must name.
            unknown = "" if preset else "model"
            section = next((part for part in names if option in names[part]), unknown)
        if section not in _SECTIONS or (preset and option not in (*names[section], "name")):
            known = [n for part in names.values() for n in part if n != "seed"]
            raise ConfigError(f"--set {_unknown(key, value, known, f'model {name!r}')}")
        tree[section][option] = value


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a configuration file; raise a `ConfigError` that names the line or the wrong name."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no configuration: expected task, data, model, training")
    for name in content.keys() - RunConfig.model_fields.keys():
        unknown = _unknown(str(name), content[name], RunConfig.model_fields, "a run")
        raise ConfigError(f"{path}: {unknown}")
    try:
        found = {part: _section(content[part]) for part in _SECTIONS if part in content}
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    for options in found.values():
        for name, value in options.items():
            if isinstance(value, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value):
                options[name] = float(value)  # YAML 1.1 takes 1e-3 as text
    return content | found


def refuse_differences(folder: Path, saved: RunConfig, asked: Mapping[str, Any]) -> None:
    """Raise a `ConfigError` that names every option whose value is not that of the saved run."""
    found = saved.in_force()
    different = [
        f"{name} is {as_text(found.get(name, 'no option'))} there and {as_text(value)} here"
        for name, value in asked.items()
        if name not in found or as_text(found[name]) != as_text(value)
    ]
    if different:
        raise ConfigError(
            f"{folder} is a run with other options: {'; '.join(different)}. Nothing was changed. "
            "Leave the options out to continue with those of the run, or choose another folder."
        )


def _unknown(key: str, value: Any, known: Iterable[str], whose: str) -> str:
    known = list(dict.fromkeys(known))
    return (
        f"{key}={as_text(value)}: there is no option {key!r} of {whose}."
        f"{did_you_mean(key.rpartition('.')[2], known)} Options are {', '.join(known) or 'none'}."
    )
