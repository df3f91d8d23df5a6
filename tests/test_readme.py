"""README.md: its numbers come from lessons and records; its commands and its Python run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ss4rec_lib.experiments import run_config
from tools.fill_readme import out_of_date

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks("bash") for line in block.split("\n")]
    return [line for line in lines if line]


def test_numbers_and_picture_are_those_of_the_committed_lessons():
    assert out_of_date() == []


def test_it_is_short():
    assert len(README.splitlines()) < 150
    results = README.partition("<!-- results -->")[2].partition("<!-- /results -->")[0]
    head, _, *rows = [line for line in results.splitlines() if line.startswith("|")]
    assert "masked" in head and 1 <= len(rows) <= 8


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "data/README.md"])
def test_links_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8").replace("\n", " ")
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", text)
    assert len(targets) >= 5 or name != "README.md"
    folder = (ROOT / name).parent
    assert [target for target in targets if not (folder / target).exists()] == []


def test_the_configuration_in_contributing_is_valid(tmp_path):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (tmp_path / "run.yaml").write_text(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    config = run_config({}, [], tmp_path / "run.yaml")
    assert config.training == {"epochs": 16, "learning_rate": 0.003}
    assert (config.task, config.seed, config.model["name"]) == ("ranking", 0, "gru4rec")


def test_every_make_target_of_the_readme_exists():
    wanted = {line.split()[1] for line in commands() if line.startswith("make ")}
    assert wanted == {"run", "test", "lab"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in wanted)
    # `make test` is what runs this test; the lessons of `make run` are run by .ci/run.
    assert "make run" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Return a folder in place of runs/: one command trains there, and the next ones read it."""
    return tmp_path_factory.mktemp("runs")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", [c for c in commands() if not c.startswith("make ")])
def test_commands_run(command, tmp_path, run_folder):
    """Run in the checkout, in the order of the README, with outputs in another folder."""
    words = [
        str(run_folder / w.removeprefix("runs/")) if w.startswith("runs/") else w
        for w in shlex.split(command)
    ]
    if words[0] == "ss4rec" and words[1] == "lessons":
        words += ["--out", str(tmp_path / "lessons")]
    if words[0] == "papermill":
        words[2] = str(tmp_path / "executed.ipynb")
    program = Path(sys.executable).with_name(words[0])
    environment = os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [program, *words[1:]], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_python_example_runs(tmp_path):
    """Run it as printed, but on the generated data and for one epoch."""
    (source,) = blocks("python")
    changed = source.replace('"ml-100k"', '"planted"').replace(
        "fit(model, split)", "fit(model, split, TrainingConfig(epochs=1))"
    )
    changed = changed.replace("training import fit", "training import TrainingConfig, fit")
    assert changed.count("planted") == 1 and changed.count("TrainingConfig") == 2
    done = subprocess.run(
        [sys.executable, "-c", changed], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"RankingResult\(600 targets; hr@10 0\.\d+", done.stdout)
