"""Records: complete in themselves, and the values of every target beside them."""

import math
import subprocess

import numpy as np
import pytest

from ss4rec_lib.evaluation import RankingResult
from ss4rec_lib.experiments import ExperimentError, code_revision, evaluation_of, read_per_target
from ss4rec_lib.experiments.record import NEEDED, plain, read_record, write_per_target
from ss4rec_lib.experiments.task import Evaluation
from ss4rec_lib.files import write_json


def ranking(above, tied, **condition):
    given = {
        "part": "test",
        "target_time": "none",
        "masked": True,
        "ranked_by": "score",
    } | condition
    values = {"above": np.array(above), "tied": np.array(tied)}
    return Evaluation(**given, metrics={}, values=values, users=np.arange(len(above)))


def test_the_metrics_follow_from_the_values_of_the_targets(finished, record_of):
    record, arrays = record_of(finished), read_per_target(finished / "per_target.npz")
    conditions = {name.rpartition(".")[0] for name in arrays if name != "users"}
    assert len(conditions) == 4
    for each in conditions:
        time, _, masked = each.split(".")
        result = RankingResult(arrays["users"], arrays[f"{each}.above"], arrays[f"{each}.tied"])
        expected = evaluation_of(record, "test", time, masked == "masked")
        assert dict(result) == pytest.approx(expected, nan_ok=True)


def test_large_catalogues_lose_nothing_and_validation_is_left_out(tmp_path):
    above, tied = [0, 255, 256, 70_000, 2**33], [1, 1, 300, 1, 2]
    evaluations = [ranking(above, tied), ranking([1] * 5, [1] * 5, part="valid", masked=False)]
    write_per_target(tmp_path / "x.npz", evaluations)
    found = read_per_target(tmp_path / "x.npz")
    assert list(found) == ["users", "none.score.masked.above", "none.score.masked.tied"]
    assert found["none.score.masked.above"].tolist() == above
    assert found["none.score.masked.tied"].tolist() == tied
    assert found["users"].dtype == np.int64


@pytest.mark.parametrize("content", [None, b"", b"not an archive"])
def test_damaged_and_missing_files_are_named(tmp_path, content):
    path = tmp_path / "per_target.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExperimentError, match=r"per_target\.npz"):
        read_per_target(path)


def test_what_is_not_finite_is_null_so_that_the_record_is_json():
    """A single target, for one, has no standard error."""
    found = plain({"a": [math.nan, 1.0], "b": (math.inf,), "c": np.float32(0.5)})
    assert found == {"a": [None, 1.0], "b": [None], "c": 0.5}


@pytest.mark.parametrize("field", NEEDED)
def test_a_missing_field_is_named(finished, record_of, field, tmp_path):
    record = record_of(finished)
    del record[field]
    write_json(tmp_path / "some.json", record)
    with pytest.raises(ExperimentError, match=field) as refusal:
        read_record(tmp_path / "some.json")
    assert "some.json" in str(refusal.value)


def test_an_old_record_is_named_with_its_format(finished, record_of, tmp_path):
    path = tmp_path / "some.json"
    old = {k: v for k, v in record_of(finished).items() if k != "format"}
    for record in (old, old | {"format": 3}):
        write_json(path, record)
        with pytest.raises(ExperimentError, match=f"format {record.get('format', 1)}"):
            read_record(path)
    write_json(path, [])
    with pytest.raises(ExperimentError, match=r"some\.json"):
        read_record(path)


# ---------------------------------------------------------------------------------- revision


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    (folder / "ss4rec_lib").mkdir(parents=True)
    (folder / "ss4rec_lib" / "a.py").write_text("a = 1\n")
    (folder / "pyproject.toml").write_text("")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_a_clean_checkout_is_its_commit(checkout):
    found = code_revision(checkout)
    assert found == git(checkout, "rev-parse", "HEAD")
    assert len(found) == 40


@pytest.mark.parametrize("name", ["ss4rec_lib/a.py", "ss4rec_lib/new.py", "pyproject.toml"])
def test_changed_code_is_marked(checkout, name):
    (checkout / name).write_text("b = 2\n")
    assert code_revision(checkout) == git(checkout, "rev-parse", "HEAD") + "+changes"


def test_what_does_not_compute_may_change(checkout):
    (checkout / "results").mkdir()
    (checkout / "results" / "a.json").write_text("{}")
    assert not code_revision(checkout).endswith("+changes")


def test_a_package_inside_another_repository_is_not_that_repository(checkout):
    inside = checkout / "venv"
    (inside / "ss4rec_lib").mkdir(parents=True)
    assert code_revision(inside) is None


def test_it_never_fails(tmp_path, checkout, monkeypatch):
    assert code_revision(tmp_path) is None
    assert code_revision(tmp_path / "nowhere") is None
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    assert code_revision(empty) is None, "no commit yet"

    def hang(*_, **__):
        raise subprocess.TimeoutExpired("git", 30)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", hang)
        assert code_revision(checkout) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_revision(checkout) is None, "no git installed"
