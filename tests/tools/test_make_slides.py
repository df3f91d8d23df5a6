"""Slides: which cells they show, nothing loaded from outside, and packages only with their hash."""

from __future__ import annotations

from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from ss4rec_lib.lessons import RECORD_TYPE, find_lessons
from tools import make_slides as tool

FIGURE = new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "figure"})
TEXT = new_output("stream", text="a number\n")
BAR = new_output("stream", name="stderr", text="bar")
LONG = "\n".join(f"x{n} = {n}" for n in range(20))


def kinds(*cells) -> list[tuple[str, str]]:
    """Return the slide type and the source of the cells of the slides."""
    made = tool.slide_cells(list(cells))
    return [(cell.metadata["slideshow"]["slide_type"], cell.source) for cell in made]


def test_a_section_begins_a_slide_and_longer_prose_goes_to_the_notes():
    text = "## 1 Title\n\nFirst sentence.\n\nA second paragraph.\n\n$$\nx\n\ny\n$$\n\n* a\n* b"
    made = kinds(new_markdown_cell(text))
    shown = "## 1 Title\n\nFirst sentence.\n\n$$\nx\n\ny\n$$\n\n* a\n* b"
    assert made == [("slide", shown), ("notes", "A second paragraph.")]


def test_beside_a_picture_there_is_no_prose():
    made = kinds(new_markdown_cell("## 1 Title\n\n![a](b.svg)\n\nFirst sentence."))
    assert made == [("slide", "## 1 Title\n\n![a](b.svg)"), ("notes", "First sentence.")]


def test_prose_before_code_is_in_the_notes_of_the_code_and_what_to_see_in_those_of_the_figure():
    made = kinds(
        new_markdown_cell("Now we count."),
        new_code_cell("count()", outputs=[TEXT]),
        new_markdown_cell("**What to see.** It is high."),
    )
    assert made == [
        ("subslide", "count()"),
        ("notes", "Now we count."),
        ("notes", "**What to see.** It is high."),
    ]


@pytest.mark.parametrize("name", tool.LEFT_OUT)
def test_sections_for_readers_are_left_out(name):
    cells = [new_markdown_cell(f"## {name}\n\nText."), new_code_cell("x = 1")]
    assert kinds(*cells, new_markdown_cell("## Discussion\n\nText.")) == [
        ("slide", "## Discussion\n\nText.")
    ]


def test_machinery_is_left_out():
    made = kinds(
        new_code_cell('dataset = "a"', metadata={"tags": ["parameters"]}),
        new_code_cell("import time\n\nfrom a import (\n    b,\n    c,\n)\n\nuse_style()"),
        new_code_cell("from a import check_parameters\n\ncheck_parameters(epochs=1);"),
        new_code_cell("record(x=1)", outputs=[new_output("display_data", {RECORD_TYPE: {}})]),
    )
    assert made == []


def test_a_figure_is_a_slide_of_its_own_and_hidden_code_stays_hidden():
    assert kinds(new_code_cell("plot()", outputs=[FIGURE])) == [
        ("subslide", "plot()"),
        ("subslide", ""),
    ]
    hidden = {"tags": ["hide-input"]}
    assert kinds(new_code_cell("plot()", outputs=[FIGURE], metadata=hidden)) == [("subslide", "")]
    assert kinds(new_code_cell("x = 1", metadata=hidden)) == []
    assert len(kinds(new_code_cell(LONG, outputs=[TEXT]))) == 2
    assert len(kinds(new_code_cell("x", outputs=[BAR]))) == 1


def test_the_authors_own_slide_type_is_kept():
    cell = new_markdown_cell("Prose.", metadata={"slideshow": {"slide_type": "fragment"}})
    assert kinds(cell) == [("fragment", "Prose.")]


@pytest.mark.slow
@pytest.mark.parametrize("lesson", find_lessons(), ids=lambda path: path.stem)
def test_the_slides_of_a_lesson_load_nothing_from_outside(lesson):
    page = tool.render(lesson)
    assert tool.outside(page) == []
    assert page.count("<section") > 20 and 'class="notes"' in page
    assert "vendor/reveal/dist/reveal.js" in page and "vendor/mathjax/tex-chtml.js" in page
    assert ".ipynb" not in page.partition("<body")[2].partition('class="highlight"')[0]


def test_an_unknown_lesson_is_one_message(capsys, monkeypatch):
    monkeypatch.setattr(tool, "fetch", lambda package, folder: Path(package.archive))
    assert tool.main(["99"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
