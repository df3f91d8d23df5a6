"""Changed options as `key=value`: what can be set, and how its text is read.

A key is a field of a model's configuration (`ss4rec_lib.models.registry`, `.fitted`) or of
`TrainingConfig`. A name that several models share has one type; one that is in `TrainingConfig` is
set there, also where a model's configuration has it too (`learning_rate` of BPR). The field's
declared type decides how the text is read; whether the model at hand has it is for `Settings` to
say.
"""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from ss4rec_lib.experiments.errors import SettingsError
from ss4rec_lib.models import MODELS, TRAINED_WITH, config_fields
from ss4rec_lib.training import TrainingConfig

TRAINING_KEYS: dict[str, Any] = config_fields(TrainingConfig)
MODEL_KEYS: dict[str, Any] = {
    key: declared
    for kind in (*MODELS, *TRAINED_WITH)
    for key, declared in config_fields(kind).items()
    if key not in TRAINING_KEYS
}
KEYS = MODEL_KEYS | TRAINING_KEYS
"""Every key that can be set, with its declared type."""

_EXPECTED = {
    int: "an integer", float: "a finite number", bool: "true or false", str: "text",
    type(None): "none", tuple[int, ...]: "integers with commas between them",
}  # fmt: skip


def parse_changes(pairs: Iterable[str]) -> dict[str, Any]:
    """Texts such as `epochs=8` to values of the declared types.

    Args:
        pairs: `key=value` each.

    Returns:
        Values by key.

    Raises:
        SettingsError: Not of that form, an unknown key (with the nearest ones), a value of
            another type, or a key given twice.
    """
    changes: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise SettingsError(f"--set {pair}: expected key=value, for example epochs=8")
        if key not in KEYS:
            raise unknown_key(key, text)
        if key in changes:
            raise SettingsError(f"--set {pair}: {key} is set twice; give each key one value")
        changes[key] = parsed_value(key, text.strip(), KEYS[key])
    return changes


def split_changes(changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Changed values by key to those of the model and those of training."""
    model = {key: value for key, value in changes.items() if key in MODEL_KEYS}
    return model, {key: value for key, value in changes.items() if key not in model}


def as_text(value: Any) -> str:
    """A value as `parse_changes` reads it."""
    if value is None:
        return "none"
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def unknown_key(key: str, value: Any) -> SettingsError:
    """The error for a key that no configuration has, with the nearest ones; not raised."""
    return SettingsError(
        f"--set {key}={as_text(value)}: there is no {key!r}.{did_you_mean(key, KEYS)} Keys of "
        f"models are {', '.join(MODEL_KEYS)}; of training {', '.join(TRAINING_KEYS)}."
    )


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """A sentence that names up to three similar words, or nothing."""
    near = difflib.get_close_matches(str(given), list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def alternatives(declared: Any) -> tuple[type, ...]:
    """`int | None` to (int, NoneType); a plain type to itself alone."""
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        return typing.get_args(declared)
    return (declared,)


def parsed_value(key: str, text: str, declared: Any) -> Any:
    """The text of a `--set key=text` as a value of the declared type.

    Raises:
        SettingsError: It is none of that type.
    """
    allowed = alternatives(declared)
    if type(None) in allowed and text.lower() == "none":
        return None
    for kind in allowed:
        value = _read_as(kind, text)
        if value is not None:
            return value
    expected = " or ".join(_EXPECTED[kind] for kind in allowed)
    raise SettingsError(f"--set {key}={text}: {key} must be {expected}, and {text!r} is not")


def _read_as(kind: type, text: str) -> Any:
    """The text as a value of that type; None if it is not one."""
    if kind is str:
        return text or None
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower())
    try:
        if kind == tuple[int, ...]:
            return tuple(int(part) for part in text.split(","))
        if kind not in (int, float):
            return None
        value = kind(text)
    except ValueError:
        return None
    return value if kind is int or math.isfinite(value) else None
