"""The ranks of a run's test targets, kept beside its record.

Two runs on the same split are compared user by user, so means and their errors are not enough. For
each arm there are two numbers a target, `above` and `tied` of `RankingResult`; every metric follows
from them. They are stored as a NumPy archive of unsigned integers, without pickle:

    users                             (n,)
    <target_time>-<seen>-above        (n,), `seen` is `ranked` or `masked`
    <target_time>-<seen>-tied         (n,)
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ss4rec_lib.evaluation import RankingResult
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.files import whole_file


def _prefix(target_time: str, masked: bool) -> str:
    return f"{target_time}-{'masked' if masked else 'ranked'}"


def write_ranks(path: Path, arms: Iterable[Mapping[str, Any]]) -> None:
    """Write the test ranks of all arms of a run, whole or not at all.

    Args:
        path: Where to.
        arms: As `experiments.record.evaluate_arms` returns them.

    Raises:
        FileError: It cannot be written.
    """
    arrays = {}
    for arm in arms:
        result, prefix = arm["test"], _prefix(arm["target_time"], arm["masked"])
        arrays["users"] = result.users
        arrays[f"{prefix}-above"], arrays[f"{prefix}-tied"] = result.above, result.tied
    small = {name: a.astype(np.min_scalar_type(int(a.max()))) for name, a in arrays.items()}
    with whole_file(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **small)


def read_ranks(path: Path) -> dict[tuple[str, bool], RankingResult]:
    """What `write_ranks` wrote, by target time and whether seen items are masked.

    Raises:
        ExperimentError: There is no such file, or it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name].astype(np.int64) for name in archive.files}
        users = arrays.pop("users")
        return {
            (time, masked): RankingResult(
                users,
                arrays[f"{_prefix(time, masked)}-above"],
                arrays[f"{_prefix(time, masked)}-tied"],
            )
            for time in sorted({name.split("-")[0] for name in arrays})
            for masked in (False, True)
        }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ExperimentError(f"{path} holds no ranks of a run: {error}") from error
