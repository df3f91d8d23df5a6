"""Fill the figures of README.md and docs/float32.md from the lessons and the recorded runs.

Between two marks such as `<!-- lessons -->` and `<!-- /lessons -->` a page holds what this module
writes, so that no number in it is typed by hand. A lesson has its own run time between
`<!-- time -->` and `<!-- /time -->`; both come from the record of its committed run.
`python -m tools.fill_readme` updates the marked parts and the picture; with `--check` it only
reports what is out of date.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ss4rec_lib.lessons import LessonError, find_lessons, notebooks_folder, read_record
from tools.check_notebooks import all_lessons
from tools.float32_page import figures

FLOAT32 = Path("docs/float32.md")
PICTURE = Path("notebooks/pictures/intervals_against_half_lives.png")
_TIME = re.compile(r"(<!-- time -->)[^<]*(<!-- /time -->)")
_PICTURE_LESSON, _PICTURE_TITLE = "01_time_intervals", "Intervals against half-lives"


def lessons_table(folder: Path) -> str:
    """Return a Markdown table of the lessons: title, promise and recorded time."""
    rows = ["| lesson | what it does | time |", "|---|---|---|"]
    for path in find_lessons(folder=folder):
        notebook = nbformat.read(path, as_version=4)
        head = re.match(r"# (.+?)\n+[*_](.+?)[*_]\s*(?:\n|$)", notebook.cells[0].source)
        if head is None:
            raise LessonError(f"{path.name}: the first cell is not a title and a line in italics")
        title, promise = head.groups()
        time = run_time(notebook)
        link = path.relative_to(folder.parent).as_posix()
        rows.append(f"| [{title}]({link}) | {promise} | {time} |")
    return "\n".join(rows)


def run_time(notebook: NotebookNode) -> str:
    """Return the recorded time of a lesson, in words."""
    seconds = read_record(notebook)["lesson_seconds"]
    return f"{max(seconds, 1):.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def timed(path: Path) -> str:
    """Return the text of a lesson's file with its recorded run time between the marks."""
    text = path.read_text(encoding="utf-8")
    time = run_time(nbformat.reads(text, as_version=4))
    return _TIME.sub(rf"\g<1>about {time}\g<2>", text)


def results_table(folder: Path) -> str:
    """Return the table of recorded runs that `results/build_page.py` makes for the README."""
    path = folder / "build_page.py"
    spec = importlib.util.spec_from_file_location("build_page", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise LessonError(f"{path} is missing: it makes the table of recorded runs")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        return module.readme_table()
    finally:
        del sys.modules[spec.name]


def picture(folder: Path) -> bytes:
    """Return the picture on top of the README, as PNG, from the lesson that draws it."""
    notebook = nbformat.read(folder / f"{_PICTURE_LESSON}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and _PICTURE_TITLE in cell.source:
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    return base64.b64decode(output["data"]["image/png"])
    raise LessonError(f"{_PICTURE_LESSON} draws no picture with the title {_PICTURE_TITLE!r}")


def filled(text: str, parts: Mapping[str, str]) -> str:
    """Return a page with its marked parts written anew, tables between lines of their own.

    Raises:
        LessonError: A mark is missing.
    """
    for name, part in parts.items():
        marks = re.compile(rf"(<!-- {name} -->\n?).*?(<!-- /{name} -->)", re.DOTALL)
        if not marks.search(text):
            raise LessonError(f"no part between <!-- {name} --> and <!-- /{name} -->")
        text = marks.sub(
            lambda at, new=part: at[1] + new + ("\n" if at[1].endswith("\n") else "") + at[2], text
        )
    return text


def out_of_date(write: bool = False) -> list[str]:
    """Name the files that differ from what the lessons and runs say; mend them if asked."""
    folder = notebooks_folder()
    readme, image = folder.parent / "README.md", folder.parent / PICTURE
    results, page = folder.parent / "results", folder.parent / FLOAT32
    tables = {"lessons": lessons_table(folder), "results": results_table(results)}
    wanted = {image: picture(folder)}
    for path, parts in ((readme, tables), (page, figures(results))):
        wanted[path] = filled(path.read_text(encoding="utf-8"), parts).encode()
    wanted |= {path: timed(path).encode() for path in all_lessons(folder)}
    stale = [p for p, content in wanted.items() if not p.exists() or p.read_bytes() != content]
    for path in stale if write else ():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wanted[path])
    return [path.relative_to(folder.parent).as_posix() for path in stale]


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the README, or only compare it with `--check`.

    Returns:
        0 when all is or was made up to date, 1 when `--check` found differences, 2 after an error.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.fill_readme",
        description="Fill the figures of README.md and docs/float32.md.",
    )
    parser.add_argument("--check", action="store_true", help="only report what is out of date")
    options = parser.parse_args(arguments)
    try:
        stale = out_of_date(write=not options.check)
    except LessonError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name in stale:
        print(f"{name}: {'out of date' if options.check else 'written'}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
