"""Recorded runs: kept under a name, grouped over seeds, shown in tables that follow from them."""

import argparse
import copy
import json
import re
import shlex
import shutil
import statistics

import pytest

from ss4rec_lib import cli
from ss4rec_lib.experiments import keep as keep_module
from ss4rec_lib.experiments import table
from ss4rec_lib.experiments.errors import ExperimentError
from ss4rec_lib.experiments.keep import keep
from ss4rec_lib.experiments.results import changes_of, grouped, load_records, record_name
from ss4rec_lib.experiments.settings import Settings, settings_from_options

# What conftest's SMALL changes, in the order of the configurations' fields.
NAME = (
    "planted_exact-time_ss4rec_hidden_size-16_n_layers-1_d_P-8_d_H-16_d_state-4_epochs-2_"
    "learning_rate-0.01_max_tokens-6400_seed0"
)


@pytest.fixture
def record(finished):
    return json.loads((finished / "result.json").read_text())


def another(record, seed, shift=0.0, **training):
    """A record that differs in its seed, figures and training options."""
    other = copy.deepcopy(record)
    other["seed"] = other["config"]["training"]["seed"] = seed
    other["config"]["training"] |= training
    for metrics in [other["test"], *(arm["test"] for arm in other["arms"])]:
        metrics["hr@10"] += shift
    other["train_seconds"] += 10 * seed
    return other


def cells(text, *wanted):
    """The table's rows that hold all of the wanted words, as lists of cells."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in row] for row in rows]
    return [row for row in rows if all(word in row for word in wanted)]


# ------------------------------------------------------------------------------------- keeping


def test_record_copies_the_result_and_writes_the_table(finished, record, tmp_path):
    path = keep(finished, folder=tmp_path)
    assert path.name == f"{NAME}.json"
    assert json.loads(path.read_text()) == record
    assert (tmp_path / "README.md").read_text() == table.results_table({NAME: record})
    ranks = tmp_path / "ranks" / f"{NAME}.npz"
    assert ranks.read_bytes() == (finished / "ranks.npz").read_bytes()
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.*")}
    keep(finished, folder=tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.*")} == before, "twice is once"


def test_another_run_of_that_name_is_not_overwritten(finished, record, tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(another(record, 1)))
    before = (tmp_path / "mine.json").read_bytes()
    with pytest.raises(ExperimentError, match="mine.json is there already and is another run"):
        keep(finished, "mine", tmp_path)
    assert (tmp_path / "mine.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["mine.json"]
    keep(finished, "mine2", tmp_path)
    assert sorted(load_records(tmp_path)) == ["mine", "mine2"]


def test_ablations_have_a_folder_and_a_table_of_their_own(finished, record, tmp_path):
    keep(finished, "base", tmp_path, ablation=True)
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["README.md", "base.json"]
    assert load_records(tmp_path) == {} and load_records(tmp_path / "ablations") == {"base": record}
    page = (tmp_path / "README.md").read_text()
    assert "No run is recorded yet." in page and "What each change does, on validation" in page
    assert f"{record['valid']['ndcg@10']:.4f}" in page
    assert f"{record['test']['ndcg@10']:.4f}" not in page, "nothing is said of the test part"
    assert table.out_of_date(folder=tmp_path) == []
    keep(finished, "final", tmp_path)
    assert "What each change does" in (tmp_path / "README.md").read_text()


def test_ablations_are_sorted_by_validation(record):
    better = another(record, 0, epochs=3)
    better["valid"] = record["valid"] | {"ndcg@10": record["valid"]["ndcg@10"] + 0.1}
    lines = table.ablations_table({"a": record, "b": better}).splitlines()
    assert "epochs=3" in lines[2] and "epochs=3" not in lines[3]


def test_a_run_without_its_ranks_is_not_kept(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "ranks.npz").unlink()
    with pytest.raises(ExperimentError, match="ranks.npz holds no ranks of a run"):
        keep(run, folder=tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_the_same_run_under_two_names_would_count_twice(finished, tmp_path):
    keep(finished, "one", tmp_path)
    with pytest.raises(ExperimentError, match=r"one.json and two.json are the same run .seed 0."):
        keep(finished, "two", tmp_path)
    assert not (tmp_path / "two.json").exists()


@pytest.mark.parametrize("name", ["a/b", "../a", "", ".hidden", "..", "/a"])
def test_a_name_that_is_a_path_is_refused(finished, tmp_path, name):
    with pytest.raises(ExperimentError, match="expected a plain file name"):
        keep(finished, name, tmp_path / "results")
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_is_not_kept(tmp_path):
    Settings("planted").write(tmp_path / "run" / "settings.json")
    with pytest.raises(ExperimentError, match="is not finished"):
        keep(tmp_path / "run", folder=tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_the_verb(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(keep_module, "results_folder", lambda: tmp_path / "results")
    assert cli.main(["record", str(finished), "--as", "mine"]) == 0
    assert "results/mine.json" in capsys.readouterr().out
    assert (tmp_path / "results" / "mine.json").exists()
    assert cli.main(["record", str(finished), "--as", "theirs"]) == 2
    assert "the same run" in capsys.readouterr().err


def test_names_say_what_is_not_the_preset(record):
    assert record_name(record) == NAME
    other = copy.deepcopy(record)
    other["protocol"] |= {"ordering": "recbole-float32", "min_interactions": 0}
    other["preset"] = "bpr"
    name = record_name(another(other, 3, max_len=None))
    assert name.startswith("planted_recbole-float32_ss4rec_0-core_seed_bpr_")
    assert "_max_len-none_" in name and name.endswith("_seed3")
    assert re.fullmatch(r"[\w.-]+", name)


# ------------------------------------------------------------------------------------ grouping


def test_seeds_come_together_and_nothing_else_does(record):
    records = {
        "c": another(record, 2), "a": another(record, 1), "b": record,
        "d": another(record, 0, epochs=3),
        "e": another(record, 0, checkpoint_seconds=1.0, target_time="none"),
    }  # fmt: skip
    groups = {tuple(group.names): group.seeds for group in grouped(records)}
    assert groups == {("b", "a", "c"): [0, 1, 2], ("d",): [0], ("e",): [0]}


def test_how_it_was_carried_out_does_not_separate(record):
    other = another(record, 1, checkpoint_seconds=1.0, device="cpu")
    other["machine"]["cores"] = 64
    other["revision"] = "b" * 40
    (group,) = grouped({"a": record, "b": other})
    assert group.seeds == [0, 1]


def test_other_data_under_the_same_name_separate(record):
    other = another(record, 1)
    other["protocol"]["fingerprint"] = "0" * 32
    assert len(grouped({"a": record, "b": other})) == 2


def test_the_command_makes_the_same_configuration_again(record):
    """Through the command line's own parser, back to the recorded configuration."""
    other = another(record, 3, max_len=None, gradient_clip=None, target_time="none")
    other["protocol"] |= {"ordering": "recbole-float32", "min_interactions": 10}
    (group,) = grouped({"a name": other})
    words = shlex.split(group.command(3))
    assert words[0] == "ss4rec" and words[-1] == "runs/a name"
    options: argparse.Namespace = cli._parser().parse_args(words[1:])
    names = ("dataset", "path", "ordering", "min_interactions", "preset", "seed")
    given = {name: getattr(options, name) for name in names}
    settings = settings_from_options(given, options.changes)
    resolved = settings.resolved()
    assert resolved["ordering"] == "recbole-float32" and resolved["min_interactions"] == 10
    for part in ("model", "training"):
        assert other["config"][part].items() <= resolved.items()


