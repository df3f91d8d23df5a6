"""Run one job of a batch: `python workflow/job.py PLAN NAME`, as the scheduler does on any node.

The job's folder in the store is `jobs/NAME`:

    record.json       its record; a job that has it is finished and never run again
    error.json        in its place, why the last attempt failed, and in which batch
    output.txt        what it printed
    *.ipynb           an executed lesson (NAME.failed.ipynb shows the cell that failed)

beside the files of a training run, by which an interrupted one continues.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ATTEMPTS = 3  # kernels that start at once now and then take each other's ports


def main(plan_file: str, name: str) -> int:
    """Run the job unless it is finished; return 0 if it is finished now, else 1."""
    plan = json.loads(Path(plan_file).read_text(encoding="utf-8"))
    # Before PyTorch is loaded. Kernels of lessons inherit it.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(plan["threads"])
    os.environ["TQDM_DISABLE"] = "1"  # bars are for terminals; log.txt has a line per epoch
    folder = Path(plan["store"], "jobs", name)
    folder.mkdir(parents=True, exist_ok=True)
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (1, 2):
        os.dup2(output, stream)
    from filelock import FileLock

    from ss4rec_lib.files import write_json

    record, error = folder / "record.json", folder / "error.json"
    # The job of a batch that was killed may still be running.
    with FileLock(folder / ".lock"):
        if record.exists():
            return 0
        if error.exists() and json.loads(error.read_text())["batch"] == plan["batch"]:
            return 1  # an error of its own, which the scheduler's next attempt would only repeat
        begin = time.perf_counter()
        try:
            problem = _run(plan["jobs"][name], folder)
        except KeyboardInterrupt:
            return 130
        except Exception as raised:
            traceback.print_exc()
            problem = f"{type(raised).__name__}: {raised}"
        if problem is None:
            error.unlink(missing_ok=True)
            return 0
        seconds = round(time.perf_counter() - begin, 1)
        write_json(error, {"batch": plan["batch"], "error": problem, "seconds": seconds})
        return 1


def _run(spec: dict[str, Any], folder: Path) -> str | None:
    """Run a lesson or a training run; return why a lesson failed."""
    if "config" in spec:
        from ss4rec_lib.experiments import RunConfig, run_experiment

        run_experiment(RunConfig(**spec["config"]), folder, resume=True, progress=False)
        return None
    from ss4rec_lib.lessons import run_lessons

    for attempt in range(1, ATTEMPTS + 1):
        (run,) = run_lessons([spec["lesson"]], out=folder, parameters=spec["parameters"])
        if run.error is None:
            os.replace(folder / f"{run.name}.json", folder / "record.json")
            return None
        if not run.error.startswith("cell In [0]") or attempt == ATTEMPTS:  # a cell had begun
            return f"{run.error} (executed until there: {Path(run.notebook).name})"
        time.sleep(attempt)
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
