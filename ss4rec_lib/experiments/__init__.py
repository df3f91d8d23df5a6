"""Experiments: runs from a configuration to a record, recorded runs, and finished runs in use."""

from ss4rec_lib.experiments.compare import Comparison as Comparison
from ss4rec_lib.experiments.compare import compare as compare
from ss4rec_lib.experiments.config import DataConfig as DataConfig
from ss4rec_lib.experiments.config import RunConfig as RunConfig
from ss4rec_lib.experiments.config import absolute as absolute
from ss4rec_lib.experiments.config import portable as portable
from ss4rec_lib.experiments.config import run_config as run_config
from ss4rec_lib.experiments.inference import evaluate_run as evaluate_run
from ss4rec_lib.experiments.inference import open_run as open_run
from ss4rec_lib.experiments.inference import parse_moment as parse_moment
from ss4rec_lib.experiments.inference import recommend as recommend
from ss4rec_lib.experiments.inference import recommend_from_run as recommend_from_run
from ss4rec_lib.experiments.record import code_revision as code_revision
from ss4rec_lib.experiments.record import evaluation_of as evaluation_of
from ss4rec_lib.experiments.record import read_per_target as read_per_target
from ss4rec_lib.experiments.record import record_name as record_name
from ss4rec_lib.experiments.record import summary as summary
from ss4rec_lib.experiments.run import RunFolder as RunFolder
from ss4rec_lib.experiments.run import run_experiment as run_experiment
from ss4rec_lib.experiments.store import load_records as load_records
from ss4rec_lib.experiments.store import record_run as record_run
from ss4rec_lib.experiments.task import ExperimentError as ExperimentError
