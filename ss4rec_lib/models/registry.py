"""The trained models by the name of a configuration, and which model a configuration makes.

Names of configurations:
    official, bpr      SS4Rec; with `model_type=mamba_only` what Mamba4Rec is, with `s5_only`
                            the time-aware half alone
    gru4rec                 a recurrent network, blind to time
    sasrec                  causal self-attention, blind to time
    sasrec_time             the same with elapsed time, the target's included

Baselines that are fitted and not trained are in `ss4rec_lib.models.fitted`.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ss4rec_lib.models.config import SS4RecConfig
from ss4rec_lib.models.fitted import fitted_name
from ss4rec_lib.models.gru4rec import GRU4Rec, GRU4RecConfig
from ss4rec_lib.models.sasrec import SASRec, SASRecConfig
from ss4rec_lib.models.ss4rec import SS4Rec

MODELS: Mapping[type, Callable[..., nn.Module]] = {
    SS4RecConfig: SS4Rec,
    GRU4RecConfig: GRU4Rec,
    SASRecConfig: SASRec,
}
"""The model of each kind of configuration, called with `(n_items, config)`."""

PRESETS: Mapping[str, Callable[..., Any]] = {
    "official": SS4RecConfig.official,
    "bpr": SS4RecConfig.bpr,
    "gru4rec": GRU4RecConfig,
    "sasrec": SASRecConfig,
    "sasrec_time": functools.partial(SASRecConfig, time="intervals"),
}
"""Configurations by name, each called with the fields to be changed."""


def make_model(n_items: int, config: Any) -> nn.Module:
    """The model that a configuration describes, with new weights.

    Raises:
        ValueError: `n_items` is not an integer of at least 1.
        TypeError: A configuration that no model here has.
    """
    if type(config) not in MODELS:
        known = ", ".join(kind.__name__ for kind in MODELS)
        raise TypeError(f"config is of type {type(config).__name__}: expected one of {known}")
    return MODELS[type(config)](n_items, config)


def config_fields(config_type: type) -> dict[str, Any]:
    """Names and declared types of a configuration's fields."""
    return typing.get_type_hints(config_type)


def config_named(name: str) -> type | None:
    """The type of configuration with that class name, None if there is none."""
    return next((kind for kind in MODELS if kind.__name__ == name), None)


def model_name(config: Any) -> str:
    """What a table calls the model of a configuration."""
    if isinstance(config, SS4RecConfig):
        kinds = {"ss4rec": "SS4Rec", "mamba_only": "Mamba4Rec", "s5_only": "S5 alone"}
        return kinds[config.model_type]
    if isinstance(config, SASRecConfig) and config.time != "none":
        return "SASRec with time"
    return MODELS[type(config)].__name__ if type(config) in MODELS else fitted_name(config)


def uses_time(config: Any) -> bool:
    """Whether the model of a configuration looks at the intervals of a history at all."""
    if isinstance(config, SS4RecConfig):
        return config.model_type != "mamba_only"
    return isinstance(config, SASRecConfig) and config.time != "none"
