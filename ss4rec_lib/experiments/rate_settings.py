"""What a rating experiment is made with: data, split, model, seed, and the model's options."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ss4rec_lib.data import DATASETS, ORDERINGS, check_min_interactions
from ss4rec_lib.experiments.changes import as_text, did_you_mean
from ss4rec_lib.experiments.errors import SettingsError
from ss4rec_lib.experiments.rate_options import (
    BASELINES,
    PACKAGES_OF,
    RATING_MODELS,
    SEQUENCE_MODELS,
    default_options,
    make_baseline,
    parse_options,
    sequence_configs,
)
from ss4rec_lib.experiments.settings import refuse_differences
from ss4rec_lib.files import write_text

FORMAT = 1
TASK = "rating"  # in the files of a run, so that it is not taken for a run of `ss4rec train`
FOLDS = 5

SPLITS = ("random", "leave-last-out", "global-time", "5-fold")
RANKED_SPLITS = ("leave-last-out", "global-time")
"""The splits with one target a user, which can be ranked too."""


@dataclass(frozen=True)
class RateSettings:
    """Everything a rating experiment depends on, beside the code and the machine.

    Attributes:
        dataset: One of `ss4rec_lib.data.DATASETS`.
        model: One of `rate_options.RATING_MODELS`.
        split: One of `SPLITS`.
        path: A folder, file or archive to read the data from; None for the usual places.
        ordering: `exact-time` or `recbole-float32`: what "last" means; without effect on `5-fold`.
        min_interactions: k of the k-core filter, 0 for none. None for what is usual with the
            split: 5 where the last or latest rating is held out, 0 where random ones are.
        seed: Of the model, and of the random splits.
        folds: With `5-fold`, how many of the five are run: the first ones.
        options: Options of the model that differ from its defaults, by name.
    """

    dataset: str
    model: str
    split: str
    path: str | None = None
    ordering: str = "exact-time"
    min_interactions: int | None = None
    seed: int = 0
    folds: int = FOLDS
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse settings that nothing can be run with.

        Raises:
            SettingsError: Naming the field, its value and what was expected.
        """
        for name, value, allowed in (
            ("dataset", self.dataset, DATASETS),
            ("model", self.model, RATING_MODELS),
            ("split", self.split, SPLITS),
            ("protocol (ordering)", self.ordering, ORDERINGS),
        ):
            if value not in allowed:
                raise SettingsError(
                    f"{name} is {value!r}: choose one of {', '.join(allowed)}."
                    f"{did_you_mean(value, allowed)}"
                )
        if self.split == "5-fold" and (self.model in SEQUENCE_MODELS or self.model == "neural_cf"):
            raise SettingsError(
                f"split 5-fold has no validation part, which {self.model} chooses its epoch by: "
                f"choose one of {', '.join(s for s in SPLITS if s != '5-fold')}"
            )
        for name, value, low, high in (
            ("seed", self.seed, 0, 2**32 - 1),
            ("folds", self.folds, 1, FOLDS),
        ):
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not low <= value <= high:
                raise SettingsError(f"{name}={value!r}: expected an integer from {low} to {high}")
        if self.folds != FOLDS and self.split != "5-fold":
            raise SettingsError(f"folds={self.folds}: split {self.split} has none, only 5-fold has")
        if self.min_interactions is None:
            usual = 5 if self.split in RANKED_SPLITS else 0
            object.__setattr__(self, "min_interactions", usual)  # the way of a frozen dataclass
        known = default_options(self.model)
        for name, value in self.options.items():
            if name not in known:
                raise SettingsError(
                    f"{name}={as_text(value)} is no option of {self.model}: expected one of "
                    f"{', '.join(known) or 'none at all'}"
                )
        try:
            check_min_interactions(self.min_interactions)
            self.make()
        except (TypeError, ValueError) as error:  # their own messages name field and value
            raise SettingsError(str(error)) from error

    def make(self) -> Any:
        """The baseline, not fitted; or the two configurations of an SS4Rec."""
        make = make_baseline if self.model in BASELINES else sequence_configs
        return make(self.model, self.resolved_options(), self.seed)

    def resolved_options(self) -> dict[str, Any]:
        """Every option in force."""
        return default_options(self.model) | self.options

    def resolved(self) -> dict[str, Any]:
        """Every value in force by name, those of the model's options included."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del own["options"]
        return own | self.resolved_options()

    def check_packages(self) -> None:
        """Refuse a model whose library is not here (SettingsError that says how to get it)."""
        package = PACKAGES_OF.get(self.model)
        if package is not None and importlib.util.find_spec(package) is None:
            raise SettingsError(
                f"model {self.model} is the package {package!r}, which is not installed: "
                'pip install -e ".[peers]"'
            )

    def write(self, path: Path) -> None:
        """Write them as JSON, whole or not at all (FileError if that cannot be done)."""
        content = {"format": FORMAT, "task": TASK, **dataclasses.asdict(self)}
        write_text(path, json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> RateSettings:
        """Read what `write` wrote.

        Raises:
            SettingsError: Not there, not such a file, or not usable with this version.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if (content.pop("format", None), content.pop("task", None)) != (FORMAT, TASK):
                raise SettingsError(f"expected format {FORMAT} of the task {TASK!r}")
            return cls(**content)
        except FileNotFoundError:
            raise SettingsError(f"{path.parent} holds no run: it has no {path.name}") from None
        except (OSError, AttributeError, TypeError, ValueError) as error:
            raise SettingsError(f"{path} cannot be used: {error}") from error


def rate_settings_from_options(
    given: Mapping[str, Any], changes: Sequence[str] = (), saved: Path | None = None
) -> RateSettings:
    """Settings from what a command line names; what it leaves out has its default.

    Args:
        given: Fields of `RateSettings` by name; None for those left out.
        changes: `key=value` texts, see `rate_options.parse_options`.
        saved: The settings file of a run to go on with: everything comes from there, and what is
            given must agree with it.

    Raises:
        SettingsError: See `RateSettings` and `parse_options`; also no dataset, model or split, or
            a disagreement with `saved`.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if saved is not None:
        settings = RateSettings.read(saved)
        given |= parse_options(settings.model, changes)
        refuse_differences(saved.parent, settings, given)
        return settings
    for name, example in (("dataset", "ml-100k"), ("model", "bias"), ("split", "random")):
        if name not in given:
            raise SettingsError(
                f"no {name} is named: give --{name}, for example --{name} {example}"
            )
    settings = RateSettings(**given)  # the model first: its options depend on it
    options = parse_options(settings.model, changes)
    return dataclasses.replace(settings, options=options)
