"""Runs through the command line: what they leave behind, and how they begin and resume."""

import logging
import os
import socket

import pandas as pd
import pytest
import torch

from ss4rec_lib import cli
from ss4rec_lib.configuration import ConfigError
from ss4rec_lib.evaluation import NotFiniteError, evaluate_ranking
from ss4rec_lib.experiments import (
    ExperimentError,
    RunConfig,
    RunFolder,
    evaluation_of,
    run_experiment,
)
from ss4rec_lib.experiments import run as run_module
from ss4rec_lib.experiments import task as task_module
from ss4rec_lib.experiments.task import load_split
from ss4rec_lib.models import SS4Rec, load_model
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import fit

FILES = {
    "config.json",
    "checkpoint.safetensors",
    "log.txt",
    "history.csv",
    "model.safetensors",
    "per_target.npz",
    "record.json",
}
CONDITIONS = [(time, masked) for time in ("known", "hidden") for masked in (False, True)]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Killed(BaseException):
    """Stands for the power going off: nothing may catch it and tidy up."""


# ------------------------------------------------------------------------ what a run leaves behind


def test_a_run_leaves_its_files_and_nothing_else(finished):
    assert {path.name for path in finished.iterdir()} == FILES
    log = (finished / "log.txt").read_text()
    assert log.index("started: Split(") < log.index("epoch 1/2") < log.index("epoch 2/2")
    assert "finished: epochs" in log


def test_the_record_has_what_a_figure_must_be_read_with(finished, record_of):
    record = record_of(finished)
    split, _ = load_split(RunConfig.read(finished / "config.json"))
    assert (record["format"], record["task"], record["dataset"]) == (2, "ranking", "planted")
    assert (record["model"], record["display_name"], record["seed"]) == ("official", "SS4Rec", 0)
    assert record["overrides"]["d_H"] == 16
    assert record["overrides"]["epochs"] == 2
    assert "seed" not in record["overrides"]
    assert record["protocol"] == {
        "split": "leave-one-out",
        "ordering": "exact-time",
        "min_interactions": 5,
        "catalogue": split.sequences.n_items,
        "users": 600,
        "interactions": split.sequences.n_interactions,
        "fingerprint": split.fingerprint(),
        "n_train": split.report["n_train_targets"],
        "n_valid": 600,
        "n_test": 600,
        "left_out": 0,
        "target_time": "known",
        "max_len": 200,
    }
    assert record["config"]["model"]["d_H"] == 16
    assert record["config"]["training"]["epochs"] == 2
    assert (record["epochs"], record["stopped"], record["resumed"]) == (2, "epochs", False)
    assert record["selection"] == {"metric": "ndcg@10", "masked": False}
    assert record["parameters"] == sum(
        p.numel() for p in load_model(finished / "model.safetensors").parameters()
    )
    assert 0 < record["seconds"]["train"] < record["seconds"]["wall"]
    assert record["peak_memory_bytes"] > 50e6
    assert {"python", "torch", "accelerate", "safetensors"} <= record["versions"].keys()
    assert {"processor", "cores", "torch_threads", "device"} <= record["machine"].keys()
    assert "revision" in record
    assert record["data_verified"] is True
    assert record["uses_time"] is True
    assert record["command"].startswith("ss4rec train --dataset planted --model official ")


def test_the_curve_is_the_history(finished, record_of):
    record = record_of(finished)
    curve = pd.DataFrame(record["curve"])
    assert curve.equals(pd.read_csv(finished / "history.csv"))
    assert list(curve["epoch"]) == [1, 2]
    best = curve["ndcg@10"].idxmax()
    assert record["best_epoch"] == best + 1
    valid = evaluation_of(record, "valid", masked=False)
    assert valid["ndcg@10"] == pytest.approx(curve["ndcg@10"][best])


