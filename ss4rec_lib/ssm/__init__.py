"""State space layers: S5, whose steps are time intervals, and Mamba, whose steps are learned."""

from ss4rec_lib.ssm.kernels.reference import gradients_of as gradients_of
from ss4rec_lib.ssm.kernels.reference import must_differentiate as must_differentiate
from ss4rec_lib.ssm.kernels.reference import transformed as transformed
from ss4rec_lib.ssm.mamba import Mamba as Mamba
from ss4rec_lib.ssm.mamba import MambaState as MambaState
from ss4rec_lib.ssm.s5 import S5 as S5
from ss4rec_lib.ssm.scan import BACKENDS as BACKENDS
from ss4rec_lib.ssm.scan import choose as choose
from ss4rec_lib.ssm.scan import diagonal_scan as diagonal_scan
from ss4rec_lib.ssm.scan import is_plain as is_plain
from ss4rec_lib.ssm.scan import numba_applies as numba_applies
from ss4rec_lib.ssm.scan import numba_available as numba_available
from ss4rec_lib.ssm.scan import selective_scan as selective_scan
