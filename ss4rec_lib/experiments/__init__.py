"""Experiments: runs from a configuration to a record, recorded runs, and finished runs in use."""

from ss4rec_lib.experiments.compare import Comparison, compare
from ss4rec_lib.experiments.config import DataConfig, RunConfig, run_config
from ss4rec_lib.experiments.inference import (
    evaluate_run,
    open_run,
    parse_moment,
    recommend,
    recommend_from_run,
)
from ss4rec_lib.experiments.record import (
    code_revision,
    evaluation_of,
    read_per_target,
    record_name,
    summary,
)
from ss4rec_lib.experiments.run import RunFolder, run_experiment
from ss4rec_lib.experiments.store import load_records, record_run, results_folder
from ss4rec_lib.experiments.task import ExperimentError

__all__ = [
    "Comparison",
    "DataConfig",
    "ExperimentError",
    "RunConfig",
    "RunFolder",
    "code_revision",
    "compare",
    "evaluate_run",
    "evaluation_of",
    "load_records",
    "open_run",
    "parse_moment",
    "read_per_target",
    "recommend",
    "recommend_from_run",
    "record_name",
    "record_run",
    "results_folder",
    "run_config",
    "run_experiment",
    "summary",
]
