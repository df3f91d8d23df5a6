"""Write ratings and splits as RecBole's atomic files, and read them, to run the same data there.

Glossary
    atomic file  `NAME.inter`: tab-separated, a header of `field:type`, one interaction a line
    benchmark    RecBole's word for a split made elsewhere: one file for each of train, valid and
                 test, every row a target together with the history before it

RecBole keeps timestamps as float32 (64 s apart near 1e9 s) and sorts each history stably by them,
so among nearly equal times the **order of the lines** decides. Ratings are therefore written in
their own row order, which gives `recbole-float32` there. A split is written history by history in
the order of its protocol: rounding never swaps two times, so RecBole's sort leaves the lines where
they are, and even an `exact-time` split arrives in its own order (its intervals there are still
differences of rounded times).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from ss4rec_lib.data import (
    COLUMNS,
    DataError,
    DataFile,
    InvalidRatingsError,
    Split,
    UnusablePathError,
    check_integer,
    read_ratings,
    validate_ratings,
)
from ss4rec_lib.files import whole_file, write_text

FIELDS = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
"""Header of an atomic file of ratings."""

BENCHMARK_FIELDS = (
    "user_id:token",
    "item_id_list:token_seq",
    "timestamp_list:float_seq",
    "item_id:token",
    "timestamp:float",
)
"""Header of a benchmark file: a history, then its target; the timestamps are seconds too."""

BENCHMARK_PARTS = ("train", "valid", "test")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_ID = np.iinfo(np.int32).max


def write_recbole(
    data: Split | pd.DataFrame,
    folder: str | Path,
    name: str,
    *,
    benchmark: bool | None = None,
    max_len: int = 200,
) -> Path:
    """Write what RecBole needs to train and evaluate on the same data.

    Always writes `NAME.inter`; for a split also `NAME.yaml` (see `recbole_config`), and where
    RecBole cannot make the split itself the benchmark files `NAME.train.inter`,
    `NAME.valid.inter`, `NAME.test.inter` with the catalogue, `NAME.item`. Each file is there whole
    or not at all.

    In a benchmark file every training target repeats the history before it, up to `max_len` items
    and times: the text is up to `max_len` times as long as the ratings'.

    The times of a `recbole-float32` split are the rounded ones, and somebody who rated an item
    twice within one rounding step then has two equal lines, which RecBole takes and `read_recbole`
    refuses. To keep the original seconds give the ratings themselves: RecBole orders both alike.

    Args:
        data: a split, or ratings `user_id, item_id, rating, timestamp` in file order.
        folder: what RecBole calls `data_path`; the files go to `folder/NAME/`.
        name: what RecBole calls `dataset`; letters, digits, `.`, `_` and `-`.
        benchmark: whether to write benchmark files; None for where they are needed (see
            `needs_benchmark`).
        max_len: interactions of a history in a benchmark file, the most recent ones; RecBole's
            `MAX_ITEM_LIST_LENGTH`.

    Returns:
        The folder of the files.

    Raises:
        ValueError: a name that is no plain file name, a `max_len` below 1, or a `benchmark` that
            the data does not allow.
        DataError: the ratings are not usable, an id is too large to be read back, or the split has
            no training target.
        FileError: the files cannot be written.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"name={name!r}: expected letters, digits, '.', '_' and '-', beginning with a letter "
            "or digit; RecBole names a folder and files after it."
        )
    target = Path(folder) / name
    if not isinstance(data, Split):
        if benchmark:
            raise ValueError("benchmark=True: expected a Split; ratings have no held-out parts.")
        _write_inter(validate_ratings(data, source="ratings"), target / f"{name}.inter")
        return target
    config = recbole_config(data, benchmark=benchmark, max_len=max_len)
    if _uses_benchmark(data, benchmark):
        _write_benchmark(data, target, name, max_len)
    _write_inter(_in_history_order(data), target / f"{name}.inter")
    write_text(target / f"{name}.yaml", config)
    return target


