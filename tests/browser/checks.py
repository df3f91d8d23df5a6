"""What is wrong with a notebook that a reader opens, runs, uses, saves and opens again."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from nbformat import NotebookNode

from tests.browser.lab import Notebook

CONTROLS = {"Slider", "Choice", "Toggle"}  # of ss4rec_lib.lessons


def problems_of_use(notebook: Notebook, committed: NotebookNode, seconds: float) -> list[str]:
    """Run all cells, move all controls and follow all links; return a sentence per problem.

    The outputs of `committed` say how many figures each cell must show.
    """
    notebook.photograph("opened")
    notebook.run_all(seconds)
    found, shown = [], notebook.look()
    for number, (cell, expected) in enumerate(zip(shown, committed.cells, strict=True)):
        found += [f"cell {number}: {error.strip().splitlines()[-1]}" for error in cell["errors"]]
        found += [f"cell {number}: the image {alt!r} is not shown" for alt in cell["broken"]]
        for what, wanted in (("figures", _figures(expected)), ("controls", _controls(expected))):
            if cell[what] != wanted:
                found.append(f"cell {number}: {cell[what]} {what}, expected {wanted}")
    counts = [cell["count"] for cell in shown if cell["count"] is not None]
    if counts != list(range(1, _code(committed) + 1)):
        found.append(f"the cells ran as {counts}, expected 1 to {_code(committed)}")
    found += notebook.use_controls()
    found += notebook.dead_links()
    notebook.photograph_all()
    return [*found, *_noise(notebook)]


def problems_after_restart(
    notebook: Notebook, open_again: Callable[[str], Notebook], restart: Callable[[], None]
) -> list[str]:
    """Save, stop the server, start it and open the notebook again."""
    figures = [cell["figures"] for cell in notebook.look()]
    notebook.save()
    notebook.close()
    restart()
    again = open_again(notebook.path)
    again.photograph("reopened")
    shown, found = again.look(), []
    for number, (cell, before) in enumerate(zip(shown, figures, strict=True)):
        if cell["lost"]:
            found.append(f"cell {number}: a widget of the earlier session, model not found")
        if cell["figures"] != before:
            found.append(f"cell {number}: {cell['figures']} figures, {before} before it was saved")
    return [*found, *_noise(again)]


def _noise(notebook: Notebook) -> list[str]:
    dialogs = notebook.page.locator(".jp-Dialog, .Toastify__toast")
    return [*notebook.console, *(f"dialog: {text}" for text in dialogs.all_inner_texts())]


def _figures(cell: NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in cell.get("outputs", ()))


def _controls(cell: NotebookNode) -> int:
    if cell.cell_type != "code":
        return 0
    calls = [node.func for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
    return sum(_last_name(call) in CONTROLS for call in calls)


def _last_name(function: Any) -> str:
    return getattr(function, "id", None) or getattr(function, "attr", "")


def _code(notebook: NotebookNode) -> int:
    return sum(cell.cell_type == "code" for cell in notebook.cells)
