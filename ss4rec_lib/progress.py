"""Progress bars: a widget in a notebook, a line in a terminal, nothing where nobody wants one."""

from __future__ import annotations

from tqdm.auto import tqdm


def progress_bar(*args: object, show: bool = True, **options: object) -> tqdm:
    """A tqdm bar that `show=False` and the environment variable TQDM_DISABLE both turn off.

    tqdm itself lets an explicit `disable=False` win over the variable, so it is never passed.
    """
    if not show:
        options["disable"] = True
    return tqdm(*args, **options)
