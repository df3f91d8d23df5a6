"""RecBole's files both ways, and its own answers: order, targets, catalogue and metrics.

`fixtures/recbole/answers.json` is what RecBole 1.2.0 made of the files that `write_recbole` wrote
(see fixtures/make_recbole_fixture.py). The tests write them again, see that they are still the same
bytes, and hold this library against the answers.
"""

import gzip
import hashlib
import json
import lzma
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ss4rec_lib.data import (
    ORDERINGS,
    DataError,
    UnusablePathError,
    global_time_split,
    leave_one_out,
    planted_ratings,
)
from ss4rec_lib.data.validation import InvalidRatingsError
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.models import ModelConfig, Recommender
from tools.recbole_bridge import needs_benchmark, read_recbole, recbole_config, write_recbole

FIXTURE = Path(__file__).parent.parent / "fixtures" / "recbole"
HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
DATASETS = ("file_order", "exact_time", "global_time", "short")


@pytest.fixture(scope="module")
def answers():
    return json.loads((FIXTURE / "answers.json").read_text())


@pytest.fixture(scope="module")
def generated():
    return read_recbole(FIXTURE / "generated.inter")


@pytest.fixture(scope="module")
def splits(generated):
    """The splits that RecBole's answers are about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the unfiltered ones have users with too little
        return {
            "file_order": leave_one_out(generated, "recbole-float32"),
            "exact_time": leave_one_out(generated, "exact-time"),
            "global_time": global_time_split(generated, "exact-time", min_interactions=None),
            "short": leave_one_out(generated, "recbole-float32", min_interactions=None),
        }


# --- RecBole's answers


@pytest.mark.parametrize("name", DATASETS)
def test_recbole_read_what_is_written_today(splits, generated, answers, tmp_path, name):
    max_len = answers[name]["config"]["MAX_ITEM_LIST_LENGTH"]
    data = generated if name == "file_order" else splits[name]
    folder = write_recbole(data, tmp_path, name, max_len=max_len)
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.suffix in (".inter", ".item")
    }
    assert digests == answers[name]["sha256"]


@pytest.mark.parametrize("name", DATASETS)
def test_recbole_was_configured_as_is_written_today(splits, answers, name):
    yaml = pytest.importorskip("yaml")
    recorded = answers[name]["config"]
    text = recbole_config(splits[name], max_len=recorded["MAX_ITEM_LIST_LENGTH"])
    assert yaml.safe_load(text) == recorded


@pytest.mark.parametrize("name", DATASETS)
def test_catalogue_after_the_filter_is_recboles(splits, answers, name):
    assert splits[name].sequences.item_ids[1:].tolist() == answers[name]["catalogue"]


@pytest.mark.parametrize("name", DATASETS)
def test_training_targets_are_recboles_in_its_order(splits, answers, name):
    split, sequences = splits[name], splits[name].sequences
    ours = {}
    for user, end in enumerate(split.train_end):
        if end > 1:
            items = sequences.history(user).items[1:end]
            ours[str(sequences.user_ids[user])] = sequences.item_ids[items].tolist()
    assert ours == answers[name]["train_targets"]


@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize("name", DATASETS)
def test_targets_and_the_histories_before_them_are_recboles(splits, answers, name, part):
    split, sequences = splits[name], splits[name].sequences
    max_len = answers[name]["config"]["MAX_ITEM_LIST_LENGTH"]
    targets = split.targets(part)
    assert {str(u): i for u, i in zip(targets.user_id, targets.item_id, strict=True)} == {
        user: row["target"] for user, row in answers[name][part].items()
    }
    for user, position in zip(*split.held_out[part], strict=True):
        row = answers[name][part][str(sequences.user_ids[user])]
        history = sequences.history(user)
        items = sequences.item_ids[history.items[max(position - max_len, 0) : position]]
        assert items.tolist() == row["history"]
        # RecBole's times are always rounded to float32; ours only under its own ordering.
        times = [*history.times[max(position - max_len, 0) : position], history.times[position]]
        assert [int(np.float32(time)) for time in times] == [*row["times"], row["time"]]
        if split.ordering == "recbole-float32":
            assert times == [*row["times"], row["time"]]


class FixedScores(Recommender):
    """The stated score of the fixture: of an item, after a number of items, the last one known."""

    def __init__(self, item_ids):
        super().__init__(len(item_ids) - 1, ModelConfig())
        self.register_buffer("ids", torch.from_numpy(item_ids.copy()))

    def forward(self, items, delta):
        length = torch.arange(1, items.shape[1] + 1).expand_as(items)
        return torch.stack((self.ids[items], length), dim=-1)  # (B, L, 2)

    def logits(self, hidden):
        last, length = hidden[..., :1], hidden[..., 1:]
        return ((self.ids * (2 * last + 1) * 7919 + length * 104_729) % 1_000_003).float()


@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize("name", DATASETS)
def test_metrics_of_a_fixed_score_are_recboles(splits, answers, name, part):
    model = FixedScores(splits[name].sequences.item_ids)
    max_len = answers[name]["config"]["MAX_ITEM_LIST_LENGTH"]
    result = evaluate_ranking(model, splits[name], part, max_len=max_len, max_tokens=200)
    recorded = answers[name]["metrics"][part]
    assert len(recorded) == 12
    for metric, value in recorded.items():
        assert result[metric.replace("hit@", "hr@")] == pytest.approx(value, abs=1e-6)


def test_the_fixture_can_tell_the_two_orders_apart(splits, answers, generated):
    ours, theirs = (splits[name].targets("test").item_id for name in ("exact_time", "file_order"))
    assert 0 < (ours.to_numpy() != theirs.to_numpy()).sum() < len(ours)
    assert answers["file_order"]["metrics"]["test"] != answers["exact_time"]["metrics"]["test"]
    report = splits["file_order"].report
    assert report["users"] < report["users_before_filter"]
    assert report["items"] < report["items_before_filter"]
    lasting = generated.groupby("user_id")["item_id"].transform("size") >= 5
    common = generated.groupby("item_id")["user_id"].transform("size") >= 5
    assert report["rows"] < (lasting & common).sum()  # the filter had to be repeated
    rows = answers["global_time"]
    seen = {item for items in rows["train_targets"].values() for item in items}
    for part in ("valid", "test"):
        for row in rows[part].values():
            seen |= {row["target"], *row["history"]}
    assert set(rows["catalogue"]) - seen  # only the .item file can have told RecBole


def test_recbole_alone_gives_a_history_of_three_no_validation_target(splits, answers):
    own, sequences = answers["short"]["own_users"], splits["short"].sequences
    of_three = sequences.user_ids[sequences.lengths == 3].tolist()
    assert of_three
    assert sorted(set(own["test"]) - set(own["valid"])) == of_three
    assert own["test"] == splits["short"].targets("valid").user_id.tolist()


# --- the round trip

KEY = ["user_id", "item_id", "timestamp"]


def rounded(ratings):
    return ratings["timestamp"].astype(np.float32).astype(np.int64)


@st.composite
def tables(draw):
    """Any ratings table: ids up to int32, ties, times up to 2e9, rows in any order."""
    ids = st.one_of(st.integers(0, 3), st.integers(0, 2**31 - 1))
    times = st.one_of(
        st.integers(0, 2), st.integers(1_000_000_000, 1_000_000_080), st.integers(0, 2_000_000_000)
    )
    numbers = st.one_of(
        st.sampled_from([0.5, 1.0, 3.5, 5.0]),
        st.floats(width=32, allow_nan=False).filter(np.isfinite),
    )
    rows = draw(
        st.lists(
            st.tuples(ids, ids, numbers, times),
            min_size=1,
            max_size=30,
            unique_by=lambda row: (row[0], row[1], row[3]),
        )
    )
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])


@settings(max_examples=60)
@given(tables())
def test_ratings_come_back_exactly(tmp_path_factory, table):
    folder = write_recbole(table, tmp_path_factory.mktemp("recbole"), "any")
    back = read_recbole(folder)
    assert back.dtypes.astype(str).tolist() == ["int32", "int32", "float32", "int64"]
    for column in ("user_id", "item_id", "timestamp"):
        assert back[column].tolist() == table[column].tolist()
    assert back["rating"].tolist() == table["rating"].to_numpy(np.float32).tolist()


@pytest.mark.parametrize("ordering", ORDERINGS)
@settings(max_examples=20)
@given(seed=st.integers(0, 200))
def test_a_split_comes_back_as_the_same_split(tmp_path_factory, ordering, seed):
    """Also with times rounded as RecBole rounds them: its order is the split's own order."""
    ratings = planted_ratings(n_users=12, n_items=15, mean_length=12, seed=seed)
    if ordering == "recbole-float32":  # rows that become one by rounding are the next test's
        ratings = ratings[~ratings.assign(timestamp=rounded(ratings)).duplicated(KEY)]
    split = leave_one_out(ratings, ordering, min_interactions=3)
    back = read_recbole(write_recbole(split, tmp_path_factory.mktemp("recbole"), "any"))
    assert leave_one_out(back, ordering, 3).fingerprint() == split.fingerprint()
    theirs = leave_one_out(back, "recbole-float32", 3).sequences
    assert np.array_equal(theirs.items, split.sequences.items)