def test_a_preset_that_changes_later_shows_up_as_a_change(record, monkeypatch):
    from ss4rec_lib.experiments import results
    from ss4rec_lib.training import TrainingConfig

    assert "patience" not in changes_of(record)
    monkeypatch.setattr(results, "training_preset", lambda *_: TrainingConfig(patience=3))
    assert changes_of(record)["patience"] == 10


# -------------------------------------------------------------------------------------- tables


def test_one_seed_has_its_standard_error_over_users(record):
    text = table.results_table({"a": record})
    rows = cells(text, "planted")
    arms = [(row[4], row[5]) for row in rows]
    assert arms == [("known", "no"), ("known", "yes"), ("hidden", "no"), ("hidden", "yes")]
    test, valid = record["test"], record["valid"]
    assert rows[0][6:12] == [
        "0", f"{valid['ndcg@10']:.4f} ± {valid['ndcg@10_se']:.4f} se",
        *(f"{test[m]:.4f} ± {test[m + '_se']:.4f} se" for m in ("hr@10", "ndcg@10", "mrr@10")),
        f"{record['train_seconds']:,.0f}",
    ]  # fmt: skip
    assert rows[0][12] == f"2 ({record['best_epoch']})"
    assert rows[1][9] == (
        f"{record['arms'][1]['test']['ndcg@10']:.4f} ± "
        f"{record['arms'][1]['test']['ndcg@10_se']:.4f} se"
    )
    assert "official, hidden_size=16" in rows[0][3] and "epochs=2" in rows[0][3]


