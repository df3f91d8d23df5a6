"""Keeping finished runs in the results: under a name, once, and with the page renewed."""

import copy
import json
import shutil

import pytest

from ss4rec_lib import cli
from ss4rec_lib.experiments import (
    ExperimentError,
    RunConfig,
    load_records,
    record_name,
    record_run,
)
from ss4rec_lib.experiments import store as store_module


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_record_copies_the_record_and_its_values_and_makes_the_page(finished, record_of, tmp_path):
    path = record_run(finished, folder=tmp_path)
    name = record_name(RunConfig.read(finished / "config.json"), "planted")
    assert path == tmp_path / "records" / f"{name}.json"
    assert name.startswith("planted_leave-one-out_exact-time_official_")
    assert name.endswith("_seed0")
    assert load_records(tmp_path) == {name: record_of(finished)}
    values = (tmp_path / "per_target" / f"{name}.npz").read_bytes()
    assert values == (finished / "per_target.npz").read_bytes()
    assert "SS4Rec" in (tmp_path / "README.md").read_text()
    before = files(tmp_path)
    record_run(finished, folder=tmp_path)
    assert files(tmp_path) == before, "twice is once"


def test_another_run_of_that_name_is_not_overwritten(finished, record_of, tmp_path):
    other = copy.deepcopy(record_of(finished)) | {"seed": 1}
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "mine.json").write_text(json.dumps(other))
    before = files(tmp_path)
    with pytest.raises(ExperimentError, match=r"mine\.json"):
        record_run(finished, "mine", tmp_path)
    assert files(tmp_path) == before
    with pytest.raises(ExperimentError, match=r"--as '\.\./a'"):
        record_run(finished, "../a", tmp_path)
    assert files(tmp_path) == before


def test_the_same_run_under_two_names_would_count_twice(finished, tmp_path):
    record_run(finished, "one", tmp_path)
    before = files(tmp_path)
    with pytest.raises(ExperimentError, match=r"one\.json.*seed 0"):
        record_run(finished, "two", tmp_path)
    assert files(tmp_path) == before


def test_ablations_have_a_folder_of_their_own_and_no_test_part_on_the_page(
    finished, record_of, tmp_path
):
    record_run(finished, "base", tmp_path, ablation=True)
    assert load_records(tmp_path) == {}
    assert load_records(tmp_path, ablations=True) == {"base": record_of(finished)}
    assert not (tmp_path / "per_target").exists()


@pytest.mark.parametrize("name", ["per_target.npz", "record.json"])
def test_a_run_that_misses_a_file_is_not_kept(finished, tmp_path, name):
    run = shutil.copytree(finished, tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(ExperimentError, match=name):
        record_run(run, folder=tmp_path / "results")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ["a/b", "../a", "", ".hidden", "..", "/a"])
def test_a_name_that_is_a_path_is_refused(finished, tmp_path, name):
    with pytest.raises(ExperimentError, match="--as"):
        record_run(finished, name, tmp_path / "results")
    assert list(tmp_path.iterdir()) == []


def test_the_verb(finished, tmp_path, monkeypatch, capsys):
    real = store_module.results_folder()
    monkeypatch.setattr(store_module, "results_folder", lambda: tmp_path / "results")
    (tmp_path / "results").mkdir()
    for script in real.glob("*.py"):
        shutil.copy(script, tmp_path / "results")
    shutil.copy(real / "published.csv", tmp_path / "results")
    assert cli.main(["record", str(finished), "--as", "mine"]) == 0
    assert "records/mine.json" in capsys.readouterr().out
    assert cli.main(["record", str(finished), "--as", "theirs"]) == 2
    assert "mine.json" in capsys.readouterr().err


def test_committed_records_can_be_read_and_their_commands_are_understood():
    for name, record in (load_records() | load_records(ablations=True)).items():
        options = cli._parser().parse_args(record["command"].split()[1:])
        assert options.dataset.removesuffix(".yaml") == record["dataset"], name
        assert (options.task or "ranking") == record["task"]
        assert options.model == record["model"]
        assert (options.seed or 0) == record["seed"]
        given = {pair.partition("=")[0] for pair in options.assignments}
        assert given == set(record["overrides"])
