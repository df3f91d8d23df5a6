"""The workshop's plans, notes and cheat sheet: what they name exists, and what they show runs."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORKSHOP = ROOT / "workshop"
PAGES = [*sorted(WORKSHOP.glob("*.md")), WORKSHOP / "kit" / "README.md"]
PLANS = {"Three hours": 180, "One day": 495}


def headings(notebook: Path) -> list[str]:
    if not notebook.exists():
        return []
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.findall(r"^#+ (.+?) *$", text, re.MULTILINE)


def text_of(name: str) -> str:
    return (WORKSHOP / name).read_text(encoding="utf-8")


def rows(plan: str) -> list[list[str]]:
    """Return the rows of a plan: from, minutes, what, how, when late."""
    section = text_of("README.md").partition(f"\n## {plan}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if re.match(r"\| \d", line)]
    return [re.split(r" *\| *", line)[1:-1] for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_every_named_section_exists(page):
    missing = []
    for target in re.findall(r"\]\((?!https?://)([^)\s]+?)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        path = page.parent / name
        known = {h.replace(" ", "-") for h in headings(path)} if path.suffix == ".ipynb" else set()
        if not path.exists() or (anchor and anchor not in known):
            missing.append(target)
    assert missing == []


def test_all_core_lessons_are_in_both_plans_and_have_notes():
    lessons = sorted(path.name for path in (ROOT / "notebooks").glob("0*.ipynb"))
    assert len(lessons) == 7
    for plan in PLANS:
        used = " ".join(" ".join(row) for row in rows(plan))
        assert [name for name in lessons if f"notebooks/{name}" not in used] == []
    assert re.findall(r"^## \[.*?\]\(\.\./notebooks/(.*?)\)", text_of("notes.md"), re.M) == lessons
    for section in re.split(r"^## ", text_of("notes.md"), flags=re.MULTILINE)[1:]:
        for part in ("**Have ready.**", "**They ask:**", "**The mistake:**", "**End with:**"):
            assert section.count(part) == 1, section[:40]


@pytest.mark.parametrize("plan", PLANS)
def test_the_minutes_of_a_plan_add_up(plan):
    def minutes(time: str) -> int:
        hours, rest = time.split(":")
        return int(hours) * 60 + int(rest)

    plan_rows = rows(plan)
    for row, following in itertools.pairwise(plan_rows):
        assert minutes(row[0]) + int(row[1]) == minutes(following[0]), row
    assert sum(int(row[1]) for row in plan_rows) == PLANS[plan]
    assert all(len(row) == 5 and row[4] for row in plan_rows)
    breaks = [row for row in plan_rows if row[2] in ("Break", "Lunch")]
    work = [int(row[1]) for row in plan_rows if row[2] not in ("Break", "Lunch")]
    assert len(breaks) >= sum(work) // 120


@pytest.mark.parametrize("plan", PLANS)
def test_exercises_exist_and_fit_into_their_row(plan):
    count = 0
    for row in rows(plan):
        needed = 0
        for number, lesson in re.findall(r"\[exercise (\d)\]\(.*?/exercises/(.*?)\)", row[3]):
            found = [h for h in headings(ROOT / "notebooks" / "solutions" / lesson)
                     if h.startswith(f"Exercise {number} ")]  # fmt: skip
            assert len(found) == 1, (lesson, number)
            needed += int(re.search(r"(\d+) min", found[0])[1])
            count += 1
        room = int(row[1]) if row[2] == "Exercises" else int(row[1]) / 2
        assert needed <= room, row
    assert count >= 3


def test_the_commands_named_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    for target in set(re.findall(r"`make ([a-z-]+)", text)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    from ss4rec_lib.cli import main

    for line in re.findall(r"`ss4rec (.+?)`", text_of("cheat_sheet.md")):
        with pytest.raises(SystemExit) as stopped:
            main([*line.split(), "--help"])
        assert stopped.value.code == 0


def run(source: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def python_of(name: str) -> str:
    (source,) = re.findall(r"```python\n(.*?)```", text_of(name), re.DOTALL)
    return source


@pytest.mark.slow
def test_the_calls_of_the_cheat_sheet_run(tmp_path):
    """As printed, but on the generated data and for one epoch."""
    source = python_of("cheat_sheet.md").replace('"ml-100k"', '"planted"')
    source = source.replace("epochs=8", "epochs=1")
    shown = run(source, tmp_path)
    assert "ndcg@10" in shown.lower() and "item_id" in shown
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.slow
def test_a_lesson_can_be_entered_with_a_checkpoint():
    """On the generated data, which have one checkpoint."""
    source = (
        python_of("README.md").replace("ml-100k_blind", "planted").replace("ml-100k", "planted")
    )
    assert run(source, ROOT / "notebooks").count("hr@10") == 2


def test_the_cheat_sheet_is_short_enough_for_two_pages():
    first, second = text_of("cheat_sheet.md").split('<div style="page-break-after: always"></div>')
    assert len(first.splitlines()) <= 60 and len(second.splitlines()) <= 75
