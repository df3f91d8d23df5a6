"""Checkpoints: resumed training is the uninterrupted one, and nothing is ever half written."""

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ss4rec_lib import files
from ss4rec_lib.data import leave_one_out, planted_ratings
from ss4rec_lib.models import SS4Rec, SS4RecConfig
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import CheckpointError, TrainingConfig, fit
from ss4rec_lib.training.checkpoint import read_checkpoint

SMALL = SS4RecConfig.official(hidden_size=16, d_H=16, d_P=8, d_state=4, n_layers=1)
# A checkpoint after every batch: more places to be interrupted at.
FAST = TrainingConfig(epochs=3, max_tokens=512, learning_rate=1e-2, checkpoint_seconds=0.0)
TIMELESS = ["epoch", "train_loss", "hr@10", "ndcg@10", "mrr@10", "learning_rate"]


@pytest.fixture(scope="module")
def split():
    return leave_one_out(planted_ratings(n_users=80, n_items=40, mean_length=25, seed=3))


def new_model(split, config=SMALL):
    seed_everything(0)
    return SS4Rec(split.sequences.n_items, config)


class Killed(Exception):
    """Stands for the power going off."""


def train(split, config, path=None, resume=False, stop_after=None, model_config=SMALL):
    """Train; with `stop_after` give up after so many steps of the optimizer."""
    model = new_model(split, model_config)
    steps = []

    def count(*_):
        steps.append(1)
        if len(steps) == stop_after:
            raise Killed

    hook = model.register_forward_pre_hook(lambda m, given: count() if m.training else None)
    try:
        return model, fit(model, split, config, checkpoint=path, resume=resume, progress=False)
    finally:
        hook.remove()


def same(a, b):
    assert a[1].history[TIMELESS].equals(b[1].history[TIMELESS])
    assert (a[1].best_epoch, a[1].stopped) == (b[1].best_epoch, b[1].stopped)
    for (name, x), y in zip(a[0].state_dict().items(), b[0].state_dict().values(), strict=True):
        assert torch.equal(x, y), name


@pytest.mark.parametrize("change", [
    {}, {"history": "full", "max_len": 7}, {"optimizer": "adamw", "weight_decay": 0.1},
    {"accumulate": 2, "history": "full", "max_len": 7}, {"n_negatives": 2},
])  # fmt: skip
def test_resuming_is_bit_for_bit_the_uninterrupted_run(split, tmp_path, change):
    config = FAST.replace(**change)
    model_config = SMALL
    if "n_negatives" in change:
        model_config = SMALL.replace(loss_type="BPR")
    expected = train(split, config, model_config=model_config)
    path = tmp_path / "run" / "checkpoint.safetensors"
    for stop_after in (2, 1, 5, 4):  # interrupted four times on the way
        with pytest.raises(Killed):
            train(split, config, path, True, stop_after, model_config)
    same(train(split, config, path, True, model_config=model_config), expected)


