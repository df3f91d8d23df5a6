"""A finished run put to use: other evaluations, and what to recommend to a user at a moment.

The last interval that the model reads runs from the user's latest interaction to the moment asked
about: the same user may receive another list after a minute, a day or a year.
"""

from __future__ import annotations

import datetime
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ss4rec_lib.configuration import from_text
from ss4rec_lib.data import (
    MILLISECONDS_FROM,
    DataError,
    Split,
    check_integer,
    check_target_time,
    load_items,
    make_batch,
    protocol_times,
    typical_interval,
)
from ss4rec_lib.evaluation import evaluate_ranking, evaluating
from ss4rec_lib.experiments.config import RunConfig
from ss4rec_lib.experiments.record import with_error
from ss4rec_lib.experiments.run import RunFolder
from ss4rec_lib.experiments.task import ExperimentError
from ss4rec_lib.models import Ensemble, Recommender
from ss4rec_lib.training import resolve_device


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished ranking run; its model has the weights of the chosen epoch."""

    config: RunConfig
    record: dict[str, Any]
    split: Split
    model: Recommender


def open_run(path: str | Path, data: str | None = None) -> FinishedRun:
    """Read a finished ranking run from its folder; `data` is a new place of its data.

    What a baseline only counted is counted again, from data that are verified to be the same. Raise
    an `ExperimentError` if the run is not finished, predicts ratings, or has a damaged file, or the
    data are not those that the model was trained on.
    """
    folder = RunFolder(path)
    record = folder.read_record()
    config = RunConfig.read(folder.config)
    if config.task != "ranking":
        raise ExperimentError(f"{folder.path} is a run of task={config.task!r}: expected ranking")
    config, found = folder.load_data(config, data)
    split, kind = found.split, config.preset.model
    if kind.learns:
        model = folder.read_model(config, split.sequences.n_items)
    else:
        model = kind.fit(split, config.model_options, config.training_options).model
    return FinishedRun(config, record, split, model.to(resolve_device("auto")).eval())


def evaluate_run(
    *paths: str | Path, part: str = "test", mask_seen: bool = False, target_time: str | None = None,
    max_len: str | None = None, data: str | None = None,
) -> str:  # fmt: skip
    """Rank the targets of a `part` (`test` or `valid`) again, and return a small table of metrics.

    Several runs are ranked together, see `Ensemble`; they must have been given the same targets.
    `target_time` and `max_len` (a number as text, or `none` for whole histories) say what the model
    receives, as in training when None. `mask_seen` leaves items of the history out of the ranking.
    `data` is a new place of the data.
    """
    how: dict[str, Any] = {}
    try:
        if target_time is not None:
            how["target_time"] = check_target_time(target_time)
        if max_len is not None:
            length = from_text(max_len)
            how["max_len"] = None if length is None else check_integer("max_len", length, 1)
    except ValueError as error:
        raise ExperimentError(str(error)) from error
    runs = [open_run(path, data) for path in paths]
    run, model = runs[0], runs[0].model
    protocol = run.record["protocol"]
    for path, other in zip(paths, runs, strict=True):
        for name in ("fingerprint", "target_time", "max_len"):
            if (found := other.record["protocol"][name]) != protocol[name]:
                differs = f"{path}: {name}={found}, that of {paths[0]} is {protocol[name]}"
                raise ExperimentError(f"{differs}: only runs of the same protocol rank together")
    if len(runs) > 1:
        model = Ensemble([each.model for each in runs]).eval()
    how = {name: protocol[name] for name in ("target_time", "max_len")} | how
    if not any(each.model.config.uses_time for each in runs):
        how["target_time"] = "none"  # the figures under other conditions would be these
    result = evaluate_ranking(model, run.split, part, mask_seen=mask_seen, **how)
    table = {
        f"@{k}": {name.upper(): with_error(result, f"{name}@{k}") for name in ("hr", "ndcg", "mrr")}
        for k in result.ks
    }
    together = f"{len(runs)} runs together, " if len(runs) > 1 else ""
    seen = "masked" if mask_seen else "not masked"
    return (
        f"{together}{protocol['split']}, {protocol['ordering']}, {part}: "
        f"{len(result.users):,} targets, {protocol['catalogue']:,} items, seen ones {seen}, "
        f"target time {how['target_time']}, at most {how['max_len'] or 'all'} interactions of the "
        f"history; ± one standard error over users\n{pd.DataFrame(table).to_string()}"
    )


def recommend_from_run(
    path: str | Path, user_id: int | str, at: str, k: int = 10, include_seen: bool = False,
    data: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Return recommendations of a finished run, see `recommend` and `parse_moment`.

    They have titles where the data set has them. Where ids are integers, `user_id` may be one as
    text. `data` is a new place of the data. Raise an `ExperimentError` if the model learns users
    and was not trained on this one.
    """
    moment = parse_moment(at)
    run = open_run(path, data)
    if run.split.sequences.user_ids.dtype.kind == "i" and re.fullmatch(r"\s*-?\d+", str(user_id)):
        user_id = int(user_id)
    user = run.split.sequences.user_index(user_id)
    if run.model.needs_known_users and run.split.train_end[user] == 0:
        learned = f"{run.record['display_name']} learns users, not histories: use another model"
        raise ExperimentError(f"user {user_id} is not in the training part, and {learned}")
    how = {name: run.record["protocol"][name] for name in ("target_time", "max_len")}
    place, known = run.config.data, pd.DataFrame({"item_id": run.split.sequences.item_ids})
    try:
        titles = load_items(place.dataset, path=place.path, ratings=known)
        how["items"] = None if titles.empty else titles
    except DataError as error:  # a file of ratings alone: ids are better than nothing
        print(f"without titles: {error}", file=sys.stderr)
    return recommend(run.model, run.split, user_id, moment, k, include_seen, **how)


