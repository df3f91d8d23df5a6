from __future__ import annotations

import json
from pathlib import Path

import nbformat
import numpy as np
import pytest

from ss4rec_lib.lessons import (
    RECORD_TYPE,
    RecordError,
    compare_records,
    flatten,
    read_record,
    record,
)


@pytest.fixture
def shown(monkeypatch) -> list[dict]:
    """What was displayed."""
    displayed: list[dict] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: displayed.append(data))
    return displayed


def executed(*records: dict):
    outputs = [
        nbformat.v4.new_output("display_data", data={RECORD_TYPE: values, "text/plain": "x"})
        for values in records
    ]
    cell = nbformat.v4.new_code_cell("record()", outputs=outputs, execution_count=1)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("a"), cell])


def test_one_output_with_data_text_and_table(shown):
    record(dataset="ml-100k", **{"hr@10": 0.08125})
    (output,) = shown
    assert output[RECORD_TYPE] == {"dataset": "ml-100k", "hr@10": 0.08125}
    assert "hr@10" in output["text/plain"]
    assert "0.08125" in output["text/plain"]
    assert "<table>" in output["text/html"]
    assert "ml-100k" in output["text/html"]


def test_names_are_escaped_in_the_table(shown):
    record(**{"<b>": "1 < 2"})
    assert "&lt;b&gt;" in shown[0]["text/html"]
    assert "1 &lt; 2" in shown[0]["text/html"]


def test_numpy_and_torch_scalars_become_python_numbers(shown):
    import torch

    record(
        a=np.float32(0.5),
        b=np.int64(7),
        c=np.bool_(True),
        d=np.float64(0.1),
        e=torch.tensor(3),
        f=[np.int8(1)],
        g={"deep": np.float32(2.0)},
        h=np.array(4.0),
    )
    values = shown[0][RECORD_TYPE]
    expected = {
        "a": 0.5,
        "b": 7,
        "c": True,
        "d": 0.1,
        "e": 3,
        "f": [1],
        "g": {"deep": 2.0},
        "h": 4.0,
    }
    assert values == expected
    assert [type(value) for value in values.values()] == [type(v) for v in expected.values()]
    assert json.loads(json.dumps(values, allow_nan=False)) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), [0.1, -np.inf]])
def test_what_is_not_finite_is_refused(shown, value):
    with pytest.raises(RecordError, match=r"ndcg.* (nan|-?inf)"):
        record(ndcg=value)
    assert shown == []


@pytest.mark.parametrize("value", [Path("a"), {1, 2}, np.zeros(3), object(), 1j])
def test_what_json_cannot_hold_is_refused(shown, value):
    with pytest.raises(RecordError, match=f"thing .* {type(value).__name__}"):
        record(thing=value)
    assert shown == []


def test_keys_must_be_text(shown):
    with pytest.raises(RecordError, match=r"by_length .*1 \(int\)"):
        record(by_length={1: 0.5})


def test_nothing_to_record_is_refused():
    with pytest.raises(RecordError, match="record"):
        record()


def test_highlights_name_recorded_numbers(shown):
    values = {"test": {"hr@10": 0.5}, "n": 3, "name": "x"}
    record(**values, highlights=["test.hr@10", "n"])
    assert shown[0][RECORD_TYPE] == values | {"highlights": ["test.hr@10", "n"]}
    assert "highlights" not in shown[0]["text/html"] + shown[0]["text/plain"]
    for wrong in ("test", "name", "test.hr@1"):
        with pytest.raises(RecordError, match=rf"'{wrong}'.*test\.hr@10"):
            record(**values, highlights=[wrong])


def test_flatten_keeps_numbers_and_leaves_context_out():
    values = {
        "n": 3,
        "ok": True,
        "name": "x",
        "curve": [1.0, 2.0],
        "none": None,
        "test": {"hr@10": 0.5, "by": {"a": 1.5}},
        "machine": {"cores": 2},
        "protocol": {"users": 9},
        "versions": {"torch": "2"},
        "highlights": ["n"],
    }
    assert flatten(values) == {"n": 3, "test.hr@10": 0.5, "test.by.a": 1.5}


