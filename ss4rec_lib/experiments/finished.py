"""A finished run put to use: its model, its data, other evaluations, recommendations."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from ss4rec_lib.data import DataError, Split, check_target_time, load_items
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.experiments.baselines import is_fitted
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.folder import RunFolder, load_split
from ss4rec_lib.experiments.recommend import parse_moment, recommend
from ss4rec_lib.experiments.record import with_error
from ss4rec_lib.experiments.settings import Settings
from ss4rec_lib.files import FileError
from ss4rec_lib.models import is_unknown, model_for, restore_fitted, uses_time
from ss4rec_lib.training import resolve_device


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What a run was, and what came of it.

    Attributes:
        settings: What it was made with.
        record: Its `result.json`.
        split: Its data.
        model: With the weights of the chosen epoch, in evaluation mode.
    """

    settings: Settings
    record: dict[str, Any]
    split: Split
    model: nn.Module


def open_run(path: str | Path) -> FinishedRun:
    """Read a finished run from its folder.

    What a baseline learned (factors, weights) is read from `model.safetensors` like the weights of
    any model; what it only counted is counted again, from data that are the same to the bit.

    Raises:
        ExperimentError: It is not finished, a file is damaged, or the data are not those that the
            model was trained on.
        DataError: The data set cannot be had or used.
    """
    folder = RunFolder(path)
    record = folder.read_result()
    settings = Settings.read(folder.settings)
    split, _ = load_split(settings)
    model = None if is_fitted(settings) else folder.read_model(split)
    if split.fingerprint() != record["protocol"]["fingerprint"]:
        raise ExperimentError(
            f"the data of {settings.dataset} are not those that {folder.path} was trained on: "
            "the same counts perhaps, but other interactions. Put the old file back"
        )
    if model is None:
        try:
            model = restore_fitted(split, settings.model_config(), folder.model)
        except (FileNotFoundError, FileError) as error:
            raise ExperimentError(str(error)) from error
    return FinishedRun(settings, record, split, model.to(resolve_device("auto")))


def evaluate_run(
    path: str | Path,
    part: str = "test",
    mask_seen: bool = False,
    target_time: str | None = None,
    max_len: str | None = None,
) -> str:
    """Rank the targets of a part again, perhaps in another arm than the run's own.

    Args:
        path: Folder of a finished run.
        part: `test` or `valid`.
        mask_seen: Take items of the history out of the ranking.
        target_time: What the model is told of time; as in training when None. Nothing is told to a
            model that does not look at it.
        max_len: Most recent interactions it sees, as text: a number, or `none` for all of them;
            as in training when None.

    Returns:
        A small table of metrics with standard errors over users.

    Raises:
        ExperimentError: An argument that means nothing, or see `open_run`.
    """
    try:
        if target_time is not None:
            check_target_time(target_time)
    except ValueError as error:
        raise ExperimentError(str(error)) from error
    longest = None if max_len is None else _length(max_len)
    run = open_run(path)
    protocol = run.record["protocol"]
    if not uses_time(run.settings.model_config()):
        target_time = "none"  # the figures of other arms would be these
    target_time = target_time or protocol["target_time"]
    longest = protocol["max_len"] if max_len is None else longest
    result = evaluate_ranking(
        model_for(run.model, run.split, part), run.split, part,
        mask_seen=mask_seen, max_len=longest, target_time=target_time,
    )  # fmt: skip
    columns = [f"@{k}" for k in result.ks]
    lines = [
        f"{protocol['split']}, {protocol['ordering']}, {part}: {len(result.users):,} targets, "
        f"{protocol['catalogue']:,} items, seen ones {'masked' if mask_seen else 'not masked'}, "
        f"target time {target_time}, {'whole' if longest is None else f'last {longest} of the'} "
        "history; ± one standard error over users",
        "      " + "".join(f"{column:<18}" for column in columns).rstrip(),
    ]
    for metric in ("hr", "ndcg", "mrr"):
        cells = (f"{with_error(result, metric + column):<18}" for column in columns)
        lines.append(f"{metric.upper():<6}" + "".join(cells).rstrip())
    return "\n".join(lines)


def recommend_from_run(
    path: str | Path, user_id: int, at: str, k: int = 10, include_seen: bool = False
) -> pd.DataFrame:
    """Recommendations of a finished run, with titles where the data set has them.

    Args:
        path: Folder of a finished run.
        user_id: In the data's own ids.
        at: The moment, see `parse_moment`.
        k: How many.
        include_seen: Whether items of the history may be recommended again.

    Returns:
        See `recommend`.

    Raises:
        ExperimentError: The model knows nothing of the user, or see `open_run` and `recommend`.
        DataError: An unknown user, or see `open_run`.
    """
    moment = parse_moment(at)
    run = open_run(path)
    user = np.array([run.split.sequences.user_index(user_id)])
    if is_unknown(run.split, run.settings.model_config(), user).any():
        raise ExperimentError(
            f"user {user_id} has no interaction in the training part, and {run.record['model']} "
            "learns users, not histories: it can recommend nothing. Ask a run of another preset"
        )
    try:
        items = load_items(run.settings.dataset, path=run.settings.path)
    except DataError as error:  # a file of ratings alone: ids are better than nothing
        print(f"without titles: {error}", file=sys.stderr)
        items = None
    protocol = run.record["protocol"]
    return recommend(
        model_for(run.model, run.split, None), run.split, user_id, moment, k, include_seen,
        items=items, max_len=protocol["max_len"], target_time=protocol["target_time"],
    )  # fmt: skip


def _length(text: str) -> int | None:
    if text.lower() == "none":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ExperimentError(f"--max-len {text}: expected an integer of at least 1, or none")
    return int(text)
