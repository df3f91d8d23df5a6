"""`make gpu-check` on the CPU: what it says without a GPU, that it runs, and what it reports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "benchmarks" / "gpu.py"
MODULES = ("floor", "gpu", "layers", "mamba_ssm_on_cpu", "memory", "peers", "report", "timing")


@pytest.fixture
def gpu(monkeypatch):
    """The program as a module, forgotten afterwards."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in (*MODULES, "training"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import gpu

    yield gpu
    for name in (*MODULES, "training"):
        sys.modules.pop(name, None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_one_line_and_exit_status_2(tmp_path):
    command = [sys.executable, str(PROGRAM), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "no GPU" in line and torch.__version__ in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.long
def test_every_part_that_can_run_on_a_cpu_does(gpu, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["gpu.py", "--device", "cpu", "--quick", "--out", str(tmp_path)]
    )
    assert gpu.main() == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    text = (tmp_path / "gpu.md").read_text()
    assert "no figure is one of a GPU" in found["device"] and found["device"] in text
    only_there = {name for name in gpu.PARTS if "skipped" in found[name]}
    assert only_there == {"tests", "goal", "waits", "tiles", "compiled", "processes"}
    contenders = {row["contender"] for row in found["scans"]["rows"]}
    assert contenders == {"ours numba", "ours parallel", "ours reference"}
    for row in found["scans"]["rows"]:
        assert row["disagreement"] <= 1e-5, row
        assert row["over_floor"] > 0
    rows = found["steps"]["rows"]
    assert {(r["backend"], r["precision"]) for r in rows} == {
        (backend, precision)
        for backend in ("numba", "parallel")
        for precision in ("float32", "bf16")
    }
    for row in rows:
        per_step = row["targets_per_second"] * row["ms_per_step"] / 1e3
        assert 0 < per_step <= row["tokens"]
    for row in found["epoch"]["rows"]:
        assert 0 < row["loss"] < 10 and row["targets"] > 1000
    assert all(title in text for title in gpu_titles())
    assert capsys.readouterr().out.endswith(text + "\n")


def gpu_titles():
    from report import GPU_PARTS

    return GPU_PARTS.values()


def test_a_part_that_fails_is_reported_and_the_next_one_runs(gpu, tmp_path, monkeypatch, capsys):
    def broken(check):
        raise RuntimeError("an illegal address")

    for name in gpu.PARTS:
        monkeypatch.setattr(gpu.Check, name, lambda check: {"answer": 42})
    monkeypatch.setattr(gpu.Check, "scans", broken)
    monkeypatch.setattr(gpu.Check, "steps", lambda check: {"skipped": "not today"})
    words = ["gpu.py", "--device", "cpu", "--quick", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    assert gpu.main() == 1
    assert "error: scans: RuntimeError: an illegal address" in capsys.readouterr().err
    text = (tmp_path / "gpu.md").read_text()
    assert "Failed: RuntimeError: an illegal address" in text
    assert "Skipped: not today" in text
    assert text.count("- answer: 42") == len(gpu.PARTS) - 2


def test_what_no_time_is_left_for_is_skipped(gpu):
    saved = []
    plan, device = gpu.Plan(seconds=-1.0, users=20), torch.device("cpu")
    found = gpu.measure(plan, device, lambda result: saved.append(dict(result)))
    assert all("had passed" in found[name]["skipped"] for name in gpu.PARTS)
    assert len(saved) == len(gpu.PARTS)  # a run that is killed loses only the part it was in
    assert saved[0][gpu.PARTS[-1]] == {"skipped": "not reached"}