def test_several_seeds_have_their_standard_deviation(record):
    records = {"a": record, "b": another(record, 1, 0.02), "c": another(record, 2, 0.07)}
    rows = cells(table.results_table(records), "planted", "0, 1, 2")
    assert len(rows) == 4
    values = [r["test"]["hr@10"] for r in records.values()]
    expected = f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f} sd"
    assert rows[0][8] == expected
    assert rows[0][11] == f"{record['train_seconds'] + 10:,.0f}"


def test_machine_revision_and_commands_stand_below(record):
    other = another(record, 1)
    other["revision"] = None
    text = table.results_table({"a": record, "b": other})
    assert "--seed 0 --out runs/a\n" in text and "--seed 1 --out runs/b\n" in text
    assert f"- revision: {record['revision'] or 'unknown'}" in text and "unknown" in text
    assert record["machine"]["processor"] in text
    assert "[a](a.json), [b](b.json)" in text


def test_data_that_are_not_the_published_file_are_marked_wherever_they_are_shown(record):
    doubtful = another(record, 1)
    doubtful["data_verified"] = False
    for make in (table.results_table, table.runs_table):
        assert "hash" not in make({"a": record})
        text = make({"a": record, "b": doubtful})  # one of several is enough
        assert "is not the published one by its hash" in text
        assert cells(text, r"planted \*") and not cells(text, "planted")


def test_published_figures_are_marked_as_such():
    text = table.results_table({})
    assert "No run is recorded yet." in text and "Quoted, not measured here" in text
    assert cells(text, "0.3561", "0.2127", "0.1688") and cells(text, "0.3477", "0.2056", "0.1620")


def test_the_short_table_has_main_arms_only(record):
    blind = another(record, 0, target_time="none")
    blind["protocol"]["target_time"] = "none"
    text = table.runs_table({"a": record, "b": another(record, 1), "c": blind})
    rows = cells(text, "planted")
    assert [(row[3], row[4]) for row in rows] == [("known", "2"), ("none", "1")]
    assert "sd" in rows[0][5] and "se" in rows[1][5]
    assert "(results/README.md)" in text
    assert table.runs_table({}) == "No run is recorded yet."


def test_the_committed_table_is_that_of_the_committed_records(capsys):
    assert table.out_of_date() == []
    assert table.main(["--check"]) == 0 and capsys.readouterr().out == ""


def test_check_and_write(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(table, "results_folder", lambda: tmp_path)
    keep(finished, "mine", tmp_path)
    page = tmp_path / "README.md"
    written = page.read_text()
    page.write_text(written + "by hand")
    assert table.main(["--check"]) == 1
    assert "README.md: out of date" in capsys.readouterr().out
    assert page.read_text().endswith("by hand"), "--check writes nothing"
    assert table.main([]) == 0
    assert page.read_text() == written
    assert table.main(["--check"]) == 0


@pytest.mark.parametrize(("content", "message"), [
    ("{", "bad.json in .* is not JSON"), ("[]", "bad.json is no record of a run: it lacks arms"),
    ('{"dataset": "planted"}', "it lacks arms, best_epoch"),
])  # fmt: skip
def test_a_file_that_is_no_record_is_named(tmp_path, content, message, monkeypatch, capsys):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(ExperimentError, match=message):
        load_records(tmp_path)
    monkeypatch.setattr(table, "results_folder", lambda: tmp_path)
    assert table.main(["--check"]) == 2
    assert capsys.readouterr().err.startswith("error: bad.json")


def test_a_record_of_an_unknown_preset_is_named(record, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(record | {"preset": "huge"}))
    with pytest.raises(ExperimentError, match="a.json has the preset 'huge'"):
        load_records(tmp_path)


def test_the_time_to_the_published_validation_figure_is_summed_from_the_curve(record):
    other = copy.deepcopy(record)
    other["dataset"] = "ml-1m"
    other["protocol"] |= {"ordering": "recbole-float32", "min_interactions": 5}
    first = other["curve"][0] | {"train_seconds": 100.0, "valid_seconds": 11.0, "ndcg@10": 0.2189}
    second = first | {"epoch": 2, "ndcg@10": 0.2190}
    other["curve"] = [first, second]
    slow = another(other, 1)
    slow["curve"] = [first]
    page = table.results_table({"a": other, "b": slow})
    assert "seed 0: 222 s, epoch 2; seed 1: not reached" in page
    assert "not reached" not in table.results_table({"a": record}), "another protocol: no word"