def read_recbole(path: str | Path) -> pd.DataFrame:
    """Read ratings from an atomic file.

    Args:
        path: `NAME.inter` (`.gz` and `.xz` too), or a folder with one: the one named as the folder
            when there are several.

    Returns:
        What `validate_ratings` gives: rows in file order, `timestamp` int64 seconds that were
        never float32.

    Raises:
        UnusablePathError: nothing there, or a folder without one file to choose.
        DataError: benchmark rows, a missing column, or a line that cannot be read, by its number.
    """
    path = Path(path)
    if path.is_dir():
        path = _only_inter(path)
    if not path.is_file():
        raise UnusablePathError(f"there is no file {path}; expected RecBole's NAME.inter.")
    file = DataFile(path)
    with file.open() as stream:
        header = stream.readline(1 << 16).decode("utf-8-sig", errors="replace")
    fields = [field.partition(":")[0] for field in header.split("\t")]
    if "item_id_list" in fields:
        raise DataError(
            f"{file.label} holds benchmark rows (a target with its history), not one interaction a "
            "line; read the NAME.inter beside it."
        )
    ratings = read_ratings(file)
    return validate_ratings(ratings, source=f"{file.label} (its line 2 is row 0)")


def needs_benchmark(split: Split) -> bool:
    """Return whether RecBole cannot make this split from the ratings and needs benchmark files.

    It has no global-time split. Leave-one-out it makes from the targets, of which a history of n
    interactions has n - 1, and always keeps one for training: a history of exactly three gets a
    test target there but no validation target.
    """
    return split.kind != "leave-one-out" or bool((split.sequences.lengths == 3).any())


def recbole_config(split: Split, *, benchmark: bool | None = None, max_len: int = 200) -> str:
    """Return RecBole's options for the protocol of `split`, as YAML.

    They belong to the files of `write_recbole(split, ...)`. For ratings in file order use those of
    `leave_one_out(ratings, "recbole-float32", ...)`. Nothing about a model is said: RecBole wants
    `train_neg_sample_args: ~` besides for a model trained with cross entropy.

    Args:
        split: what is to be reproduced.
        benchmark: as in `write_recbole`.
        max_len: most recent interactions a model sees.

    Returns:
        The text of a file for RecBole's `config_file_list`.

    Raises:
        ValueError: as in `write_recbole`.
    """
    check_integer("max_len", max_len, 1)
    k = split.min_interactions
    if _uses_benchmark(split, benchmark):
        columns = ", ".join(field.partition(":")[0] for field in BENCHMARK_FIELDS)
        data = [
            f"benchmark_filename: [{', '.join(BENCHMARK_PARTS)}]",
            "load_col:",
            f"  inter: [{columns}]",
            "  item: [item_id]  # the whole catalogue, items that are in no row included",
            "alias_of_item_id: [item_id_list]",
        ]
    else:
        core = f'"[{k},inf)"' if k > 1 else "~"
        data = [
            "benchmark_filename: ~",
            "load_col:",
            f"  inter: [{', '.join(COLUMNS)}]",
            f"user_inter_num_interval: {core}",
            f"item_inter_num_interval: {core}",
        ]
    ks = [cut for cut in (1, 5, 10, 20) if cut <= split.sequences.n_items]
    lines = [
        f"# {split!r}",
        "USER_ID_FIELD: user_id",
        "ITEM_ID_FIELD: item_id",
        "RATING_FIELD: rating",
        "TIME_FIELD: timestamp",
        *data,
        "rm_dup_inter: ~",
        "val_interval: ~",
        "normalize_field: ~",
        "normalize_all: false  # its own ML-100K settings would rescale the timestamps",
        f"MAX_ITEM_LIST_LENGTH: {max_len}",
        "eval_args:",
        "  split: {LS: valid_and_test}",
        "  group_by: user",
        "  order: TO",
        "  mode: full",
        "repeatable: true  # items already seen stay in the ranking",
        "metrics: [Hit, NDCG, MRR]",
        f"topk: {ks}",
        f"valid_metric: NDCG@{10 if 10 in ks else ks[-1]}",
        "metric_decimal_place: 6",
    ]
    return "\n".join(lines) + "\n"