def test_rounded_times_that_repeat_a_row_are_written_but_not_read_back(tmp_path):
    rows = [(1, 5, 3.0, 10**9 + second) for second in (0, 1)] + [(1, 6, 3.0, 1), (1, 7, 3.0, 2)]
    ratings = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    split = leave_one_out(ratings, "recbole-float32", min_interactions=None)
    folder = write_recbole(split, tmp_path, "x")
    with pytest.raises(InvalidRatingsError, match="timestamp 1000000000 is on row 2 and"):
        read_recbole(folder)
    folder = write_recbole(ratings, tmp_path, "y")  # what the documentation advises
    again = leave_one_out(read_recbole(folder), "recbole-float32", min_interactions=None)
    assert again.fingerprint() == split.fingerprint()


def test_ratings_are_written_in_their_own_row_order(tmp_path):
    rows = [(7, 2, 3.5, 1_000_000_001), (7, 1, 4.0, 1_000_000_000), (3, 2, 0.1, 5)]
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    written = (write_recbole(table, tmp_path, "x") / "x.inter").read_bytes()
    lines = b"7\t2\t3.5\t1000000001\n7\t1\t4.0\t1000000000\n3\t2\t0.1\t5\n"
    assert written == HEADER.encode() + lines


def test_a_split_brings_its_configuration_and_benchmark_files_only_where_needed(splits, tmp_path):
    def files(folder):
        return sorted(path.name.removeprefix("x.") for path in folder.iterdir())

    parts = ["inter", "item", "test.inter", "train.inter", "valid.inter", "yaml"]
    exact, short = splits["exact_time"], splits["short"]
    assert not needs_benchmark(exact) and needs_benchmark(short)
    assert files(write_recbole(exact, tmp_path / "a", "x")) == ["inter", "yaml"]
    assert files(write_recbole(exact, tmp_path / "b", "x", benchmark=True)) == parts
    assert files(write_recbole(short, tmp_path / "c", "x")) == parts
    assert files(write_recbole(splits["global_time"], tmp_path / "d", "x")) == parts


