"""The results page: records to figures, without torch and without this library."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ss4rec_lib.evaluation import RankingResult, difference_over_seeds

RESULTS = Path(__file__).parents[2] / "results"
SCRIPT = RESULTS / "build_page.py"
FILES = ("README.md", "runs.csv", "differences.csv", "by_history.csv")


@pytest.fixture(scope="module")
def page(import_script):
    """The module `build_page`, which is a script and in no package."""
    return import_script("build_page")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The committed results on MovieLens-100K, and their page."""
    folder = tmp_path_factory.mktemp("results")
    for name in ("records", "per_target", "ablations"):
        (folder / name).mkdir()
        for path in (RESULTS / name).glob("*ml-100k*"):
            shutil.copy(path, folder / name)
    shutil.copy(RESULTS / "published.csv", folder)
    assert run(folder).returncode == 0
    return folder


@pytest.fixture
def folder(built, tmp_path):
    """A copy of `built` to change."""
    return shutil.copytree(built, tmp_path / "results")


def run(folder, *arguments):
    command = [sys.executable, SCRIPT, "--results", folder, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def change(path, **fields):
    record = json.loads(path.read_text())
    record |= fields
    path.write_text(json.dumps(record))
    return record


def test_neither_torch_nor_this_library_is_imported():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import build_page;"
        "problems = []; build_page.build(build_page.Path(sys.argv[1]), problems);"
        "print({name.partition('.')[0] for name in sys.modules} & {'torch', 'scipy', 'ss4rec_lib'},"
        "problems)"
    )
    command = [sys.executable, "-c", code, str(RESULTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()", "[]"]


def test_the_committed_page_is_up_to_date():
    done = run(RESULTS, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_check_names_a_stale_file_and_writes_nothing(folder):
    (folder / "runs.csv").write_text("old\n")
    done = run(folder, "--check")
    assert done.returncode == 1
    assert "runs.csv" in done.stdout
    assert "README.md" not in done.stdout
    assert (folder / "runs.csv").read_text() == "old\n"
    assert run(folder).returncode == 0
    assert run(folder, "--check").returncode == 0


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"protocol": {"ordering": "exact-time"}}, "protocol.split"),
        ({"evaluations": [{"part": "test"}]}, "evaluations[0].target_time"),
        ({"evaluations": []}, "evaluations"),
        ({"seed": "0"}, "seed"),
        ({"task": "guessing"}, "task"),
        ({"format": 1}, "format 1"),
        (None, "JSON"),
    ],
)
def test_a_bad_record_is_named_and_the_page_built_from_the_others(folder, content, named):
    before = pd.read_csv(folder / "runs.csv")
    path = folder / "records" / "ml-100k_exact-time_popularity_s0.json"
    if content is None:
        path.write_text("[]")
    else:
        change(path, **content)
    done = run(folder)
    assert done.returncode == 2
    assert path.name in done.stderr
    assert named in done.stderr
    after = pd.read_csv(folder / "runs.csv")
    gone = before[(before["model"] == "popularity") & (before["task"] == "ranking")]
    assert len(gone) == 4
    assert len(after) == len(before) - len(gone)
    assert "Popularity" not in set(after["display_name"])


@pytest.mark.parametrize("name", ["display_name", "seconds", "command", "selection"])
def test_a_missing_field_is_named(folder, name):
    path = folder / "records" / "rating_ml-100k_random_svd_seed0.json"
    record = json.loads(path.read_text())
    del record[name]
    path.write_text(json.dumps(record))
    done = run(folder, "--check")
    assert done.returncode == 2
    assert path.name in done.stderr
    assert name in done.stderr


def test_the_same_run_twice_counts_once(folder):
    path = folder / "records" / "ml-100k_exact-time_popularity_s0.json"
    before = (folder / "README.md").read_text()
    shutil.copy(path, path.with_name("zz_another_name.json"))
    done = run(folder)
    assert done.returncode == 2
    assert path.name in done.stderr
    assert "zz_another_name.json" in done.stderr
    assert (folder / "README.md").read_text() == before


def test_damaged_per_target_values_are_named(folder):
    path = folder / "per_target" / "ml-100k_exact-time_popularity_s0.npz"
    path.write_bytes(path.read_bytes()[:200])
    done = run(folder)
    assert done.returncode == 2
    assert path.name in done.stderr
    differences = pd.read_csv(folder / "differences.csv")
    assert "Popularity" not in set(differences["display_b"])
    assert "ItemKNN" in set(differences["display_b"])


def test_a_table_of_published_figures_with_a_missing_column_is_named(folder):
    path = folder / "published.csv"
    path.write_text(path.read_text().replace("hr@10", "hr", 1))
    done = run(folder)
    assert done.returncode == 2
    assert "published.csv" in done.stderr
    assert "hr@10" in done.stderr


def test_no_record_makes_a_page(tmp_path):
    assert run(tmp_path).returncode == 0
    assert "No run is recorded yet." in (tmp_path / "README.md").read_text()


def test_the_page_uses_what_the_records_say_and_no_preset(folder):
    path = folder / "records" / "ml-100k_exact-time_als_s0.json"
    change(path, model="gone", display_name="A name of its own", overrides={"k": [1, 2], "x": None})
    assert run(folder).returncode == 0
    runs = pd.read_csv(folder / "runs.csv")
    row = runs[runs["model"] == "gone"].iloc[0]
    assert (row["display_name"], row["overrides"]) == ("A name of its own", "k=1,2, x=none")
    assert "A name of its own" in (folder / "README.md").read_text()


