"""Where rating models err: their recorded errors, by how many ratings the user gave before.

`python -m ss4rec_lib.experiments.rating_by_history DATASET` makes one row for each recorded
leave-last-out run and each range of history lengths, and writes them into `by_history.csv` in
`results/ratings/`, in place of that dataset's older rows. It needs the dataset, since the length of
a history is kept nowhere else; reading the file needs nothing.

    dataset, model, seed    of the run
    more_than, up_to        ratings that the user gave before the target: more_than < n <= up_to
    targets                 test targets with such a history
    rmse, rmse_se           stars; the standard error is over users
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ss4rec_lib.data import DataError, held_out_ratings, leave_one_out, load_movielens
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.rating_results import (
    ERRORS,
    RATINGS,
    load_rating_records,
    rating_groups,
    read_errors,
)
from ss4rec_lib.experiments.results import results_folder
from ss4rec_lib.files import FileError, write_text

FILE = "by_history.csv"
EDGES = (0, 30, 50, 100, 200, 400, 10_000)
"""Ends of the ranges of history lengths, in ratings."""

_COLUMNS = ["dataset", "model", "seed", "more_than", "up_to", "targets", "rmse", "rmse_se"]


def errors_by_history(
    dataset: str, path: str | None = None, folder: Path | None = None
) -> pd.DataFrame:
    """One row for each run of a dataset and each range that holds at least two targets.

    Args:
        dataset: One of `ss4rec_lib.data.DATASETS`.
        path: Where to read it from; None for the usual places.
        folder: `results/ratings`; that of the checkout by default.

    Returns:
        The columns that the module names; empty where no such run has kept its errors.

    Raises:
        ExperimentError: A record or its errors are damaged, or were made from other data.
        DataError: The dataset cannot be had.
    """
    folder = results_folder() / RATINGS if folder is None else folder
    records = {
        name: record
        for name, record in load_rating_records(folder).items()
        if (record["dataset"], record["protocol"]["split"]) == (dataset, "leave-last-out")
        and (folder / ERRORS / f"{name}.npz").is_file()
    }
    if not records:
        return pd.DataFrame(columns=_COLUMNS)
    ratings, protocols, rows = load_movielens(dataset, path=path), {}, []
    in_order = [
        pair for g in rating_groups(records) for pair in zip(g.names, g.records, strict=True)
    ]
    for name, record in in_order:
        protocol = record["protocol"]
        key = protocol["ordering"], protocol["min_interactions"]
        if key not in protocols:
            split = leave_one_out(ratings, *key)
            users = held_out_ratings(split, "test").users
            protocols[key] = split.fingerprint(), np.diff(split.sequences.offsets)[users] - 1
        fingerprint, before = protocols[key]  # before: (n_targets,)
        squared = read_errors(folder / ERRORS / f"{name}.npz")
        if protocol["fingerprint"] != fingerprint or len(squared) != len(before):
            raise ExperimentError(
                f"{name} was made from other ratings than those of {dataset} here: take the "
                "file that it was made from"
            )
        own = {"dataset": dataset, "model": record["model"], "seed": record["seed"]}
        rows += [own | part for part in _ranges(squared, before)]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _ranges(squared: np.ndarray, before: np.ndarray) -> Iterator[dict[str, float]]:
    for low, high in zip(EDGES, EDGES[1:], strict=False):
        found = squared[(before > low) & (before <= high)]
        if len(found) < 2:
            continue
        rmse = float(np.sqrt(found.mean()))
        # The mean of squares has the usual error; that of its root follows from the derivative.
        se = float(found.std(ddof=1) / np.sqrt(len(found)) / (2 * rmse)) if rmse else 0.0
        yield {
            "more_than": low, "up_to": high, "targets": len(found),
            "rmse": round(rmse, 4), "rmse_se": round(se, 4),
        }  # fmt: skip


def read_by_history(folder: Path | None = None) -> pd.DataFrame:
    """The rows that were written, of all datasets; empty where there is no such file.

    Raises:
        ExperimentError: The file is no such table.
    """
    path = (results_folder() / RATINGS if folder is None else folder) / FILE
    if not path.is_file():
        return pd.DataFrame(columns=_COLUMNS)
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ExperimentError(f"{path} cannot be read: {error}") from error
    if list(table.columns) != _COLUMNS:
        raise ExperimentError(f"{path} has other columns than {', '.join(_COLUMNS)}")
    return table


def write_by_history(dataset: str, path: str | None = None, folder: Path | None = None) -> Path:
    """Put a dataset's rows into the file, whole or not at all.

    Raises:
        ExperimentError: See `errors_by_history`; also no run that has kept its errors.
        DataError: See there.
        FileError: The file cannot be written.
    """
    folder = results_folder() / RATINGS if folder is None else folder
    rows = errors_by_history(dataset, path, folder)
    if rows.empty:
        raise ExperimentError(f"{folder} holds no leave-last-out run of {dataset} with its errors")
    others = read_by_history(folder)
    parts = [others[others["dataset"] != dataset], rows]
    table = pd.concat([part for part in parts if len(part)]).sort_values("dataset", kind="stable")
    write_text(folder / FILE, table.to_csv(index=False, lineterminator="\n"))
    return folder / FILE


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 2 when something is wrong, after one line that says what."""
    parser = argparse.ArgumentParser(prog="python -m ss4rec_lib.experiments.rating_by_history")
    parser.add_argument("dataset", help="for example ml-100k")
    parser.add_argument("--path", help="a folder, file or archive of your own to read")
    options = parser.parse_args(arguments)
    try:
        print(f"{write_by_history(options.dataset, options.path).name}: written")
    except (ExperimentError, DataError, FileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
