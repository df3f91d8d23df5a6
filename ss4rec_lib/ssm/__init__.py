"""State space layers: S5, whose steps are time intervals, and Mamba, whose steps are learned."""

from ss4rec_lib.ssm.mamba import Mamba, MambaState
from ss4rec_lib.ssm.s5 import S5
from ss4rec_lib.ssm.scan import BACKENDS, diagonal_scan, numba_available, selective_scan

__all__ = [
    "BACKENDS",
    "S5",
    "Mamba",
    "MambaState",
    "diagonal_scan",
    "numba_available",
    "selective_scan",
]
