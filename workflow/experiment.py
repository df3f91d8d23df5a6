"""An experiment file and the jobs that follow from it, all checked before any of them starts.

    description: does the time to the target help?
    fixed: {dataset: ml-100k, epochs: 12}     # options of `ss4rec train`, or a lesson's parameters
    grid:
      model: [official, sasrec_time]          # a list: each value of an option
      time:                                   # names: each stands for some options
        with: {}
        without: {target_time: none}
    seeds: [0, 1, 2]
    leaderboard: {metrics: [ndcg@10, hr@10], part: test, masked: [false, true]}

With `lesson: 04` at the top the jobs are runs of this lesson. A job's name is a hash of everything
that its numbers follow from, beside the library and the machine, so the same job has the same name
in every experiment. A mistake is answered at once, so PyTorch is imported only for training runs.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from ss4rec_lib.configuration import Config, ConfigError, as_text, did_you_mean
from ss4rec_lib.lessons import (
    RecordError,
    assign,
    find_lessons,
    flatten,
    lesson_title,
    read_parameters,
    read_record,
)

# papermill imports jsonschema, which builds a grammar of addresses for two seconds if it finds this
# package, and does without it otherwise. Nothing here has addresses to check.
sys.modules.setdefault("rfc3987_syntax", None)  # pyright: ignore[reportArgumentType]

RATING = ("rmse", "mae", "r2")
CARRIED_OUT = ("device", "checkpoint_seconds")  # how a run is carried out: not in its name


class BatchError(ConfigError):
    """An experiment that cannot be run as it is written, or a batch that cannot start."""


class Leaderboard(Config):
    """Which numbers the leaderboard shows; the rows are in the order of the first metric."""

    metrics: tuple[str, ...] = ()  # by default NDCG@10 and HR@10, or RMSE and MAE
    part: Literal["test", "valid"] = "test"  # of training runs
    masked: tuple[bool, ...] = (False, True)  # of rankings: whether seen items are left out
    target_time: str | None = None  # None: that of each run
    against: str | None = None  # the row that the others are compared with; None: the first


class Experiment(Config):
    """The content of an experiment file."""

    description: str = ""
    lesson: str | None = None  # number or name; None for training runs
    fixed: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, Any] = Field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    leaderboard: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One run of a lesson or of training."""

    name: str  # hash of what it depends on
    row: str  # row of the leaderboard; the runs of a row differ in their seed alone
    seed: int
    kind: str  # runs of the same kind take about as long
    work: float  # by which their time is multiplied: epochs
    spec: dict[str, Any]  # what `job.py` runs
    dataset: str | None


class Plan:
    """The jobs of an experiment file, checked, in the order of the rows and of the seeds."""

    def __init__(self, path: Path) -> None:
        """Read and check a file; a `BatchError` says what is wrong in it."""
        self.name, self.experiment = path.stem, _read(path)
        try:
            self.leaderboard = Leaderboard(**self.experiment.leaderboard)
            if (lesson := self.experiment.lesson) is not None:
                # First, because the jobs may import PyTorch, to know their data set.
                self._check_metrics(_metrics_of_lesson(find_lessons([lesson])[0].stem)[0])
            self.jobs = list(_jobs(self.experiment))
            if lesson is None:
                self._check_metrics(_known_metrics(self.jobs[0])[0])
            self._check()
        except (ValueError, OSError) as error:  # those of the library name the value
            raise BatchError(f"{path}: {error}") from None

    @property
    def rows(self) -> list[str]:
        """The rows of the leaderboard, each once."""
        return list(dict.fromkeys(job.row for job in self.jobs))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the leaderboard, the first one first."""
        usual = _known_metrics(self.jobs[0])[1]
        return self.leaderboard.metrics or usual

    def _check_metrics(self, known: Sequence[str]) -> None:
        for metric in self.leaderboard.metrics:
            if metric not in known:
                near = did_you_mean(metric, known) or f" They are {', '.join(known[:12])}, ..."
                raise BatchError(f"leaderboard: no record has the metric {metric!r}.{near}")

    def _check(self) -> None:
        if len(set(self.metrics)) < len(self.metrics):
            raise BatchError(f"leaderboard: metrics {', '.join(self.metrics)}: one is given twice")
        if not self.leaderboard.masked:
            raise BatchError("leaderboard: masked=[]: expected [false], [true] or both")
        against = self.leaderboard.against
        if against is not None and against not in self.rows:
            near = did_you_mean(against, self.rows) or f" They are {'; '.join(self.rows[:8])}."
            raise BatchError(f"leaderboard: against={against!r} is no row.{near}")


class _Loader(yaml.SafeLoader):
    """A reader that refuses a key given twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                place = f"line {key_node.start_mark.line + 1}"
                raise BatchError(f"{place}: {key!r} is given twice; give each key one value")
            seen.add(key if isinstance(key, str) else id(key))
        return super().construct_mapping(node, deep)


