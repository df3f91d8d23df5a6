"""The ranks of a run: written and read back, and the same metrics from them as in the record."""

import json

import numpy as np
import pytest

from ss4rec_lib.evaluation import RankingResult
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.ranks import read_ranks, write_ranks


def test_the_record_follows_from_the_ranks(finished):
    record = json.loads((finished / "result.json").read_text())
    ranks = read_ranks(finished / "ranks.npz")
    assert len(ranks) == len(record["arms"]) == 4
    for arm in record["arms"]:
        found = ranks[arm["target_time"], arm["masked"]]
        assert dict(found) == pytest.approx(arm["test"], nan_ok=True)


def test_large_catalogues_lose_nothing(tmp_path):
    above = np.array([0, 255, 256, 70_000, 2**33])
    result = RankingResult(np.arange(5), above, np.array([1, 1, 300, 1, 2]))
    arms = [{"target_time": "none", "masked": m, "test": result} for m in (False, True)]
    write_ranks(tmp_path / "ranks.npz", arms)
    found = read_ranks(tmp_path / "ranks.npz")["none", True]
    assert (found.above == above).all() and (found.tied == result.tied).all()
    assert found.above.dtype == np.int64


@pytest.mark.parametrize("content", [None, b"", b"not an archive"])
def test_damaged_and_missing_files_are_named(tmp_path, content):
    path = tmp_path / "ranks.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExperimentError, match="ranks.npz holds no ranks of a run"):
        read_ranks(path)
