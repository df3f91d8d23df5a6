"""Run an experiment file: jobs that are not finished yet, then the leaderboard of all of them.

The store, `runs/batch` by default, holds `jobs/NAME` for every job of every experiment, and for
each experiment a folder with its plan, leaderboard and log.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, cast

from filelock import FileLock, Timeout

from ss4rec_lib.files import write_json
from ss4rec_lib.lessons import find_lessons, flatten, read_parameters, read_record
from ss4rec_lib.machine import describe_machine
from workflow.experiment import BatchError, Job, Plan, load_data, title, work_of

if TYPE_CHECKING:
    from workflow.leaderboard import Records

HERE = Path(__file__).resolve().parent
POLL = 0.5  # seconds between two looks at the store


def run_batch(
    file: str | Path,
    out: str | Path = "runs/batch",
    *,
    jobs: int = 1,
    cores: int | None = None,
    profile: str | None = None,
    dry_run: bool = False,
) -> int:
    """Run an experiment and write its leaderboard; return 0, or 1 if a job failed.

    Args:
        file: The experiment, see `workflow.experiment`.
        out: The store; a job that is finished there is not run again.
        jobs: How many run at once. One after another needs no Snakemake.
        cores: Cores that they share; by default all of this machine.
        profile: A folder of `workflow/profiles`, or of one's own, for a cluster; `jobs` is then how
            many are in the queue, and `cores` are those of each job.
        dry_run: Show what would be run.

    Raises:
        BatchError: Before anything is run or written.
    """
    plan, store = Plan(Path(file)), Path(out).resolve()
    from workflow.leaderboard import write_leaderboard  # imports PyTorch

    cores = cast(int, describe_machine()["cores"]) if cores is None else cores
    for name, value in (("jobs", jobs), ("cores", cores)):
        if value < 1:
            raise BatchError(f"--{name} {value}: expected at least 1")
    threads = cores if profile else max(1, cores // jobs)
    profile_folder = _profile(profile) if profile else None
    finished = _records(store, plan.jobs)
    todo = [job for job in plan.jobs if job.name not in finished]
    at_once = min(jobs, len(todo) or 1)
    print(_overview(plan, finished, at_once, threads), flush=True)
    if dry_run:
        return 0
    load_data(todo)
    folder = store / plan.name
    with _alone(folder, plan.name):
        failed: dict[str, str] = {}
        if todo:
            specs = {job.name: job.spec for job in todo}
            batch = {"batch": uuid.uuid4().hex, "store": str(store), "threads": threads}
            write_json(folder / "plan.json", batch | {"jobs": specs})
            watch = _Watch(store, todo, batch["batch"])
            with watch:
                if jobs == 1 and profile_folder is None:
                    _one_after_another(folder / "plan.json", todo)
                else:
                    _snakemake(folder, jobs, cores, profile_folder)
            failed = watch.failed
        records = finished | _records(store, todo)
        missing = [job for job in plan.jobs if job.name not in records]
        if records:
            print(f"\n{write_leaderboard(plan, records, store, folder)}")
            print(f"leaderboard: {os.path.relpath(folder / 'leaderboard.md')}, .csv, .png")
        for job in missing:
            state = f"FAILED: {failed[job.name]}" if job.name in failed else "not finished"
            place = os.path.relpath(store / "jobs" / job.name)
            print(f"{job.row}, seed {job.seed}: {state}\n    {place}", file=sys.stderr)
        print(f"{len(records)} of {len(plan.jobs)} runs have a record", flush=True)
        return 1 if missing else 0


def _records(store: Path, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """Return the records of those jobs that are finished, by the name of the job."""
    from ss4rec_lib.experiments import ExperimentError, RunFolder

    found = {}
    for job in jobs:
        run = RunFolder(store / "jobs" / job.name)
        try:
            if run.record.exists():
                found[job.name] = run.read_record()
        except ExperimentError as error:
            remedy = f"Remove {os.path.relpath(run.path)} to make it again"
            raise BatchError(f"{error}. {remedy}") from None
    return found


def _profile(name: str) -> Path:
    for folder in (HERE / "profiles" / name, Path(name).resolve()):
        if (folder / "config.yaml").is_file():
            return folder
    known = ", ".join(sorted(path.name for path in (HERE / "profiles").iterdir() if path.is_dir()))
    raise BatchError(
        f"--profile {name}: no such folder with a config.yaml in it; those of this repository are "
        f"{known}"
    )


@contextlib.contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Hold the experiment, so that it is run once at a time; a killed holder lets go of it."""
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / "running.txt"
    try:
        with FileLock(folder / ".lock", blocking=False):
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            holder.write_text(f"process {os.getpid()} since {since}", encoding="utf-8")
            yield
            holder.unlink(missing_ok=True)
    except Timeout:
        who = holder.read_text(encoding="utf-8") if holder.exists() else "another process"
        raise BatchError(
            f"{name} is being run in {os.path.relpath(folder.parent)} ({who}): wait for it, or "
            "give another store with --out"
        ) from None


# ------------------------------------------------------------------ what will be run


