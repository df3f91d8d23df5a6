"""Models that do not look at time have one arm of it, whatever was asked for."""

import dataclasses
import json

import pytest
import torch

from ss4rec_lib import cli
from ss4rec_lib.experiments.results import changes_of, grouped
from ss4rec_lib.experiments.settings import ALL_PRESETS, Settings
from ss4rec_lib.models import FITTED, RANKING_PRESETS, make_model, uses_time

BLIND = {"gru4rec": [], "sasrec": [], "official": ["model_type=mamba_only"]}


def words(preset, out, *changes):
    changes = [f"--set={change}" for change in ("epochs=1", *BLIND[preset], *changes)]
    return ["train", "--dataset", "planted", "--preset", preset, "--out", str(out), *changes]


def result(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("name", RANKING_PRESETS)
def test_who_uses_time_is_what_the_model_does(name):
    """Hidden states with other intervals are other ones exactly where that is said."""
    configs = [RANKING_PRESETS[name].config]
    if name == "official":
        kinds = ("mamba_only", "s5_only")
        configs += [configs[0].replace(model_type=kind) for kind in kinds]
    if name == "sasrec_time":
        configs.append(RANKING_PRESETS[name].config.replace(time="bias"))
    for config in configs:
        torch.manual_seed(0)
        model = make_model(9, config).eval()
        with torch.no_grad():  # a bias of 0 would hide the time
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        items = torch.tensor([[1, 2, 3, 4]])
        seconds = torch.tensor([[0.01, 0.02, 0.03, 0.05]])  # within what `clip` lets through
        same = torch.equal(model(items, seconds), model(items, 1_000 * seconds))
        assert same != uses_time(config), config


def test_no_fitted_baseline_is_told_of_time():
    assert not any(uses_time(make()) for make in FITTED.values())


@pytest.mark.parametrize("preset", BLIND)
def test_one_arm_with_or_without_saying_so(preset, tmp_path, capsys):
    assert cli.main(words(preset, tmp_path / "a")) == 0
    assert cli.main([*words(preset, tmp_path / "b", "target_time=none"), "--seed", "1"]) == 0
    silent, explicit = result(tmp_path / "a"), result(tmp_path / "b")
    for record in (silent, explicit):
        assert record["protocol"]["target_time"] == "none"
        assert record["config"]["training"]["target_time"] == "none"
        arms = [(arm["target_time"], arm["masked"]) for arm in record["arms"]]
        assert arms == [("none", False), ("none", True)]
        assert "target_time" not in changes_of(record)
    (group,) = grouped({"a": silent, "b": explicit})
    assert group.seeds == [0, 1] and "target_time" not in group.command(0)
    capsys.readouterr()
    assert cli.main(["evaluate", str(tmp_path / "a"), "--target-time", "hidden"]) == 0
    assert "target time none" in capsys.readouterr().out
    # Either may be resumed with or without saying so.
    assert cli.main(["train", "--resume", "--out", str(tmp_path / "a"),
                     "--set", "target_time=none"]) == 0  # fmt: skip
    assert cli.main([*words(preset, tmp_path / "b"), "--seed", "1", "--resume"]) == 0


def test_what_was_asked_for_does_not_matter_to_the_blind_and_does_to_others():
    for time in ("known", "hidden", "previous", "none"):
        for name in ALL_PRESETS:
            settings = Settings("planted", preset=name, training={"target_time": time})
            told = settings.training_config().target_time
            assert told == (time if uses_time(settings.model_config()) else "none")
        blind = Settings(
            "planted", model={"model_type": "mamba_only"}, training={"target_time": time}
        )
        assert blind.training_config() == dataclasses.replace(
            Settings("planted").training_config(), target_time="none"
        )


def test_a_model_with_eyes_that_is_told_nothing_says_so(finished):
    record = result(finished)
    assert "target_time" not in changes_of(record)
    record["config"]["training"]["target_time"] = "none"
    assert changes_of(record)["target_time"] == "none"
