"""Make slides from the core lessons: `python -m tools.make_slides [NAMES]`, or `make slides`.

nbconvert writes one page of reveal.js slides per lesson into dist/slides. A browser opens it from
the file or from any server, without a network. What is shown follows from the cells: a section
begins a slide, code and figures are slides below it, and longer prose goes to the notes of the
speaker (press S). `slideshow.slide_type` in the metadata of a cell overrules this.

reveal.js and MathJax come from the npm registry once (tools/vendor.py).
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from ss4rec_lib.lessons import RECORD_TYPE, LessonError, find_lessons
from tools.vendor import MATHJAX, REVEAL, VENDOR, VendorError, fetch, outside, unpack

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = ("What you need to know", "Run time and hardware", "Contents", "References")
SHOWN = (
    "#",
    "$$",
    "|",
    "* ",
    "- ",
    "1. ",
    "![",
    "<",
    "```",
)  # blocks that a slide shows, not the notes
CODE_LINES = 14  # longer code has its outputs on a slide of their own


class SlidesError(Exception):
    """Slides that cannot be made, with a message that says why."""


def blocks(text: str) -> list[str]:
    """Split Markdown at blank lines, but not inside formulas, fences and HTML elements."""
    found: list[str] = []
    for part in re.split(r"\n\s*\n", text.strip()):
        inside = found and (
            found[-1].count("$$") % 2
            or found[-1].count("```") % 2
            or found[-1].count("<details") > found[-1].count("</details")
        )
        if inside:
            found[-1] += "\n\n" + part
        else:
            found.append(part)
    return found


def slide_cells(cells: Sequence[NotebookNode]) -> Iterator[NotebookNode]:
    """Yield the cells of the slides, with the metadata that nbconvert reads."""
    before: list[str] = []  # prose for the notes of the next slide
    left_out = False
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        own = cell.metadata.get("slideshow", {}).get("slide_type")
        if own is not None:
            yield cell
        elif cell.cell_type == "markdown":
            heading = re.match(r"(#+) (.*)", cell.source)
            if heading and len(heading[1]) <= 2:
                left_out = heading[2].strip() in LEFT_OUT
            if left_out:
                continue
            parts = blocks(cell.source)
            shown = [p for p in parts if p.startswith(SHOWN)]
            pictured = any(p.startswith("![") for p in parts)
            if heading and not pictured and (rest := [p for p in parts if p not in shown]):
                shown.insert(parts.index(rest[0]), rest[0])  # the first paragraph of a section
            notes = [p for p in parts if p not in shown]
            if shown:
                kind = "slide" if heading and len(heading[1]) <= 2 else "subslide"
                yield _typed(new_markdown_cell("\n\n".join(shown)), kind)
                yield from _notes([*before, *notes])
                before = []
            elif cell.source.startswith("**What to see"):
                yield from _notes(notes)
            else:
                before += notes
        elif not left_out and not _is_machinery(cell):
            for part in _parts(cell, "hide-input" in tags):
                yield _typed(part, "subslide")
                yield from _notes(before)
                before = []


def _parts(cell: NotebookNode, hidden: bool) -> Iterator[NotebookNode]:
    """Yield a code cell, in two if code and outputs do not fit on one slide."""
    outputs = [o for o in cell.outputs if not (o.output_type == "stream" and o.name == "stderr")]
    figure = any("image/png" in output.get("data", {}) for output in outputs)
    long = figure or cell.source.count("\n") >= CODE_LINES
    if hidden or (outputs and long):
        if not hidden:
            yield new_code_cell(cell.source)
        if outputs:
            yield new_code_cell("", outputs=outputs, metadata={"tags": ["hide-input"]})
    else:
        yield new_code_cell(cell.source, outputs=outputs)


def _is_machinery(cell: NotebookNode) -> bool:
    """Return whether a code cell is the parameters, their check, imports or the record."""
    if {"parameters", "record"} & set(cell.metadata.get("tags", [])):
        return True
    recorded = any(RECORD_TYPE in output.get("data", {}) for output in cell.outputs)
    lines = re.sub(r"\([^()]*\)", "", cell.source).splitlines()
    code = [line for line in lines if line.strip() and not line.startswith("#")]
    usual = r"(from|import) |%|check_parameters|use_style|warnings\."
    return recorded or all(re.match(usual, line) for line in code)


def _typed(cell: NotebookNode, kind: str) -> NotebookNode:
    cell.metadata = nbformat.from_dict({**cell.metadata, "slideshow": {"slide_type": kind}})
    return cell


def _notes(paragraphs: Sequence[str]) -> Iterator[NotebookNode]:
    if paragraphs:
        yield _typed(new_markdown_cell("\n\n".join(paragraphs)), "notes")


def _title(lesson: Path) -> str:
    text = nbformat.read(lesson, as_version=4).cells[0].source
    return text.partition("\n")[0].lstrip("# ")


def render(lesson: Path) -> str:
    """Return the page of slides of one lesson."""
    from nbconvert import SlidesExporter
    from traitlets.config import Config

    notebook = nbformat.read(lesson, as_version=4)
    notebook.cells = list(slide_cells(notebook.cells))
    notebook.metadata["title"] = _title(lesson)
    notebook.metadata.pop("widgets", None)
    config = Config()
    config.TagRemovePreprocessor.enabled = True
    config.TagRemovePreprocessor.remove_input_tags = {"hide-input"}
    exporter = SlidesExporter(
        config=config,
        template_name="slides",
        extra_template_basedirs=[str(Path(__file__).parent)],
        reveal_url_prefix="vendor/reveal",
        reveal_theme="white",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    page, _ = exporter.from_notebook_node(notebook)
    # Links between lessons lead to their slides; other files of the repository are not beside them.
    page = re.sub(r'href="(\d\d_\w+)\.ipynb[^"]*"', r'href="\1.html"', page)
    return re.sub(r'<a href="(?!https?:|#|\d\d_\w+\.html)[^"]*">(.*?)</a>', r"\1", page)


def _cheat_sheet() -> str:
    """Return the cheat sheet as a page that prints on two sheets of A4 or letter paper."""
    from nbconvert.filters import markdown2html

    text = (ROOT / "workshop" / "cheat_sheet.md").read_text(encoding="utf-8")
    style = (
        "body { font: 12px/1.3 sans-serif; } table { border-collapse: collapse; }"
        "h1 { font-size: 18px; margin: 0; } h2 { font-size: 14px; margin: 8px 0 3px; }"
        "td, th { border: 1px solid #ccc; padding: 1px 5px; text-align: left; font-size: 12px; }"
        "pre { font-size: 11px; line-height: 1.25; } a.anchor-link { display: none; }"
        "@page { margin: 12mm; }"
    )
    setting = "window.MathJax = {tex: {inlineMath: [['$', '$']]}, options: {enableMenu: false}};"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Cheat sheet</title>\n'
        f"<style>{style}</style>\n<script>{setting}</script>\n"
        f'<script src="vendor/mathjax/tex-chtml.js" defer></script>\n{markdown2html(text)}'
    )


def make_slides(names: Sequence[str], out: Path, vendor: Path = VENDOR) -> list[Path]:
    """Write the slides of lessons and what they load into a folder, and return the pages."""
    packages = (REVEAL, MATHJAX)
    archives = [fetch(package, vendor) for package in packages]
    lessons = find_lessons(names)
    out.mkdir(parents=True, exist_ok=True)
    for package, archive in zip(packages, archives, strict=True):
        unpack(package, archive, out / "vendor")
    pictures = lessons[0].parent / "pictures"
    shutil.copytree(pictures, out / "pictures", dirs_exist_ok=True)
    pages = []
    for lesson in lessons:
        page = render(lesson)
        if found := outside(page):
            raise SlidesError(f"{lesson.name}: the slides would load {found[0]}")
        (out / f"{lesson.stem}.html").write_text(page, encoding="utf-8")
        pages.append(out / f"{lesson.stem}.html")
    rows = "".join(
        f'<li><a href="{lesson.stem}.html">{_title(lesson)}</a></li>\n' for lesson in lessons
    )
    (out / "cheat_sheet.html").write_text(_cheat_sheet(), encoding="utf-8")
    (out / "index.html").write_text(
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>SS4Rec Lab</title>\n'
        f"<h1>SS4Rec Lab: slides</h1>\n<ul>\n{rows}</ul>\n"
        '<p>To print: <a href="cheat_sheet.html">the cheat sheet</a>, two pages.</p>\n'
        "<p>Arrow keys move; S opens the speaker's notes, F fills the screen, Esc shows all.</p>\n",
        encoding="utf-8",
    )
    return pages


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the slides of lessons by name or number. Return 2 when they cannot be made."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_slides", description="Make slides from the core lessons."
    )
    parser.add_argument("names", nargs="*", help="for example 04; by default all lessons")
    parser.add_argument("--out", default="dist/slides", help="folder, by default dist/slides")
    options = parser.parse_args(arguments)
    try:
        pages = make_slides(options.names, Path(options.out))
    except (SlidesError, VendorError, LessonError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(pages)} lessons: open {Path(options.out) / 'index.html'} in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
