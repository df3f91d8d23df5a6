"""Dependencies and their lock file, the Makefile, and what must not be in a public repository."""

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
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ss4rec_lib

ROOT = Path(__file__).resolve().parents[1]
TEXT = r"|\.(py|toml|yml|yaml|md|cfg|ipynb|csv|json|lock|cff)"  # suffixes of text files, or none


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


@pytest.fixture(scope="module")
def lock() -> dict[str, list[Requirement]]:
    """Return the lines of the lock file by package; a package may have one line per platform."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement = Requirement(line.partition("#")[0].strip())
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def locked_version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return specifier.version


def test_the_library_can_be_installed_beside_others(project):
    lines = all_requirements(project)
    pinned = [line for line in lines if "==" in str(Requirement(line).specifier)]
    assert pinned == []
    notebooks_only = {"jupyterlab", "ipywidgets", "papermill", "nbclient", "matplotlib", "seaborn"}
    needed = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    assert needed & notebooks_only == set()


def test_the_lock_has_every_dependency_within_its_range(project, lock):
    """All but those of `gpu`, which are compiled against the torch that is installed."""
    extras = project["optional-dependencies"]
    assert set(extras) == {*"notebooks peers triton gpu batch docs browser dev".split()}
    wanted = [*project["dependencies"]]
    wanted += [line for name, extra in extras.items() if name != "gpu" for line in extra]
    outside = []
    for line in wanted:
        requirement = Requirement(line)
        locked = lock.get(canonicalize_name(requirement.name), [])
        versions = [locked_version(entry) for entry in locked]
        if not versions or not all(requirement.specifier.contains(v) for v in versions):
            outside.append(f"{line}: {versions or 'not locked'}")
    assert outside == []


def test_the_lock_serves_cpu_and_cuda(lock):
    """One torch for both builds, no package of NVIDIA, no hash of one build, no index.

    The CUDA build of this torch requires this Triton. With another in the lock nothing installs.
    """
    assert [str(entry) for entry in lock["torch"]] == ["torch==2.13.0"]
    assert [name for name in lock if name.startswith(("nvidia", "cuda"))] == []
    assert [str(entry) for entry in lock["triton"]] == ['triton==3.7.1; sys_platform == "linux"']
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"--hash|index-url|find-links|https?:|[+]cpu", text)


def test_every_dependency_has_its_reason_beside_it(project):
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    for requirement in all_requirements(project):
        places = [line for line in lines if f'"{requirement}"' in line]
        reasons = [len(line.partition("#")[2].split()) >= 2 for line in places]
        assert reasons and all(reasons), f"no reason beside {requirement}"


def test_make_and_conda_install_with_the_lock(environment):
    assert pip_section(environment) == ["-c requirements.lock", "-e .[notebooks,batch,dev]"]
    makefile = (ROOT / "Makefile").read_text()
    assert 'pip install -c requirements.lock -e ".[notebooks,batch,dev]"' in makefile
    assert "$(STAMP): pyproject.toml requirements.lock\n" in makefile


def test_conda_brings_python_and_pip_only(project, environment):
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    assert conda == ["python=3.11", "pip"]
    assert environment["channels"] == ["conda-forge"]
    assert project["requires-python"] == ">=" + conda[0].partition("=")[2]


def test_the_environment_of_the_tests_has_the_locked_versions(project, lock):
    extras = project["optional-dependencies"]
    wrong = []
    for line in [*project["dependencies"], *extras["notebooks"], *extras["dev"]]:
        name = Requirement(line).name
        # A local build such as 2.13.0+cpu satisfies ==2.13.0.
        installed = importlib.metadata.version(name)
        applies = [e for e in lock[canonicalize_name(name)] if not e.marker or e.marker.evaluate()]
        if not all(entry.specifier.contains(installed) for entry in applies):
            wrong.append(f"{name} {installed} instead of {[str(entry) for entry in applies]}")
    assert wrong == []


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process: make test")
def test_tests_of_a_module_share_a_worker(request):
    """Versions of pytest and xdist that do not fit leave out the group and say nothing."""
    assert request.node.nodeid.endswith(f"@{request.path}")


def test_imports_are_declared(project):
    """Every third-party module that the package imports is a direct dependency, or an extra's."""
    modules = {"s5": "s5-pytorch", "yaml": "pyyaml", "surprise": "scikit-surprise"}
    extras = project["optional-dependencies"]
    used = [*project["dependencies"], *extras["notebooks"], *extras["peers"]]
    used += [*extras["gpu"], *extras["triton"]]
    declared = {canonicalize_name(Requirement(line).name) for line in used}
    found = set()
    for path in (ROOT / "ss4rec_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.partition(".")[0])
    third_party = found - set(sys.stdlib_module_names) - {"ss4rec_lib", "__future__"}
    assert "torch" in third_party
    missing = {n for n in third_party if canonicalize_name(modules.get(n, n)) not in declared}
    assert missing == set()


def test_the_library_imports_without_the_extras():
    """Only the lessons and the baselines of `peers` may need more than the core dependencies."""
    blocked = ["IPython", "papermill", "nbclient", "nbformat", "ipywidgets", "matplotlib"]
    blocked += ["seaborn", "surprise", "implicit", "myfm", "mamba_ssm", "triton"]
    packages = ("data", "ssm", "models", "training", "evaluation", "experiments", "cli")
    program = f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
    program += "".join(f"import ss4rec_lib.{name}\n" for name in packages)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_typed_and_part_of_the_wheel(project):
    assert (ROOT / "ss4rec_lib" / "py.typed").is_file()
    assert project["scripts"] == {"ss4rec": "ss4rec_lib.cli:main"}


def test_version_is_the_package_version(project):
    assert project["version"] == ss4rec_lib.__version__


def test_licence_is_mit(project):
    text = (ROOT / "LICENSE").read_text()
    assert project["license"] == "MIT"
    assert text.startswith("MIT License") and "SS4Rec Lab authors" in text


def repository_files() -> list[Path]:
    """Return what git tracks or would add; without git, every file that is not ignored."""
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
    """Paths of one machine and addresses of a package index mean nothing elsewhere."""
    # Put together from pieces, so that this file does not hold what it looks for.
    ours = ("work/main", "work/shared", "work/wt", "tmp/dev", "tmp/base", "tmp/plan", "ro" + "ot/")
    folders = "|".join(ours)
    forbidden = re.compile(
        rf"(?<![\w.])/(?:{folders})|extra-index-url|files\.pythonhosted|" + "pypi" r"\.org"
    )
    hits = []
    for name in repository_files():
        if re.fullmatch(TEXT, name.suffix) and name != Path("tests/test_packaging.py"):
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
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
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
        for target in (
            "run",
            "test",
            "test-browser",
            "test-triton",
            "gpu-check",
            "lab",
            "doctor",
            "slides",
            "kit",
            "lint",
            "lock",
            "clean",
        ):
            assert f"make {target} " in shown
        assert not (checkout / ".venv").exists()

    def test_lessons_are_not_clicked_without_a_browser(self, checkout):
        done = self.make(checkout, "-o", ".venv/.installed", "test-browser", "CHROMIUM=")
        assert (done.returncode, done.stdout.split(":")[0]) == (0, "skipped")
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

    @pytest.mark.parametrize(("uid", "allowed"), [("0", True), ("1000", False), ("10", False)])
    def test_lab_allows_root_to_root_alone(self, checkout, tmp_path, uid, allowed):
        path = self.tools(tmp_path / "bin", "#!/bin/sh\nexit 1\n")
        (path / "id").write_text(f"#!/bin/sh\necho {uid}\n")
        (path / "id").chmod(0o755)
        shown = self.make(checkout, "-n", "lab", "LAB_ARGS=--no-browser", path=path).stdout
        lines = shown.replace("\\\n", " ").splitlines()
        command = next(line for line in lines if "jupyterlab" in line)
        assert ("--allow-root" in command) is allowed
        assert command.endswith("--no-browser")

    def test_clean_keeps_the_data(self, checkout):
        made = ("runs/lessons/01.ipynb", ".venv/bin/x", "a/__pycache__/b")
        for name in ("data/ml-100k/u.data", *made):
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
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert "set -euo pipefail" in text
    commands = [line for line in text.splitlines() if line.startswith("make ")]
    assert commands[:2] == ["make lint", "make run"]
    assert commands[-2:] == ["make test", "make test-long"]


class TestWorkflow:
    """GitHub's steps and .ci/run are the same commands, in the same environment."""

    @pytest.fixture
    def job(self) -> dict:
        text = (ROOT / ".github/workflows/ci.yml").read_text()
        assert "never been" in text.partition("name:")[0], "it says that nobody has executed it"
        (job,) = yaml.safe_load(text)["jobs"].values()
        return job

    def test_it_runs_every_command_of_the_local_script_and_no_other(self, job):
        lines = (ROOT / ".ci/run").read_text().splitlines()
        commands = [line for line in lines if line and not line.startswith(("#", "export "))]
        assert commands[:2] == ["set -euo pipefail", 'cd "$(dirname "${BASH_SOURCE[0]}")/.."']
        assert [step["run"] for step in job["steps"] if "run" in step] == commands[2:]
        exports = dict(
            line.removeprefix("export ").split("=", 1)
            for line in lines
            if line.startswith("export ")
        )
        assert exports.keys() == {"TQDM_DISABLE", "SS4REC_EXECUTED"}
        assert exports.items() <= {name: str(value) for name, value in job["env"].items()}.items()

    def test_its_python_is_that_of_the_lessons(self, job, environment):
        versions = [
            step["with"]["python-version"]
            for step in job["steps"]
            if step.get("with", {}).get("python-version")
        ]
        assert [f"python={version}" for version in versions] == environment["dependencies"][:1]

    @pytest.mark.parametrize(
        ("old", "new", "valid"),
        [
            ("", "", True),
            ("runs-on:", "run-on:", False),
            ("      - run: make lint", "      - rum: make lint", False),
            ("timeout-minutes: 60", "timeout-minutes: [60]", False),
        ],
    )
    def test_it_follows_the_published_schema(self, old, new, valid, tmp_path):
        text = (ROOT / ".github/workflows/ci.yml").read_text()
        assert old in text
        (tmp_path / "ci.yml").write_text(text.replace(old, new, 1))
        program = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
        done = subprocess.run(
            [*program, "vendor.github-workflows", "ci.yml"], cwd=tmp_path, capture_output=True
        )
        assert (done.returncode == 0) is valid, done.stdout


def test_binder_installs_with_the_lock_and_the_python_of_the_lessons(environment, tmp_path):
    folder = ROOT / ".binder"
    python = (folder / "runtime.txt").read_text().strip().replace("-", "=")
    assert [python] == environment["dependencies"][:1]
    assert os.access(folder / "postBuild", os.X_OK)
    stub = tmp_path / "python"
    stub.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/calls"\n')
    stub.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([folder / "postBuild"], cwd=ROOT, env={"PATH": path}, check=True)
    install, fonts = (tmp_path / "calls").read_text().splitlines()
    assert install == "-m pip install --no-cache-dir -c requirements.lock -e .[notebooks]"
    assert fonts == "-c import matplotlib.font_manager"


def test_lint_checks_rules_formatting_types_and_spelling():
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    for program in ("ruff check", "ruff format --check", "pyright", "codespell_lib"):
        assert program in recipe


def test_hooks_need_no_network():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    names = {hook["id"] for hook in hooks}
    assert names == {"ruff-check", "ruff-format", "codespell", "pyright", "notebooks"}
