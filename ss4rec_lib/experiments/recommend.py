"""What one user may want next, at a given moment.

The model reads the user's interactions and the seconds between them; the last of these intervals
runs from the latest interaction to the moment asked about. The same user may get another list
after a minute, a day or a year.
"""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import torch

from ss4rec_lib.data import (
    MILLISECONDS_FROM,
    Split,
    check_integer,
    check_target_time,
    make_batch,
    protocol_times,
    typical_interval,
)
from ss4rec_lib.experiments.errors import ExperimentError


@torch.no_grad()
def recommend(
    model: torch.nn.Module,
    split: Split,
    user_id: int,
    at: int,
    k: int = 10,
    include_seen: bool = False,
    *,
    items: pd.DataFrame | None = None,
    max_len: int | None = 200,
    target_time: str = "known",
) -> pd.DataFrame:
    """The k items with the highest scores for a user at a moment.

    The history is everything the split has of the user, its validation and test targets included.

    Args:
        model: Trained on `split`, as `evaluate_ranking` takes it; put in evaluation mode meanwhile.
        split: The data.
        user_id: In the data's own ids.
        at: The moment, seconds since 1970-01-01 UTC; not before the user's last interaction.
        k: How many.
        include_seen: Whether items of the history may be recommended again. If not, fewer than
            `k` rows may be left.
        items: Titles and years by item id, as from `load_items`.
        max_len: Most recent interactions that the model sees: as many as in training; None for
            all of them.
        target_time: What the model was told of time in training; only with `known` (the default)
            does `at` change the list.

    Returns:
        `rank` (from 1), `item_id`, `score`, and with `items` also `title` and `year`; best first,
        equal scores by item id.

    Raises:
        DataError: An unknown user.
        ExperimentError: `at` is before the last interaction or no time in seconds, or `k` or
            `max_len` is out of range.
        ValueError: An unknown `target_time`.
    """
    sequences = split.sequences
    try:
        check_integer("k", k, 1, sequences.n_items)
        if max_len is not None:
            check_integer("max_len", max_len, 1, alternative="or None for the whole history")
        at = check_integer("at", at, 0, MILLISECONDS_FROM, alternative="in seconds since 1970")
    except ValueError as error:
        raise ExperimentError(str(error)) from error
    history = sequences.history(sequences.user_index(user_id))
    delta = _intervals(split, history.times, _now(split, user_id, history.times, at), target_time)
    window = slice(None) if max_len is None else slice(-max_len, None)
    device = next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    user, past = sequences.user_index(user_id), history.items[window]  # (L,)
    asked = make_batch(
        past[None],
        delta[window][None].astype(np.float32),
        sequences.n_items,
        ratings=history.ratings[window][None],
        users=[user],
        starts=[sequences.offsets[user + 1] - len(past)],
    ).to(device)

    was_training = model.training
    model.eval()
    try:
        scores = model.scores(asked)[0]  # (n_items + 1,)
    finally:
        model.train(was_training)
    if torch.isnan(scores).any():
        raise ExperimentError("the scores hold NaN: the model has diverged")
    scores[0] = -torch.inf  # padding is no item
    if not include_seen:
        scores[torch.from_numpy(history.items.astype(np.int64)).to(device)] = -torch.inf
    best = torch.sort(scores, descending=True, stable=True).indices[:k].cpu().numpy()
    scores = scores.cpu().numpy()
    best = best[scores[best] > -np.inf]
    found = pd.DataFrame(
        {
            "rank": np.arange(1, len(best) + 1),
            "item_id": sequences.item_ids[best],
            "score": scores[best],
        }
    )
    return found if items is None else found.join(items[["title", "year"]], on="item_id")


def _now(split: Split, user_id: int, times: np.ndarray, at: int) -> int:
    """The moment as the protocol sees it, which may round times; never before the last one."""
    now, last = int(protocol_times(np.array([at]), split.ordering)[0]), int(times[-1])
    if now < last:
        raise ExperimentError(
            f"at {_shown(at)} user {user_id} has not yet reached the end of the known history, "
            f"{_shown(last)}: ask about that moment or a later one"
        )
    return now


def _intervals(split: Split, times: np.ndarray, now: int, target_time: str) -> np.ndarray:
    """What the model is told of time at each interaction, (L,) seconds; see `TARGET_TIMES`."""
    check_target_time(target_time)
    if target_time == "none":
        return np.ones(len(times))
    if target_time == "previous":
        return np.diff(times, prepend=times[0])
    delta = np.diff(times, append=now)  # int64: float32 times would be 64 s apart
    if target_time == "hidden":
        return np.append(delta[:-1], typical_interval(split))
    return delta


def _shown(seconds: int) -> str:
    """`2001-05-01 20:00:00 UTC (988747200 s)`."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC ({seconds} s)"


def parse_moment(text: str) -> int:
    """A moment on a command line to seconds since 1970.

    Args:
        text: Whole seconds, or a date or date and time in ISO form, taken as UTC unless it says
            otherwise: `988747200`, `2001-05-01`, `2001-05-01T20:00`, `2001-05-01T20:00+02:00`.

    Raises:
        ExperimentError: Neither, or before 1970.
    """
    try:
        if text.lstrip("-").isdecimal():
            seconds = int(text)
        else:
            moment = datetime.datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=datetime.UTC)
            seconds = int(moment.timestamp() // 1)
    except ValueError:
        seconds = -1
    if seconds < 0:
        raise ExperimentError(
            f"{text!r} is no moment since 1970: give a date and time such as 2001-05-01T20:00 "
            "(UTC), or whole seconds since 1970-01-01"
        )
    return seconds
