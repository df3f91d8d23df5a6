"""Experiment files: what follows from a good one, and what is said of a wrong one."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ss4rec_lib import cli
from workflow import experiment
from workflow.experiment import Plan

EXPERIMENTS = Path(__file__).resolve().parents[2] / "workflow" / "experiments"


@pytest.fixture
def plan(tmp_path):
    def read(text: str, name: str = "trial") -> Plan:
        path = tmp_path / f"{name}.yaml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return Plan(path)

    return read


TRAINING = """
    fixed: {dataset: planted, epochs: 2}
    grid:
      model: [official, gru4rec]
      time:
        with: {}
        without: {target_time: previous}
    seeds: [3, 4]
"""


def test_the_grid_gives_a_row_per_cell_and_a_job_per_seed(plan):
    made = plan(TRAINING.replace("[official, gru4rec]", "[official, sasrec_time]"))
    assert made.rows == [
        "model=official, with",
        "model=official, without",
        "model=sasrec_time, with",
        "model=sasrec_time, without",
    ]
    assert [job.seed for job in made.jobs] == [3, 4] * 4
    assert len({job.name for job in made.jobs}) == 8
    config = made.jobs[3].spec["config"]
    assert config["seed"] == 4
    assert config["training"]["target_time"] == "previous"
    assert made.metrics == ("ndcg@10", "hr@10")


def test_the_same_job_has_the_same_name_in_every_experiment(plan):
    one = plan("fixed: {dataset: planted, epochs: 3}\nseeds: [1]")
    other = plan("fixed: {dataset: planted}\ngrid: {epochs: [3, 4]}\nseeds: [0, 1]", "other")
    names = {(job.row, job.seed): job.name for job in other.jobs}
    assert one.jobs[0].name == names["epochs=3", 1]
    # A value that is the default is the same job as one that is left out.
    said = plan("fixed: {dataset: planted, epochs: 3, ordering: exact-time}\nseeds: [1]", "said")
    assert said.jobs[0].name == one.jobs[0].name
    elsewhere = plan("fixed: {dataset: planted, epochs: 3, device: cpu}\nseeds: [1]", "elsewhere")
    assert elsewhere.jobs[0].name == one.jobs[0].name
    assert plan("fixed: {dataset: planted, epochs: 3}\nseeds: [2]").jobs[0].name not in names


def test_a_file_of_ones_own_is_known_by_its_content(plan, tmp_path):
    rows = [f"u{u},i{i},{1_000_000_000 + 100 * i}" for u in range(8) for i in range(8)]

    def name(lines, file="shop.csv"):
        (tmp_path / file).write_text("\n".join(["user_id,item_id,timestamp", *lines]))
        text = f"fixed: {{dataset: '{tmp_path / file}', model: popularity}}"
        experiment._content.cache_clear()
        return plan(text).jobs[0].name

    first = name(rows)
    assert name(rows) == first
    assert name(rows[:-1]) != first


def test_a_lesson_gets_its_parameters_with_their_types(plan):
    made = plan(
        """
        lesson: 04
        fixed: {dataset: planted, compare_blind: false}
        grid: {epochs: [1, 2]}
        seeds: [5]
        """
    )
    assert [job.spec["parameters"]["epochs"] for job in made.jobs] == [1, 2]
    assert made.jobs[0].spec["lesson"] == "04_train_ss4rec"
    assert made.jobs[0].spec["parameters"]["compare_blind"] is False
    assert made.jobs[0].spec["parameters"]["seed"] == 5
    assert made.metrics


WRONG = {
    "unknown lesson": ("lesson: 04_trian_ss4rec", ["04_trian_ss4rec", "04_train_ss4rec"]),
    "unknown parameter": ("lesson: 04\nfixed: {epoch: 2}", ["epoch", "epochs"]),
    "wrong type of a parameter": ("lesson: 04\nfixed: {epochs: two}", ["epochs", "two"]),
    "unknown option": ("fixed: {dataset: planted, dropuot: 0.1}", ["dropuot"]),
    "unknown model": ("fixed: {dataset: planted}\ngrid: {model: [ss4erc]}", ["ss4erc"]),
    "value out of range": ("fixed: {dataset: planted, epochs: 0}", ["epochs", "0"]),
    "no data set": ("fixed: {epochs: 2}", ["dataset"]),
    "unknown data set": ("fixed: {dataset: ml-1000k}", ["ml-1000k", "ml-100k"]),
    "grid of a wrong type": ("fixed: {dataset: planted}\ngrid: {epochs: 3}", ["epochs", "3"]),
    "grid that is no mapping": ("fixed: {dataset: planted}\ngrid: [1, 2]", ["grid"]),
    "name without options": ("fixed: {dataset: planted}\ngrid: {a: {b: 3}}", ["a", "b", "3"]),
    "empty axis": ("fixed: {dataset: planted}\ngrid: {epochs: []}", ["epochs", "[]"]),
    "the same cell twice": ("fixed: {dataset: planted}\ngrid: {epochs: [3, 3]}", ["epochs=3"]),
    "in fixed and in grid": (
        "fixed: {dataset: planted, epochs: 2}\ngrid: {epochs: [3]}",
        ["epochs"],
    ),
    "duplicate seeds": ("fixed: {dataset: planted}\nseeds: [0, 1, 0]", ["seeds", "0"]),
    "no seeds": ("fixed: {dataset: planted}\nseeds: []", ["seeds"]),
    "seeds of a wrong type": ("fixed: {dataset: planted}\nseeds: [a]", ["seeds", "a"]),
    "negative seed": ("fixed: {dataset: planted}\nseeds: [-1]", ["seed", "-1"]),
    "seed as an option": ("fixed: {dataset: planted, seed: 3}", ["seed", "3"]),
    "unknown metric": (
        "fixed: {dataset: planted}\nleaderboard: {metrics: [ndgc@10]}",
        ["ndgc@10", "ndcg@10"],
    ),
    "metric of another task": (
        "fixed: {dataset: planted}\nleaderboard: {metrics: [rmse]}",
        ["rmse"],
    ),
    "metric that a lesson has not": (
        "lesson: 01\nleaderboard: {metrics: [tied_shares]}",
        ["tied_shares", "tied_share"],
    ),
    "unknown part": ("fixed: {dataset: planted}\nleaderboard: {part: tset}", ["part", "tset"]),
    "unknown row": ("fixed: {dataset: planted}\nleaderboard: {against: base}", ["base"]),
    "unknown key": ("fixed: {dataset: planted}\nsedes: [0]", ["sedes", "seeds"]),
    "key given twice": ("seeds: [0]\nfixed: {dataset: planted}\nseeds: [1]", ["line 3", "seeds"]),
    "no YAML": ("fixed: {dataset: planted\ngrid: {", ["line"]),
    "tab": ("fixed:\n\tdataset: planted", ["line 2"]),
    "empty": ("", ["trial.yaml"]),
    "a list": ("- 1", ["trial.yaml"]),
    "python object": ("fixed: !!python/object/apply:os.system [ls]", ["line 1"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused_by_name_and_nothing_is_written(
    case, tmp_path, capsys, monkeypatch
):
    text, named = WRONG[case]
    path = tmp_path / "trial.yaml"
    path.write_text(text, encoding="utf-8")
    for words in ([], ["--dry-run"]):
        assert cli.main(["batch", str(path), "--out", str(tmp_path / "store"), *words]) == 2
        shown = capsys.readouterr()
        assert shown.err.startswith("error: "), shown.err
        assert shown.err.count("\n") == 1, "one line, no traceback"
        assert all(word in shown.err for word in named), shown.err
        assert shown.out == ""
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--jobs", "0"], ["--jobs", "0"]),
        (["--cores", "-2"], ["--cores", "-2"]),
        (["--profile", "slurmm"], ["slurmm", "slurm"]),
    ],
)
def test_wrong_words_are_refused(words, named, tmp_path, capsys):
    assert (
        cli.main(["batch", str(EXPERIMENTS / "smoke.yaml"), "--out", str(tmp_path / "s"), *words])
        == 2
    )
    shown = capsys.readouterr().err
    assert all(word in shown for word in named), shown
    assert not (tmp_path / "s").exists()


def test_a_missing_file_is_named(tmp_path, capsys):
    assert cli.main(["batch", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_experiments_can_be_read(path):
    made = Plan(path)
    assert made.experiment.description
    assert len(made.jobs) > 1


def test_a_dry_run_of_a_thousand_jobs_needs_little_memory(tmp_path):
    """The time is in benchmarks/, not here; the memory does not depend on the machine's load."""
    path = tmp_path / "large.yaml"
    rates = [round(0.001 + 0.0001 * i, 5) for i in range(50)]
    path.write_text(
        f"fixed: {{dataset: planted}}\ngrid: {{learning_rate: {rates}, epochs: [1, 2]}}\n"
        "seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
    )
    program = (
        "import sys\n"
        "from ss4rec_lib.cli import main\n"
        "from ss4rec_lib.machine import peak_rss_bytes\n"
        f"code = main(['batch', {str(path)!r}, '--out', {str(tmp_path / 's')!r}, '--dry-run'])\n"
        "print(peak_rss_bytes(), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1000 jobs" in done.stdout
    assert done.stdout.count("0 of 10 finished") == 100
    assert int(done.stderr.splitlines()[-1]) < 1e9
    assert not (tmp_path / "s").exists()
