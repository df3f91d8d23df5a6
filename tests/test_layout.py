"""The layout of the repository: size, direction of imports, and the paths that a reader follows."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "ss4rec_lib"
PACKAGES = ("data", "ssm", "models", "evaluation", "training", "experiments", "lessons")
MAY_IMPORT = {
    "data": set(),
    "ssm": set(),
    "models": {"data", "ssm"},
    "evaluation": {"data", "ssm", "models"},
    "training": {"data", "ssm", "models", "evaluation"},
    "experiments": {"data", "ssm", "models", "evaluation", "training"},
    "lessons": {"data", "ssm", "models", "evaluation", "training", "experiments"},
    "cli": set(PACKAGES),
}
"""By package, what it may import beside itself and the modules without a package of their own."""

MOST_FILES = {
    "one epoch of training": 6,
    "HR@10": 3,
    "from a timestamp in a file to the scan kernel": 12,
    "from a recorded number to the results page": 3,
}


def library_files() -> list[Path]:
    return sorted(LIBRARY.rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the names of imported modules of this library; imports for annotations do not count."""
    only_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in only_types:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            names = [node.module or ""]
            if node.module == "ss4rec_lib":
                names = [f"ss4rec_lib.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.startswith("ss4rec_lib."))


def is_inside_a_package(module: str) -> bool:
    return module.count(".") > 1 and module != "ss4rec_lib.ssm.kernels"


def test_the_library_is_small():
    """11,000 lines; then own data (600), controls in lessons (500), Triton (580), SS4Rec+, a
    learned mask and ensembles (220).
    """
    assert sum(len(path.read_text().splitlines()) for path in library_files()) <= 12_900


def test_no_file_is_long_and_there_are_few():
    lines = {path: len(path.read_text().splitlines()) for path in library_files()}
    assert len(lines) <= 78
    assert [str(p.relative_to(ROOT)) for p, count in lines.items() if count > 400] == []


def test_imports_go_one_way_and_name_packages():
    wrong = []
    for path in library_files():
        place = path.relative_to(LIBRARY).with_suffix("").parts[0]
        for module in imports(ast.parse(path.read_text())):
            target = module.split(".")[1]
            if target == place:
                continue
            known = target in MAY_IMPORT
            if known and (target not in MAY_IMPORT.get(place, ()) or is_inside_a_package(module)):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert wrong == []


def test_every_package_has_its_place():
    found = {path.name for path in LIBRARY.iterdir() if (path / "__init__.py").exists()}
    assert found == set(PACKAGES)


@pytest.mark.parametrize("folder", ["notebooks", "tools", "results"])
def test_outside_the_library_only_packages_are_imported(folder):
    wrong = []
    for path in sorted((ROOT / folder).rglob("*")):
        if path.suffix == ".py":
            sources = [path.read_text()]
        elif path.suffix == ".ipynb":
            cells = json.loads(path.read_text())["cells"]
            sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        else:
            continue
        for source in sources:
            # A cell may have lines that only IPython understands, and an exercise has holes.
            lines = [line for line in source.splitlines() if not line.startswith(("%", "!"))]
            modules = filter(is_inside_a_package, imports(ast.parse("\n".join(lines))))
            wrong += [f"{path.relative_to(ROOT)} imports {module}" for module in modules]
    assert wrong == []


def paths_in_contributing() -> dict[str, list[str]]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| path | files |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    return {question: re.findall(r"`([^`]+)`", files) for question, files in rows}


@pytest.mark.parametrize("question", MOST_FILES)
def test_a_reader_opens_few_files(question):
    named = paths_in_contributing()[question]
    assert 1 < len(named) <= MOST_FILES[question]
    base = ROOT if "page" in question else LIBRARY
    assert [name for name in named if not any(base.glob(name))] == []


def test_contributing_names_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:ss4rec_lib|tests|tools|notebooks|results|benchmarks)/[\w/.]*)`", text)
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists()] == []
