"""Training: objectives, the loop, and checkpoints from which it can be continued."""

from ss4rec_lib.models import TrainingDiverged as TrainingDiverged
from ss4rec_lib.training.checkpoint import CheckpointError as CheckpointError
from ss4rec_lib.training.checkpoint import each as each
from ss4rec_lib.training.checkpoint import tensors_of as tensors_of
from ss4rec_lib.training.config import TrainingConfig as TrainingConfig
from ss4rec_lib.training.distributed import leave as leave
from ss4rec_lib.training.distributed import make_accelerator as make_accelerator
from ss4rec_lib.training.distributed import resolve_device as resolve_device
from ss4rec_lib.training.distributed import same_everywhere as same_everywhere
from ss4rec_lib.training.linear_cross_entropy import linear_cross_entropy as linear_cross_entropy
from ss4rec_lib.training.loop import FitResult as FitResult
from ss4rec_lib.training.loop import Run as Run
from ss4rec_lib.training.loop import fit as fit
from ss4rec_lib.training.loop import fit_ratings as fit_ratings
from ss4rec_lib.training.objectives import METRICS as METRICS
from ss4rec_lib.training.objectives import Step as Step
from ss4rec_lib.training.objectives import bpr as bpr
from ss4rec_lib.training.objectives import cross_entropy as cross_entropy
from ss4rec_lib.training.objectives import ranking_objective as ranking_objective
from ss4rec_lib.training.objectives import rating_model as rating_model
from ss4rec_lib.training.objectives import rating_objective as rating_objective
from ss4rec_lib.training.objectives import sampled_cross_entropy as sampled_cross_entropy
