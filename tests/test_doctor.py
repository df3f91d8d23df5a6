"""`ss4rec doctor`: what it says on a good machine and on broken ones, and its exit status."""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ss4rec_lib import cli, machine
from workshop import doctor
from workshop.doctor import FAILURE, OK, WARNING, Finding

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["Python", "packages", "disk", "memory", "cores", "numba", "data", "kernel", "GPU", "time"]


@pytest.mark.slow
def test_a_ready_machine(tmp_path):
    """In a process of its own, as a participant runs it; `make test` has fetched the data."""
    begin = os.times()
    words = [sys.executable, "-m", "ss4rec_lib.cli", "doctor"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    end = os.times()
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [line[9:].split()[0] for line in lines[:-1]] == NAMES
    assert FAILURE not in done.stdout and done.stderr == ""
    assert re.search(r"about \d+\.\d min for lesson 04", done.stdout)
    # Seconds of the processor, because other tests share the machine.
    used = end.children_user + end.children_system - begin.children_user - begin.children_system
    assert used < 10, f"{used:.1f} s"


@pytest.fixture
def checkout(tmp_path):
    """Return a folder with the two files that versions are compared with."""
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text, count = re.subn(old, new, path.read_text(), flags=re.MULTILINE)
    assert count == 1, old
    path.write_text(text)


def test_a_missing_package_is_named(checkout):
    edit(checkout / "pyproject.toml", r"^dependencies = \[", 'dependencies = [\n"no-such>=1",')
    edit(checkout / "requirements.lock", r"^(torch==)", r"no-such==1.2  # via ss4rec-lab\n\1")
    found = doctor.check_packages(checkout)
    assert found.state == FAILURE and re.fullmatch(r"1 of \d+: no-such is missing", found.text)
    assert "pip install -c requirements.lock" in found.remedy


def test_what_a_missing_package_needs_is_missed_too(checkout):
    edit(checkout / "requirements.lock", r"^(torch==)", r"no-such==1.2  # via numba, torch\n\1")
    assert doctor.check_packages(checkout).text.endswith(": no-such is missing")


def test_a_package_that_only_developers_or_other_systems_need_is_not_missed(checkout):
    lines = r"no-such==1.2  # via snakemake\nnor-this==1 ; sys_platform == 'beos'  # via torch\n\1"
    edit(checkout / "requirements.lock", r"^(torch==)", lines)
    assert doctor.check_packages(checkout).state == OK


def test_a_wrong_version_fails_outside_the_range_and_warns_inside(checkout):
    edit(checkout / "requirements.lock", r"^numpy==\S+", "numpy==2.0.99")
    found = doctor.check_packages(checkout)
    assert found.state == WARNING and re.search(r"numpy 2\.\S+ instead of 2\.0\.99", found.text)
    edit(checkout / "pyproject.toml", r'"numpy>=2,<3"', '"numpy>=2,<2.1"')
    found = doctor.check_packages(checkout)
    assert found.state == FAILURE and "instead of 2.0.99" in found.text


def test_a_package_without_its_repository_is_not_compared(tmp_path):
    assert doctor.check_packages(tmp_path).state == WARNING
    assert doctor.check_time(tmp_path).state == WARNING


def test_an_old_python(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    found = doctor.check_python()
    assert found.state == FAILURE and "3.10.4" in found.text and "3.11" in found.remedy


@pytest.mark.parametrize("path", ["ss4rec_lib/__init__", "ss4rec_lib/machine", "workshop/doctor"])
def test_an_old_python_can_read_it(path):
    source = (ROOT / f"{path}.py").read_text()
    ast.parse(source, feature_version=(3, 9))
    top = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {getattr(n, "module", None) or n.names[0].name for n in top}
    outside = {m.partition(".")[0] for m in modules} - set(sys.stdlib_module_names)
    assert outside <= {"ss4rec_lib"}


def test_a_full_disk(monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=300 * 2**20))
    found = doctor.check_disk(tmp_path)
    assert found.state == FAILURE and "0.3 GiB" in found.text and "1 GiB" in found.remedy

    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", full)
    found = doctor.check_disk(tmp_path)
    assert found.state == FAILURE and "No space left" in found.text


def test_a_folder_that_cannot_be_written_to(tmp_path):
    assert doctor.check_disk(tmp_path / "gone").state == FAILURE


@pytest.mark.parametrize(("gib", "state"), [(0.5, FAILURE), (1.5, WARNING), (3, OK), (None, OK)])
def test_memory(monkeypatch, gib, state):
    free = None if gib is None else int(gib * 2**30)
    monkeypatch.setattr(doctor, "available_memory", lambda: free)
    found = doctor.check_memory()
    assert found.state == state and bool(found.remedy) is (state != OK)


def test_available_memory_is_that_of_this_machine():
    free = machine.available_memory()
    assert (free is None) is (sys.platform != "linux")
    assert free is None or 2**20 < free < 2**50


def test_one_core(monkeypatch):
    monkeypatch.setattr(doctor, "describe_machine", lambda: {"cores": 1})
    assert doctor.check_cores().state == WARNING


def test_no_data(monkeypatch, tmp_path):
    monkeypatch.delenv("SS4REC_ML_100K", raising=False)
    monkeypatch.setenv("SS4REC_DATA", str(tmp_path))
    found = doctor.check_data()
    assert found.state == FAILURE and "ss4rec data ml-100k" in found.remedy
    assert "ml-100k.zip" in found.remedy and "planted" in found.remedy
    assert list(tmp_path.iterdir()) == [], "nothing is fetched"


def test_damaged_data(monkeypatch, tmp_path):
    monkeypatch.setenv("SS4REC_DATA", str(tmp_path))
    (tmp_path / "ml-100k").mkdir()
    (tmp_path / "ml-100k" / "ml-100k.zip").write_bytes(b"half of it")
    found = doctor.check_data()
    assert found.state == FAILURE and "ml-100k.zip" in found.text


def test_data_named_by_a_variable_that_differ(monkeypatch, tmp_path):
    (tmp_path / "u.data").write_text("1\t1\t5\t1000\n")
    monkeypatch.setenv("SS4REC_ML_100K", str(tmp_path))
    found = doctor.check_data()
    assert found.state == WARNING and "md5" in found.text
    monkeypatch.setenv("SS4REC_ML_100K", str(tmp_path / "gone"))
    assert doctor.check_data().state == FAILURE


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    """Return a function that puts a kernel `python3` before all others."""

    def install(*argv: str) -> None:
        folder = tmp_path / "kernels" / "python3"
        folder.mkdir(parents=True)
        spec = {"argv": list(argv), "display_name": "Python 3", "language": "python"}
        (folder / "kernel.json").write_text(json.dumps(spec))
        monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
        monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")

    return install


def state_of(name: str, capsys) -> tuple[int, str]:
    """Return the exit status of all checks, and the lines of one."""
    status = doctor.doctor()
    shown = capsys.readouterr().out
    return status, re.search(rf"^\w+ +{name} .*(?:\n +-> .*)?", shown, re.MULTILINE)[0]


@pytest.fixture
def only(monkeypatch):
    """Return a function that leaves one check."""

    def leave(name: str) -> None:
        monkeypatch.setattr(doctor, "CHECKS", {name: doctor.CHECKS[name]})

    return leave


def test_no_kernel(kernel, only, capsys):
    kernel(sys.executable, "-c", "raise SystemExit(3)")
    only("kernel")
    status, shown = state_of("kernel", capsys)
    assert status == 1 and shown.startswith(FAILURE) and "died" in shown.lower()


def test_a_kernel_without_the_library(kernel):
    code = "import sys; sys.modules['ss4rec_lib'] = None; from ipykernel import kernelapp as app; "
    kernel(sys.executable, "-c", code + "app.launch_new_instance()", "-f", "{connection_file}")
    found = doctor.check_kernel()
    assert found.state == FAILURE and "ss4rec_lib" in found.text


def test_a_kernel_of_another_python(kernel, monkeypatch, tmp_path):
    kernel(sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    found = doctor.check_kernel()
    assert found.state == WARNING and "ipykernel install" in found.remedy


def test_numba_that_cannot_be_imported(monkeypatch, only, capsys):
    monkeypatch.setitem(sys.modules, "numba", None)
    doctor._speed.cache_clear()
    only("numba")
    status, shown = state_of("numba", capsys)
    assert status == 1 and shown.startswith(FAILURE) and "requirements.lock" in shown


def test_a_slow_machine(monkeypatch):
    monkeypatch.setattr(doctor, "_speed", lambda: 100 * doctor.SPEED_SECONDS)
    found = doctor.check_time()
    assert found.state == WARNING and "planted" in found.remedy


@pytest.mark.parametrize(
    ("written", "minutes"), [("58 s", "1.0"), ("90 s", "1.5"), ("1.6 min", "1.6")]
)
def test_the_time_of_lesson_04_in_both_of_its_units(monkeypatch, tmp_path, written, minutes):
    monkeypatch.setattr(doctor, "_speed", lambda: doctor.SPEED_SECONDS)
    monkeypatch.setattr(doctor, "describe_machine", lambda: {"cores": 2})
    row = f"| [04 · Training](notebooks/04_train_ss4rec.ipynb) | On 2 cores. | {written} |\n"
    (tmp_path / "README.md").write_text(row)
    assert f"about {minutes} min" in doctor.check_time(tmp_path).text


def test_one_broken_check_does_not_hide_the_others(monkeypatch, capsys):
    def breaks():
        raise RuntimeError("of all things")

    checks = {"first": breaks, "second": lambda: Finding(OK, "good"), "third": doctor.check_python}
    monkeypatch.setattr(doctor, "CHECKS", checks)
    assert cli.main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "RuntimeError: of all things" in shown and "good" in shown
    assert shown.splitlines()[-1].startswith("1 failed, 0 with a warning")


def test_a_warning_is_no_failure(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", {"only": lambda: Finding(WARNING, "so so", "do this")})
    assert doctor.doctor() == 0
    assert "-> do this" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="make is not part of Windows")
def test_make_doctor_where_nothing_is_installed(tmp_path):
    """The answer of a Python without any package, and no environment is made."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("ss4rec_lib", "workshop"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["make", "doctor", f"PYTHON={bare / 'bin' / 'python'}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and "Traceback" not in done.stdout + done.stderr
    for name in ("packages", "numba", "data", "kernel", "GPU"):
        assert re.search(rf"^{FAILURE} +{name} ", done.stdout, re.MULTILINE), done.stdout
    assert "make run" in done.stdout
    assert not (tmp_path / ".venv").exists()