def test_configuration_names_the_filter_and_only_possible_cut_offs():
    yaml = pytest.importorskip("yaml")
    ratings = planted_ratings(n_users=20, n_items=8, mean_length=9, seed=3)
    for k, written in ((4, "[4,inf)"), (None, None)):
        options = yaml.safe_load(recbole_config(leave_one_out(ratings, min_interactions=k)))
        assert options["user_inter_num_interval"] == options["item_inter_num_interval"] == written
        assert options["topk"] == [1, 5] and options["valid_metric"] == "NDCG@5"
        assert options["normalize_all"] is False


# --- reading


def test_other_columns_any_order_and_compressed_files_are_read(tmp_path):
    text = "timestamp:float\tuser_id:token\tage:float\titem_id:token\trating:float\n"
    text += "978300760.0\t1\t25\t9\t4\n5\t2\t\t8\t3.5\n"
    (tmp_path / "x.inter").write_text(text)
    (tmp_path / "x.inter.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "x.inter.xz").write_bytes(lzma.compress(text.encode()))
    for name in ("x.inter", "x.inter.gz", "x.inter.xz"):
        back = read_recbole(tmp_path / name)
        assert back.to_numpy().tolist() == [[1, 9, 4, 978_300_760], [2, 8, 3.5, 5]]


def test_times_are_never_rounded_to_float32(tmp_path):
    (tmp_path / "x.inter").write_text(HEADER + "1\t1\t3\t1999999999\n1\t2\t3\t2000000001\n")
    back = read_recbole(tmp_path / "x.inter")
    assert back["timestamp"].tolist() == [1_999_999_999, 2_000_000_001]


def test_a_folder_means_the_file_named_as_it_or_its_only_one(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    with pytest.raises(UnusablePathError, match=r"expected one .inter file.*found: none"):
        read_recbole(folder)
    (folder / "b.inter").write_text(HEADER + "1\t1\t3\t5\n")
    assert len(read_recbole(folder)) == 1
    (folder / "c.inter").write_text(HEADER)
    with pytest.raises(UnusablePathError, match=r"found: b.inter, c.inter. Name the file"):
        read_recbole(folder)
    (folder / "data.inter").write_text(HEADER + "1\t1\t3\t5\n1\t2\t3\t5\n")
    assert len(read_recbole(folder)) == 2
    with pytest.raises(UnusablePathError, match=r"there is no file .*missing.inter"):
        read_recbole(folder / "missing.inter")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1"),
        (HEADER, "x.inter.*ratings"),
        ("user_id:token\titem_id:token\trating:float\n1\t2\t3\n", "missing.*timestamp"),
        (HEADER + "1\t2\t3\t5\n1\t2\t3\n", r"x.inter, line 3: .*3 field\(s\) instead of 4"),
        (HEADER + "1\t2\t3\t5\n1\tx\t3\t5\n", "x.inter, line 3: .*item_id 'x': "),
        (HEADER + "1\t2\t\t5\n", "x.inter, line 2: .*rating"),
        (HEADER + "1\t2\t3\t5.5\n", "x.inter, line 2: .*not a whole number of seconds"),
        (HEADER + "1\t2\t3\t5\n9\t9\t3\t5\n1\t2\t4\t5\n", "line 2 is row 0.*on row 0 and .*row 2"),
        (HEADER + "1\t2\t3\t978300760000\n", "line 2 is row 0.*at row 0.*milliseconds"),
        (HEADER + "1\t2\t3\t-5\n", "line 2 is row 0.*at row 0.*at least 0"),
    ],
)
def test_broken_files_are_refused_with_the_place(tmp_path, text, message):
    (tmp_path / "x.inter").write_text(text)
    with pytest.raises(DataError, match=message):
        read_recbole(tmp_path / "x.inter")


