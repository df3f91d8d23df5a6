"""In which order a user's interactions come, and at what times: the two protocols.

    `exact-time`       sorts each history by the integer timestamp; ties keep the file's row order.
    `recbole-float32`  sorts by the timestamp rounded to float32, ties again by file row, and takes
                       the intervals from the rounded times.

RecBole, which most published figures come from, stores timestamps as float32. At 1e9 s (the year
2001) neighbouring float32 numbers are 64 s apart, so inside every 64 s bucket the file order
decides, and MovieLens' file order is nearly the same for all users: the next film becomes easier to
guess. Use that ordering to reproduce, not to believe, and say which one a figure belongs to.
"""

from __future__ import annotations

import numpy as np

ORDERINGS = ("exact-time", "recbole-float32")
"""The orderings a history can have."""


def check_ordering(ordering: str) -> None:
    """Refuse an unknown ordering.

    Raises:
        ValueError: naming the value and the orderings there are.
    """
    if ordering not in ORDERINGS:
        raise ValueError(f"ordering={ordering!r}: expected {' or '.join(map(repr, ORDERINGS))}.")


def protocol_times(timestamps: np.ndarray, ordering: str) -> np.ndarray:
    """Timestamps as a protocol sees them.

    Args:
        timestamps: (n,) int64 seconds.
        ordering: one of `ORDERINGS`.

    Returns:
        (n,) int64 seconds: the same array, or each value rounded to the nearest float32.

    Raises:
        ValueError: unknown ordering.
    """
    check_ordering(ordering)
    if ordering == "exact-time":
        return timestamps
    return timestamps.astype(np.float32).astype(np.int64)


def stable_order(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Rows sorted by user and time, ties by row: `np.lexsort((times, users))` in a single sort.

    Args:
        users: (n,) integers >= 0, n at least 1.
        times: (n,) int64.

    Returns:
        (n,) int64 row numbers.
    """
    earliest = int(times.min())
    span = int(times.max()) - earliest + 1
    if (int(users.max()) + 1) * span > np.iinfo(np.int64).max:
        return np.lexsort((times, users))
    key = users.astype(np.int64)
    key *= span
    key += times
    key -= earliest
    return np.argsort(key, kind="stable")