def recommend(
    model: Recommender, split: Split, user_id: int | str, at: int, k: int = 10,
    include_seen: bool = False, *, items: pd.DataFrame | None = None, max_len: int | None = 200,
    target_time: str = "known",
) -> pd.DataFrame:  # fmt: skip
    """Return the k items with the highest scores for a user of the split at a moment.

    The history is everything the split has of the user, its validation and test targets included.
    `at` are seconds since 1970-01-01 UTC, not before the user's last interaction. `include_seen`
    also recommends items of the history; without them fewer than k may be left. `max_len` and
    `target_time` are as in training; only with `known` does `at` change the list.

    Return `rank` (from 1), `item_id` and `score`, best first, equal scores by item id; with `items`
    (by item id, as from `load_items`) also `title` and `year`.
    """
    sequences = split.sequences
    try:
        check_integer("k", k, 1, sequences.n_items)
        check_integer("max_len", 1 if max_len is None else max_len, 1)
        at = check_integer("at", at, 0, MILLISECONDS_FROM)
    except ValueError as error:
        raise ExperimentError(str(error)) from error
    user = int(sequences.user_index(user_id))
    history = sequences.history(user)
    now, last = int(protocol_times(np.array([at]), split.ordering)[0]), int(history.times[-1])
    if now < last:
        shown = [f"{pd.Timestamp(moment, unit='s')} UTC ({moment} s)" for moment in (at, last)]
        raise ExperimentError(
            f"at {shown[0]} user {user_id} has not yet reached the end of the known history, "
            f"{shown[1]}: ask about that moment or a later one"
        )
    delta = _intervals(split, history.times, now, target_time)
    first = 0 if max_len is None else max(0, len(delta) - max_len)
    items_seen, seconds, stars = (a[None, first:] for a in (history.items, delta, history.ratings))
    of_user = {"users": [user], "starts": [int(sequences.offsets[user]) + first]}
    batch = make_batch(items_seen, seconds, sequences.n_items, ratings=stars, **of_user)
    with evaluating(model) as device:
        scores = model.scores(batch.to(device))[0]  # (n_items + 1,)
    if torch.isnan(scores).any():
        raise ExperimentError("the scores hold NaN: the model has diverged")
    scores[0] = -torch.inf  # padding is no item
    if not include_seen:
        scores[torch.from_numpy(history.items.astype(np.int64)).to(device)] = -torch.inf
    best = torch.sort(scores, descending=True, stable=True).indices[:k].cpu().numpy()
    values = scores.cpu().numpy()
    best = best[values[best] > -np.inf]
    columns = {"item_id": sequences.item_ids[best], "score": values[best]}
    found = pd.DataFrame({"rank": np.arange(1, len(best) + 1), **columns})
    return found if items is None else found.join(items[["title", "year"]], on="item_id")


def _intervals(split: Split, times: np.ndarray, now: int, target_time: str) -> np.ndarray:
    """Return what the model receives of time at each interaction, (L,) seconds."""
    check_target_time(target_time)
    if target_time == "none":
        return np.ones(len(times))
    if target_time == "previous":
        return np.diff(times, prepend=times[0])
    delta = np.diff(times, append=now)  # int64: float32 times would be 64 s apart
    return delta if target_time == "known" else np.append(delta[:-1], typical_interval(split))


def parse_moment(text: str) -> int:
    """Read whole seconds since 1970, or a date or date and time in ISO form, by default in UTC.

    `988747200`, `2001-05-01`, `2001-05-01T20:00` or `2001-05-01T20:00+02:00`, for example.
    """
    text = text.strip()
    try:
        if text.isdecimal():
            return int(text)
        moment = datetime.datetime.fromisoformat(text)
        utc = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
        seconds = int(utc.timestamp() // 1)
    except ValueError:
        seconds = -1
    if seconds < 0:
        raise ExperimentError(
            f"{text!r} is no moment since 1970: give a date and time such as 2001-05-01T20:00 "
            "(UTC), or whole seconds since 1970-01-01"
        )
    return seconds
