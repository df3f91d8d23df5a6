"""Execute lessons in place, as they are committed: `python -m tools.execute_lessons [NAMES]`.

The outputs of a committed lesson are compared with fresh runs, so they must be those of a whole run
in a fresh kernel, without progress bars (they go to stderr) and without times in the metadata. Run
it on a quiet machine: the README shows the recorded times. A lesson that fails is left as it was.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat

from ss4rec_lib.lessons import LessonError, find_lessons, read_record


def execute(path: Path, timeout: float | None = None) -> None:
    """Run a notebook from its first cell to its last and replace its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed; the file is unchanged.
        RecordError: The lesson recorded nothing; the file is unchanged.
    """
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    metadata = copy.deepcopy(notebook.metadata)  # the client adds the version of Python
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=40"],  # no warning about local ports
        resources={"metadata": {"path": str(path.resolve().parent)}},
    )
    client.execute(env=os.environ | {"TQDM_DISABLE": "1"})  # for the kernel, not for this process
    notebook.metadata = metadata
    read_record(notebook)
    nbformat.write(notebook, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Execute lessons by name or number; without names, all of them.

    Returns:
        0, or 2 for an unknown lesson. An error inside a lesson is raised.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.execute_lessons", description="Execute lessons in place."
    )
    parser.add_argument("names", nargs="*", help="for example 04; by default all lessons")
    options = parser.parse_args(arguments)
    try:
        lessons = find_lessons(options.names)
    except LessonError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in lessons:
        begin = time.perf_counter()
        execute(path)
        print(f"{path.name}: executed in {time.perf_counter() - begin:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