def test_every_condition_is_what_evaluation_says_of_the_saved_model(finished, record_of):
    record = record_of(finished)
    model = load_model(finished / "model.safetensors")
    split, _ = load_split(RunConfig.read(finished / "config.json"))
    found = [
        (e["target_time"], e["masked"], e["part"], e["ranked_by"]) for e in record["evaluations"]
    ]
    assert sorted(found) == sorted(
        (time, masked, part, "score") for time, masked in CONDITIONS for part in ("valid", "test")
    )
    for each in record["evaluations"]:
        expected = evaluate_ranking(
            model, split, each["part"], mask_seen=each["masked"], target_time=each["target_time"]
        )
        assert each["metrics"] == pytest.approx(dict(expected))
    figures = {evaluation_of(record, "test", *each)["ndcg@10"] for each in CONDITIONS}
    assert len(figures) == 4, "other conditions have other figures"


def test_it_is_the_run_that_the_library_alone_makes(finished, record_of):
    config = RunConfig.read(finished / "config.json")
    split, _ = load_split(config)
    seed_everything(0)
    model = SS4Rec(split.sequences.n_items, config.model_options)
    fit(model, split, config.training_options, progress=False)
    expected = dict(evaluate_ranking(model, split, "test"))
    assert evaluation_of(record_of(finished), masked=False) == pytest.approx(expected)


def test_no_path_and_no_host_is_recorded(finished):
    text = (finished / "record.json").read_text()
    assert str(finished.parent) not in text
    assert os.getcwd() not in text
    assert not any(part in text for part in ('"/', "/home", "/tmp"))
    assert socket.gethostname() not in text
    assert "NaN" not in text


def test_the_same_seed_gives_the_same_record_and_another_another(
    train, finished, record_of, timeless, tmp_path
):
    assert train(tmp_path / "same") == 0
    assert timeless(record_of(tmp_path / "same")) == timeless(record_of(finished))
    assert train(tmp_path / "other", "--seed", "1") == 0
    other = record_of(tmp_path / "other")
    assert other["evaluations"] != record_of(finished)["evaluations"]
    assert other["config"]["training"]["seed"] == 1


