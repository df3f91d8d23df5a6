"""A run whose data were named relative to a folder, used from other folders and after a move."""

import json
import shutil

import pytest

from ss4rec_lib import cli
from ss4rec_lib.data import planted_ratings
from ss4rec_lib.experiments import RunConfig, RunFolder, run_experiment

pytestmark = pytest.mark.filterwarnings("ignore::ss4rec_lib.data.DataWarning")

SMALL = ["--set=hidden_size=8", "--set=epochs=1", "--set=num_layers=1"]


def write(path, seed=0):
    """A small data set under the name of a published one, in the format of its file."""
    table = planted_ratings(n_users=40, n_items=30, mean_length=15, seed=seed)
    columns = ["user_id", "item_id", "rating", "timestamp"]
    path.parent.mkdir(parents=True, exist_ok=True)
    table[columns].astype({"rating": int}).to_csv(path, sep="\t", header=False, index=False)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder that runs are made in; nothing else names the data."""
    monkeypatch.delenv("SS4REC_ML_100K", raising=False)
    folder = tmp_path / "home"
    write(folder / "mine" / "u.data")
    monkeypatch.chdir(folder)
    return folder


def train(*words):
    return cli.main(["train", "--model=gru4rec", "--out=run", *SMALL, *words])


NAMED = ["--dataset=ml-100k", "--path=mine"]
OWN = ["--dataset=mine/u.data"]


@pytest.fixture(params=["named", "own", "baseline"])
def run(request, home):
    """A finished run: of a named data set, of a file of one's own, of a model that only counts."""
    words = OWN if request.param == "own" else NAMED
    words = [*words, "--model=popularity"] if request.param == "baseline" else [*words, *SMALL]
    assert cli.main(["train", "--model=gru4rec", "--out=run", *words]) == 0
    return home / "run"


def uses(run, *words):
    """Exit codes of every verb that reads a finished run."""
    recommend = ["recommend", str(run), "--user=1", "--at=2030-01-01", "-k=2"]
    return [cli.main(["evaluate", str(run), *words]), cli.main([*recommend, *words])]


def test_from_another_folder_and_after_a_move(run, home, tmp_path, monkeypatch, capsys):
    kept = json.loads((run / "config.json").read_text())
    assert kept["resolved"].startswith(str(home / "mine"))
    assert "mine" in (kept["data"]["path"] or kept["data"]["dataset"])
    assert str(home) not in json.dumps(kept["data"])
    assert str(home) not in (run / "record.json").read_text()

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert uses(run) == [0, 0]
    # Other data under the name that was given are passed over, by their content.
    write(tmp_path / "elsewhere" / "mine" / "u.data", seed=1)
    assert uses(run) == [0, 0]

    shutil.move(home / "mine", tmp_path / "new place")
    capsys.readouterr()
    assert uses(run) == [2, 2]
    shown = capsys.readouterr().err
    assert "--path" in shown
    assert "fingerprint" in shown
    assert "Traceback" not in shown
    for place in (tmp_path / "new place", tmp_path / "new place" / "u.data"):
        assert uses(run, f"--path={place}") == [0, 0]
    assert uses(run, "--path=mine") == [2, 2], "a place that is given is used or refused"
    assert uses(run, "--path=nowhere") == [2, 2]
    # What needs no data works without them.
    assert cli.main(["train", "--resume", f"--out={run}"]) == 0
    assert cli.main(["compare", str(run), "--minus", str(run)]) == 0


def test_the_variable_names_a_new_place(home, tmp_path, monkeypatch):
    assert train(*NAMED) == 0
    shutil.move(home / "mine", tmp_path / "new")
    assert uses(home / "run") == [2, 2]
    monkeypatch.setenv("SS4REC_ML_100K", str(tmp_path / "new"))
    assert uses(home / "run") == [0, 0]


def test_runs_of_older_versions_know_no_place(home, monkeypatch, record_of, capsys):
    assert train(*NAMED) == 0
    for name in ("config.json", "record.json"):
        content = json.loads((home / "run" / name).read_text())
        kept = {key: v for key, v in content.items() if key not in ("resolved", "identity")}
        (home / "run" / name).write_text(json.dumps(kept))
    assert uses(home / "run") == [0, 0]
    write(home / "mine" / "u.data", seed=1)
    capsys.readouterr()
    assert uses(home / "run") == [2, 2]
    assert capsys.readouterr().err.count("fingerprint") == 2
    write(home / "mine" / "u.data")
    before = record_of(home / "run")["evaluations"]
    (home / "run" / "record.json").unlink()
    assert cli.main(["train", "--resume", "--out=run"]) == 0
    assert record_of(home / "run")["evaluations"] == before


@pytest.mark.parametrize("words", [NAMED, OWN, [*NAMED, "--task=rating", "--model=ss4rec-rating"]])
def test_resuming_from_another_folder_after_a_move(
    words, home, tmp_path, monkeypatch, capsys, record_of, timeless
):
    words = [*words, "--set=epochs=2"]
    if "--task=rating" in words:
        words += ["--set=d_H=8", "--set=d_P=4", "--set=d_state=2", "--set=n_layers=1"]
        words += ["--set=hidden_size=8"]
    else:
        words += ["--model=gru4rec", "--set=hidden_size=8"]

    def interrupt(*_):
        raise KeyboardInterrupt

    assert cli.main(["train", *words, "--out=whole"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_history", interrupt)
        assert cli.main(["train", *words, "--out=run"]) == 130
    shutil.move(home / "mine", tmp_path / "new")
    write(tmp_path / "other" / "u.data", seed=1)
    monkeypatch.chdir(tmp_path)
    again = ["train", "--resume", f"--out={home / 'run'}"]
    capsys.readouterr()
    assert cli.main(again) == 2
    assert "--path" in capsys.readouterr().err
    assert cli.main([*again, "--path=other"]) == 2
    assert "fingerprint" in capsys.readouterr().err
    assert not (home / "run" / "record.json").exists()
    assert cli.main([*again, "--path=new"]) == 0
    assert timeless(record_of(home / "run")) == timeless(record_of(home / "whole"))
    config = RunConfig.read(home / "run" / "config.json")
    assert config.data.path == ("mine" if NAMED[0] in words else None), "as it was given"
    assert run_experiment(config, home / "run", resume=True) == record_of(home / "run")
