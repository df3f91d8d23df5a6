"""Runs through the command line: what they leave behind, and how they begin, stop and go on."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time

import pandas as pd
import pytest

from ss4rec_lib import cli
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.experiments import run as run_module
from ss4rec_lib.experiments.folder import RunFolder, load_split
from ss4rec_lib.experiments.record import _plain, evaluate_arms
from ss4rec_lib.experiments.settings import Settings
from ss4rec_lib.models import SS4Rec, load_model
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import TrainingDiverged, fit

FILES = {
    "settings.json", "checkpoint.safetensors", "log.txt", "history.csv", "model.safetensors",
    "ranks.npz", "result.json",
}  # fmt: skip


def result(folder):
    return json.loads((folder / "result.json").read_text())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def timeless(record):
    """A record without what differs from run to run of the same thing."""
    kept = {k: v for k, v in record.items() if not k.endswith(("_seconds", "_bytes"))}
    kept.pop("resumed")
    kept["curve"] = [
        {k: v for k, v in row.items() if not k.endswith("seconds") and "per_second" not in k}
        for row in record["curve"]
    ]
    return kept


class Killed(BaseException):
    """Stands for the power going off: nothing may catch it and tidy up."""


# ------------------------------------------------------------------------ what a run leaves behind


def test_a_run_leaves_its_files_and_nothing_else(finished):
    assert {path.name for path in finished.iterdir()} == FILES
    log = (finished / "log.txt").read_text()
    assert log.index("started: Split(") < log.index("epoch 1/2") < log.index("epoch 2/2")
    assert "finished: epochs" in log


def test_the_record_has_what_a_figure_must_be_read_with(finished):
    record = result(finished)
    settings = Settings.read(finished / "settings.json")
    split, _ = load_split(settings)
    assert record["dataset"] == "planted" and record["model"] == "SS4Rec" and record["seed"] == 0
    assert record["protocol"] == {
        "ordering": "exact-time", "split": "leave-one-out", "min_interactions": 5,
        "target_time": "known", "masked": False, "max_len": 200,
        "catalogue": split.sequences.n_items, "users": 600,
        "interactions": split.sequences.n_interactions, "fingerprint": split.fingerprint(),
    }  # fmt: skip
    assert record["config"]["model"]["d_H"] == 16 and record["config"]["training"]["epochs"] == 2
    assert (record["epochs"], record["stopped"], record["resumed"]) == (2, "epochs", False)
    assert record["parameters"] == sum(
        p.numel() for p in load_model(finished / "model.safetensors").parameters()
    )
    assert 0 < record["train_seconds"] < record["wall_seconds"]
    assert record["peak_rss_bytes"] > 50e6
    assert {"python", "torch", "accelerate", "safetensors"} <= record["versions"].keys()
    assert {"processor", "cores", "torch_threads", "device"} <= record["machine"].keys()
    assert "revision" in record and record["data_verified"] is True


def test_the_curve_is_the_history(finished):
    curve = pd.DataFrame(result(finished)["curve"])
    assert curve.equals(pd.read_csv(finished / "history.csv"))
    assert list(curve["epoch"]) == [1, 2]
    best = curve["ndcg@10"].idxmax()
    assert result(finished)["best_epoch"] == best + 1
    assert result(finished)["valid"]["ndcg@10"] == pytest.approx(curve["ndcg@10"][best])


def test_every_arm_is_what_evaluation_says_of_the_saved_model(finished):
    record = result(finished)
    model = load_model(finished / "model.safetensors")
    split, _ = load_split(Settings.read(finished / "settings.json"))
    arms = [(arm["target_time"], arm["masked"]) for arm in record["arms"]]
    assert arms == [("known", False), ("known", True), ("hidden", False), ("hidden", True)]
    assert record["arms"][0]["valid"] == record["valid"]
    assert record["arms"][0]["test"] == record["test"]
    for arm in record["arms"]:
        expected = dict(evaluate_ranking(
            model, split, "test", mask_seen=arm["masked"], target_time=arm["target_time"]
        ))  # fmt: skip
        assert arm["test"] == pytest.approx(expected)
        assert arm["test"].keys() == expected.keys()
    figures = [arm["test"]["ndcg@10"] for arm in record["arms"]]
    assert len(set(figures)) == 4, "arms that ask other questions have other answers"


def test_it_is_the_run_that_the_library_alone_makes(finished):
    settings = Settings.read(finished / "settings.json")
    split, _ = load_split(settings)
    seed_everything(0)
    model = SS4Rec(split.sequences.n_items, settings.model_config())
    fit(model, split, settings.training_config(), progress=False)
    expected = dict(evaluate_ranking(model, split, "test"))
    assert result(finished)["test"] == pytest.approx(expected)


def test_no_path_and_no_host_is_recorded(finished):
    text = (finished / "result.json").read_text()
    assert str(finished.parent) not in text and os.getcwd() not in text
    assert not any(part in text for part in ('"/', "/home", "/tmp"))
    assert socket.gethostname() not in text
    assert "NaN" not in text


def test_a_model_that_knows_no_time_has_no_arm_with_time_hidden(train, tmp_path):
    assert train(tmp_path / "run", epochs=1, target_time="none", model_type="mamba_only") == 0
    record = result(tmp_path / "run")
    assert [(a["target_time"], a["masked"]) for a in record["arms"]] == [
        ("none", False),
        ("none", True),
    ]
    assert record["model"] == "Mamba4Rec"


def test_the_same_seed_gives_the_same_record_and_another_another(train, finished, tmp_path):
    assert train(tmp_path / "same") == 0
    assert timeless(result(tmp_path / "same")) == timeless(result(finished))
    assert train(tmp_path / "other", "--seed", "1") == 0
    assert result(tmp_path / "other")["test"] != result(finished)["test"]
    assert result(tmp_path / "other")["config"]["training"]["seed"] == 1


def test_what_is_not_finite_is_null_so_that_the_record_is_json():
    """A single target, for one, has no standard error."""
    found = _plain({"a": [math.nan, 1.0], "b": (math.inf,)})
    assert found == {"a": [None, 1.0], "b": [None]}


# ---------------------------------------------------------------------- refused before any work


@pytest.mark.parametrize(("more", "message"), [
    (["--set", "epoch=3"], "Did you mean 'epochs'"),
    (["--set", "patience=x"], "patience must be an integer"),
    (["--set", "epochs=3"], "epochs is set twice"),
    (["--set", "dropout_prob=2"], "dropout_prob=2.0"),
    (["--preset", "oficial"], "Did you mean 'official'"),
    (["--protocol", "exact"], "protocol (ordering) is 'exact'"),
    (["--seed", "0", "--set", "seed=0"], "the seed is given twice"),
    (["--seed=-1"], "seed=-1"),
    (["--path", "nowhere"], "planted is generated and takes no path"),
    (["--min-interactions", "5000"], "the 5000-core filter leaves nothing"),
])  # fmt: skip
def test_bad_settings_are_one_message_and_leave_nothing(train, tmp_path, capsys, more, message):
    assert train(tmp_path / "run", *more) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and message in shown
    assert shown.count("\n") <= 2 and "Traceback" not in shown
    assert not (tmp_path / "run").exists()


def test_a_width_without_its_twin_is_the_dataclass_own_message(tmp_path, capsys):
    words = [
        "train",
        "--dataset",
        "planted",
        "--set",
        "hidden_size=16",
        "--out",
        str(tmp_path / "x"),
    ]
    assert cli.main(words) == 2
    assert "d_H=64 but hidden_size=16" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_one_message(train, tmp_path, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert train(tmp_path / "run", device="cuda") == 2
    assert "device='cuda'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_catalogue_smaller_than_the_metrics_is_one_message(train, tmp_path, capsys, monkeypatch):
    from ss4rec_lib.data import leave_one_out, planted_ratings

    tiny = leave_one_out(planted_ratings(n_users=50, n_items=12, mean_length=20))
    monkeypatch.setattr(run_module, "load_split", lambda settings: (tiny, True))
    assert train(tmp_path / "run") == 2
    assert "has 12 items after the filter: expected at least 20" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_one_message(train, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert train(tmp_path / "file" / "run") == 2
    assert "cannot write" in capsys.readouterr().err


def test_bugs_keep_their_traceback(train, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ValueError("a bug")

    monkeypatch.setattr(run_module, "fit", broken)
    with pytest.raises(ValueError, match="a bug"):
        train(tmp_path / "run")


# --------------------------------------------------------------------------- stop, and go on


def test_a_run_that_is_there_is_not_touched(train, finished, capsys):
    before = contents(finished)
    assert train(finished) == 2
    shown = capsys.readouterr().err
    assert "holds a run already" in shown and "nothing was changed" in shown
    assert contents(finished) == before


def test_a_finished_run_resumed_gives_its_record_and_computes_nothing(
    finished, capsys, monkeypatch
):
    before = contents(finished)
    for name in ("fit", "load_split", "evaluate_arms"):
        monkeypatch.delattr(run_module, name)
    assert cli.main(["train", "--resume", "--out", str(finished)]) == 0
    shown = capsys.readouterr().out
    assert f"HR@10 {result(finished)['test']['hr@10']:.4f}" in shown
    assert contents(finished) == before


def test_resuming_under_other_settings_is_refused_by_name(train, finished, capsys):
    before = contents(finished)
    assert cli.main(["train", "--resume", "--out", str(finished), "--set", "epochs=9"]) == 2
    assert "epochs is 2 there and 9 here" in capsys.readouterr().err
    assert train(finished, "--resume", "--seed", "1", d_P=4) == 2
    shown = capsys.readouterr().err
    assert "seed is 0 there and 1 here" in shown and "d_P is 8 there and 4 here" in shown
    assert train(finished, "--resume", "--seed", "0") == 0, "settings that agree may be repeated"
    assert contents(finished) == before


def test_the_library_refuses_other_settings_too(finished):
    from ss4rec_lib.experiments.errors import SettingsError

    with pytest.raises(SettingsError, match="n_layers is 1 there and 2 here"):
        run_module.run_experiment(Settings("planted"), finished, resume=True)


def test_nothing_to_resume(train, tmp_path, capsys):
    assert cli.main(["train", "--resume", "--out", str(tmp_path / "run")]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    # With everything named, as a cluster's scheduler does, --resume may begin.
    assert train(tmp_path / "run", "--resume", epochs=1) == 0


def test_a_folder_without_its_settings_is_not_guessed_at(train, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.safetensors").write_text("")
    assert train(tmp_path / "run", "--resume") == 2
    assert "has no settings.json" in capsys.readouterr().err


@pytest.mark.parametrize("moment", [
    "fit", "forward 9", "_write_history", "save_model", "evaluate_arms", "write_ranks",
    "make_record",
])  # fmt: skip
def test_killed_anywhere_it_ends_as_if_nothing_had_happened(
    train, finished, tmp_path, monkeypatch, moment
):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        steps = iter(range(9))
        if moment.startswith("forward"):  # in the middle of an epoch
            real = SS4Rec.forward

            def forward(self, *given, **named):
                if self.training and next(steps, None) is None:
                    raise Killed
                return real(self, *given, **named)

            patch.setattr(SS4Rec, "forward", forward)
        else:

            def killed(*_, **__):
                raise Killed

            patch.setattr(run_module, moment, killed)
        with pytest.raises(Killed):
            train(folder, checkpoint_seconds=0.0)
        assert not (folder / "result.json").exists()
        assert (folder / "settings.json").exists()
    assert cli.main(["train", "--resume", "--out", str(folder)]) == 0
    found, expected = timeless(result(folder)), timeless(result(finished))
    for record in (found, expected):
        record["config"]["training"].pop("checkpoint_seconds")
    assert found == expected
    assert result(folder)["resumed"] is True
    log = (folder / "log.txt").read_text()
    assert log.index("started: ") < log.index("resumed: ") < log.index("finished: ")
    assert {path.name for path in folder.iterdir()} == FILES


def test_an_interrupt_leaves_the_test_part_for_later(
    train, finished, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "run"
    real, calls = run_module._write_history, []

    def interrupt(*given):
        calls.append(real(*given))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_write_history", interrupt)
        assert train(folder) == 130
    shown = capsys.readouterr().err
    assert f"ss4rec train --resume --out {folder}" in shown and "interrupted" in shown
    assert len(calls) == 1 and not (folder / "result.json").exists()
    assert cli.main(["train", "--resume", "--out", str(folder)]) == 0
    assert timeless(result(folder)) == timeless(result(finished))


def test_diverged_training_is_one_message_in_log_and_terminal(train, tmp_path, monkeypatch, capsys):
    def diverge(*_, **__):
        raise TrainingDiverged("loss nan in epoch 1")

    monkeypatch.setattr(run_module, "fit", diverge)
    assert train(tmp_path / "run") == 2
    assert capsys.readouterr().err == "error: loss nan in epoch 1\n"
    assert "TrainingDiverged: loss nan in epoch 1" in (tmp_path / "run" / "log.txt").read_text()


def test_a_damaged_checkpoint_is_one_message(train, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_model", killed)
        with pytest.raises(Killed):
            train(folder, epochs=1)
    path = folder / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert cli.main(["train", "--resume", "--out", str(folder)]) == 2
    assert "checkpoint.safetensors is truncated" in capsys.readouterr().err
    assert not (folder / "result.json").exists()


def test_the_logger_is_left_as_it_was(finished):
    import logging

    package = logging.getLogger("ss4rec_lib")
    assert not any(isinstance(h, logging.FileHandler) for h in package.handlers)
    assert package.level == logging.NOTSET


def test_only_the_named_arms_touch_the_test_part(finished, monkeypatch):
    from ss4rec_lib.experiments import record

    asked = []

    def spy(model, split, part, **options):
        asked.append((part, options["target_time"]))
        return {False: {}, True: {}}

    monkeypatch.setattr(record, "rank_targets", spy)
    settings = Settings.read(finished / "settings.json")
    evaluate_arms(None, None, settings.training_config())
    assert len(asked) == len(set(asked)) == 4, "each part once with each time"
    assert {time for _, time in asked} == {"known", "hidden"}


# --------------------------------------------------------------------------- other processes


def environment():
    # OMP threads fixed, so that the run here and the one there add in the same order.
    return {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kill_minus_nine_and_resume(train_words, tmp_path):
    program = [sys.executable, "-m", "ss4rec_lib.cli"]
    options = {"epochs": 12, "max_tokens": 1_600, "checkpoint_seconds": 0.1}

    def to_the_end(*arguments):
        done = subprocess.run(
            [*program, *arguments], env=environment(), capture_output=True, text=True, timeout=300
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
    assert not (folder / "result.json").exists()
    to_the_end("train", "--resume", "--out", str(folder))
    assert timeless(result(folder)) == timeless(result(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_write_one_run(train_words, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # torchrun: on the CPU accelerate's own launcher starts one process without an MPI.
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launch += ["--master_addr", "127.0.0.1", "--master_port", str(port), "-m", "ss4rec_lib.cli"]
    folder = tmp_path / "run"
    command = [*launch, *train_words(folder)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("chosen on validation") == 1
    assert {path.name for path in folder.iterdir()} == FILES
    assert result(folder)["machine"]["processes"] == 2
    assert (folder / "log.txt").read_text().count("epoch 2/2") == 1
    again = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=200)
    assert again.returncode != 0
    assert again.stderr.count("holds a run already") == 1
