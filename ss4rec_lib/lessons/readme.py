"""The figures of README.md: from the committed lessons' records and pictures, and recorded runs.

Between two marks such as `<!-- lessons -->` and `<!-- /lessons -->` the README holds what this
module writes, so that no number in it is typed by hand. `python -m ss4rec_lib.lessons.readme`
brings the marked parts and the picture up to date; `--check` only says what is out of date.
"""

from __future__ import annotations

import argparse
import base64
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat

from ss4rec_lib.experiments.results import load_records
from ss4rec_lib.experiments.table import runs_table
from ss4rec_lib.lessons.errors import LessonError
from ss4rec_lib.lessons.record import read_record
from ss4rec_lib.lessons.run import find_lessons, notebooks_folder

PICTURE = Path("notebooks/pictures/intervals_against_half_lives.png")
_PICTURE_LESSON, _PICTURE_TITLE = "01_time_intervals", "Intervals against half-lives"
_TRAINING_LESSON = "04_train_ss4rec"


def lessons_table(folder: Path) -> str:
    """One row a lesson: number and title, its promise, measured seconds.

    Args:
        folder: Folder of the committed notebooks.

    Returns:
        A Markdown table.
    """
    rows = ["| lesson | what it does | time |", "|---|---|---|"]
    for path in find_lessons(folder=folder):
        notebook = nbformat.read(path, as_version=4)
        title, promise = re.match(
            r"# (.+?)\n+[*_](.+?)[*_]\s*(?:\n|$)", notebook.cells[0].source
        ).groups()
        seconds = read_record(notebook)["lesson_seconds"]
        link = path.relative_to(folder.parent).as_posix()
        rows.append(f"| [{title}]({link}) | {promise} | {_rounded(seconds)} |")
    return "\n".join(rows)


def results_table(folder: Path) -> str:
    """What lesson 04 measured with its default parameters, as committed.

    Args:
        folder: Folder of the committed notebooks.

    Returns:
        A Markdown table and a sentence on how it was made.
    """
    found = read_record(folder / f"{_TRAINING_LESSON}.ipynb")
    metrics = ("hr@10", "ndcg@10", "mrr@10")
    rows = [
        "| model | " + " | ".join(name.upper() for name in metrics) + " |",
        "|---|" + "---|" * len(metrics),
    ]
    for model, part in (("SS4Rec", "test"), ("popularity", "popularity_test")):
        values = [f"{found[part][m]:.4f} ± {found[part][m + '_se']:.4f}" for m in metrics]
        rows.append(f"| {model} | " + " | ".join(values) + " |")
    protocol: Mapping[str, object] = found["protocol"]
    gain, error = found["gain_ndcg10"], found["gain_ndcg10_se"]
    rows += [
        "",
        f"{found['dataset']}, {protocol['split']}, {protocol['ordering']}, "
        f"{protocol['min_interactions']}-core ({protocol['users']:,} users, "
        f"{protocol['items']:,} items), all items ranked, seen ones not masked, target time "
        f"{protocol['target_time']}; seed {found['seed']}, epoch {found['best_epoch']} of "
        f"{found['epochs']} chosen on validation, test touched once; ± one standard error over "
        f"users. NDCG@10 is {gain:.4f} ± {error:.4f} above popularity, paired by user: "
        f"{gain / error:.1f} standard errors. Training took {found['train_seconds']:.0f} s on "
        f"{found['machine']['cores']} cores ({found['machine']['processor']}), "
        f"{found['targets_per_second']:,} targets a second.",
    ]
    return "\n".join(rows)


def picture(folder: Path) -> bytes:
    """The picture on top of the README, as PNG, from the lesson that draws it."""
    notebook = nbformat.read(folder / f"{_PICTURE_LESSON}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and _PICTURE_TITLE in cell.source:
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    return base64.b64decode(output["data"]["image/png"])
    raise LessonError(f"{_PICTURE_LESSON} draws no picture with the title {_PICTURE_TITLE!r}")


def filled(text: str, folder: Path) -> str:
    """The README with its marked parts written anew.

    The part `runs`, of the recorded runs in `results/`, is needed only when there are any.

    Args:
        text: README.md.
        folder: Folder of the committed notebooks.

    Raises:
        LessonError: A mark is missing.
        ExperimentError: A recorded run cannot be read.
    """
    tables = {"lessons": lessons_table(folder), "results": results_table(folder)}
    records = load_records(folder.parent / "results")
    if records or "<!-- runs -->" in text:
        tables["runs"] = runs_table(records)
    for name, table in tables.items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not marks.search(text):
            raise LessonError(f"README.md has no part between <!-- {name} --> and <!-- /{name} -->")
        text = marks.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)
    return text


def out_of_date(write: bool = False) -> list[str]:
    """Names of the files that are not what the committed lessons say; with `write`, mends them."""
    folder = notebooks_folder()
    readme, image = folder.parent / "README.md", folder.parent / PICTURE
    text = readme.read_text(encoding="utf-8")
    wanted = {readme: filled(text, folder).encode(), image: picture(folder)}
    stale = [p for p, content in wanted.items() if not p.exists() or p.read_bytes() != content]
    if write:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wanted[path])
    return [path.relative_to(folder.parent).as_posix() for path in stale]


def _rounded(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: returns 1 when `--check` finds something out of date."""
    parser = argparse.ArgumentParser(prog="python -m ss4rec_lib.lessons.readme")
    parser.add_argument("--check", action="store_true", help="write nothing, report only")
    options = parser.parse_args(arguments)
    stale = out_of_date(write=not options.check)
    for name in stale:
        print(f"{name}: {'out of date' if options.check else 'written'}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
