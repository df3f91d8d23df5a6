"""Pins, the two lists of them, and what must not be in a public repository."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import ss4rec_lib

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.+]*")
TEXT_SUFFIXES = {".py", ".toml", ".yml", ".yaml", ".md", ".cfg", ".ipynb", ".csv", ".json", ""}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def pip_section(environment: dict) -> list[str]:
    return next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))


def all_requirements(project: dict) -> list[str]:
    extras = project["optional-dependencies"].values()
    return [*project["dependencies"], *(line for extra in extras for line in extra)]


def test_every_dependency_is_pinned_exactly(project):
    assert [line for line in all_requirements(project) if not PIN.fullmatch(line)] == []


def test_every_pin_has_its_reason_beside_it(project):
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    for requirement in all_requirements(project):
        (line,) = [line for line in lines if f'"{requirement}"' in line]
        assert len(line.partition("#")[2].split()) >= 2, f"no reason beside {requirement}"


def test_environment_yml_has_the_pins_of_pyproject(project, environment):
    expected = [*project["dependencies"], *project["optional-dependencies"]["dev"], "-e .[dev]"]
    assert pip_section(environment) == expected


def test_conda_brings_python_and_pip_only(project, environment):
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    assert conda == ["python=3.11", "pip"]
    assert environment["channels"] == ["conda-forge"]
    assert project["requires-python"] == ">=" + conda[0].partition("=")[2]


def test_the_environment_of_the_tests_has_the_pinned_versions(project):
    pins = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    wrong = []
    for pin in pins:
        name, _, version = pin.partition("==")
        # A local build such as 2.13.0+cpu satisfies the pin.
        installed = importlib.metadata.version(name).partition("+")[0]
        if installed != version:
            wrong.append(f"{name} {installed} instead of {version}")
    assert wrong == []


def test_imports_are_declared(project):
    """Every third-party module that the package imports is a direct dependency, or an extra's."""
    modules = {"s5": "s5-pytorch", "IPython": "ipython", "mamba_ssm": "mamba-ssm"}
    extras = project["optional-dependencies"]
    declared = {
        re.split(r"==", line)[0].lower().replace("_", "-")
        for group in (project["dependencies"], *map(extras.get, ("gpu", "peers")))
        for line in group
    }
    found = set()
    for path in (ROOT / "ss4rec_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.partition(".")[0])
    third_party = found - set(sys.stdlib_module_names) - {"ss4rec_lib", "__future__"}
    assert "torch" in third_party
    missing = {name for name in third_party if modules.get(name, name).lower() not in declared}
    assert missing == set()


def test_version_is_the_package_version(project):
    assert project["version"] == ss4rec_lib.__version__


def test_licence_is_mit(project):
    text = (ROOT / "LICENSE").read_text()
    assert project["license"] == "MIT"
    assert text.startswith("MIT License") and "SS4Rec Lab authors" in text


def repository_files() -> list[Path]:
    """Files of the repository: what git tracks or would add; without git, what is not ignored."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode == 0:
        names = [Path(name) for name in listing.stdout.split("\0") if name]
    else:
        folders = ("ss4rec_lib", "tests", "notebooks", "benchmarks", "results", "workflow", ".ci")
        inside = [path for folder in folders for path in (ROOT / folder).rglob("*")]
        names = [path.relative_to(ROOT) for path in [*ROOT.iterdir(), *inside]]
        names = [name for name in names if "__pycache__" not in name.parts]
    return [name for name in names if (ROOT / name).is_file()]


def test_no_machine_path_or_registry_in_the_repository():
    """A path of the machine it was written on, or an index's host, helps nobody else."""
    # Put together from pieces, so that this file does not hold what it looks for.
    folders = "|".join(("work/main", "work/shared", "tmp/dev", "ro" + "ot/"))
    forbidden = re.compile(
        rf"(?<![\w.])/(?:{folders})|extra-index-url|files\.pythonhosted|" + "pypi" r"\.org"
    )
    hits = []
    for name in repository_files():
        if name.suffix in TEXT_SUFFIXES and name != Path("tests/test_packaging.py"):
            text = (ROOT / name).read_text(encoding="utf-8", errors="replace")
            hits += [f"{name}: {match.group()}" for match in forbidden.finditer(text)]
    assert hits == []


def test_movielens_is_not_in_the_repository():
    files = repository_files()
    assert Path("pyproject.toml") in files
    inside = [str(name) for name in files if name.parts[0] == "data"]
    assert set(inside) <= {"data/README.md"}
    large = [str(name) for name in files if (ROOT / name).stat().st_size > 3 * 2**20]
    assert large == []


@pytest.mark.skipif(os.name == "nt", reason="make is not part of Windows")
class TestMakefile:
    """The Makefile's messages, without installing anything."""

    @pytest.fixture
    def checkout(self, tmp_path) -> Path:
        folder = tmp_path / "a checkout"
        folder.mkdir()
        for name in ("Makefile", "pyproject.toml"):
            (folder / name).write_text((ROOT / name).read_text())
        return folder

    @staticmethod
    def make(
        folder: Path, *arguments: str, path: Path | None = None
    ) -> subprocess.CompletedProcess:
        environment = {"PATH": os.environ["PATH"] if path is None else str(path)}
        return subprocess.run(
            ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True
        )

    @staticmethod
    def tools(folder: Path, python: str) -> Path:
        """A PATH with the usual tools and only the given stand-in for Python."""
        folder.mkdir()
        for tool in ("make", "sh", "df", "awk", "cat", "head", "mkdir", "rm", "grep", "tail"):
            for place in os.environ["PATH"].split(os.pathsep):
                if (Path(place) / tool).exists():
                    (folder / tool).symlink_to(Path(place) / tool)
                    break
        for name in ("python3", "python3.11", "python3.12", "python3.13"):
            (folder / name).write_text(python)
            (folder / name).chmod(0o755)
        return folder

    def test_help_lists_every_target(self, checkout):
        shown = self.make(checkout).stdout
        for target in ("run", "test", "lab", "lint", "clean"):
            assert f"make {target} " in shown
        assert not (checkout / ".venv").exists()

    def test_old_python_is_one_line(self, checkout, tmp_path):
        old = '#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.18 && exit 0\nexit 1\n'
        done = self.make(checkout, "lint", path=self.tools(tmp_path / "bin", old))
        assert done.returncode != 0
        errors = [line for line in done.stderr.splitlines() if not line.startswith("make")]
        assert len(errors) == 1
        assert "no Python 3.11 or newer" in errors[0] and "Python 3.9.18" in errors[0]
        assert not (checkout / ".venv").exists()

    def test_full_disk_is_one_line(self, checkout):
        done = self.make(checkout, "lint", f"PYTHON={sys.executable}", "NEED_GB=99999999")
        assert done.returncode != 0
        errors = [line for line in done.stderr.splitlines() if not line.startswith("make")]
        assert len(errors) == 1
        assert "disk is full" in errors[0]
        assert not (checkout / ".venv").exists()

    def test_failed_installation_is_one_line_and_starts_again(self, checkout):
        (checkout / "pyproject.toml").write_text("not toml")
        done = self.make(checkout, "lint", f"PYTHON={sys.executable}")
        errors = [line for line in done.stderr.splitlines() if not line.startswith("make")]
        assert done.returncode != 0
        assert len(errors) == 1 and "installing failed" in errors[0]
        assert not (checkout / ".venv/.installed").exists()
        (checkout / ".venv/leftover").write_text("")
        self.make(checkout, "lint", f"PYTHON={sys.executable}")
        assert not (checkout / ".venv/leftover").exists()

    def test_clean_keeps_the_data(self, checkout):
        for name in (
            "data/ml-100k/u.data",
            "runs/lessons/01.ipynb",
            ".venv/bin/x",
            "a/__pycache__/b",
        ):
            (checkout / name).parent.mkdir(parents=True)
            (checkout / name).write_text("")
        (checkout / "data/__pycache__").mkdir()
        assert self.make(checkout, "clean").returncode == 0
        assert (checkout / "data/ml-100k/u.data").exists()
        assert (checkout / "data/__pycache__").exists()
        for name in ("runs", ".venv", "a/__pycache__"):
            assert not (checkout / name).exists()


def test_ci_runs_what_a_person_runs_and_the_tests_last():
    text = (ROOT / ".ci/run").read_text()
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert "set -euo pipefail" in text
    assert text.index("make lint") < text.index("make run") < text.index("make test")
