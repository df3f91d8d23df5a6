"""The scripts of results/ are in no package: tests import them by name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.fixture(scope="module")
def import_script():
    """Imports a script by its name."""
    sys.path.insert(0, str(RESULTS))
    yield importlib.import_module
    sys.path.remove(str(RESULTS))
