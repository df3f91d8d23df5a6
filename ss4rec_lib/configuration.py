"""Configurations: frozen, strictly typed, with one error text wherever a value comes from.

Python, YAML files and `--set key=value` all end here, so a wrong name or value is answered in the
same words. pydantic checks; this module turns its findings into sentences that name the field, its
value and what was expected.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# Kinds of options that several configurations have.
Count = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the field, its value and a remedy."""


class Config(BaseModel):
    """A set of options. Keyword arguments only; unknown names and other types are refused.

    Raises:
        ConfigError: On construction and in `replace`, naming every field that is wrong.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )

    def __init__(self, **values: Any) -> None:
        # JSON and YAML know no tuples.
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        # Where "none" is one of several words, `--set target_time=none` means the word.
        words = {k for k, f in type(self).model_fields.items() if "none" in get_args(f.annotation)}
        values |= {k: "none" for k in words & values.keys() if values[k] is None}
        try:
            super().__init__(**values)
        except ValidationError as error:
            known = list(type(self).model_fields)
            raise ConfigError("; ".join(_sentence(e, known) for e in error.errors())) from None

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, checked like a new one."""
        # dict(self) would have the cached properties too.
        return type(self)(
            **{name: getattr(self, name) for name in type(self).model_fields} | changes
        )

    def overrides(self, base: Config) -> dict[str, Any]:
        """Return the fields whose values differ from those of `base`, JSON-able."""
        own, other = self.model_dump(mode="json"), base.model_dump(mode="json")
        return {n: value for n, value in own.items() if n not in other or other[n] != value}


def did_you_mean(given: object, known: Iterable[str], most: int = 3) -> str:
    """Return a sentence that names up to `most` similar words, or an empty string."""
    near = difflib.get_close_matches(str(given), list(known), n=most, cutoff=0.5)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def as_text(value: Any) -> str:
    """Return a value as `--set key=value` reads it: `none`, `true`, `128,64`, `0.003`."""
    if value is None:
        return "none"
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def from_text(text: str) -> Any:
    """Read a value from a command line; the field it is meant for checks its type.

    `none` and `null` become None, `true` and `false` booleans, whole numbers int, other numbers
    float, numbers with commas between them a tuple, anything else stays text.
    """
    text = text.strip()
    word = text.lower()
    if word in ("none", "null"):
        return None
    if word in ("true", "false"):
        return word == "true"
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if re.fullmatch(r"[+-]?\d+(,[+-]?\d+)+", text):
        return tuple(int(part) for part in text.split(","))
    try:
        return float(text)
    except ValueError:
        return text


def parse_assignments(pairs: Iterable[str]) -> dict[str, Any]:
    """Read texts such as `epochs=8`.

    Raises:
        ConfigError: A text of another form, or a key that is given twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"--set {pair}: expected key=value, for example epochs=8")
        if key in found:
            raise ConfigError(f"--set {pair}: {key} is set twice; give each key one value")
        found[key] = from_text(text)
    return found


def _sentence(error: Mapping[str, Any], known: Iterable[str]) -> str:
    """Turn one finding of pydantic into a sentence."""
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "value_error":  # raised by a validator of ours: it says everything itself
        return str(error["ctx"]["error"])
    value = error["input"]
    if error["type"] == "extra_forbidden":
        return (
            f"{name}={as_text(value)}: there is no option {name!r}.{did_you_mean(name, known)} "
            f"Options are {', '.join(known) or 'none'}."
        )
    if error["type"] == "missing":
        return f"{name} is missing: {error['msg'].lower()}"
    shown = repr(value) if isinstance(value, str) else as_text(value)
    expected = error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    if error["type"] == "literal_error":
        expected = "one of " + error["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        choices = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return f"{name}={shown}: expected {expected}.{did_you_mean(value, choices)}"
    return f"{name}={shown}: expected {expected}"
