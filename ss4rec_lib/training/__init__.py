"""Training: objectives, the loop, and checkpoints it can be continued from."""

from ss4rec_lib.training.checkpoint import CheckpointError
from ss4rec_lib.training.config import TrainingConfig
from ss4rec_lib.training.loop import FitResult, TrainingDiverged, fit
from ss4rec_lib.training.ratings import fit_ratings, rating_model

__all__ = [
    "CheckpointError",
    "FitResult",
    "TrainingConfig",
    "TrainingDiverged",
    "fit",
    "fit_ratings",
    "rating_model",
]
