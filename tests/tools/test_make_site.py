"""The site: whole, searchable, and nothing loaded from outside; broken links are errors."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shutil
import zlib
from pathlib import Path

import nbformat
import pytest

from tools import make_site as tool
from tools.vendor import MATHJAX, VENDOR

DOCS = pytest.mark.skipif(
    importlib.util.find_spec("myst_nb") is None,
    reason="the extra `docs` is not installed: `make site` installs it",
)
PACKAGES = ("data", "ssm", "models", "training", "evaluation", "experiments", "lessons")
NOTEBOOKS = sorted((tool.ROOT / "notebooks").rglob("*.ipynb"))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Return the folder of a site that was built for this test."""
    if not (VENDOR / MATHJAX.archive).is_file():
        pytest.skip(f"no {MATHJAX.archive} in .vendor: `make site` fetches it")
    out = tmp_path_factory.mktemp("site") / "site"
    assert tool.main(["--out", str(out)]) == 0
    return out


def page_of(site: Path, notebook: Path) -> str:
    name = notebook.relative_to(tool.ROOT).with_suffix(".html")
    return (site / name).read_text(encoding="utf-8")


@DOCS
@pytest.mark.slow
@pytest.mark.timeout(600)
class TestSite:
    @pytest.mark.parametrize(
        "notebook", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}"
    )
    def test_a_notebook_is_a_page_with_its_figures_and_collapsed_drawing_code(self, site, notebook):
        cells = nbformat.read(notebook, as_version=4).cells
        page = page_of(site, notebook)
        hidden = [cell for cell in cells if "hide-input" in cell.metadata.get("tags", [])]
        assert page.count("Show code cell source") == len(hidden)
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        figures = [output for output in outputs if "image/png" in output.get("data", {})]
        texts = [text for text in re.findall(r'<img alt="([^"]*)"', page) if ".png" not in text]
        assert len(texts) >= len(figures)
        assert 'title="next page"' in page and 'title="previous page"' in page

    def test_it_brings_mathjax_along(self, site):
        lesson = page_of(site, NOTEBOOKS[2])
        script = re.search(r'src="([^"]*tex-chtml\.js[^"]*)"', lesson)
        assert script and (site / "notebooks" / script[1].partition("?")[0]).is_file()
        assert list((site / "_static/mathjax/output/chtml/fonts/woff-v2").glob("*.woff"))

    def test_search_finds_the_zero_order_hold_in_lesson_02(self, site):
        text = (site / "searchindex.js").read_text(encoding="utf-8")
        index = json.loads(text[text.index("{") : text.rindex("}") + 1])
        lesson = index["docnames"].index("notebooks/02_s5_from_first_principles")
        for word in ("zero", "order", "hold"):
            pages = index["terms"][word]
            assert lesson in (pages if isinstance(pages, list) else [pages])

    @pytest.mark.parametrize("package", PACKAGES)
    def test_the_reference_has_every_public_name(self, site, package):
        inventory = (site / "objects.inv").read_bytes().split(b"zlib.\n", 1)[1]
        names = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
        module = importlib.import_module(f"ss4rec_lib.{package}")
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        public = re.findall(r" as (\w+)$", source, re.MULTILINE)
        # A name that a package passes on is described where it comes from.
        places = [f"ss4rec_lib.{each}." for each in PACKAGES]
        missing = [name for name in public if not any(place + name in names for place in places)]
        assert public and missing == []


def test_what_a_page_or_style_would_load_from_outside_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/page.html").write_text('<a href="https://b.example">b</a><img src="c.png">')
    (tmp_path / "style.css").write_text("@import url(local.css);")
    assert tool.loaded_from_outside(tmp_path) == []
    (tmp_path / "style.css").write_text("@import url(https://c.example/font.css);")
    (tmp_path / "a/page.html").write_text('<script src="//d.example/x.js"></script>')
    assert tool.loaded_from_outside(tmp_path) == [
        "a/page.html: //d.example/x.js",
        "style.css: https://c.example/font.css",
    ]


@DOCS
@pytest.mark.slow
def test_links_that_lead_nowhere_are_errors_and_others_lead_to_pages_and_files(tmp_path, capfd):
    docs, notes = tmp_path / "docs", tmp_path / "workshop"
    shutil.copytree(tool.ROOT / "docs", docs, ignore=shutil.ignore_patterns("*.md", "__pycache__"))
    (notes / "kit").mkdir(parents=True)
    (notes / "kit" / "README.md").write_text("# Kit\n")
    (tmp_path / "code.py").write_text("x = 1\n")
    (tmp_path / "README.md").write_text("# Not a page\n")
    toctree = "```{toctree}\n../workshop/notes\n../workshop/kit/README\n```\n"
    good = "[1](../workshop/notes.md#1-Is-it,-or-not?) [2](#A-b) [3](../code.py) [4](../README.md) "
    good += "[5](../workshop/kit)"
    (notes / "notes.md").write_text("# Notes\n\n## 1 Is it, or not?\n")
    (docs / "index.md").write_text(f"# Title\n\n## A b\n\n{good}\n\n{toctree}")
    tool.build(tmp_path, tmp_path / "out" / "html")
    page = (tmp_path / "out" / "html" / "docs" / "index.html").read_text(encoding="utf-8")
    links = dict(re.findall(r'href="([^"]*)"[^>]*>(?:<[^>]*>)*(\d)<', page))
    found = {number: link for link, number in links.items()}
    assert found["1"].startswith("../workshop/notes.html#") and found["2"].startswith("#")
    assert found["3"].endswith("/code.py") and found["4"].endswith("/README.md")
    assert found["5"] == "../workshop/kit/README.html"

    bad = "[1](../workshop/notes.md#2-Not-there) [2](#Gone) [3](../missing.py)"
    (docs / "index.md").write_text(f"# Title\n\n{bad}\n\n{toctree}")
    (docs / "lonely.md").write_text("# In no list of pages\n")
    with pytest.raises(tool.SiteError):
        tool.build(tmp_path, tmp_path / "out2" / "html")
    said = capfd.readouterr().err
    assert all(name in said for name in ("2-Not-there", "Gone", "missing.py", "lonely.md"))
