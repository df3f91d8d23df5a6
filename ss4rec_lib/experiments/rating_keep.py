"""Keeping a finished rating experiment: its record and its errors into `results/ratings/`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.rate_folder import RateFolder, read_predictions
from ss4rec_lib.experiments.rating_results import (
    ERRORS,
    RATINGS,
    check_rating_record,
    load_rating_records,
    rating_groups,
    rating_name,
)
from ss4rec_lib.experiments.results import plain_name, results_folder
from ss4rec_lib.experiments.table import out_of_date
from ss4rec_lib.files import whole_file, write_text


def keep_ratings(
    run: str | Path,
    name: str | None = None,
    folder: Path | None = None,
    ablation: bool = False,
) -> Path:
    """Copy a finished rating experiment's record, and its errors, and write the table anew.

    Args:
        run: The run's folder.
        name: Of the file, without `.json`; made from the run's settings by default.
        folder: The results, with the folder `ratings` in it; those of the checkout by default.
        ablation: Refused: there is no such folder for rating experiments.

    Returns:
        The new file.

    Raises:
        ExperimentError: The run is not finished or lacks a file, the name is none for a file or is
            taken by another run, or the same run is there under another name; `ablation`. Nothing
            is written.
        FileError: A file cannot be written.
    """
    if ablation:
        raise ExperimentError("--ablation: rating experiments have no such folder; leave it out")
    results = results_folder() if folder is None else folder
    folder = results / RATINGS
    files = RateFolder(run)
    record = files.read_result()
    check_rating_record(str(files.result), record)
    name = plain_name(rating_name(record) if name is None else name)
    records = load_rating_records(folder)
    if records.get(name, record) != record:
        raise ExperimentError(
            f"{folder.name}/{name}.json is there already and is another run; nothing was changed. "
            "Give this one a name with --as"
        )
    rating_groups(records | {name: record})  # or an error, now
    if record["protocol"]["split"] == "leave-last-out" and record["model"] != "mean":
        found = read_predictions(files.predictions)
        squared = (found["predicted"] - found["actual"]) ** 2
        with whole_file(folder / ERRORS / f"{name}.npz") as temporary, open(temporary, "wb") as out:
            np.savez_compressed(out, squared_error=squared.astype(np.float16))
    path = folder / f"{name}.json"
    write_text(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
    out_of_date(write=True, folder=results)
    return path
