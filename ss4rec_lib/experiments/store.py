"""The recorded runs in `results/`: keeping a finished run, and reading what was kept.

results/records/NAME.json     one record per run
results/per_target/NAME.npz   its values for every test target
results/ablations/NAME.json   runs that options are chosen by; their test part is not shown
results/build_page.py         makes README.md and the CSV files from them
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from ss4rec_lib.data import checkout
from ss4rec_lib.experiments.config import RunConfig
from ss4rec_lib.experiments.record import read_per_target, read_record, record_name
from ss4rec_lib.experiments.run import RunFolder
from ss4rec_lib.experiments.task import ExperimentError
from ss4rec_lib.files import whole_file, write_json

# Fields that say how a run was carried out: two runs that differ in nothing else are the same run.
_CARRIED_OUT = tuple(
    "seconds resumed peak_memory_bytes machine versions revision curve command evaluations".split()
)


def results_folder() -> Path:
    """Return the folder `results` of the checkout that this package runs from."""
    root = checkout()
    if root is None:
        remedy = 'clone the repository and install it with pip install -e ".[dev]"'
        raise ExperimentError(f"recorded runs belong to a checkout of this project: {remedy}")
    return root / "results"


def load_records(folder: Path | None = None, ablations: bool = False) -> dict[str, dict[str, Any]]:
    """Return all recorded runs by name, in the order of their names.

    `folder` is `results/` of the checkout by default. With `ablations`, return the runs that
    options are chosen by instead. An `ExperimentError` names a JSON file that is no record.
    """
    folder = results_folder() if folder is None else folder
    paths = sorted((folder / ("ablations" if ablations else "records")).glob("*.json"))
    return {path.stem: read_record(path) for path in paths}


def record_run(
    run: str | Path, name: str | None = None, folder: Path | None = None, ablation: bool = False
) -> Path:
    """Copy a finished run's record and per-target values into the results, and renew their page.

    `name`, without `.json`, is made from the run's configuration by default, and `folder` is
    `results/` of the checkout. An `ablation` is kept among the runs that options are chosen by,
    without per-target values. An `ExperimentError` is raised before anything is written, unless it
    is one of the page.
    """
    folder = results_folder() if folder is None else folder
    files = RunFolder(run)
    record = files.read_record()
    if name is None:
        name = record_name(RunConfig.read(files.config), record["dataset"])
    if not name or name != Path(name).name or name.startswith("."):
        raise ExperimentError(f"--as {name!r}: expected a plain file name, without a folder")
    name = name.removesuffix(".json")
    kept = load_records(folder, ablation)
    if kept.get(name, record) != record:
        raise ExperimentError(f"{name}.json is another run: give this one a name with --as")
    for other, there in kept.items():
        if other != name and _identity(there) == _identity(record):
            same = f"{other}.json is the same run (seed {record['seed']})"
            raise ExperimentError(f"{same}: it would count twice, and nothing was changed")
    if not ablation:
        read_per_target(files.per_target)  # or an error, before anything is written
        with whole_file(folder / "per_target" / f"{name}.npz") as temporary:
            temporary.write_bytes(files.per_target.read_bytes())
    path = folder / ("ablations" if ablation else "records") / f"{name}.json"
    write_json(path, record)
    build_page(folder)
    return path


def build_page(folder: Path) -> None:
    """Run `results/build_page.py` for a folder; raise an `ExperimentError` if it reports one."""
    script = results_folder() / "build_page.py"
    command = [sys.executable, str(script), "--results", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExperimentError(f"the results page: {(done.stderr or done.stdout).strip()}")


def _identity(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _CARRIED_OUT}
