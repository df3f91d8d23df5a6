"""Configuration of the server that `make lab` starts: a saved notebook holds no widgets.

JupyterLab saves a widget as a reference to a model of the running kernel. On the next day it shows
"Error displaying widget: model not found" in its place. The figure above the controls stays. The
script that scrolls to a failed exercise goes too, because it would run again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

WIDGET = "application/vnd.jupyter.widget-view+json"
PASSING = {WIDGET, "application/javascript"}


def remove_widgets(model: dict[str, Any], **_: Any) -> None:
    """Remove outputs that show widgets, their state, and scripts before a notebook is saved."""
    if model.get("type") != "notebook" or not isinstance(model.get("content"), dict):
        return
    notebook = model["content"]
    notebook.get("metadata", {}).pop("widgets", None)
    for cell in notebook.get("cells", []):
        if cell.get("outputs"):
            cell["outputs"] = [o for o in cell["outputs"] if not PASSING & o.get("data", {}).keys()]


if "get_config" in globals():  # as the server runs it, and not where it is imported
    configuration = globals()["get_config"]()
    configuration.FileContentsManager.pre_save_hook = remove_widgets
    # Settings of everyone who has not chosen otherwise: no question about news at the first start.
    configuration.LabApp.app_settings_dir = str(Path(__file__).with_name("jupyterlab"))
