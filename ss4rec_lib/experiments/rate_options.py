"""The models of rating experiments: their names, their options, and what these are by default."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ss4rec_lib.experiments.changes import did_you_mean, parsed_value
from ss4rec_lib.experiments.errors import SettingsError
from ss4rec_lib.models import (
    BayesianFM,
    BiasBaseline,
    BiasedMF,
    GlobalMean,
    RatingBaseline,
    RatingConfig,
    RatingNeuralCF,
    SS4RecConfig,
    SVDPlusPlus,
    config_fields,
)
from ss4rec_lib.training import TrainingConfig

BASELINES: Mapping[str, Callable[..., RatingBaseline]] = {
    "mean": GlobalMean,
    "bias": BiasBaseline,
    "svd": BiasedMF,
    "svdpp": SVDPlusPlus,
    "fm": BayesianFM,
    "fm-implicit": functools.partial(BayesianFM, implicit=True),
    "neural_cf": RatingNeuralCF,
}
"""Models of users and items, called with their options."""

SEQUENCE_MODELS: Mapping[str, str] = {
    "ss4rec-rating": "rating",
    "ss4rec-ranking": "ranking",
    "ss4rec-both": "both",
    "ss4rec-user": "both",
}
"""SS4Rec, and what it is trained for; `ss4rec-user` has a vector for each user besides."""

RATING_MODELS = (*BASELINES, *SEQUENCE_MODELS)
PACKAGES_OF = {
    "svd": "surprise", "svdpp": "surprise", "fm": "myfm", "fm-implicit": "myfm",
}  # fmt: skip
"""What a baseline is imported from, where that is not this package."""

_GIVEN = ("seed", "valid", "implicit", "return")  # known from the model's name or from the run
# Options of `RatingConfig` beside those of the trunk, and the models that they are options of.
_OWN = {
    "rating_weight": ("ss4rec-both", "ss4rec-user"),  # elsewhere there is nothing to weigh
    "use_ratings": tuple(SEQUENCE_MODELS),
    "user_factors": ("ss4rec-user",),
    "user_penalty": ("ss4rec-user",),
}

# Chosen on the validation part of MovieLens-100K, leave-last-out. The error in ratings is smallest
# after a few epochs of a large learning rate; a ranking takes longer.
_TRUNK = {"hidden_size": 32, "d_H": 32, "interval": "log1p"}
_RATING_WEIGHT = 4.0  # nats a target are larger than squared rating units
_USER_FACTORS = 32  # of ss4rec-user, whose options were chosen on that of MovieLens-1M
_TRAINING = {
    "ss4rec-rating": {"epochs": 6, "learning_rate": 6e-3, "patience": 5},
    "ss4rec-both": {"epochs": 8, "learning_rate": 6e-3, "patience": 5},
    "ss4rec-user": {"epochs": 8, "learning_rate": 6e-3, "patience": 5},
    "ss4rec-ranking": {"epochs": 20, "learning_rate": 3e-3, "patience": 10},
}


def options_of(model: str) -> dict[str, Any]:
    """The options of a model by name, with their declared types."""
    if model in SEQUENCE_MODELS:
        hints = config_fields(RatingConfig)
        found = config_fields(SS4RecConfig) | {name: hints[name] for name in _own(model)}
        found |= config_fields(TrainingConfig)
    else:
        found = typing.get_type_hints(_class_of(model).__init__)
    return {name: kind for name, kind in found.items() if name not in _GIVEN}


def default_options(model: str) -> dict[str, Any]:
    """What the options of a model are where nothing else is said."""
    if model in SEQUENCE_MODELS:
        rating = RatingConfig(
            SS4RecConfig.official(**_TRUNK),
            rating_weight=_RATING_WEIGHT,
            user_factors=_USER_FACTORS,
        )
        own = {name: getattr(rating, name) for name in _own(model)}
        found = rating.trunk.model_dump() | own
        found |= dataclasses.asdict(TrainingConfig(**_TRAINING[model]))
    else:
        arguments = inspect.signature(_class_of(model)).parameters
        found = {name: argument.default for name, argument in arguments.items()}
    return {name: value for name, value in found.items() if name not in _GIVEN}


def parse_options(model: str, pairs: Sequence[str]) -> dict[str, Any]:
    """Texts such as `n_epochs=8` to values of the types that the model declares.

    Raises:
        SettingsError: Not of that form, no option of the model (with the nearest ones), a value of
            another type, or a key given twice.
    """
    known = options_of(model)
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise SettingsError(f"--set {pair}: expected key=value, for example epochs=8")
        if key not in known:
            raise SettingsError(
                f"--set {pair}: {model} has no option {key!r}.{did_you_mean(key, known)} It has "
                f"{', '.join(known) or 'none'}."
            )
        if key in found:
            raise SettingsError(f"--set {pair}: {key} is set twice; give each key one value")
        found[key] = parsed_value(key, text.strip(), known[key])
    return found


def sequence_configs(
    model: str, options: Mapping[str, Any], seed: int
) -> tuple[RatingConfig, TrainingConfig]:
    """The configurations of an SS4Rec for ratings.

    Args:
        model: One of `SEQUENCE_MODELS`.
        options: All options by name, as `default_options` gives them.
        seed: Of the run.

    Raises:
        ValueError: Naming the option, its value and what was expected.
    """
    given = {**options, "seed": seed}
    trunk, training = (
        kind(**{name: given[name] for name in config_fields(kind)})
        for kind in (SS4RecConfig, TrainingConfig)
    )
    own = {name: given[name] for name in _own(model)}
    return RatingConfig(trunk, SEQUENCE_MODELS[model], **own), training


def make_baseline(model: str, options: Mapping[str, Any], seed: int) -> RatingBaseline:
    """A baseline with these options, not fitted.

    Raises:
        ValueError: Naming the option, its value and what was expected.
    """
    for name, value in options.items():
        low = 1 if options_of(model)[name] is int else 0
        if not value >= low:
            raise ValueError(f"{name}={value}: expected at least {low}")
    seeded = "seed" in typing.get_type_hints(_class_of(model).__init__)
    return BASELINES[model](**options, **({"seed": seed} if seeded else {}))


def _own(model: str) -> list[str]:
    return [name for name, models in _OWN.items() if model in models]


def _class_of(model: str) -> type[RatingBaseline]:
    made = BASELINES[model]
    return made.func if isinstance(made, functools.partial) else made