def _uses_benchmark(split: Split, benchmark: bool | None) -> bool:
    """Resolve None; refuse False where RecBole would make another split."""
    needed = needs_benchmark(split)
    if benchmark is None:
        return needed
    if needed and not benchmark:
        reason = (
            "RecBole has no global-time split"
            if split.kind != "leave-one-out"
            else f"{int((split.sequences.lengths == 3).sum())} users have exactly 3 interactions, "
            "who get no validation target there (min_interactions=4 leaves them out)"
        )
        raise ValueError(f"benchmark=False: {reason}; expected True or None.")
    return benchmark


def _in_history_order(split: Split) -> pd.DataFrame:
    """Return all interactions in original ids, in the order and at the times of `split`."""
    sequences = split.sequences
    return pd.DataFrame(
        {
            "user_id": np.repeat(sequences.user_ids, sequences.lengths),
            "item_id": sequences.item_ids[sequences.items],
            "rating": np.asarray(sequences.ratings),
            "timestamp": np.asarray(sequences.times),
        }
    )


def _write_inter(ratings: pd.DataFrame, path: Path) -> None:
    """Write validated ratings; float32 ratings as the shortest text that reads back as the same."""
    if "rating" not in ratings:
        raise DataError("ratings: missing column rating; expected one, though RecBole ranks only.")
    for column in ("user_id", "item_id"):
        highest = ratings[column].to_numpy().max()
        if isinstance(highest, str) or highest > _MAX_ID:
            raise InvalidRatingsError(
                f"{column} {highest} cannot be read back: expected whole numbers up to {_MAX_ID}. "
                "Renumber them, for instance with pandas.factorize."
            )
    with whole_file(path) as temporary:
        ratings.to_csv(temporary, sep="\t", header=list(FIELDS), index=False, lineterminator="\n")


def _write_benchmark(split: Split, folder: Path, name: str, max_len: int) -> None:
    """Write the three parts as targets with histories, and the catalogue."""
    if split.report["n_train_targets"] == 0:
        raise DataError("the split has no training target, and RecBole cannot load an empty part.")
    for part in BENCHMARK_PARTS:
        with (
            whole_file(folder / f"{name}.{part}.inter") as temporary,
            open(temporary, "w", encoding="utf-8", newline="\n") as stream,
        ):
            stream.write("\t".join(BENCHMARK_FIELDS) + "\n")
            stream.writelines(_benchmark_rows(split, part, max_len))
    catalogue = "".join(f"{item}\n" for item in split.sequences.item_ids[1:].tolist())
    write_text(folder / f"{name}.item", f"item_id:token\n{catalogue}")


def _benchmark_rows(split: Split, part: str, max_len: int) -> Iterator[str]:
    """Yield lines of a benchmark file, users ascending, targets in the order of the history."""
    sequences = split.sequences
    if part == "train":
        users = np.flatnonzero(split.train_end > 1)
        spans = [(1, int(end)) for end in split.train_end[users]]
    else:
        users, positions = split.held_out[part]
        spans = [(int(position), int(position) + 1) for position in positions]
    for index, (begin, end) in zip(users.tolist(), spans, strict=True):
        history = sequences.history(index)
        user = int(sequences.user_ids[index])
        items = [str(item) for item in sequences.item_ids[history.items].tolist()]
        times = [str(time) for time in history.times.tolist()]
        for position in range(begin, end):
            before = slice(max(position - max_len, 0), position)
            yield (
                f"{user}\t{' '.join(items[before])}\t{' '.join(times[before])}"
                f"\t{items[position]}\t{times[position]}\n"
            )


def _only_inter(folder: Path) -> Path:
    """Return the atomic file of a data set's folder."""
    named = folder / f"{folder.name}.inter"
    found = sorted(folder.glob("*.inter"))
    if named in found:
        return named
    if len(found) == 1:
        return found[0]
    listed = ", ".join(path.name for path in found) or "none"
    raise UnusablePathError(
        f"{folder}: expected one .inter file, or {named.name}; found: {listed}. Name the file."
    )