def _read(path: Path) -> Experiment:
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except BatchError as error:
        raise BatchError(f"{path}, {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BatchError(f"{path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise BatchError(
            f"{path}{place} is not YAML: {getattr(error, 'problem', None) or error}"
        ) from None
    if not isinstance(content, dict):
        raise BatchError(f"{path} holds no experiment: expected the keys fixed, grid, seeds, ...")
    content = {str(key): value for key, value in content.items()}
    if isinstance(content.get("lesson"), int):  # 04 is an octal number in YAML 1.1
        content["lesson"] = f"{content['lesson']:02d}"
    try:
        experiment = Experiment(**content)
        _check_lists(experiment)
    except ConfigError as error:
        raise BatchError(f"{path}: {error}") from None
    return experiment


def _check_lists(experiment: Experiment) -> None:
    seeds = experiment.seeds
    if not seeds:
        raise BatchError("seeds=[]: expected at least one, for example [0, 1, 2]")
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        raise BatchError(f"seeds: {', '.join(map(str, twice))} is given more than once")
    for where, options in (("fixed", experiment.fixed), ("grid", experiment.grid)):
        if "seed" in options:
            raise BatchError(f"{where}: seed={options['seed']}: seeds have a key of their own")
    for axis, values in experiment.grid.items():
        if not isinstance(values, list | dict) or not values:
            how = f"{axis}: [a, b] (values of the option) or {axis}: {{name: {{option: value}}}}"
            raise BatchError(f"grid: {axis}={_shown(values)}: expected {how}, with one or more")
        if isinstance(values, dict):
            for label, options in values.items():
                if not isinstance(options, dict):
                    raise BatchError(
                        f"grid: {axis}: {label}={_shown(options)}: expected options by name, "
                        "such as {epochs: 8}, or {} for none"
                    )
        elif axis in experiment.fixed:
            raise BatchError(f"{axis} is in fixed and in grid: leave it in one of them")


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _jobs(experiment: Experiment) -> Iterator[Job]:
    make = _lesson_maker(experiment.lesson) if experiment.lesson is not None else _training_job
    known: dict[str, str] = {}
    for cell in itertools.product(*(_axis(*axis) for axis in experiment.grid.items())):
        row = ", ".join(label for label, _ in cell) or experiment.lesson or "all runs"
        options: dict[str, Any] = dict(experiment.fixed)
        for _, changes in cell:
            options |= changes
        for seed in experiment.seeds:
            job = make(row, options, seed)
            if job.name in known:
                raise BatchError(
                    f"grid: {known[job.name]!r} and {row!r} are the same run; remove one of them"
                )
            known[job.name] = row
            yield job


def _axis(axis: str, values: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the label and the options of each point of an axis."""
    if isinstance(values, dict):
        return [(str(label), dict(options)) for label, options in values.items()]
    return [(f"{axis}={as_text(value)}", {axis: value}) for value in values]


def _training_job(row: str, options: Mapping[str, Any], seed: int) -> Job:
    from ss4rec_lib.data import is_path
    from ss4rec_lib.experiments import DataConfig, absolute, run_config  # not above: see the head

    own = ("task", "model", *DataConfig.model_fields)
    given = {name: value for name, value in options.items() if name in own}
    rest = [f"{name}={as_text(value)}" for name, value in options.items() if name not in own]
    dataset = given.get("dataset")
    if isinstance(dataset, str) and is_path(dataset):
        given["dataset"] = absolute(dataset)
    config = run_config(given | {"seed": seed}, rest)
    config.check_packages()
    # An option of the model at its default is left out, so that a new one, which changes nothing
    # unless it is used, renames no run.
    usual = config.preset.model.config_type().model_dump(mode="json")
    content = {
        name: value
        for name, value in config.in_force().items()
        if name not in CARRIED_OUT and (name not in usual or value != usual[name])
    }
    content["dataset"] = _content(config.data.dataset)
    kind = f"{config.task} {config.data.dataset} {config.name}"
    epochs = getattr(config.training_options, "epochs", 1) if config.preset.model.learns else 1
    spec = {"config": config.model_dump(mode="json")}
    return Job(_hash(content), row, seed, kind, float(epochs), spec, config.data.dataset)


def _lesson_maker(name: str) -> Callable[[str, Mapping[str, Any], int], Job]:
    found = find_lessons([name])
    if len(found) > 1:
        raise BatchError(f"lesson={name!r}: {len(found)} lessons; an experiment runs one")
    lesson = found[0]
    defaults = {name: entry.default for name, entry in read_parameters(lesson).items()}
    cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    code = _hash(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"])

    def make(row: str, options: Mapping[str, Any], seed: int) -> Job:
        given = dict(options) | ({"seed": seed} if "seed" in defaults or seed else {})
        values = assign({lesson: defaults}, given, from_text=True)[lesson]
        dataset = values.get("dataset")
        if dataset is not None:
            from ss4rec_lib.data import is_path
            from ss4rec_lib.experiments import absolute

            values["dataset"] = absolute(dataset) if is_path(dataset) else dataset
        in_force = defaults | values
        content = {"lesson": lesson.stem, "code": code, "parameters": dict(in_force)}
        if "dataset" in in_force:
            content["parameters"]["dataset"] = _content(in_force["dataset"])
        spec = {"lesson": lesson.stem, "parameters": values}
        kind, work = f"lesson {lesson.stem}", work_of(in_force)
        return Job(_hash(content), row, seed, kind, work, spec, in_force.get("dataset"))

    return make


def work_of(parameters: Mapping[str, Any]) -> float:
    """Return what the time of a lesson grows with: its epochs, where it has this parameter."""
    return float(parameters.get("epochs") or 1)


def title(job: Job) -> str:
    """Return what jobs like this one are, in a few words."""
    if "lesson" in job.spec:
        return lesson_title(find_lessons([job.spec["lesson"]])[0])
    return "training runs"


@cache
def _content(dataset: str) -> str:
    """Return what identifies a data set: its name, or a hash of a file's interactions."""
    from ss4rec_lib.data import DATASETS, is_path, load_dataset, lookup

    if dataset in DATASETS:
        return dataset
    if not is_path(dataset):
        lookup(dataset)  # its error
    table = load_dataset(dataset)
    hashes: Any = importlib.import_module("pandas.util").hash_pandas_object
    rows = hashes(table, index=False).to_numpy().tobytes()
    return f"{table.attrs['dataset']} {hashlib.sha256(rows).hexdigest()}"


def _hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _known_metrics(job: Job) -> tuple[list[str], tuple[str, ...]]:
    """Return the metrics that a job's record will have, and those that are shown by default."""
    if "lesson" in job.spec:
        return _metrics_of_lesson(job.spec["lesson"])
    from ss4rec_lib.evaluation import KS

    ranking = [f"{name}@{k}" for k in KS for name in ("hr", "ndcg", "mrr")]
    if job.spec["config"]["task"] == "rating":
        return [*RATING, *ranking], ("rmse", "mae")
    return ranking, ("ndcg@10", "hr@10")


@cache
def _metrics_of_lesson(stem: str) -> tuple[list[str], tuple[str, ...]]:
    """Take them from the record that the published notebook holds."""
    (lesson,) = find_lessons([stem])
    try:
        record = read_record(lesson)
    except RecordError as error:
        raise BatchError(f"lesson {stem}: its metrics are not known: {error}") from None
    known = [name for name in flatten(record) if not re.search(r"_se$", name)]
    return known, tuple(name for name in record.get("highlights", ()) if name in known)[:3]


def load_data(jobs: list[Job]) -> None:
    """Load every data set once, so that one that is missing or unusable stops the batch here."""
    from ss4rec_lib.data import DataError, load_dataset

    for dataset in dict.fromkeys(job.dataset for job in jobs if job.dataset):
        paths = {(job.spec.get("config") or {}).get("data", {}).get("path") for job in jobs}
        for path in paths:
            try:
                load_dataset(dataset, path=path)
            except DataError as error:
                raise BatchError(f"data of the batch: {error}") from None
