"""`ss4rec evaluate`, `ss4rec recommend` and `ss4rec compare` on finished runs."""

import json
import re
import shutil

import pytest

from ss4rec_lib import cli
from ss4rec_lib.data import leave_one_out, planted_ratings
from ss4rec_lib.experiments import evaluation_of
from ss4rec_lib.experiments import inference as inference_module
from ss4rec_lib.experiments import task as task_module


@pytest.fixture
def copy(finished, tmp_path):
    """A run to be damaged."""
    return shutil.copytree(finished, tmp_path / "copy")


def ndcg_at_10(shown):
    """The third figure in the table's row NDCG, with its standard error."""
    (row,) = [line for line in shown.splitlines() if line.startswith("NDCG")]
    return re.findall(r"(\d\.\d{4}) ± (\d\.\d{4})", row)[2]


@pytest.mark.parametrize(
    ("words", "part", "time", "masked"),
    [
        ([], "test", "known", False),
        (["--part", "valid"], "valid", "known", False),
        (["--mask-seen"], "test", "known", True),
        (["--target-time", "hidden"], "test", "hidden", False),
        (["--target-time", "hidden", "--mask-seen", "--part", "valid"], "valid", "hidden", True),
    ],
)
def test_evaluate_prints_what_was_recorded(finished, record_of, capsys, words, part, time, masked):
    assert cli.main(["evaluate", str(finished), *words]) == 0
    expected = evaluation_of(record_of(finished), part, time, masked)
    shown = capsys.readouterr().out
    assert ndcg_at_10(shown) == (f"{expected['ndcg@10']:.4f}", f"{expected['ndcg@10_se']:.4f}")
    assert part in shown
    assert "600 targets" in shown
    assert ("not masked" in shown) == ("--mask-seen" not in words)


def test_evaluate_under_conditions_that_were_not_recorded(finished, capsys):
    figures = []
    for words in ([], ["--target-time", "none"], ["--max-len", "3"], ["--max-len", "none"]):
        assert cli.main(["evaluate", str(finished), *words]) == 0
        figures.append(ndcg_at_10(capsys.readouterr().out))
    assert len({figures[0], figures[1], figures[2]}) == 3


def test_runs_that_are_ranked_together(finished, copy, record_of, capsys):
    assert cli.main(["evaluate", str(finished), str(copy)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("2 runs together")
    expected = evaluation_of(record_of(finished), "test", "known", False)
    assert ndcg_at_10(shown)[0] == f"{expected['ndcg@10']:.4f}"  # the same run twice
    record = json.loads((copy / "record.json").read_text())
    record["protocol"]["target_time"] = "previous"
    (copy / "record.json").write_text(json.dumps(record))
    assert cli.main(["evaluate", str(finished), str(copy)]) == 2
    shown = capsys.readouterr().err
    assert all(part in shown for part in ("copy", "target_time", "previous", "known"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target-time", "later"], "later"),
        (["--max-len", "0"], "0"),
        (["--max-len", "all"], "all"),
    ],
)
def test_evaluate_refuses_what_means_nothing(finished, capsys, words, message):
    assert cli.main(["evaluate", str(finished), *words]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""


def test_recommend_prints_titles(finished, capsys):
    words = ["recommend", str(finished), "--user", "42", "--at", "2011-05-01T20:00", "-k", "3"]
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["rank", "item_id", "score", "title", "year"]
    assert len(lines) == 4
    assert all("Planted Film" in line for line in lines[1:])
    assert cli.main([*words[:-1], "200", "--include-seen"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 201


def test_recommend_without_a_table_of_items_says_so(finished, capsys, monkeypatch):
    from ss4rec_lib.data import DataError

    def nothing(*_, **__):
        raise DataError("no items here")

    monkeypatch.setattr(inference_module, "load_items", nothing)
    assert cli.main(["recommend", str(finished), "--user", "42", "--at", "2011-05-01"]) == 0
    shown = capsys.readouterr()
    assert "without titles: no items here" in shown.err
    assert shown.out.splitlines()[0].split() == ["rank", "item_id", "score"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--user", "42", "--at", "1980-01-01"], "1980-01-01"),
        (["--user", "4711", "--at", "2011-01-01"], "4711"),
        (["--user", "42", "--at", "soon"], "'soon'"),
        (["--user", "42", "--at", "2011-01-01", "-k", "0"], "k=0"),
        (["--user", "42", "--at", "2011-01-01", "-k", "201"], "k=201"),
    ],
)
def test_recommend_refuses_clearly(finished, capsys, words, message):
    assert cli.main(["recommend", str(finished), *words]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert shown.out == ""


def refused(run, capsys):
    assert cli.main(["evaluate", str(run)]) == 2
    return capsys.readouterr().err


def test_a_run_that_is_none_or_unfinished_is_named(copy, tmp_path, capsys):
    assert "holds no run" in refused(tmp_path / "nothing", capsys)
    (copy / "record.json").unlink()
    assert "is not finished" in refused(copy, capsys)


@pytest.mark.parametrize("name", ["model.safetensors", "record.json", "config.json"])
def test_a_damaged_or_missing_file_is_named(copy, capsys, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:100])
    assert name in refused(copy, capsys)
    (copy / name).unlink()
    assert name in refused(copy, capsys)


def test_a_model_of_another_configuration_is_refused(copy, train, tmp_path, capsys):
    assert train(tmp_path / "other", d_P=4, epochs=1) == 0
    shutil.copy(tmp_path / "other" / "model.safetensors", copy / "model.safetensors")
    shown = refused(copy, capsys)
    assert "model.safetensors" in shown
    assert "d_P" in shown


@pytest.mark.parametrize("n_items", [200, 150])
def test_other_data_than_it_was_trained_on_is_refused(copy, capsys, monkeypatch, n_items):
    other = planted_ratings(n_items=n_items, seed=1)
    monkeypatch.setattr(task_module, "load_dataset", lambda name, path=None: other)
    assert leave_one_out(other).sequences.n_items == n_items
    shown = refused(copy, capsys)
    assert "data" in shown
    assert n_items == 200 or "150" in shown