def test_reads_from_a_node_and_from_a_file(tmp_path):
    values = {"a": 1, "b": {"c": [1.5, None]}}
    nbformat.write(executed(values), tmp_path / "n.ipynb")
    assert read_record(executed(values)) == values
    assert read_record(tmp_path / "n.ipynb") == values


def test_no_record_or_two_are_refused():
    with pytest.raises(RecordError, match="found 0 records"):
        read_record(executed())
    with pytest.raises(RecordError, match="found 2 records"):
        read_record(executed({"a": 1}, {"a": 2}))


class TestTable:
    def test_highlights_first_a_row_for_each_leaf_and_no_lists_or_context(self, shown):
        record(
            a=1,
            test={"hr@10": 0.123456, "by": {"x": 2.0}},
            curve=[1, 2],
            machine={"cores": 2},
            highlights=["test.hr@10"],
            tolerances={"test.*": 0.004},
        )
        assert shown[0]["text/plain"].splitlines() == [
            "test.hr@10  0.1235 ± 0.004",
            "a           1",
            "test.by.x   2 ± 0.004",
        ]
        assert shown[0][RECORD_TYPE]["tolerances"] == {"test.*": 0.004}

    def test_it_is_short(self, shown):
        record(**{f"n{i:02}": i for i in range(50)})
        lines = shown[0]["text/plain"].splitlines()
        assert len(lines) == 21 and lines[-1] == "and 30 more"
        assert len(shown[0][RECORD_TYPE]) == 50

    def test_tolerances_name_recorded_numbers(self, shown):
        record(test={"hr": 0.5}, stars=None, tolerances={"test.hr": 0.1, "stars.rmse": 0.1})
        with pytest.raises(RecordError, match=r"'test\.h' is for no recorded number.*'test\.hr'"):
            record(test={"hr": 0.5}, tolerances={"test.h": 0.1})
        for wrong in (0, -1.0, float("inf")):
            with pytest.raises(RecordError, match="tolerance a="):
                record(a=1.0, tolerances={"a": wrong})


class TestCompare:
    OLD = {  # noqa: RUF012
        "n": 100,
        "exact": 0.25,
        "test": {"ndcg@10": 0.06, "rank": None},
        "curve": [1.0, 2.0],
        "speed": 3.0,
        "dataset": "ml-100k",
        "train_seconds": 9.0,
        "peak_rss_bytes": 5,
        "machine": {"cores": 2},
        "protocol": {"split": "leave-one-out"},
        "tolerances": {"test.*": 0.004, "speed": None},
    }

    def change(self, **values) -> list[str]:
        return compare_records(self.OLD, self.OLD | values)

    def test_what_may_differ(self):
        other = {"train_seconds": 80.0, "peak_rss_bytes": 6, "machine": {}, "speed": 1e9}
        assert self.change(**other) == []
        assert self.change(test={"ndcg@10": 0.0639, "rank": None}, exact=0.25 + 1e-8) == []

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"n": 101}, "n was 100 and is 101"),
            ({"exact": 0.2501}, "exact was 0.25 and is 0.2501"),
            ({"curve": [1.0, 2.1]}, "curve.1 was 2.0 and is 2.1"),
            ({"curve": [1.0]}, "curve.1 is recorded no longer"),
            ({"new": 1}, "new is recorded newly"),
            ({"dataset": "planted"}, "dataset was 'ml-100k' and is 'planted'"),
            ({"protocol": {"split": "random"}}, "protocol.split was"),
            ({"n": True}, "n was 100 and is True"),
            (
                {"test": {"ndcg@10": 0.0641, "rank": None}},
                "test.ndcg@10 was 0.06 and is 0.0641, more than 0.004 apart",
            ),
            ({"test": {"ndcg@10": None, "rank": None}}, "test.ndcg@10 was 0.06 and is None"),
        ],
    )
    def test_what_may_not(self, values, said):
        (found,) = self.change(**values)
        assert found.startswith(said)

    def test_only_the_committed_tolerances_count(self):
        loose = self.OLD | {"n": 101, "tolerances": {"n": 5}}
        assert len(compare_records(self.OLD, loose)) == 1
