"""Which revision of the code made a figure."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ss4rec_lib.data import checkout

# What decides a run's numbers; a text or a recorded result beside it does not.
_CODE = ("ss4rec_lib", "pyproject.toml")


def code_revision(root: Path | None = None) -> str | None:
    """The git revision of the checkout that this package runs from. Never fails.

    Args:
        root: The checkout; by default the folder this package lies in.

    Returns:
        The commit, with `+changes` behind it when the package or its pins differ from that commit
        (files git does not know included); None without git or outside a checkout.
    """
    root = checkout() if root is None else Path(root).resolve()
    if root is None:
        return None
    # The package may lie in an environment inside somebody else's repository.
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:
        return None
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return None
    changes = _git(root, "status", "--porcelain", "--", *_CODE)
    return commit if changes == "" else f"{commit}+changes"


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
