"""Runs in processes of their own: killed without warning and resumed, and shared by two."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from ss4rec_lib.experiments import RunFolder


def environment():
    # OMP threads fixed, so that the run here and the one there add in the same order.
    return {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
def test_kill_minus_nine_and_resume(train_words, record_of, timeless, tmp_path):
    program = [sys.executable, "-m", "ss4rec_lib.cli"]
    options = {"epochs": 12, "max_tokens": 1_600, "checkpoint_seconds": 0.1}

    def to_the_end(*arguments):
        done = subprocess.run(
            [*program, *arguments],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    to_the_end(*train_words(tmp_path / "whole", **options))
    folder = tmp_path / "killed"
    process = subprocess.Popen([*program, *train_words(folder, **options)], env=environment())
    history = RunFolder(folder).history
    while not (history.exists() and len(history.read_text().splitlines()) > 2):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "record.json").exists()
    to_the_end("train", "--resume", "--out", str(folder))
    assert timeless(record_of(folder)) == timeless(record_of(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(300)
def test_two_processes_write_one_run(train_words, record_of, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # torchrun: on the CPU accelerate's own launcher starts one process without an MPI.
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launch += ["--master_addr", "127.0.0.1", "--master_port", str(port), "-m", "ss4rec_lib.cli"]
    folder = tmp_path / "run"
    command = [*launch, *train_words(folder)]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("chosen on validation") == 1
    assert (folder / "record.json").exists()
    assert (folder / "model.safetensors").exists()
    assert record_of(folder)["machine"]["processes"] == 2
    assert (folder / "log.txt").read_text().count("epoch 2/2") == 1
    again = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=200, check=False
    )
    assert again.returncode != 0
    assert again.stderr.count(f"error: {folder}") == 1
