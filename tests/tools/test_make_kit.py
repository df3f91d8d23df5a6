"""The kit for a room without a network: what it holds, what it refuses, and that it installs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import make_kit as tool
from workshop.doctor import locked
from workshop.kit import install

ROOT = Path(__file__).resolve().parents[2]
KIT = ROOT / "dist" / "kit"


def wheel_names() -> list[str]:
    """Return a file name for each wheel that the lock file names for this machine."""
    wanted = locked(ROOT)[0].items()
    return [f"{name.replace('-', '_')}-{version}-py3-none-any.whl" for name, version in wanted]


@pytest.fixture
def kit(monkeypatch, tmp_path) -> Path:
    """Return a kit whose wheels are empty files."""

    def fetch(_root, folder):
        folder.mkdir(parents=True)
        for name in wheel_names():
            (folder / name).write_text(name)

    monkeypatch.setattr(tool, "fetch_wheels", fetch)
    assert tool.make_kit(tmp_path / "kit") > 10**6
    return tmp_path / "kit"


def test_it_has_the_lessons_the_checkpoints_and_no_data(kit):
    for name in ("install.py", "README.md", "kit.json", "ss4rec-lab/pyproject.toml"):
        assert (kit / name).is_file()
    assert list(kit.glob("ss4rec-lab/notebooks/01_*.ipynb"))
    assert list(kit.glob("ss4rec-lab/workshop/checkpoints/*.safetensors"))
    assert [p.name for p in kit.glob("ss4rec-lab/data/**/*")] == ["README.md"]
    described = json.loads((kit / "kit.json").read_text())
    assert set(described["wheels"]) == set(wheel_names())
    assert described["python"] == ".".join(map(str, sys.version_info[:2]))
    assert not kit.with_name("kit.part").exists()


def test_it_replaces_a_kit_but_nothing_else(kit, tmp_path):
    (kit / "old").write_text("")
    tool.make_kit(kit)
    assert not (kit / "old").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(tool.KitError, match="mine"):
        tool.make_kit(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"


def test_a_missing_wheel_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tool, "fetch_wheels", lambda _root, folder: folder.mkdir(parents=True))
    assert tool.main(["--out", str(tmp_path / "kit")]) == 2
    assert "torch==" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_local_versions_and_upper_case_are_the_same_wheel(tmp_path):
    for name in wheel_names():
        (tmp_path / name).write_text("")
    assert tool.missing_wheels(ROOT, tmp_path) == []
    (torch,) = tmp_path.glob("torch-*")
    torch.rename(tmp_path / torch.name.replace("-py3", "+cpu-py3"))
    (yaml,) = tmp_path.glob("pyyaml-*")
    yaml.rename(tmp_path / yaml.name.replace("pyyaml", "PyYAML"))
    assert tool.missing_wheels(ROOT, tmp_path) == []


@pytest.fixture
def installed(kit, monkeypatch, tmp_path):
    """Return a function that installs the kit and gives the exit status; pip and venv are left."""
    monkeypatch.setattr(install, "KIT", kit)
    monkeypatch.chdir(tmp_path)
    ran = []

    def run(words, **_):
        ran.append([str(word) for word in words])
        (tmp_path / "ss4rec-lab" / ".venv").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(install.subprocess, "run", run)
    return lambda: (install.main([]), ran)


def test_installing_keeps_what_is_there_and_takes_a_data_file_along(kit, installed, tmp_path):
    (kit / "ml-100k.zip").write_bytes(b"archive")
    mine = tmp_path / "ss4rec-lab" / "README.md"
    mine.parent.mkdir()
    mine.write_text("my notes")
    status, ran = installed()
    assert status == 0 and mine.read_text() == "my notes"
    target = tmp_path / "ss4rec-lab"
    assert (target / "data" / "ml-100k" / "ml-100k.zip").read_bytes() == b"archive"
    assert (target / ".venv" / ".installed").read_text().strip() == str(target)
    pip = next(words for words in ran if "pip" in words)
    assert "--no-index" in pip and ".[notebooks]" in pip and "requirements.lock" in pip
    assert ran[-1][-1] == "workshop.doctor"


@pytest.mark.parametrize("name", ["python", "system", "processor"])
def test_a_kit_for_another_machine_is_refused(kit, installed, capsys, name):
    described = json.loads((kit / "kit.json").read_text())
    (kit / "kit.json").write_text(json.dumps(described | {name: "other"}))
    assert installed() == (1, [])
    assert "other" in capsys.readouterr().err


def test_a_damaged_wheel_is_refused(kit, installed, capsys):
    (torch,) = (kit / "wheels").glob("torch-*")
    torch.write_text("half")
    assert installed() == (1, [])
    assert torch.name in capsys.readouterr().err


def test_too_little_space_is_refused(installed, monkeypatch, capsys):
    monkeypatch.setattr(install, "NEED_GIB", 10**9)
    assert installed() == (1, [])
    assert "GiB" in capsys.readouterr().err


def test_installing_needs_the_standard_library_only():
    import ast

    tree = ast.parse((ROOT / "workshop/kit/install.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {getattr(n, "module", None) or n.names[0].name for n in imports}
    assert {m.partition(".")[0] for m in modules} <= set(sys.stdlib_module_names)


def no_network() -> list[str]:
    """Return the words before a command that leave it loopback only; empty if they do not work."""
    words = ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$0" "$@"']
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return []
    return words if subprocess.run([*words, "true"], capture_output=True).returncode == 0 else []


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not (KIT / "kit.json").exists(), reason="make kit has not been run")
@pytest.mark.skipif(not no_network(), reason="no network namespace can be made")
def test_without_a_network_it_installs_and_the_first_lesson_runs(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    clean = {"PATH": os.environ["PATH"], "HOME": str(home)}

    def run(*words):
        command = [*no_network(), *map(str, words)]
        how = {"cwd": tmp_path, "env": clean, "capture_output": True, "text": True}
        return subprocess.run(command, **how)

    base = Path(sys.base_prefix) / "bin" / "python3"
    done = run(base, KIT / "install.py")
    report = done.stdout + done.stderr
    assert "as in requirements.lock" in report, report
    assert "starts and imports ss4rec_lib" in report and "ml-100k is not here" in report
    venv = tmp_path / "ss4rec-lab" / ".venv" / "bin"
    done = run(venv / "ss4rec", "lessons", "01", "--dataset", "planted", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
