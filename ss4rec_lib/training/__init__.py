"""Training: objectives, the loop, and checkpoints it can be continued from."""

from ss4rec_lib.training.checkpoint import CheckpointError
from ss4rec_lib.training.config import TrainingConfig
from ss4rec_lib.training.loop import FitResult, TrainingDiverged, fit

__all__ = ["CheckpointError", "FitResult", "TrainingConfig", "TrainingDiverged", "fit"]
