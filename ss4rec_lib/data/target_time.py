"""What the model is told about the time of the interaction it has to predict.

The published model sees, at each position, the seconds to the *next* interaction, the target's
included: it knows when, not what. That is one of four arms:

    known      delta[k] = t[k+1] - t[k], the target's timestamp included (published)
    hidden     trained as `known`; in evaluation the last interval, the one to the target, is
               replaced by a constant fitted on the training part
    previous   delta[k] = t[k] - t[k-1], 0 at a user's first interaction: only the past is seen
    none       delta[k] = 1 everywhere: time-blind
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ss4rec_lib.data.splits import Split

TARGET_TIMES = ("known", "hidden", "previous", "none")


def check_target_time(target_time: str) -> str:
    """Refuse an unknown arm.

    Raises:
        ValueError: Naming the value and the arms there are.
    """
    if target_time not in TARGET_TIMES:
        raise ValueError(f"target_time={target_time!r}: choose one of {', '.join(TARGET_TIMES)}")
    return target_time


def typical_interval(split: Split) -> float:
    """The constant of `hidden`: the median seconds between consecutive training interactions."""
    times, offsets = split.sequences.times, split.sequences.offsets
    intervals = np.diff(times)
    # An interval belongs to the training part when the interaction after it does.
    position = np.arange(1, len(times)) - np.repeat(offsets[:-1], np.diff(offsets))[1:]
    inside = (position >= 1) & (position < np.repeat(split.train_end, np.diff(offsets))[1:])
    return float(np.median(intervals[inside])) if inside.any() else 0.0
