"""SS4Rec Lab: continuous-time sequential recommendation with state space models.

The library behind the notebooks. Imports run one way: `data` and `ssm` know nothing of each
other or of anything above them; `models` uses `ssm`; `training` and `evaluation` use `data` and
the interface of a model; `experiments`, `lessons` and `cli` sit on top.
"""

import os

# Threads of PyTorch's OpenMP pool that wait for work spin by default, on a core that somebody else
# may need: the scan's own threads, a second notebook, a browser. Measured on two cores with two
# trainings side by side, spinning costs a factor of ten and more. Sleeping at once makes a training
# step alone a quarter slower, for a step has some hundred small parallel regions and waking a
# thread takes as long as one of them. So a thread spins for a few microseconds and then sleeps:
# alone as fast as spinning, side by side a sixth slower than sleeping. OpenMP reads the variables
# when PyTorch is first imported, so import this package before torch. Values of the user are kept.
if "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ["GOMP_SPINCOUNT"] = "3000"

__version__ = "0.2.0"
