"""Other parameters for the core lessons, small ones, so that a run of a lesson takes seconds."""

from __future__ import annotations

from pathlib import Path

from nbformat import NotebookNode
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from ss4rec_lib.lessons import read_parameters

OTHER = {"dataset": "planted", "epochs": 1, "seed": 1, "training_steps": 30}
OTHER |= {"copy_steps": 50, "d_model": 16, "d_state": 4}  # of lesson 03


def other_parameters(lesson: Path) -> dict[str, object]:
    """Return those that the lesson declares."""
    declared = read_parameters(lesson)
    return {name: value for name, value in OTHER.items() if name in declared}


def prepared(lesson: Path) -> NotebookNode:
    """Return the lesson with papermill's cell, not executed."""
    return parameterize_notebook(load_notebook_node(str(lesson)), other_parameters(lesson))
