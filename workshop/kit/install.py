"""Install SS4Rec Lab from this folder, without a network: `python3 install.py [TARGET]`.

TARGET is the folder that the lessons go to, by default `ss4rec-lab` where you are. Files that are
there already are kept, so the command can be repeated after an interruption. Only the standard
library is used. Run it with the version of Python that README.md in this folder names.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

KIT = Path(__file__).resolve().parent
DATA = (
    "ml-100k.zip",
    "recbole-1.2.1-py3-none-any.whl",
)  # MovieLens-100K, if it is here
NEED_GIB = 2


def main(arguments: list[str]) -> int:
    """Copy the repository, install the wheels into its .venv, and run the doctor."""
    kit = json.loads((KIT / "kit.json").read_text(encoding="utf-8"))
    target = Path(arguments[0] if arguments else "ss4rec-lab").expanduser().absolute()
    if problem := why_not(kit, target):
        print(f"error: {problem}", file=sys.stderr)
        return 1
    copy_new(KIT / "ss4rec-lab", target)
    for name in DATA:
        for place in (KIT / name, Path(name)):
            if place.is_file():
                (target / "data" / "ml-100k").mkdir(parents=True, exist_ok=True)
                shutil.copy(place, target / "data" / "ml-100k")
    folder = target / ".venv"
    print(f"Installing into {folder}: some minutes", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wheels = ["--no-index", "--find-links", KIT / "wheels", "-c", "requirements.lock"]
    command = [python, "-m", "pip", "install", "--quiet", *wheels, "-e", ".[notebooks]"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    clean |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if subprocess.run(command, cwd=target, env=clean).returncode:
        print("error: pip failed; its message is above", file=sys.stderr)
        return 1
    # What `make` looks for, so that `make lab` does not install again.
    (folder / ".installed").write_text(f"{target}\n", encoding="utf-8")
    print(f"\nTo check this machine again and to start:\n  cd {target}")
    relative = python.relative_to(target)
    print(f"  {relative} -m workshop.doctor")
    options = "--config tools/jupyter_server_config.py --ServerApp.root_dir=."
    print("  make lab" if os.name != "nt" else f"  {relative} -m jupyterlab {options}")
    print(flush=True)
    return subprocess.run([python, "-m", "workshop.doctor"], cwd=target).returncode


def why_not(kit: dict, target: Path) -> str:
    """Return why this kit cannot be installed here; empty when it can."""
    here = here_is()
    for name in ("python", "system", "processor"):
        if here[name] != kit[name]:
            made = f"{kit['python']} on {kit['system']} {kit['processor']}"
            found = f"{here['python']} on {here['system']} {here['processor']}"
            return f"the wheels are for Python {made}, and this is Python {found}"
    damaged = [
        name for name, known in kit["wheels"].items() if sha256(KIT / "wheels" / name) != known
    ]
    if damaged:
        return f"{damaged[0]} is missing or damaged; copy the kit again"
    above = next(folder for folder in (target, *target.parents) if folder.exists())
    free = shutil.disk_usage(above).free / 2**30
    return f"{free:.1f} GiB are free at {above}, {NEED_GIB} are needed" if free < NEED_GIB else ""


def here_is() -> dict[str, str]:
    """Return what decides which wheels fit: version of Python, system, processor."""
    version = ".".join(map(str, sys.version_info[:2]))
    return {"python": version, "system": platform.system(), "processor": platform.machine()}


def sha256(path: Path) -> str:
    """Return the hash of a file; empty if there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def copy_new(source: Path, target: Path) -> None:
    """Copy a folder without replacing any file."""
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
