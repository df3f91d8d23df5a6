"""Build the site of lessons, results and reference: `python -m tools.make_site`, or `make site`.

Sphinx reads the notebooks and pages where they are (docs/conf.py) and executes nothing. A warning,
for example a link that leads nowhere, is an error, and so is a page that would load something from
another server. The finished site replaces the one before it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.vendor import MATHJAX, VENDOR, VendorError, fetch, outside, unpack

ROOT = Path(__file__).resolve().parents[1]


class SiteError(Exception):
    """A site that cannot be built, with a message that says why."""


def jupyter_anchor(title: str) -> str:
    """Return the anchor that JupyterLab gives to a heading, so that links work in both."""
    return title.strip().replace(" ", "-")


def loaded_from_outside(site: Path) -> list[str]:
    """Name each page or style that would load something from another server, and what."""
    files = sorted([*site.rglob("*.html"), *site.rglob("*.css")])
    found = ((file, outside(file.read_text(encoding="utf-8"))) for file in files)
    return [f"{file.relative_to(site)}: {each}" for file, urls in found for each in urls]


def build(root: Path, pages: Path) -> None:
    """Run Sphinx on a repository with docs/conf.py.

    Raises:
        SiteError: Sphinx warned of something; what it said stands on standard error.
    """
    words = ["-b", "html", "-c", "docs", "-d", str(pages.parent / "doctrees"), "-j", "auto"]
    words += ["-q", "-W", "--keep-going", ".", str(pages)]
    path = {**os.environ, "PYTHONPATH": str(ROOT)}  # for the anchors above
    run = subprocess.run([sys.executable, "-m", "sphinx", *words], cwd=root, env=path)
    if run.returncode:
        raise SiteError("the site has the problems above")


def make_site(out: Path, vendor: Path = VENDOR) -> int:
    """Build the site in a folder, and return the number of its pages.

    Raises:
        VendorError: MathJax cannot be had.
        SiteError: Sphinx warned of something, or a page would load from another server.
    """
    archive = fetch(MATHJAX, vendor)
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder) / "html"
        build(ROOT, pages)
        unpack(MATHJAX, archive, pages / "_static")
        if found := loaded_from_outside(pages):
            raise SiteError("the site would load from outside: " + "; ".join(found))
        shutil.rmtree(out, ignore_errors=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(pages, out)
    return len(list(out.rglob("*.html")))


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site. Return 2 when it cannot be built."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_site", description="Build the site of lessons and results."
    )
    parser.add_argument("--out", default="dist/site", help="folder, by default dist/site")
    options = parser.parse_args(arguments)
    try:
        pages = make_site(Path(options.out))
    except (SiteError, VendorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{pages} pages: open {Path(options.out) / 'index.html'} in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
