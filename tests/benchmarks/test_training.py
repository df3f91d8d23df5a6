"""The benchmark of a training step on generated data: that it runs, and what it counts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.mark.slow
@pytest.mark.long
def test_a_quick_run_writes_both_files_and_counts_the_products(tmp_path):
    command = [sys.executable, str(FOLDER / "training.py"), "--dataset", "planted", "--quick"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "training.json").read_text())
    assert (tmp_path / "training.md").read_text().startswith("# A training step")
    # A target costs 3 x 2 FLOP for each weight of a matrix it passes through, forward and backward:
    # 200 items and the padding id, d 64, two blocks. In the blocks padding adds some per cent.
    d, d_inner, N, rank, P, V = 64, 128, 32, 4, 32, 201
    mamba = 2 * d_inner * d + d_inner * (rank + 2 * N) + rank * d_inner + d_inner * d
    counted = 6 * (V * d + 2 * (mamba + 4 * P * d))
    assert counted <= found["matrix_flop_a_target"] < 1.1 * counted
    assert found["over_floor"] == pytest.approx(
        found["median"]["windows, us a target"] / found["floor_us_a_target"]
    )
    # Scans have exponentials and multiply-adds beside the products.
    assert found["floor_us_a_target"] > 1.2 * found["products_floor_us_a_target"]
    width = 176  # of the feed-forward layer, whose three matrices SS4Rec+ has in each block
    plus = counted + 6 * 2 * 3 * width * d
    assert plus <= found["plus"]["matrix_flop_a_target"] < 1.1 * plus
    assert sum(found["parts"].values()) == pytest.approx(1)
    assert found["parts"]["selective scan, convolution, gates"] > 0
    assert found["parts"]["matrix products"] > 0
    assert found["peak_rss_bytes"] > 1e8