def test_benchmark_rows_are_not_taken_for_ratings(splits, tmp_path):
    folder = write_recbole(splits["global_time"], tmp_path, "x")
    with pytest.raises(DataError, match=r"x.test.inter holds benchmark rows.*read the NAME.inter"):
        read_recbole(folder / "x.test.inter")
    assert len(read_recbole(folder)) == splits["global_time"].sequences.n_interactions


# --- what cannot be written


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", None])
def test_names_that_are_no_file_names_are_refused(splits, tmp_path, name):
    with pytest.raises(ValueError, match="expected letters, digits"):
        write_recbole(splits["exact_time"], tmp_path, name)
    assert not any(tmp_path.iterdir())


def test_what_recbole_cannot_do_is_refused_before_anything_is_written(splits, generated, tmp_path):
    with pytest.raises(ValueError, match="benchmark=False: RecBole has no global-time split"):
        write_recbole(splits["global_time"], tmp_path, "x", benchmark=False)
    with pytest.raises(ValueError, match=r"3 users.*3 inter.*min_interactions=4"):
        recbole_config(splits["short"], benchmark=False)
    with pytest.raises(ValueError, match="ratings have no held-out parts"):
        write_recbole(generated, tmp_path, "x", benchmark=True)
    with pytest.raises(ValueError, match="max_len=0: expected an integer of at least 1"):
        write_recbole(splits["global_time"], tmp_path, "x", max_len=0)
    only_three = pd.DataFrame(
        {"user_id": 1, "item_id": [1, 2, 3], "rating": 3.0, "timestamp": [1, 2, 3]}
    )
    with pytest.raises(DataError, match="no training target"):
        write_recbole(leave_one_out(only_three, min_interactions=None), tmp_path, "x")
    with pytest.raises(DataError, match="item_id 2147483648 cannot be read back"):
        write_recbole(only_three.assign(item_id=[1, 2, 2**31]), tmp_path, "x")
    with pytest.raises(DataError, match="item_id A cannot be read back"):
        write_recbole(only_three.assign(item_id=["9", "A", "10"]), tmp_path, "x")
    with pytest.raises(DataError, match="missing column"):
        write_recbole(only_three.drop(columns="rating"), tmp_path, "x")
    assert not any(tmp_path.iterdir())


def test_a_failed_write_leaves_the_file_that_was_there(splits, tmp_path, monkeypatch):
    folder = write_recbole(splits["exact_time"], tmp_path, "x")
    before = (folder / "x.inter").read_bytes()

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full_disk)
    with pytest.raises(OSError, match=r"cannot write .*x.inter: No space left.*untouched"):
        write_recbole(splits["file_order"], tmp_path, "x")
    assert (folder / "x.inter").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["x.inter", "x.yaml"]
