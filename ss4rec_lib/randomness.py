"""Seeding of all random number generators."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_everything(seed: int, process: int = 0) -> None:
    """Seed Python, NumPy and PyTorch (all devices), so that a run can be repeated.

    Initial weights, dropout and sampled negatives depend on these global generators. The order of
    training batches does not: `ss4rec_lib.data.train_batches` draws it from (seed, epoch).
    The same seed gives the same result on the same machine and thread count.

    Args:
        seed: In [0, 2^32).
        process: Number of the process, if several train one model; each draws its own dropout.

    Raises:
        ValueError: A seed that is not an integer in [0, 2^32).
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r}: expected an integer in [0, 2**32)")
    seed = int(seed)
    if process:
        seed = int(np.random.SeedSequence([seed, process]).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for libraries that use the global generator
    torch.manual_seed(seed)
