"""Training: objectives and the loop."""

from ss4rec_lib.training.loop import FitResult, TrainingConfig, TrainingDiverged, fit

__all__ = ["FitResult", "TrainingConfig", "TrainingDiverged", "fit"]
