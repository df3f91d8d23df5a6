"""A model as one file: weights or factors, configuration and size of the catalogue.

The file is safetensors (no pickle): tensors under the names of the model's state dict, and in the
header, as text, a format mark, the configuration as JSON with the name of its class, and `n_items`.
Models that only count (`learns` is False) have no file: they are fitted again from the same data.
"""

from __future__ import annotations

import json
from pathlib import Path

from ss4rec_lib.files import FileError, read_tensors, write_tensors
from ss4rec_lib.models.base import Recommender
from ss4rec_lib.models.registry import MODELS

FORMAT = "ss4rec-lab model 1"


def save_model(model: Recommender, path: str | Path) -> None:
    """Write a model atomically; a file that is there is replaced."""
    if not model.learns:
        raise TypeError(f"{type(model).__name__} learns nothing to save: fit it again")
    metadata = {
        "format": FORMAT,
        "config_type": type(model.config).__name__,
        "config": json.dumps(model.config.model_dump()),
        "n_items": str(model.n_items),
    }
    write_tensors(Path(path), model.state_dict(), metadata)


def load_model(path: str | Path) -> Recommender:
    """Return a saved model on the CPU, in evaluation mode, with its weights bit for bit.

    Raise FileError for a file that is truncated, no model of this library, of a configuration that
    this version does not know, or with weights of other names or shapes.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path)
    if (found := metadata.get("format")) != FORMAT:
        raise FileError(
            f"{path} is not a saved model of this version: its format is {found!r}, expected "
            f"{FORMAT!r}. Weights of the published code are read by load_official_checkpoint."
        )
    kinds = {config.__name__: (config, model) for config, model in MODELS.items()}
    name = metadata.get("config_type")
    if name not in kinds:
        found = f"{path} has a configuration of type {name!r}"
        raise FileError(f"{found}: expected one of {', '.join(kinds)}")
    config_type, kind = kinds[name]
    try:
        config = config_type(**json.loads(metadata["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path} has an unusable configuration: {error}") from error
    # Checked before a model of that size is made.
    n_items, rows = metadata.get("n_items"), len(tensors.get(kind.item_table, ()))
    if n_items != str(rows - 1):
        table = f"the {rows} rows of {kind.item_table}"
        raise FileError(f"{path} says n_items={n_items!r}: expected one less than {table}")
    try:
        model = kind.for_tensors(rows - 1, config, tensors)
        model.load_state_dict(tensors)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise FileError(f"{path} does not fit its own configuration: {error}") from error
    return model.eval()
