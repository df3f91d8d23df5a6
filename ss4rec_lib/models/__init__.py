"""Models: SS4Rec and what it is compared with, all behind `forward` and `logits`."""

from ss4rec_lib.models.baselines import Popularity
from ss4rec_lib.models.config import SS4RecConfig
from ss4rec_lib.models.files import load_model, save_model
from ss4rec_lib.models.official import load_official_state_dict, official_state_dict
from ss4rec_lib.models.official_checkpoint import load_official_checkpoint
from ss4rec_lib.models.ss4rec import SS4Rec, SS4RecState

__all__ = [
    "Popularity",
    "SS4Rec",
    "SS4RecConfig",
    "SS4RecState",
    "load_model",
    "load_official_checkpoint",
    "load_official_state_dict",
    "official_state_dict",
    "save_model",
]
