"""The one place where randomness is seeded."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (all devices), so that a run can be repeated.

    The order of training batches does not depend on these global generators: it is drawn from
    (seed, epoch) by `ss4rec_lib.data.train_batches`. Initial weights, dropout and sampled
    negatives do. The same seed gives the same result on the same machine and thread count.

    Raises:
        ValueError: A seed that is not an integer in [0, 2^32).
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r}: expected an integer in [0, 2**32)")
    random.seed(int(seed))
    np.random.seed(int(seed))
    torch.manual_seed(int(seed))
