"""Checks of whole-number arguments, with one wording for all of them."""

from __future__ import annotations

import operator

import numpy as np


def check_integer(
    name: str, value: object, least: int, most: int | None = None, alternative: str = ""
) -> int:
    """Return an integer argument as an int.

    Args:
        name: the argument's name, for the message.
        value: what was given; Python and numpy integers are accepted, True and 5.0 are not.
        least: the smallest value allowed.
        most: the largest value allowed; None for no limit.
        alternative: what else would have been accepted, for the message, such as "or None".

    Returns:
        The value.

    Raises:
        ValueError: naming the argument, its value and what was expected.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    in_range = number is not None and number >= least and (most is None or number <= most)
    if not in_range or isinstance(value, (bool, np.bool_)):
        upper = "" if most is None else f" and at most {most}"
        other = f", {alternative}" if alternative else ""
        raise ValueError(
            f"{name}={value!r}: expected an integer of at least {least}{upper}{other}."
        )
    return number
