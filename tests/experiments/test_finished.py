"""`ss4rec evaluate` and `ss4rec recommend` on a finished run."""

import json
import re
import shutil

import pytest

from ss4rec_lib import cli
from ss4rec_lib.data import leave_one_out, planted_ratings
from ss4rec_lib.experiments import folder as folder_module


@pytest.fixture
def copy(finished, tmp_path):
    """A run to be damaged."""
    return shutil.copytree(finished, tmp_path / "copy")


def record(finished):
    return json.loads((finished / "result.json").read_text())


def ndcg_at_10(shown):
    """The third figure in the table's row NDCG, with its standard error."""
    (row,) = [line for line in shown.splitlines() if line.startswith("NDCG")]
    return re.findall(r"(\d\.\d{4}) ± (\d\.\d{4})", row)[2]


@pytest.mark.parametrize(("words", "arm", "part"), [
    ([], 0, "test"), (["--part", "valid"], 0, "valid"), (["--mask-seen"], 1, "test"),
    (["--target-time", "hidden"], 2, "test"),
    (["--target-time", "hidden", "--mask-seen", "--part", "valid"], 3, "valid"),
])  # fmt: skip
def test_evaluate_prints_what_was_recorded(finished, capsys, words, arm, part):
    assert cli.main(["evaluate", str(finished), *words]) == 0
    expected = record(finished)["arms"][arm][part]
    shown = capsys.readouterr().out
    assert ndcg_at_10(shown) == (f"{expected['ndcg@10']:.4f}", f"{expected['ndcg@10_se']:.4f}")
    assert part in shown and "600 targets" in shown
    assert ("not masked" in shown) == ("--mask-seen" not in words)


def test_evaluate_in_arms_that_were_not_recorded(finished, capsys):
    figures = []
    for words in ([], ["--target-time", "none"], ["--max-len", "3"], ["--max-len", "none"]):
        assert cli.main(["evaluate", str(finished), *words]) == 0
        figures.append(ndcg_at_10(capsys.readouterr().out))
    assert len({figures[0], figures[1], figures[2]}) == 3


@pytest.mark.parametrize(("words", "message"), [
    (["--target-time", "later"], "target_time='later': choose one of known"),
    (["--max-len", "0"], "--max-len 0: expected an integer of at least 1, or none"),
    (["--max-len", "all"], "--max-len all"),
])  # fmt: skip
def test_evaluate_refuses_what_means_nothing(finished, capsys, words, message):
    assert cli.main(["evaluate", str(finished), *words]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.out == ""


def test_recommend_prints_titles(finished, capsys):
    words = ["recommend", str(finished), "--user", "42", "--at", "2011-05-01T20:00", "-k", "3"]
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["rank", "item_id", "score", "title", "year"]
    assert len(lines) == 4 and all("Planted Film" in line for line in lines[1:])
    assert cli.main([*words[:-1], "200", "--include-seen"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 201


def test_recommend_without_a_table_of_items_says_so(finished, capsys, monkeypatch):
    from ss4rec_lib.data import DataError
    from ss4rec_lib.experiments import finished as module

    def nothing(*_, **__):
        raise DataError("no items here")

    monkeypatch.setattr(module, "load_items", nothing)
    assert cli.main(["recommend", str(finished), "--user", "42", "--at", "2011-05-01"]) == 0
    shown = capsys.readouterr()
    assert "without titles: no items here" in shown.err
    assert shown.out.splitlines()[0].split() == ["rank", "item_id", "score"]


@pytest.mark.parametrize(("words", "message"), [
    (["--user", "42", "--at", "1980-01-01"], "has not yet reached the end"),
    (["--user", "4711", "--at", "2011-01-01"], "unknown user id(s): 4711"),
    (["--user", "42", "--at", "soon"], "'soon' is no moment"),
    (["--user", "42", "--at", "2011-01-01", "-k", "0"], "k=0"),
    (["--user", "42", "--at", "2011-01-01", "-k", "201"], "k=201"),
])  # fmt: skip
def test_recommend_refuses_clearly(finished, capsys, words, message):
    assert cli.main(["recommend", str(finished), *words]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ") and message in shown.err and shown.out == ""


def refused(run, capsys):
    assert cli.main(["evaluate", str(run)]) == 2
    return capsys.readouterr().err


def test_a_run_that_is_none_or_unfinished_is_named(copy, tmp_path, capsys):
    assert "holds no run" in refused(tmp_path / "nothing", capsys)
    (copy / "result.json").unlink()
    assert "is not finished" in refused(copy, capsys)


@pytest.mark.parametrize(("name", "message"), [
    ("model.safetensors", "model.safetensors is truncated"), ("result.json", "cannot be read"),
    ("settings.json", "cannot be used"),
])  # fmt: skip
def test_a_damaged_file_is_named(copy, capsys, name, message):
    (copy / name).write_bytes((copy / name).read_bytes()[:100])
    shown = refused(copy, capsys)
    assert name in shown and message in shown


def test_a_missing_model_is_named(copy, capsys):
    (copy / "model.safetensors").unlink()
    assert "there is no file" in refused(copy, capsys)


@pytest.mark.parametrize(("n_items", "message"), [
    (200, "other interactions"), (150, "knows 200 items, the data has 150"),
])  # fmt: skip
def test_other_data_than_it_was_trained_on_is_refused(copy, capsys, monkeypatch, n_items, message):
    other = planted_ratings(n_items=n_items, seed=1)
    monkeypatch.setattr(folder_module, "load_movielens", lambda name, path=None: other)
    assert leave_one_out(other).sequences.n_items == n_items
    assert message in refused(copy, capsys)
