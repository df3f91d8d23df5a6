"""README.md and docs/: numbers come from lessons and records; commands and Python run."""

from __future__ import annotations

import datetime
import gzip
import os
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from ss4rec_lib import cli
from ss4rec_lib.experiments import run_config
from tools.fill_readme import out_of_date

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN_DATA = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def commands(page: str = README) -> list[str]:
    found = "\n".join(blocks("bash", page)).split("\n")
    lines = [line.split("#")[0].strip() for line in found]
    return [line for line in lines if line]


def test_numbers_and_picture_are_those_of_the_committed_lessons():
    assert out_of_date() == []


def test_it_is_short():
    assert len(README.splitlines()) < 170
    results = README.partition("<!-- results -->")[2].partition("<!-- /results -->")[0]
    head, _, *rows = [line for line in results.splitlines() if line.startswith("|")]
    assert "masked" in head and 1 <= len(rows) <= 8


PAGES = ["README.md", "CONTRIBUTING.md", "data/README.md", "docs/own_data.md"]


@pytest.mark.parametrize("name", PAGES)
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
    assert wanted == {"run", "test", "lab", "doctor", "exercises-copy", "slides", "site", "kit"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in wanted)
    # `make test` is what runs this test, and `make lab` does not end; .ci/run runs the others.
    run_by_ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").split("\n")
    assert wanted - {"lab"} <= {line.removeprefix("make ") for line in run_by_ci}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Return a folder in place of runs/: one command trains there, and the next ones read it."""
    return tmp_path_factory.mktemp("runs")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", [c for c in commands() if not c.startswith("make ")])
def test_commands_run(command, tmp_path, run_folder, tiny_lesson):
    """Run in the checkout, in the order of the README, with outputs in another folder.

    Other tests run lesson 04 with other parameters. Here a shorter lesson stands for it, and for
    papermill a tiny one; for lesson 04 itself papermill then only writes its cell.
    """
    words = [
        str(run_folder / w.removeprefix("runs/")) if w.startswith("runs/") else w
        for w in shlex.split(command)
    ]
    runs = [words]
    if words[:3] == ["ss4rec", "lessons", "04"]:
        words[2:] = ["04b", *words[3:], "--out", str(tmp_path / "lessons")]
    if words[0] == "papermill":
        tiny, words[2] = tmp_path / "00_tiny.ipynb", str(tmp_path / "executed.ipynb")
        lesson = nbformat.writes(tiny_lesson()).replace("epochs: int = 2", "epochs: int = 5")
        tiny.write_text(lesson.replace("epochs=2", "epochs=5").replace("2 epochs", "5 epochs"))
        runs = [[*words, "--prepare-only"], [words[0], str(tiny), *words[2:]]]
    program = Path(sys.executable).with_name(words[0])
    environment = os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    for words in runs:
        done = subprocess.run(
            [program, *words[1:]], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    if words[0] == "papermill":
        assert "planted: 2 epochs" in (tmp_path / "executed.ipynb").read_text()


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


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Go to a folder with the files that the page on own data names, and return it."""
    monkeypatch.chdir(tmp_path)
    draw, rows = random.Random(0), blocks("csv", OWN_DATA)[0].split()
    for user in ("zoë", "007", *(f"customer-{n}" for n in range(28))):
        second, item = 1_709_300_000, draw.randrange(20)
        for _ in range(10):
            second += draw.randrange(1, 10**5)
            item = (item + draw.choice([1, 1, 2, 7])) % 20
            date = datetime.datetime.fromtimestamp(second, datetime.UTC)
            rows.append(f"{user},item-{item:02},{date:%Y-%m-%dT%H:%M:%SZ}")
    Path("orders.csv").write_text("\n".join(rows), encoding="utf-8")
    rows = ["customer,sku,when", *rows[1:], rows[1]]
    with gzip.open("orders.tsv.gz", "wt", encoding="utf-8") as stream:
        stream.write("\n".join(rows).replace(",", "\t"))
    titles = [f'item-{n:02},"Crème, no. {n}"' for n in range(20)]
    Path("products.csv").write_text("\n".join(["sku,name", *titles]), encoding="utf-8")
    Path("grocery.yaml").write_text(blocks("yaml", OWN_DATA)[0], encoding="utf-8")
    return tmp_path


def test_the_commands_for_own_data_run(shop, capfd):
    """In one process, in the order of the page."""
    printed = []
    for command in commands(OWN_DATA):
        program, *words = shlex.split(command)
        assert program == "ss4rec"
        assert cli.main(words) == 0, capfd.readouterr().err
        printed.append(capfd.readouterr().out)
    assert len(printed) == 6, "five commands, and one for the description"
    assert printed[0].startswith("orders: 303 interactions without ratings, 30 users, 22 items")
    assert "95 % interval" in printed[3]
    assert re.findall(r"^ *([1-9]) +item-\d\d ", printed[4], re.MULTILINE) == list("12345")
    assert printed[5].startswith("grocery: 303 interactions")
    assert "titles: of 20 of these items" in printed[5] and "1 duplicate" in printed[5]
    kept = [path.read_bytes() for path in (shop / "runs").rglob("*") if path.is_file()]
    assert not any(b"customer-1" in content for content in kept), "no copy of the data"
    records = [path.read_text() for path in (shop / "runs").rglob("record.json")]
    assert len(records) == 2 and not any(str(shop) in text for text in records)
