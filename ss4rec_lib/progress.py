"""Progress bars: a widget in a notebook, a line in a terminal, nothing when turned off."""

from __future__ import annotations

import os
from typing import Any

from tqdm.auto import tqdm


def progress_bar(*args: Any, show: bool = True, **options: Any) -> tqdm:
    """Return a tqdm bar that `show=False` and the environment variable TQDM_DISABLE turn off.

    tqdm's bar for notebooks ignores the variable (4.70.1), so it is read here.
    """
    if not show or os.environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false"):
        options["disable"] = True
    return tqdm(*args, **options)
