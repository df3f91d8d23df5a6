"""Collect what a room without a network needs: `python -m tools.make_kit [--out FOLDER]`.

The folder has the wheels that requirements.lock names, for this version of Python and this system,
the tracked files of the repository (checkpoints included), the slides if `make slides` has made
them, and `install.py`. MovieLens is not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from workshop.doctor import locked
from workshop.kit import install

ROOT = Path(__file__).resolve().parents[1]
BUILD = ("hatchling", "editables")  # an editable installation of the repository builds with these


class KitError(Exception):
    """A kit that cannot be made, with a message that says why."""


def tracked_files(root: Path) -> list[Path]:
    """Return the files that git tracks, relative to the repository."""
    words = ["git", "ls-files", "-z"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise KitError(f"the kit is made from a git checkout: {done.stderr.strip()}")
    return [Path(name) for name in done.stdout.split("\0") if name and (root / name).is_file()]


def fetch_wheels(root: Path, folder: Path) -> None:
    """Put the wheels of the lessons into a folder, with the versions of the lock file."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder)]
    command += ["-c", str(root / "requirements.lock"), f"{root}[notebooks]", *BUILD]
    if subprocess.run(command, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}).returncode:
        raise KitError("pip could not fetch or build the wheels; its message is above")
    for path in folder.glob("ss4rec_lab-*"):
        path.unlink()  # it is installed from its folder


def missing_wheels(root: Path, folder: Path) -> list[str]:
    """Return what the lock file names for this machine and the folder does not have."""
    have = {tuple(path.name.split("-")[:2]) for path in folder.glob("*.whl")}
    have = {(name.replace("_", "-").replace(".", "-").lower(), v.split("+")[0]) for name, v in have}
    return [f"{name}=={v}" for name, v in locked(root)[0].items() if (name, v) not in have]


def make_kit(out: Path, root: Path = ROOT) -> int:
    """Make the kit and return its size in bytes. An earlier kit in the folder is replaced."""
    if out.exists() and not (out / "kit.json").exists() and any(out.iterdir()):
        raise KitError(f"{out} exists and is no kit; name another folder with --out")
    files = tracked_files(root)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        fetch_wheels(root, part / "wheels")
        if missing := missing_wheels(root, part / "wheels"):
            raise KitError(f"no wheel of {', '.join(missing)}")
        for name in files:
            place = part / "ss4rec-lab" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, place)
        if (slides := root / "dist" / "slides").is_dir():
            shutil.copytree(slides, part / "slides")
        for name in ("install.py", "README.md"):
            shutil.copy2(root / "workshop" / "kit" / name, part / name)
        wheels = {path.name: install.sha256(path) for path in sorted((part / "wheels").iterdir())}
        described = {**install.here_is(), "wheels": wheels}
        (part / "kit.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a kit and print its size. Return 2 when it cannot be made."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_kit", description="Collect what a room without a network needs."
    )
    parser.add_argument("--out", default="dist/kit", help="folder, by default dist/kit")
    out = Path(parser.parse_args(arguments).out)
    try:
        size = make_kit(out)
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    here = install.here_is()
    print(
        f"{out}: {size / 2**20:.0f} MiB, for Python {here['python']} on {here['system']} "
        f"{here['processor']}. Copy the folder; in it: python3 install.py"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
