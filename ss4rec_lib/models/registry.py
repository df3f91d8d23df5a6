"""Presets: named configurations of models, each with the options of training that go with it.

Presets of rankings that are trained:
    official, bpr           SS4Rec; with `model_type=mamba_only` it is Mamba4Rec, with `s5_only`
                            the time-aware half alone
    gru4rec                 a recurrent network that ignores time
    sasrec                  causal self-attention that ignores time
    sasrec_time             the same with elapsed time, the time to the target included
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ss4rec_lib.models.base import ModelConfig, Recommender
from ss4rec_lib.models.gru4rec import GRU4Rec, GRU4RecConfig
from ss4rec_lib.models.sasrec import SASRec, SASRecConfig
from ss4rec_lib.models.ss4rec import SS4Rec, SS4RecConfig


@dataclass(frozen=True)
class Preset:
    """A named configuration.

    Attributes:
        model: The class of the model.
        config: Its options.
        training: Options of `TrainingConfig` that differ from the defaults of the data set.
    """

    model: type
    config: ModelConfig
    training: Mapping[str, Any] = field(default_factory=dict)


RANKING_PRESETS: Mapping[str, Preset] = {
    "official": Preset(SS4Rec, SS4RecConfig.official()),
    "bpr": Preset(SS4Rec, SS4RecConfig.bpr()),
    "gru4rec": Preset(GRU4Rec, GRU4RecConfig()),
    "sasrec": Preset(SASRec, SASRecConfig()),
    "sasrec_time": Preset(SASRec, SASRecConfig(time="intervals")),
}

RATING_PRESETS: Mapping[str, Preset] = {}

PRESETS: Mapping[str, Mapping[str, Preset]] = {
    "ranking": RANKING_PRESETS,
    "rating": RATING_PRESETS,
}
"""Presets by task and name."""

MODELS: Mapping[type[ModelConfig], type[Recommender]] = {
    SS4RecConfig: SS4Rec,
    GRU4RecConfig: GRU4Rec,
    SASRecConfig: SASRec,
}
"""The trained model of each class of configuration."""


def make_model(n_items: int, config: ModelConfig) -> Recommender:
    """Return the model of a configuration with new weights.

    Raises:
        ValueError: `n_items` is not an integer of at least 1.
        TypeError: A configuration of no trained model.
    """
    kind: Any = MODELS.get(type(config))
    if kind is None:
        known = ", ".join(each.__name__ for each in MODELS)
        raise TypeError(f"config is of type {type(config).__name__}: expected one of {known}")
    return kind(n_items, config)


def config_fields(config_type: type) -> dict[str, Any]:
    """Return the names and declared types of a configuration's fields."""
    hints = typing.get_type_hints(config_type)
    fields = getattr(config_type, "model_fields", hints)
    return {
        name: str if typing.get_origin(hints[name]) is typing.Literal else hints[name]
        for name in fields
    }


def config_named(name: str) -> type[ModelConfig] | None:
    """Return the class of configuration with that name, None if there is none."""
    return next((kind for kind in MODELS if kind.__name__ == name), None)


def model_name(config: ModelConfig) -> str:
    """Return the name of a configuration's model in a table."""
    return config.display_name


def uses_time(config: ModelConfig) -> bool:
    """Return whether the model of a configuration depends on the intervals of a history."""
    return config.uses_time
