"""Copies of the exercise notebooks, in which a student's answers are safe."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ss4rec_lib.lessons.parameters import LessonError
from ss4rec_lib.lessons.runner import find_lessons, notebooks_folder
from ss4rec_lib.progress import is_live

_RELATIVE = re.compile(r"""(?<=[("'])\.\.?/[^\s()"'\\#]+""")  # a link, or a path in the code
_SCROLL = "setTimeout(() => element.closest('.jp-Cell')?.scrollIntoView({block: 'center'}), 500)"


def copy_exercises(
    names: Sequence[str] = (), to: str | Path = "work", folder: Path | None = None
) -> tuple[list[Path], list[Path]]:
    """Copy exercises into a folder, none over a file that is there; return new and kept ones.

    Links and paths are rewritten, so that the copies run where they are. `names` is as for
    `find_lessons`; `folder` is that of the lessons, by default that of the checkout.
    """
    source = (notebooks_folder() if folder is None else Path(folder)) / "exercises"
    to, made, kept = Path(to), [], []

    def moved(found: re.Match[str]) -> str:
        return Path(os.path.relpath(source.resolve() / found[0], to.resolve())).as_posix()

    for path in find_lessons(names, source):
        target = to / path.name
        if target.exists():
            kept.append(target)
            continue
        try:
            to.mkdir(parents=True, exist_ok=True)
            with target.open("x", encoding="utf-8") as file:
                file.write(_RELATIVE.sub(moved, path.read_text(encoding="utf-8")))
        except OSError as error:
            raise LessonError(f"cannot write {target}: {error.strerror}") from error
        made.append(target)
    return made, kept


def stop_in_view() -> None:
    """Make a live front end scroll to a cell that fails: "Run all" would end at the last one."""
    from IPython.core.getipython import get_ipython
    from IPython.display import display

    shell = get_ipython()
    if shell is None or not is_live():
        return

    def handle(shell: Any, kind: Any, error: Any, traceback: Any, tb_offset: Any = None) -> None:
        shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)
        display({"application/javascript": _SCROLL, "text/plain": ""}, raw=True)

    shell.set_custom_exc((Exception,), handle)


def unused_folder(to: str | Path) -> Path:
    """Return a folder inside `to` that is not there yet: work/2, work/3, ..."""
    return next(path for i in range(2, 1000) if not (path := Path(to) / str(i)).exists())
