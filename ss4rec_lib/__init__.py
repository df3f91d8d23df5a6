"""SS4Rec Lab: continuous-time sequential recommendation with state space models.

The library behind the notebooks. Imports run one way: `data` and `ssm` know nothing of each
other or of anything above them; `models` uses `ssm`; `training` and `evaluation` use `data` and
the interface of a model; `experiments`, `lessons` and `cli` sit on top.
"""

import os

# Threads of PyTorch's OpenMP pool that wait for work spin by default, on a core that somebody else
# may need: the scan's own threads, a second notebook, a browser. Measured on two cores with two
# trainings side by side, spinning costs a factor of ten and more; alone, sleeping costs nothing
# that shows. OpenMP reads the variable when PyTorch is first imported, so import this package
# before torch. A value set by the user is kept.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
