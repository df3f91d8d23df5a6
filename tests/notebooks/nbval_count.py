"""A pytest plugin that counts what nbval really compares.

nbval passes a cell silently when it compares nothing: a cell without an execution count, a skipped
one, or one with a picture only. The counts go to the file that NBVAL_COUNT_FILE names.
"""

from __future__ import annotations

import json
import os

from nbval import plugin

compared: dict[int, int] = {}
_compare = plugin.IPyNbCell.compare_outputs


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


plugin.IPyNbCell.compare_outputs = _counting


def pytest_sessionfinish() -> None:
    with open(os.environ["NBVAL_COUNT_FILE"], "w", encoding="utf-8") as file:
        json.dump(compared, file)
