"""Configuration of the server that `make lab` starts: a saved notebook holds no widgets.

JupyterLab saves a widget as a reference to a model of the running kernel. On the next day it shows
"Error displaying widget: model not found" in its place. The figure above the controls stays.
"""

from __future__ import annotations

from typing import Any

WIDGET = "application/vnd.jupyter.widget-view+json"


def remove_widgets(model: dict[str, Any], **_: Any) -> None:
    """Remove outputs that show widgets, and their state, before a notebook is saved."""
    if model.get("type") != "notebook" or not isinstance(model.get("content"), dict):
        return
    notebook = model["content"]
    notebook.get("metadata", {}).pop("widgets", None)
    for cell in notebook.get("cells", []):
        if cell.get("outputs"):
            cell["outputs"] = [o for o in cell["outputs"] if WIDGET not in o.get("data", {})]


if "get_config" in globals():  # as the server runs it, and not where it is imported
    configuration = globals()["get_config"]()
    configuration.FileContentsManager.pre_save_hook = remove_widgets
