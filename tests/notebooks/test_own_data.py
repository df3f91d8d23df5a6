"""Lessons on small files of a reader's own: what the data lack is left out and named."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from unittest.mock import MagicMock

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest

from ss4rec_lib import lessons
from ss4rec_lib.lessons import read_record, run_lessons
from tools.make_exercises import tags

START = 1_100_000_000
QUICK = {  # the smallest training that draws every picture
    "00": {"epochs": 1},
    "01": {},
    "02": {"training_steps": 2, "repeats": 1},
    "03": {"copy_steps": 2, "copy_noise": 16, "d_model": 16, "d_state": 4, "epochs": 1},
    "04": {"epochs": 1},
    "05": {"epochs": 1},
    "06": {"epochs": 1, "hidden_size": 8},
}
PLACES = ("notebooks", "deeper")
PARTS = [  # lesson, data, what the output says
    ("00", "shop", ["shop has no titles"]),
    ("00", "few", ["few has no 5-core"]),
    ("01", "shop", ["shop has no titles"]),
    ("02", "few", []),
    ("03", "shop", ["shop has no titles"]),
    ("04", "shop", ["shop has no titles"]),
    ("04", "few", ["few has no 5-core"]),
    ("05", "shop", ["shop has no titles", "Left out: shop has no ratings"]),
    ("05", "few", ["few has no 5-core", "Left out: few has no ratings, or the same rating"]),
    ("06", "shop", []),
    ("06", "few", ["few has no 5-core"]),
]


def shop() -> pd.DataFrame:
    """Text ids and no ratings; one user came once, another bought everything in one second."""
    rng, rows = np.random.default_rng(0), [("Zoë, once", "B0,01", START)]
    for user in range(30):
        items = rng.permutation(24)[:18]
        pauses = rng.choice([0, 1, 40, 3600, 3 * 86_400], len(items), p=[0.3, 0.2, 0.3, 0.1, 0.1])
        times = START + 10**6 * user + np.cumsum(pauses if user else 0 * pauses)
        rows += [(f"u{user:02}", f"B0,{i:02}", t) for i, t in zip(items, times, strict=True)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def few() -> pd.DataFrame:
    """Three users, whom the 5-core filter would all drop, and the same rating everywhere."""
    rng = np.random.default_rng(0)
    rows = [
        (user, item, 3.0, START + 50 * place)
        for user in (1, 2, 3)
        for place, item in enumerate(rng.permutation(40)[:15])
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])


def cells_that_need_the_data(path: Path) -> list[str]:
    """Return the parameters, the cells from loading on that use the data, and what these use."""
    lesson = nbformat.read(path, as_version=4)
    left_out = {"check"} | ({"solution", "record"} if path.stem[:2] in ("02", "03") else set())
    code = [c for c in lesson.cells if c.cell_type == "code" and not left_out & set(tags(c))]
    made, used = [], []
    for cell in code:
        nodes = list(ast.walk(ast.parse(cell.source)))
        names = [n for n in nodes if isinstance(n, ast.Name)]
        used.append({n.id for n in names})
        stored = {n.id for n in names if isinstance(n.ctx, ast.Store)}
        stored |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        made.append(stored | {n.asname or n.name for n in nodes if isinstance(n, ast.alias)})
    first = next(i for i, cell in enumerate(code) if "load_dataset(dataset)" in cell.source)
    loaded = {"sequences", "ratings", "films", "split"} & made[first]
    keep = {0, first} | {i for i in range(first, len(code)) if used[i] & loaded}
    for i in reversed(range(len(code))):
        if i in keep:
            makers = [[j for j in range(i) if name in made[j]] for name in used[i]]
            keep |= {found[-1] for found in makers if found}
    return [code[i].source for i in sorted(keep)]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_whole_lesson_runs_and_says_what_it_leaves_out(notebooks, tmp_path):
    shop().to_csv(tmp_path / "shop.csv", index=False)
    given = {"dataset": str(tmp_path / "shop.csv")}
    printed = ""
    for done in run_lessons(["01a"], out=tmp_path, parameters=given, timeout=300):
        assert done.error is None, done.error
        (path,) = tmp_path.rglob(f"{done.name}.ipynb")
        executed = nbformat.read(path, as_version=4)
        outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
        assert [output.text for output in outputs if output.get("name") == "stderr"] == []
        printed += "".join(output.get("text", "") for output in outputs)
        (committed,) = (p for p in notebooks.rglob(f"{done.name}.ipynb") if p.parent.name in PLACES)
        check_record(done.record, committed, "shop")
    assert "shop has no release years" in printed


def check_record(found: dict, path: Path, data: str) -> None:
    assert set(found) == set(read_record(path)), "what is left out is None"
    assert found["dataset"] == data
    recorded = json.dumps(found, default=str)
    assert not any(text in recorded for text in ("u01", "B0,", ".csv")), "ids or paths"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("number", "data", "said"), PARTS)
def test_the_part_on_the_data_runs(number, data, said, notebooks, tmp_path, monkeypatch, capsys):
    """In this process: neither a kernel, nor what does not depend on the data."""
    (path,) = notebooks.glob(f"{number}_*.ipynb")
    {"shop": shop, "few": few}[data]().to_csv(tmp_path / f"{data}.csv", index=False)
    monkeypatch.chdir(notebooks)
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    found: dict = {}
    monkeypatch.setattr(lessons, "record", lambda **values: found.update(values))
    variables: dict = {"__name__": "lesson", "display": MagicMock()}
    parameters, *cells = cells_that_need_the_data(path)
    exec(parameters, variables)
    variables |= QUICK[number] | {"dataset": str(tmp_path / f"{data}.csv")}
    with matplotlib.rc_context():
        for source in cells:
            exec(source, variables)
            plt.close("all")
    shown = capsys.readouterr()
    assert shown.err == ""
    assert [text for text in said if text not in shown.out] == []
    if found:
        check_record(found, path, data)
