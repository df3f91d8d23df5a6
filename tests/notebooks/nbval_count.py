"""A pytest plugin that counts what nbval really compares, and can replay an executed notebook.

nbval passes a cell silently when it compares nothing: a skipped cell, or one with a picture only.
The counts go to the file that NBVAL_COUNT_FILE names, and beside them the record that the fresh run
made, although its cell is not compared.

NBVAL_REPLAY names a notebook that has just been executed. Its outputs are then compared as if a
kernel had made them now, so that a lesson need not run once more. Its code must be the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import nbformat
from nbval import plugin

RECORD_TYPE = "application/vnd.ss4rec.record+json"
compared: dict[int, int] = {}
records: list[dict] = []
_compare, _run = plugin.IPyNbCell.compare_outputs, plugin.IPyNbCell.runtest


def _counting(self, test, ref, skip_compare=None):
    skipped = skip_compare or self.parent.skip_compare
    fields = [
        field
        for output in plugin.transform_streams_for_comparison(ref)
        for key, value in output.items()
        if key not in skipped
        for field in (value if key == "data" else [key])
        if field not in skipped
    ]
    if fields:
        compared[self.cell_num] = len(fields)
    return _compare(self, test, ref, skip_compare)


def _keeping(self):
    try:
        _run(self)
    finally:
        outputs = [output.get("data", {}) for output in self.test_outputs or ()]
        records.extend(data[RECORD_TYPE] for data in outputs if RECORD_TYPE in data)


class Replay:
    """Send what a kernel sends while it runs a notebook: the outputs that the notebook holds."""

    def __init__(self, *_: Any, **__: Any) -> None:
        notebook = nbformat.read(os.environ["NBVAL_REPLAY"], as_version=4)
        self._cells = (cell for cell in notebook.cells if cell.cell_type == "code")
        self._messages: Iterator[dict[str, Any]] = iter(())

    def execute_cell_input(self, source: str, allow_stdin: bool | None = None) -> str:
        # A cell that failed before its run has been passed over.
        cell = next((cell for cell in self._cells if cell.source == source), None)
        if cell is None:
            raise RuntimeError(f"the executed notebook has other code than {source!r}")
        sent = [(output.output_type, output) for output in cell.outputs]
        sent.append(("status", {"execution_state": "idle"}))
        parent = {"msg_id": "replay"}
        self._messages = iter(
            [{"msg_type": kind, "content": what, "parent_header": parent} for kind, what in sent]
        )
        return "replay"

    def get_message(self, stream: str, timeout: float | None = None) -> dict[str, Any]:
        return next(self._messages)

    def await_reply(self, msg_id: str, timeout: float | None = None) -> None: ...

    await_idle = await_reply

    def is_alive(self) -> bool:
        return True

    def stop(self) -> None: ...


plugin.IPyNbCell.compare_outputs = _counting
plugin.IPyNbCell.runtest = _keeping
if os.environ.get("NBVAL_REPLAY"):
    plugin.RunningKernel = Replay


def pytest_sessionfinish() -> None:
    with open(os.environ["NBVAL_COUNT_FILE"], "w", encoding="utf-8") as file:
        json.dump({"compared": compared, "records": records}, file)
