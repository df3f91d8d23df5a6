"""A pytest plugin that counts what nbval really compares.

nbval passes a cell silently when it compares nothing: a cell without an execution count, a skipped
one, or one with a picture only. The counts go to the file that NBVAL_COUNT_FILE names, and beside
them the record that the fresh run made, although its cell is not compared.
"""

from __future__ import annotations

import json
import os

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


plugin.IPyNbCell.compare_outputs = _counting
plugin.IPyNbCell.runtest = _keeping


def pytest_sessionfinish() -> None:
    with open(os.environ["NBVAL_COUNT_FILE"], "w", encoding="utf-8") as file:
        json.dump({"compared": compared, "records": records}, file)
