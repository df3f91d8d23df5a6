"""The revision of the code, in checkouts made for the test."""

import subprocess

import pytest

from ss4rec_lib.experiments import revision as module
from ss4rec_lib.experiments.revision import code_revision


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
    assert found == git(checkout, "rev-parse", "HEAD") and len(found) == 40


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
        patch.setattr(module.subprocess, "run", hang)
        assert code_revision(checkout) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_revision(checkout) is None, "no git installed"
