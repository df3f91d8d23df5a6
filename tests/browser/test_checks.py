"""The checks find what they look for: one notebook with every fault, and the same without."""

from __future__ import annotations

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.browser.checks import problems_after_restart, problems_of_use

pytestmark = [pytest.mark.browser, pytest.mark.slow]

KERNEL = {"name": "python3", "display_name": "Python 3"}
FIGURE = new_output("display_data", data={"image/png": "iVBORw0KGgo="})
DRAW = """
import matplotlib.pyplot as plt
from ss4rec_lib.lessons import Choice, Slider, Toggle, explore, show
def draw(**values):
    fig, ax = plt.subplots(figsize=(4, 2))
    ax.set_title(str(values))
    return fig
"""
USE = """explore(
    draw, alt="its title", number=Slider(0, 9, 4), fraction=Slider(0.1, 1.0, 0.5, log=True),
    time=Slider(1, 3600, 60, log=True, seconds=True), word=Choice("abc", "a"), on=Toggle(False),
)"""
STILL = "explore(lambda a: draw(), alt='its title', a=Slider(0.0, 9.0, 4.0, 'still'))"
SQUEEZED = """
from IPython.display import HTML, Javascript, display
display(HTML("<style>.widget-vbox > * + * { margin-top: -15px; }</style>"))
display(Javascript("console.error('a script is broken')"))"""
NO_HOOK = "--FileContentsManager.pre_save_hook=builtins.dict"  # takes the arguments, does nothing


def made(text: str, draw: str, use: str, last: str) -> nbformat.NotebookNode:
    cells = [
        new_markdown_cell(f"# A title\n\n{text}"),
        new_code_cell(DRAW + draw),
        new_code_cell("show(draw(), alt='its title')", outputs=[FIGURE]),
        new_code_cell(use, outputs=[FIGURE]),
        new_markdown_cell("x\n\n" * 60 + "## The end"),
        new_code_cell(last, outputs=[FIGURE] * last.count("explore")),
    ]
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def test_nothing_is_found_in_a_good_notebook(lab, open_notebook):
    good = made("[down](#The-end) [tour](00_tour.ipynb)", "", USE, "print('done')")
    nbformat.write(good, lab.root / "notebooks" / "good.ipynb")
    opened = open_notebook("notebooks/good.ipynb")
    assert problems_of_use(opened, good, seconds=60) == []
    assert problems_after_restart(opened, open_notebook, lab.restart) == []


def test_every_fault_is_found(lab, open_notebook):
    lab.restart(NO_HOOK)
    faulty = made(
        "[down](#The-end) [nowhere](#Nowhere) [gone](gone.ipynb) ![drawing](pictures/gone.png)",
        SQUEEZED + "\nshow = lambda figure, **_: plt.close(figure)",
        USE,
        f"{STILL}\n1 / 0",
    )
    nbformat.write(faulty, lab.root / "notebooks" / "faulty.ipynb")
    opened = open_notebook("notebooks/faulty.ipynb")
    found = problems_of_use(opened, faulty, seconds=60)
    found += problems_after_restart(opened, open_notebook, lab.restart)
    text = "\n".join(found)
    for expected in (
        "cell 0: the image 'drawing' is not shown",
        "cell 2: 0 figures, expected 1",
        "cell 3: number overlaps ",
        "cell 5, still: move 1 changed nothing",
        "cell 5: ZeroDivisionError",
        "the link #Nowhere leads to no heading",
        "the link notebooks/gone.ipynb leads nowhere",
        "console: a script is broken",
        "cell 3: a widget of the earlier session",
    ):
        assert expected in text
    assert "#The-end" not in text
