"""A notebook that `make lab` saves holds no widgets."""

from __future__ import annotations

import json
import re
import runpy
import warnings
from pathlib import Path

import nbformat

from tools import jupyter_server_config
from tools.jupyter_server_config import WIDGET, remove_widgets


def notebook() -> nbformat.NotebookNode:
    outputs = [
        nbformat.v4.new_output("display_data", data={"image/png": "iVBORw0KGgo="}),
        nbformat.v4.new_output("display_data", data={WIDGET: {}, "text/plain": "VBox()"}),
        nbformat.v4.new_output("display_data", data={"application/javascript": "scroll()"}),
        nbformat.v4.new_output("stream", name="stdout", text="done"),
    ]
    made = nbformat.v4.new_notebook(metadata={"widgets": {"state": {}}, "language": "python"})
    made.cells = [
        nbformat.v4.new_markdown_cell("text"),
        nbformat.v4.new_code_cell("explore()", outputs=outputs),
        nbformat.v4.new_code_cell("1"),
    ]
    return made


def test_widgets_go_and_everything_else_stays():
    expected, made = notebook(), notebook()
    del expected.cells[1].outputs[1:3], expected.metadata["widgets"]
    for cell, other in zip(expected.cells, made.cells, strict=True):
        cell.id = other.id
    remove_widgets(model={"type": "notebook", "content": made}, path="a.ipynb")
    assert made == expected


def test_other_files_and_folders_are_left_alone():
    for model in ({"type": "file", "content": "text"}, {"type": "directory", "content": None}):
        before = dict(model)
        remove_widgets(model=model, path="x")
        assert model == before
    remove_widgets(model={"type": "notebook", "content": None})


def test_the_server_reads_the_hook():
    from traitlets.config import Config

    config = Config()
    runpy.run_path(jupyter_server_config.__file__, {"get_config": lambda: config})
    assert config.FileContentsManager.pre_save_hook.__name__ == "remove_widgets"
    overrides = Path(config.LabApp.app_settings_dir, "overrides.json").read_text()
    assert json.loads(overrides)["@jupyterlab/apputils-extension:notification"] == {
        "fetchNews": "false"
    }


def test_a_real_server_saves_through_the_hook(tmp_path):
    from jupyter_server.services.contents.largefilemanager import LargeFileManager
    from traitlets.config import Config

    config = Config()
    runpy.run_path(jupyter_server_config.__file__, {"get_config": lambda: config})
    with warnings.catch_warnings(action="ignore"):  # the manager sets the hook twice
        manager = LargeFileManager(root_dir=str(tmp_path), config=config)
    manager.save({"type": "notebook", "format": "json", "content": notebook()}, "a.ipynb")
    text = (tmp_path / "a.ipynb").read_text()
    assert "widget" not in text and "iVBORw0KGgo=" in text and "done" in text


def test_make_lab_uses_it_and_opens_a_notebook_that_exists():
    root = Path(jupyter_server_config.__file__).parents[1]
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    assert "--config tools/jupyter_server_config.py --ServerApp.root_dir=." in makefile
    (opened,) = re.findall(r"default_url=/lab/tree/(\S+)", makefile)
    assert (root / opened).exists()
