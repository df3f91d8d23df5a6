"""Training: objectives, the loop, and checkpoints it can be continued from."""

from ss4rec_lib.training.carry import each, tensors_of
from ss4rec_lib.training.checkpoint import CheckpointError
from ss4rec_lib.training.config import TrainingConfig
from ss4rec_lib.training.linear_cross_entropy import linear_cross_entropy
from ss4rec_lib.training.loop import METRICS, FitResult, Run, TrainingDiverged, fit, resolve_device
from ss4rec_lib.training.processes import make_accelerator, same_everywhere
from ss4rec_lib.training.ratings import fit_ratings, rating_model

__all__ = [
    "METRICS",
    "Run",
    "each",
    "linear_cross_entropy",
    "make_accelerator",
    "resolve_device",
    "same_everywhere",
    "tensors_of",
    "CheckpointError",
    "FitResult",
    "TrainingConfig",
    "TrainingDiverged",
    "fit",
    "fit_ratings",
    "rating_model",
]
