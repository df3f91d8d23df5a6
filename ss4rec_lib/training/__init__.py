"""Training: objectives, the loop, and checkpoints from which it can be continued."""

from ss4rec_lib.training.checkpoint import CheckpointError, each, tensors_of
from ss4rec_lib.training.config import TrainingConfig
from ss4rec_lib.training.distributed import make_accelerator, resolve_device, same_everywhere
from ss4rec_lib.training.linear_cross_entropy import linear_cross_entropy
from ss4rec_lib.training.loop import FitResult, Run, TrainingDiverged, fit, fit_ratings
from ss4rec_lib.training.objectives import (
    METRICS,
    Step,
    bpr,
    cross_entropy,
    ranking_objective,
    rating_model,
    rating_objective,
    sampled_cross_entropy,
)

__all__ = [
    "METRICS",
    "CheckpointError",
    "FitResult",
    "Run",
    "Step",
    "TrainingConfig",
    "TrainingDiverged",
    "bpr",
    "cross_entropy",
    "each",
    "fit",
    "fit_ratings",
    "linear_cross_entropy",
    "make_accelerator",
    "ranking_objective",
    "rating_model",
    "rating_objective",
    "resolve_device",
    "same_everywhere",
    "sampled_cross_entropy",
    "tensors_of",
]
