"""One Chromium and one JupyterLab for all tests here."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.browser.lab import PICTURES, Lab, Notebook


@pytest.fixture(scope="session")
def browser():
    if not (chromium := os.environ.get("CHROMIUM")):
        pytest.skip("CHROMIUM names no browser; make test-browser looks for one")
    api = pytest.importorskip("playwright.sync_api", reason="make test-browser installs playwright")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium)
        yield started
        started.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, browser):
    shutil.rmtree(PICTURES, ignore_errors=True)
    server = Lab(tmp_path_factory.mktemp("lab"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def open_notebook(browser, lab):
    """Return a function that opens a notebook of the copy; closes what it opened."""
    opened = []

    def open_(path: str) -> Notebook:
        opened.append(Notebook(browser, lab, path))
        return opened[-1]

    yield open_
    for notebook in opened:
        notebook.close()