# ---------------------------------------------------------------------- refused before any work


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--set", "epoch=3"], ("epoch", "epochs")),
        (["--set", "patience=x"], ("patience", "x")),
        (["--set", "epochs=3"], ("epochs", "twice")),
        (["--set", "dropout_prob=2"], ("dropout_prob", "2")),
        (["--model", "oficial"], ("oficial", "official")),
        (["--protocol", "exact"], ("ordering", "exact")),
        (["--split", "global"], ("split", "global", "global-time")),
        (["--seed", "0", "--set", "seed=0"], ("seed", "twice")),
        (["--seed=-1"], ("seed", "-1")),
        (["--path", "nowhere"], ("planted", "path")),
        (["--min-interactions", "5000"], ("5000",)),
        (["--set", "d_H=32"], ("d_H", "twice")),
        (["--config", "nowhere.yaml"], ("nowhere.yaml",)),
    ],
)
def test_bad_options_are_one_message_and_leave_nothing(train, tmp_path, capsys, more, words):
    assert train(tmp_path / "run", *more) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert all(word in shown for word in words)
    assert shown.count("\n") <= 2
    assert "Traceback" not in shown
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_there_is_one_message(train, tmp_path, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert train(tmp_path / "run", device="cuda") == 2
    assert "device='cuda'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_catalogue_smaller_than_the_metrics_is_one_message(train, tmp_path, capsys, monkeypatch):
    from ss4rec_lib.data import planted_ratings

    tiny = planted_ratings(n_users=50, n_items=12, mean_length=20)
    monkeypatch.setattr(task_module, "load_dataset", lambda name, path=None: tiny)
    assert train(tmp_path / "run") == 2
    shown = capsys.readouterr().err
    assert "12 items" in shown
    assert "20" in shown
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_one_message(train, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert train(tmp_path / "file" / "run") == 2
    assert "cannot write" in capsys.readouterr().err


def test_bugs_keep_their_traceback(train, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ValueError("a bug")

    monkeypatch.setattr(task_module, "fit", broken)
    with pytest.raises(ValueError, match="a bug"):
        train(tmp_path / "run")


# --------------------------------------------------------------------------- stop, and go on


def test_a_run_that_is_there_is_not_touched(train, finished, capsys):
    before = contents(finished)
    assert train(finished) == 2
    assert str(finished) in capsys.readouterr().err
    assert contents(finished) == before


def test_a_finished_run_resumed_gives_its_record_and_computes_nothing(
    finished, record_of, capsys, monkeypatch
):
    before = contents(finished)
    monkeypatch.delattr(task_module, "fit")
    monkeypatch.delattr(task_module, "load_dataset")
    assert cli.main(["train", "--resume", "--out", str(finished)]) == 0
    figure = evaluation_of(record_of(finished), masked=False)["hr@10"]
    assert f"HR@10 {figure:.4f}" in capsys.readouterr().out
    assert contents(finished) == before


def test_resuming_with_other_options_is_refused_by_name(train, finished, capsys):
    before = contents(finished)
    assert cli.main(["train", "--resume", "--out", str(finished), "--set", "epochs=9"]) == 2
    shown = capsys.readouterr().err
    assert all(word in shown for word in ("epochs", "2", "9"))
    assert train(finished, "--resume", "--seed", "1", d_P=4) == 2
    shown = capsys.readouterr().err
    assert "seed is 0" in shown
    assert "d_P is 8" in shown
    assert train(finished, "--resume", "--split", "global-time") == 2
    assert "split is leave-one-out" in capsys.readouterr().err
    assert train(finished, "--resume", "--seed", "0") == 0, "options that agree may be repeated"
    assert contents(finished) == before
    with pytest.raises(ConfigError, match="n_layers is 1"):
        run_experiment(RunConfig(data={"dataset": "planted"}), finished, resume=True)


@pytest.mark.parametrize("verb", ["train", "train --resume", "evaluate", "record"])
def test_a_folder_of_the_old_format_is_named_and_left_alone(verb, train, tmp_path, capsys):
    folder = tmp_path / "old"
    folder.mkdir()
    for name in ("settings.json", "result.json"):
        (folder / name).write_text('{"format": 1, "dataset": "planted"}')
    before = contents(folder)
    if verb.startswith("train"):
        assert train(folder, *verb.split()[1:]) == 2
    else:
        assert cli.main([verb, str(folder)]) == 2
    shown = capsys.readouterr().err
    assert all(word in shown for word in (str(folder), "format 1", "format 2", "again"))
    assert contents(folder) == before


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
    assert "config.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "moment",
    ["fit", "forward 9", "write_history", "save_model", "rank_both", "write_per_target",
     "make_record"],
)  # fmt: skip
def test_killed_anywhere_it_ends_as_if_nothing_had_happened(
    train, finished, record_of, timeless, tmp_path, monkeypatch, moment
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

            where = {"fit": task_module, "rank_both": task_module, "write_history": RunFolder}
            patch.setattr(where.get(moment, run_module), moment, killed)
        with pytest.raises(Killed):
            train(folder, checkpoint_seconds=0.0)
        assert not (folder / "record.json").exists()
        assert (folder / "config.json").exists()
    assert cli.main(["train", "--resume", "--out", str(folder)]) == 0
    found, expected = timeless(record_of(folder)), timeless(record_of(finished))
    for record in (found, expected):
        record["config"]["training"].pop("checkpoint_seconds")
    assert found == expected
    assert record_of(folder)["resumed"] is True
    log = (folder / "log.txt").read_text()
    assert log.index("started: ") < log.index("resumed: ") < log.index("finished: ")
    assert {path.name for path in folder.iterdir()} == FILES


def test_an_interrupt_leaves_the_test_part_for_later(
    train, finished, record_of, timeless, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "run"
    real, calls = RunFolder.write_history, []

    def interrupt(*given):
        calls.append(real(*given))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_history", interrupt)
        assert train(folder) == 130
    shown = capsys.readouterr().err
    assert f"ss4rec train --resume --out {folder}" in shown
    assert "interrupted" in shown
    assert len(calls) == 1
    assert not (folder / "record.json").exists()
    assert cli.main(["train", "--resume", "--out", str(folder)]) == 0
    assert timeless(record_of(folder)) == timeless(record_of(finished))


# One step per epoch: the first that diverges ends in scores, not in a loss.
ONE_STEP = {"max_tokens": 10**6, "learning_rate": 1e30, "warmup_epochs": 0, "epochs": 4}


@pytest.mark.parametrize("words", [(), ("--task=rating", "--model=ss4rec-both")])
@pytest.mark.parametrize("change", [{"learning_rate": 30}, ONE_STEP])
def test_training_that_diverged_is_one_message_and_so_is_resuming(
    train, tmp_path, capsys, words, change
):
    folder = tmp_path / "run"
    assert train(folder, *words, **change) == 2
    first = capsys.readouterr().err.splitlines()[-1]
    assert first.startswith("error: training diverged")
    assert "learning_rate" in first
    assert "gradient_clip" in first
    assert "TrainingDiverged" in (folder / "log.txt").read_text()
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert cli.main(["train", "--resume", "--out", str(folder)]) == 2
    assert capsys.readouterr().err == f"{first}\n"
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert cli.main(["evaluate", str(folder)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_best_weights_and_the_history_of_diverged_training_are_kept(
    train, tmp_path, monkeypatch, capsys
):
    from ss4rec_lib.training import objectives

    real, calls, wanted = objectives.evaluate_ranking, [], {}

    def breaks_in_the_third_epoch(model, *given, **named):
        calls.append(1)
        if len(calls) == 2:
            wanted.update((k, v.clone()) for k, v in model.state_dict().items())
        if len(calls) == 3:
            with torch.no_grad():
                next(iter(model.parameters())).fill_(torch.nan)
        return real(model, *given, **named)

    monkeypatch.setattr(objectives, "evaluate_ranking", breaks_in_the_third_epoch)
    assert train(tmp_path, epochs=5) == 2
    assert "history.csv and model.safetensors" in capsys.readouterr().err
    rows = pd.read_csv(tmp_path / "history.csv")
    assert list(rows["epoch"]) == [1, 2]
    assert rows["ndcg@10"].idxmax() == 1, "the second epoch is the best one here"
    kept = load_model(tmp_path / "model.safetensors").state_dict()
    assert all(torch.equal(kept[name], wanted[name]) for name in wanted)
    assert not (tmp_path / "record.json").exists()


def test_a_test_part_whose_scores_are_not_finite_is_one_message(train, tmp_path, monkeypatch):
    def diverged(*_, **__):
        raise NotFiniteError("scores hold NaN in 3 of 4 rows")

    monkeypatch.setattr(task_module, "rank_targets", diverged)
    assert train(tmp_path) == 2
    assert "3 of 4" in (tmp_path / "diverged.txt").read_text()
    assert (tmp_path / "model.safetensors").exists()


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
    assert not (folder / "record.json").exists()


def test_the_logger_is_left_as_it_was(finished):
    package = logging.getLogger("ss4rec_lib")
    assert not any(isinstance(h, logging.FileHandler) for h in package.handlers)
    assert package.level == logging.NOTSET


def test_only_the_named_conditions_touch_the_test_part(finished, monkeypatch):
    asked = []

    def spy(model, split, part, target_time, max_len, ranked_by="score"):
        asked.append((part, target_time))
        return []

    monkeypatch.setattr(task_module, "rank_both", spy)
    config = RunConfig.read(finished / "config.json")
    task = task_module.RankingTask()
    outcome = task_module.Outcome(None, None, 0, 0, "fitted", 0.0)
    task.evaluate(config, task_module.TaskData(None, {}, {}), outcome)
    assert sorted(asked) == sorted((p, t) for p in ("valid", "test") for t in ("known", "hidden"))


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(ExperimentError, match="holds no run"):
        RunFolder(tmp_path).read_record()