def test_a_finished_run_is_not_trained_again(split, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    expected = train(split, FAST, path)
    same(train(split, FAST, path, resume=True, stop_after=1), expected)


def test_it_is_one_readable_file_without_pickle(split, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    model, result = train(split, FAST, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    saved = read_checkpoint(path)
    assert pd.DataFrame(saved.progress.rows).equals(result.history)  # every digit of every float
    assert saved.progress.stopped == "epochs"
    assert saved.optimizer.keys() == dict(model.named_parameters()).keys()
    with open(path, "rb") as file:
        header = int.from_bytes(file.read(8), "little")
        assert json.loads(file.read(header))["__metadata__"]["format"] == "ss4rec-lab checkpoint 1"


def test_an_existing_file_is_not_overwritten(split, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    train(split, FAST.replace(epochs=1), path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"checkpoint.safetensors"):
        train(split, FAST, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("change", "message"), [
    ({"learning_rate": 0.5}, "training.learning_rate is 0.01 there and 0.5 here"),
    ({"seed": 1}, "training.seed is 0 there and 1 here"),
    ({"epochs": 9}, "training.epochs is 3 there and 9 here"),
])  # fmt: skip
def test_another_configuration_is_refused_by_name(split, tmp_path, change, message):
    path = tmp_path / "checkpoint.safetensors"
    train(split, FAST, path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=message):
        train(split, FAST.replace(**change), path, resume=True)
    assert path.read_bytes() == before


def test_another_model_is_refused(split, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    train(split, FAST, path)
    other = SMALL.replace(dropout_prob=0.5)
    with pytest.raises(CheckpointError, match=r"model_config.dropout_prob is 0.2 .* 0.5"):
        train(split, FAST, path, resume=True, model_config=other)


def test_another_data_set_is_refused_even_with_the_same_counts(split, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    train(split, FAST, path)
    sequences = dataclasses.replace(split.sequences, times=split.sequences.times + 1)
    with pytest.raises(CheckpointError, match=r"data.fingerprint is"):
        train(dataclasses.replace(split, sequences=sequences), FAST, path, resume=True)


def test_how_often_it_is_saved_may_change(split, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Killed):
        train(split, FAST, path, stop_after=4)
    train(split, FAST.replace(checkpoint_seconds=5.0), path, resume=True)


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_a_truncated_file_is_named(split, tmp_path, keep):
    path = tmp_path / "checkpoint.safetensors"
    train(split, FAST.replace(epochs=1), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"checkpoint.safetensors"):
        train(split, FAST.replace(epochs=1), path, resume=True)


def test_another_safetensors_file_is_named(split, tmp_path):
    path = tmp_path / "weights.safetensors"
    files.write_tensors(path, {"a": torch.ones(2)}, {})
    with pytest.raises(CheckpointError, match=r"weights.safetensors"):
        train(split, FAST, path, resume=True)


def test_a_full_disk_leaves_the_old_checkpoint(split, tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Killed):
        train(split, FAST, path, stop_after=4)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"not saved: .*No space left on device.*untouched"):
        train(split, FAST, path, resume=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # no half-written file is left


def test_a_full_disk_shows_before_training_begins(split, tmp_path, monkeypatch):
    import safetensors.torch

    def full(*_):
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        train(split, FAST, tmp_path / "checkpoint.safetensors", stop_after=1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(split, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        train(split, FAST, tmp_path / "file" / "checkpoint.safetensors", stop_after=1)


def test_nothing_is_written_when_there_is_nothing_to_train_on(tmp_path):
    from ss4rec_lib.data import DataError

    rows = [(u, i, 4.0, 100 * u + i) for u in range(6) for i in range(3)]
    ratings = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    ratings = ratings.astype({"rating": np.float32})
    split = leave_one_out(ratings, min_interactions=3)  # one training interaction a user: no target
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(DataError, match="no user has two training interactions"):
        train(split, FAST, path)
    assert not path.exists()


def test_resuming_needs_a_file_name(split):
    with pytest.raises(ValueError, match=r"resume=True.*checkpoint=None"):
        fit(new_model(split), split, FAST, resume=True)


# ------------------------------------------------------------------------------------ kill -9

# One process imports everything and forks a run for each path that it reads: a run is then killed
# after the import of torch, which takes seconds, and not in it.
SCRIPT = """
import os, sys
sys.path.insert(0, {folder!r})
import test_checkpoint as t
from ss4rec_lib.data import leave_one_out, planted_ratings
split = leave_one_out(planted_ratings(n_users=80, n_items=40, mean_length=25, seed=3))
for path in iter(sys.stdin.readline, ""):
    run = os.fork()
    if run == 0:
        model, result = t.train(split, t.KILL, path.strip(), resume=True)
        print(result.history[t.TIMELESS].to_json(double_precision=15), flush=True)
        os._exit(0)
    print(run, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(run, 0)[1]), flush=True)
"""
KILL = FAST.replace(epochs=12, max_tokens=200)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
def test_killed_twenty_times_it_ends_as_if_nothing_had_happened(split, tmp_path):
    """kill -9 at random moments, among them while a checkpoint is being written."""
    path = tmp_path / "checkpoint.safetensors"
    program = [sys.executable, "-c", SCRIPT.format(folder=str(Path(__file__).parent))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen(program, **how) as forks:

        def start(path):
            print(path, file=forks.stdin, flush=True)
            return int(forks.stdout.readline())

        def to_the_end(path):
            start(path)
            curve = forks.stdout.readline()
            assert forks.stdout.readline() == "0\n"
            return curve

        expected = to_the_end(tmp_path / "uninterrupted.safetensors")
        rng = random.Random(0)
        kills = 0
        while kills < 20:
            run = start(path)
            time.sleep(rng.uniform(0.0, 0.6))
            with contextlib.suppress(ProcessLookupError):  # it had already finished
                os.kill(run, signal.SIGKILL)
            while (status := forks.stdout.readline()).startswith("{"):
                pass  # the curve of one that got to its end
            kills += status == "-9\n"
            if path.exists() and read_checkpoint(path).progress.stopped:  # start anew
                path.unlink()
        assert to_the_end(path) == expected
    saved, uninterrupted = (
        read_checkpoint(p).best for p in (path, tmp_path / "uninterrupted.safetensors")
    )
    assert all(torch.equal(saved[name], uninterrupted[name]) for name in uninterrupted)
