"""Keeping a finished run: its record and its ranks into `results/`, and the table made anew."""

from __future__ import annotations

import json
from pathlib import Path

from ss4rec_lib.experiments.comparisons import load_ranks
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.folder import RunFolder
from ss4rec_lib.experiments.ranks import read_ranks
from ss4rec_lib.experiments.rating_differences import load_errors
from ss4rec_lib.experiments.rating_results import RATINGS, load_rating_records
from ss4rec_lib.experiments.results import (
    ABLATIONS,
    RANKS,
    check_record,
    load_records,
    plain_name,
    record_name,
    results_folder,
)
from ss4rec_lib.experiments.table import TABLE, results_table
from ss4rec_lib.files import whole_file, write_text


def keep(
    run: str | Path,
    name: str | None = None,
    folder: Path | None = None,
    ablation: bool = False,
) -> Path:
    """Copy a finished run's record and ranks into the results, and write their table anew.

    Args:
        run: The run's folder.
        name: Of the file, without `.json`; made from the run's settings by default.
        folder: Where to; `results/` of the checkout by default.
        ablation: Keep it among the runs that settings are chosen by, in a folder of their own and
            without its ranks: nothing is said of their test part.

    Returns:
        The new file.

    Raises:
        ExperimentError: The run is not finished or lacks a file, the name is none for a file or is
            taken by another run, or the same run is there under another name. Nothing is written.
        FileError: A file cannot be written.
    """
    folder = results_folder() if folder is None else folder
    record = RunFolder(run).read_result()
    check_record(str(RunFolder(run).result), record)
    name = plain_name(record_name(record) if name is None else name)
    kinds = {False: load_records(folder), True: load_records(folder / ABLATIONS)}
    if kinds[ablation].get(name, record) != record:
        raise ExperimentError(
            f"{folder.name}/{name}.json is there already and is another run; nothing was changed. "
            "Give this one a name with --as"
        )
    ranks = RunFolder(run).ranks
    of_all = load_ranks(folder, [each for each in kinds[False] if ablation or each != name])
    if not ablation:
        of_all[name] = read_ranks(ranks)  # or an error, now
    kinds[ablation] = dict(sorted((kinds[ablation] | {name: record}).items()))
    ratings = load_rating_records(folder / RATINGS)
    errors = load_errors(folder / RATINGS, list(ratings))
    table = results_table(kinds[False], kinds[True], of_all, ratings, errors)  # or an error, now
    path = (folder / ABLATIONS if ablation else folder) / f"{name}.json"
    if not ablation:
        with whole_file(folder / RANKS / f"{name}.npz") as temporary:
            temporary.write_bytes(ranks.read_bytes())
    write_text(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
    write_text(folder / TABLE, table)
    return path
