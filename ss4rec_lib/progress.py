"""Progress bars: a widget in a notebook, a line in a terminal, nothing when turned off."""

from __future__ import annotations

import os
import sys
from typing import Any

from tqdm.auto import tqdm


def is_live(otherwise: bool = False) -> bool:
    """Return whether a person runs this cell in a front end, `otherwise` outside a kernel.

    Only the request tells: papermill, nbclient and nbval do not allow questions on stdin.
    """
    ipython = sys.modules.get("IPython")  # loaded in every kernel
    kernel = getattr(ipython and ipython.get_ipython(), "kernel", None)
    if kernel is None:
        return otherwise
    return bool((kernel.get_parent() or {}).get("content", {}).get("allow_stdin"))


def progress_bar(*args: Any, show: bool = True, **options: Any) -> tqdm:
    """Return a tqdm bar that `show=False` and the environment variable TQDM_DISABLE turn off.

    tqdm's bar for notebooks ignores the variable (4.70.1), so it is read here. A notebook that runs
    as a job has no bars, because they would stay in the file as widgets.
    """
    off = os.environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false")
    hidden = {"disable": True} if off or not (show and is_live(otherwise=True)) else {}
    return tqdm(*args, **options | hidden)
