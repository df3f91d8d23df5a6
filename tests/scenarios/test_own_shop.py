"""A shop's own data through the command line: text ids, dates, no ratings, titles, compressed."""

import datetime
import gzip
import json
import random
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from ss4rec_lib import cli
from ss4rec_lib.data import DataError, load_dataset
from ss4rec_lib.experiments import open_run, read_per_target, record_run
from ss4rec_lib.lessons import run_lessons

N_USERS, N_ITEMS = 50, 30
TITLES = {f"B{n:02d}": f'Crème brûlée, no. {n} "à point"' for n in range(N_ITEMS)}
YAML = """\
name: grocery
interactions: orders.tsv.gz
columns: {user_id: customer, item_id: sku, timestamp: when}
timestamp: iso
titles: {file: items.csv, item_id: sku, title: name}
source: generated for a test
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    folder, draw = tmp_path_factory.mktemp("a shop"), random.Random(1)
    rows = []
    for user in range(N_USERS):
        when, item = datetime.datetime(2021, 1, 1), draw.randrange(N_ITEMS)
        for _ in range(draw.randrange(6, 15)):
            when += datetime.timedelta(seconds=draw.randrange(1, 10**6))
            item = (item + draw.choice([1, 1, 1, 2, 7])) % N_ITEMS
            rows.append((f"zoë-{user}", f"B{item:02d}", f"{when.isoformat()}Z"))
    table = pd.DataFrame(rows, columns=["customer", "sku", "when"]).sort_values("when")
    with gzip.open(folder / "orders.tsv.gz", "wt", encoding="utf-8") as stream:
        table.to_csv(stream, sep="\t", index=False)
    titles = pd.DataFrame({"sku": TITLES.keys(), "name": TITLES.values()})
    titles.to_csv(folder / "items.csv", index=False)
    (folder / "shop.yaml").write_text(YAML)
    return folder


@pytest.fixture(scope="module")
def rated(shop) -> Path:
    """The same with stars, in columns that are recognised without a description."""
    table = pd.read_csv(shop / "orders.tsv.gz", sep="\t")
    table["stars"] = 1 + np.arange(len(table)) % 5
    table = table.rename(columns={"customer": "user", "sku": "item", "when": "date"})
    table.to_csv(shop / "stars.csv", index=False)
    return shop / "stars.csv"


def train(dataset, out, *words):
    words = ["--set=hidden_size=8", "--set=epochs=1", *words]
    return cli.main(["train", f"--dataset={dataset}", f"--out={out}", *words])


@pytest.fixture(scope="module")
def run(shop, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train(shop / "shop.yaml", folder, "--model=gru4rec") == 0
    return folder


def test_data_says_what_it_holds(shop, capsys):
    assert cli.main(["data", str(shop / "shop.yaml")]) == 0
    shown = capsys.readouterr().out
    table = pd.read_csv(shop / "orders.tsv.gz", sep="\t")
    expected = [f"grocery: {len(table):,} interactions", f"{N_USERS} users", f"{N_ITEMS} items"]
    expected += ["without ratings", "2021-01-0", f"of {N_ITEMS} of", "orders.tsv.gz"]
    assert all(words in shown for words in expected), shown
    assert str(shop) not in shown


def test_figures_and_lists_are_in_the_shops_own_ids(run, shop, capsys):
    assert cli.main(["evaluate", str(run), "--mask-seen"]) == 0
    assert f"{N_USERS} targets" in capsys.readouterr().out
    words = ["recommend", str(run), "--at=2023-01-01", "-k=4"]
    assert cli.main([*words, "--user=zoë-7"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["rank", "item_id", "score", "title"]
    assert len(lines) == 4
    for line in lines:
        item, title = line.split(maxsplit=3)[1::2]
        assert title == TITLES[item]
    bought = load_dataset(shop / "shop.yaml").query("user_id == 'zoë-7'")["item_id"]
    assert not {line.split()[1] for line in lines} & set(bought)
    for unknown in ("zoë-999", "7"):
        assert cli.main([*words, f"--user={unknown}"]) == 2
        assert repr(unknown) in capsys.readouterr().err


def test_a_user_of_integer_ids_may_be_given_as_text(finished, capsys):
    words = ["recommend", str(finished), "--at=2030-01-01", "-k=2"]
    assert cli.main([*words, "--user", "42"]) == 0
    for unknown in ("-3", "4.2", "x42"):
        assert cli.main([*words, "--user", unknown]) == 2
        assert unknown in capsys.readouterr().err


def test_the_record_names_the_data_and_no_place(run, shop, tmp_path):
    text = (run / "record.json").read_text()
    record = json.loads(text)
    assert record["dataset"] == "grocery"
    assert record["data_verified"] is False
    assert "--dataset shop.yaml " in record["command"]
    assert str(shop) not in text
    assert "zoë" not in text
    assert read_per_target(run / "per_target.npz")["users"].max() == N_USERS - 1
    path = record_run(run, folder=tmp_path)
    assert path.name.startswith("grocery_leave-one-out_")
    pages = [p.read_text() for p in tmp_path.iterdir() if p.suffix in (".md", ".csv")]
    assert any("grocery" in page for page in pages)
    assert not any(str(shop) in page for page in pages)


def test_a_relative_file_stays_in_the_command_as_it_was_given(shop, tmp_path, monkeypatch):
    monkeypatch.chdir(shop.parent)
    given = f"{shop.name}/shop.yaml"
    assert train(given, tmp_path / "run", "--model=popularity", "--set=hidden_size=8") == 2
    words = ["train", f"--dataset={given}", "--model=popularity", f"--out={tmp_path / 'run'}"]
    assert cli.main(words) == 0
    command = json.loads((tmp_path / "run" / "record.json").read_text())["command"]
    assert f"--dataset '{given}' " in command
    monkeypatch.chdir(tmp_path)
    assert open_run("run").split.sequences.n_users == N_USERS


@pytest.mark.parametrize("split", ["leave-one-out", "random", "5-fold"])
def test_ratings_are_predicted_where_there_are_any(split, rated, shop, tmp_path, capsys):
    words = [
        "train",
        "--task=rating",
        "--model=bias",
        f"--split={split}",
        f"--out={tmp_path / 'r'}",
    ]
    assert cli.main([*words, f"--dataset={shop / 'shop.yaml'}"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: grocery has no ratings")
    assert not (tmp_path / "r").exists()
    assert cli.main([*words, f"--dataset={rated}"]) == 0
    text = (tmp_path / "r" / "record.json").read_text()
    assert "zoë" not in text
    assert json.loads(text)["dataset"] == "stars"
    users = read_per_target(tmp_path / "r" / "per_target.npz")["users"]
    assert len(np.unique(users)) <= N_USERS
    assert users.max() == N_USERS - 1


def test_a_sequence_model_predicts_stars_of_text_ids(rated, tmp_path):
    words = ["--task=rating", "--model=ss4rec-both", "--set=d_H=8", "--set=d_P=4"]
    words += ["--set=d_state=2", "--set=n_layers=1"]
    assert train(rated, tmp_path / "run", *words) == 0
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert {e["ranked_by"] for e in record["evaluations"]} == {None, "score", "rating"}


@pytest.fixture
def lesson(tiny_lesson, tmp_path):
    """A folder with one lesson that loads its data set."""
    made = tiny_lesson()
    made.cells[4].source = (
        "from ss4rec_lib.data import load_dataset, load_items\n"
        "table = load_dataset(dataset)\nprint(len(table), len(load_items(dataset)))"
    )
    made.cells[-1].source = 'record(total=len(table), dataset=table.attrs["dataset"])'
    (tmp_path / "lessons").mkdir()
    nbformat.write(made, tmp_path / "lessons" / "01_first.ipynb")
    return tmp_path / "lessons"


def test_lessons_find_a_file_that_was_named_from_another_folder(
    lesson, shop, tmp_path, monkeypatch
):
    monkeypatch.chdir(shop)
    given = {"parameters": {"dataset": "shop.yaml"}, "folder": lesson, "out": tmp_path / "out"}
    (done,) = run_lessons(**given)
    assert done.error is None
    assert done.record["total"] == len(load_dataset("shop.yaml"))
    text = (tmp_path / "out" / "01_first.json").read_text()
    record = json.loads(text)
    assert record["dataset"] == record["overrides"]["dataset"] == "grocery"
    assert record["config"]["parameters"]["dataset"] == "grocery"
    assert record["command"] == "ss4rec lessons 01 -p dataset shop.yaml"
    assert str(shop) not in text
    # A file that cannot be used stops before a kernel starts.
    (tmp_path / "bad.csv").write_text("user,item\n1,2\n")
    for dataset in (str(tmp_path / "bad.csv"), "none.yaml"):
        with pytest.raises(DataError, match=Path(dataset).name):
            run_lessons(**given | {"parameters": {"dataset": dataset}, "out": tmp_path / "none"})
    assert not (tmp_path / "none").exists()
