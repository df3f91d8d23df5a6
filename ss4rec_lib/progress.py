"""Progress bars: a widget in a notebook, a line in a terminal, nothing where nobody wants one."""

from __future__ import annotations

import os

from tqdm.auto import tqdm


def progress_bar(*args: object, show: bool = True, **options: object) -> tqdm:
    """A tqdm bar that `show=False` and the environment variable TQDM_DISABLE both turn off.

    tqdm's bar for notebooks does not look at the variable (4.70.1), so it is looked at here.
    """
    if not show or os.environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false"):
        options["disable"] = True
    return tqdm(*args, **options)
