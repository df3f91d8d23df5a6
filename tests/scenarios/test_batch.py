"""Batches as a researcher runs them: two jobs at once, killed, resumed, with a job that fails."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("snakemake", reason="needs the extra batch")

FIXED = (
    "{dataset: planted, epochs: 2, hidden_size: 16, d_H: 16, d_P: 8, d_state: 4, n_layers: 1, "
    "learning_rate: 0.01}"
)


def program(*words):
    return [sys.executable, "-m", "ss4rec_lib.cli", "batch", *map(str, words)]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def run(*words, timeout=250):
    how = {"capture_output": True, "text": True, "timeout": timeout, "env": environment()}
    return subprocess.run(program(*words), check=False, **how)


def records(store):
    return {path: path.stat().st_mtime_ns for path in store.glob("jobs/*/record.json")}


def wait_for(found, process, seconds=200):
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it took too long"
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
def test_killed_in_the_middle_it_goes_on_where_it_was(tmp_path):
    experiment, store = tmp_path / "grid.yaml", tmp_path / "store"
    experiment.write_text(
        f"fixed: {FIXED}\ngrid: {{target_time: [known, none]}}\nseeds: [0, 1, 2]\n"
    )
    words = [experiment, "--out", store, "--jobs", 2]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(program(*words), env=environment(), **how)
    wait_for((store / "grid" / "running.txt").exists, first)
    second = run(*words)  # the same grid at the same time
    assert second.returncode == 2
    assert f"process {first.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    wait_for(lambda: records(store), first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    kept = records(store)
    assert 1 <= len(kept) < 6
    again = run(*words)
    assert again.returncode == 0, again.stderr
    found = records(store)
    assert len(found) == 6
    assert {path: found[path] for path in kept} == kept, "a finished job was run again"
    assert "6 of 6 runs have a record" in again.stdout
    table = (store / "grid" / "leaderboard.md").read_text()
    assert "target_time=known" in table and "3 of 3" in table
    assert (store / "grid" / "leaderboard.png").read_bytes().startswith(b"\x89PNG")
    # Another experiment finds the jobs that it shares with this one; one at a time, in a loop.
    other = tmp_path / "other.yaml"
    other.write_text(f"fixed: {FIXED}\nseeds: [1, 0]\n")
    shared = run(other, "--out", store)
    assert shared.returncode == 0, shared.stderr
    assert "2 jobs (training runs), 2 finished" in shared.stdout
    assert records(store) == found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_that_fails_stops_no_other(tmp_path):
    experiment, store = tmp_path / "rates.yaml", tmp_path / "store"
    fixed = FIXED.replace(", learning_rate: 0.01", "")
    experiment.write_text(
        f"fixed: {fixed}\ngrid: {{rate: {{wild: {{learning_rate: 1.0e+9}}, "
        "tame: {learning_rate: 0.01}}}\n"
    )
    done = run(experiment, "--out", store, "--jobs", 2)
    assert done.returncode == 1
    assert done.stdout.count("FAILED") == 1, "each failure is told once as it happens"
    assert "wild, seed 0" in done.stderr and "diverged" in done.stderr
    assert "tame" not in done.stderr and "Traceback" not in done.stderr
    assert len(records(store)) == 1
    (error,) = store.glob("jobs/*/error.json")
    assert "diverged" in json.loads(error.read_text())["error"]
    assert "0 of 1" in (store / "rates" / "leaderboard.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_lesson_that_fails_names_its_cell_and_keeps_the_notebook(tmp_path):
    experiment, store = tmp_path / "lesson.yaml", tmp_path / "store"
    experiment.write_text("lesson: 04\nfixed: {dataset: planted, user_id: 987654321}\n")
    done = run(experiment, "--out", store)  # one at a time, without Snakemake
    assert done.returncode == 1
    assert "cell In [" in done.stdout and "987654321" in done.stdout
    assert "0 of 1 runs have a record" in done.stdout
    assert len(list(store.glob("jobs/*/04_train_ss4rec.failed.ipynb"))) == 1
    assert not (store / "lesson" / "leaderboard.md").exists()