def _overview(plan: Plan, finished: Records, at_once: int, threads: int) -> str:
    """Lay out the rows with their seeds, what is done, and the time that the rest may take."""
    estimate, rows = _estimate(finished, plan.jobs), defaultdict(list)
    for job in plan.jobs:
        rows[job.row].append(job)
    seconds = [estimate(job) for job in plan.jobs if job.name not in finished]
    what = f"{plan.name}: {plan.experiment.description.strip()}".rstrip(": ")
    lines = [what, f"{len(plan.jobs)} jobs ({title(plan.jobs[0])}), {len(finished)} finished"]
    width = min(60, max(map(len, rows)))
    for row, jobs in rows.items():
        todo = [job for job in jobs if job.name not in finished]
        each = estimate(todo[0]) if todo else math.nan
        state = f"{len(jobs) - len(todo)} of {len(jobs)} finished"
        state += f", about {_span(each)} each" if todo and each == each else ""
        lines.append(f"  {row:<{width}}  {state}")
    known = [s for s in seconds if s == s]
    if seconds:
        text = f"{len(seconds)} to run, {at_once} at once, {threads} thread(s) each"
        if known:
            whole = sum(known) + median(known) * (len(seconds) - len(known))
            text += f": about {_span(whole / at_once)}"
            text += " (from runs before, on their machines)"
        else:
            text += ": their time is not known before the first has ended"
        lines.append(text)
    return "\n".join(lines)


def _estimate(finished: Records, jobs: Sequence[Job]) -> Callable[[Job], float]:
    """Return a function that says how many seconds a job may take, NaN if nothing is known of it.

    That is the median of finished runs of the same kind and work, else of the same kind per
    unit of work, there or among the recorded runs.
    """
    from ss4rec_lib.experiments import load_records

    same, here, elsewhere = (defaultdict[Any, list[float]](list) for _ in range(3))
    for job in jobs:
        if record := finished.get(job.name):
            same[job.kind, job.work].append(record["seconds"]["wall"])
            here[job.kind].append(record["seconds"]["wall"] / job.work)
    for record in load_records().values():
        kind = f"{record['task']} {record['dataset']} {record['model']}"
        if record["seconds"].get("wall"):
            elsewhere[kind].append(record["seconds"]["wall"] / (record["epochs"] or 1))
    for stem in {job.spec["lesson"] for job in jobs if "lesson" in job.spec}:
        (lesson,) = find_lessons([stem])  # as it is published
        if seconds := flatten(read_record(lesson)).get("lesson_seconds"):
            usual = {name: entry.default for name, entry in read_parameters(lesson).items()}
            elsewhere[f"lesson {stem}"].append(seconds / work_of(usual))

    def estimate(job: Job) -> float:
        if times := same.get((job.kind, job.work)):
            return median(times)
        times = here.get(job.kind) or elsewhere.get(job.kind)
        return median(times) * job.work if times else math.nan

    return estimate


def _span(seconds: float) -> str:
    """Return 40 s, 12 min, 5.3 h, 2.1 days."""
    for unit, size, limit in (("s", 1, 100), ("min", 60, 6_000), ("h", 3_600, 172_800)):
        if seconds < limit:
            value = seconds / size
            return f"{value:.1f} {unit}" if value < 10 and size > 1 else f"{value:.0f} {unit}"
    return f"{seconds / 86_400:.1f} days"


# ------------------------------------------------------------------ running


class _Watch(threading.Thread):
    """Print a line for each job that ends, wherever it runs, from what appears in the store."""

    def __init__(self, store: Path, jobs: Sequence[Job], batch: str) -> None:
        super().__init__(daemon=True)
        self.store, self.batch, self.open = store, batch, {job.name: job for job in jobs}
        self.failed: dict[str, str] = {}
        self.total, self.begin, self.stop = len(jobs), time.monotonic(), threading.Event()
        self.out = sys.stdout  # Snakemake's messages go elsewhere

    def __enter__(self) -> _Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.join()

    def run(self) -> None:
        while not self.stop.wait(POLL):
            self._look()
        self._look()

    def _look(self) -> None:
        for job in list(self.open.values()):
            folder = self.store / "jobs" / job.name
            if (folder / "record.json").exists():
                record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
                self._say(job, f"{record['seconds']['wall']:.0f} s")
            elif (folder / "error.json").exists():
                error = json.loads((folder / "error.json").read_text(encoding="utf-8"))
                if error["batch"] == self.batch:
                    self.failed[job.name] = error["error"]
                    self._say(job, f"FAILED after {error['seconds']:.0f} s: {error['error']}")

    def _say(self, job: Job, text: str) -> None:
        del self.open[job.name]
        ended, passed = self.total - len(self.open), time.monotonic() - self.begin
        left = f"; about {_span(passed / ended * len(self.open))} left" if self.open else ""
        width = len(str(self.total))
        line = f"[{ended:>{width}}/{self.total}] {job.row}, seed {job.seed}: {text}{left}"
        print(line, file=self.out, flush=True)


def _one_after_another(plan: Path, jobs: Sequence[Job]) -> None:
    for job in jobs:
        subprocess.run([sys.executable, str(HERE / "job.py"), str(plan), job.name], check=False)


def _snakemake(folder: Path, jobs: int, cores: int, profile: Path | None) -> None:
    """Run the plan in a folder with Snakemake, in this process: they are killed together."""
    try:
        from snakemake.cli import main
    except ImportError:
        how = 'pip install -c requirements.lock -e ".[batch]"'
        raise BatchError(f"several jobs at once need Snakemake: {how}; or leave --jobs 1") from None
    for mark in (folder / "done").glob("*"):  # only unfinished jobs are in the plan
        mark.unlink()
    words = ["--snakefile", HERE / "Snakefile", "--directory", folder]
    words += ["--config", f"plan={folder / 'plan.json'}"]
    # This process holds the lock of the experiment: a lock of Snakemake's own is left over.
    words += ["--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "--keep-going"]
    words += ["--scheduler", "greedy", "--quiet", "all"]
    words += ["--profile", profile, "--jobs", jobs] if profile else ["--cores", cores]
    with (
        open(folder / "snakemake.log", "w", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
        contextlib.suppress(SystemExit),  # its exit status says less than the store
        contextlib.chdir(folder),
    ):
        main([str(word) for word in words])