def test_any_target_time_can_be_recorded(folder):
    path = folder / "records" / "ml-100k_exact-time_s5-only_12-epochs_s0.json"
    record = json.loads(path.read_text())
    hidden = [each for each in record["evaluations"] if each["target_time"] == "hidden"]
    protocol = record["protocol"] | {"target_time": "hidden"}
    change(path, protocol=protocol, evaluations=hidden)
    done = run(folder)
    assert (done.returncode, done.stderr) == (0, "")
    differences = pd.read_csv(folder / "differences.csv")
    found = differences[differences["display_b"] == "S5 alone"]
    assert set(found["target_time_b"]) == {"hidden"}


@pytest.mark.parametrize("p", [0.5, 0.75, 0.975, 0.995])
@pytest.mark.parametrize("df", [1, 1.3, 2, 2.7, 4.9, 10, 57.3, 942, 6039, 1e5])
def test_t_quantile(page, p, df):
    assert page.t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-7, abs=1e-6)


def test_one_seed_gives_the_paired_t_interval(page):
    a, b = np.random.default_rng(0).normal(size=(2, 1, 50))
    mean, low, high = page.paired_interval(a, b)
    expected = stats.ttest_rel(a[0], b[0]).confidence_interval(0.95)
    assert mean == pytest.approx((a - b).mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_equal_values_have_an_interval_of_no_width(page):
    values = np.full((2, 10), 0.5)
    assert page.paired_interval(values, values) == (0, 0, 0)


def test_several_seeds_give_the_interval_over_users_and_seeds(page):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(3, 40)) + rng.normal(size=40), rng.normal(size=(2, 40))
    expected = difference_over_seeds(a, b, "anything")
    found = page.paired_interval(a, b)
    assert found == pytest.approx((expected.difference, expected.low, expected.high))


def test_ndcg_is_that_of_the_library(page):
    rng = np.random.default_rng(2)
    above, tied = rng.integers(0, 25, 300), rng.integers(1, 9, 300)
    expected = RankingResult(np.arange(300), above, tied).per_target("ndcg@10")
    small = above.astype(np.uint8), tied.astype(np.uint8)
    np.testing.assert_allclose(page.gains_at_10(*small), expected, rtol=1e-12)


def test_metrics_of_a_run_follow_from_its_per_target_values(page):
    for path in sorted((RESULTS / "records").glob("*.json")):
        record = json.loads(path.read_text())
        archive = RESULTS / "per_target" / f"{path.stem}.npz"
        if not archive.is_file():
            continue
        with np.load(archive, allow_pickle=False) as values:
            for each in record["evaluations"]:
                time = each["target_time"] or "none"
                if each["part"] != "test" or (record["task"] == "rating" and each["ranked_by"]):
                    continue
                if each["ranked_by"]:
                    key = f"{time}.score.{'masked' if each['masked'] else 'unmasked'}"
                    mean = page.gains_at_10(values[f"{key}.above"], values[f"{key}.tied"]).mean()
                    assert mean == pytest.approx(each["metrics"]["ndcg@10"], rel=1e-12), path.name
                else:
                    rmse = np.sqrt(values[f"{time}.squared_error"].astype(np.float64).mean())
                    assert rmse == pytest.approx(each["metrics"]["rmse"], rel=1e-3), path.name


def test_rmse_differences_are_those_of_the_rmses():
    runs = pd.read_csv(RESULTS / "runs.csv")
    runs = runs[(runs["task"] == "rating") & runs["ranked_by"].isna() & (runs["part"] == "test")]
    runs = runs[(runs["split"] == "leave-one-out") & (runs["n_seeds"] > 1)]
    rmse = runs.set_index(["dataset", "model"])["rmse"]
    differences = pd.read_csv(RESULTS / "differences.csv")
    found = differences[(differences["metric"] == "rmse") & (differences["n_seeds_a"] > 1)]
    assert len(found) > 10
    for row in found.to_dict("records"):
        expected = rmse[row["dataset"], row["model_a"]] - rmse[row["dataset"], row["model_b"]]
        assert row["difference"] == pytest.approx(
            expected, abs=2e-4
        )  # float16 errors, mean of roots
        assert row["low"] < row["difference"] < row["high"]


def test_models_are_compared_on_the_same_users_only(folder):
    path = folder / "per_target" / "ml-100k_exact-time_gru4rec_12-epochs_s0.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["users"] = arrays["users"] + 1
    np.savez_compressed(path, **arrays)
    assert run(folder).returncode == 0
    differences = pd.read_csv(folder / "differences.csv")
    assert "GRU4Rec" not in set(differences["display_b"])


def test_the_table_for_the_readme_has_at_most_eight_rows_masked_and_not(page):
    head, _, *rest = page.readme_table().splitlines()
    rows = [line for line in rest if line.startswith("|")]
    assert 2 < len(rows) <= 8
    assert "NDCG@10 |" in head
    assert "NDCG@10, masked" in head
    assert any("Popularity" in row for row in rows)


def test_summary_shows_the_baselines_masked_and_not():
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    summary = text.split("## How to read")[0]
    row = next(line for line in summary.splitlines() if line.startswith("| *ItemKNN*"))
    assert row.count("±") >= 4
    assert "masked" in summary


def test_files_are_written_whole(page, tmp_path, monkeypatch):
    path = tmp_path / "README.md"
    path.write_text("old")

    def broken(*_):
        raise OSError("no space left")

    monkeypatch.setattr(page.os, "replace", broken)
    with pytest.raises(OSError, match="space"):
        page.write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
