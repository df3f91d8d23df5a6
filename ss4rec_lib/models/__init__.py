"""Models: SS4Rec and what it is compared with, all behind `forward` and `logits`."""

from ss4rec_lib.models.baselines import Popularity
from ss4rec_lib.models.config import SS4RecConfig
from ss4rec_lib.models.ss4rec import SS4Rec, SS4RecState

__all__ = ["Popularity", "SS4Rec", "SS4RecConfig", "SS4RecState"]
