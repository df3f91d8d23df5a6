"""A model as one file: weights or factors, configuration and size of the catalogue.

The file is safetensors (no pickle): tensors under the names of the model's state dict, and in the
header, as text, a format mark, the configuration as JSON with the name of its class, and `n_items`.
Models that only count (`learns` is False) have no file: they are fitted again from the same data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ss4rec_lib.files import FileError, read_tensors, write_tensors
from ss4rec_lib.models.base import ModelConfig, Recommender
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

    Raises:
        FileNotFoundError: No such file.
        FileError: Truncated, not a model of this library, of a configuration that this version
            does not know, or with weights of other names or shapes.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise FileError(
            f"{path} is not a saved model of this version: its format is "
            f"{metadata.get('format')!r}, expected {FORMAT!r}. Weights of the published code are "
            "read by load_official_checkpoint."
        )
    config = _config(path, metadata)
    kind = MODELS[type(config)]
    n_items = _n_items(path, metadata, tensors, kind.item_table)
    try:
        model = kind.for_tensors(n_items, config, tensors)
    except (KeyError, ValueError) as error:
        raise FileError(f"{path} does not fit its own configuration: {error}") from error
    _check_tensors(path, tensors, model.state_dict())
    model.load_state_dict(tensors)
    return model.eval()


def _config(path: Path, metadata: Mapping[str, str]) -> ModelConfig:
    name, kinds = metadata.get("config_type"), {kind.__name__: kind for kind in MODELS}
    if name not in kinds:
        raise FileError(
            f"{path} has a configuration of type {name!r}: expected one of {', '.join(kinds)}"
        )
    try:
        return kinds[name](**json.loads(metadata["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path} has an unusable configuration: {error}") from error


def _n_items(
    path: Path, metadata: Mapping[str, str], tensors: Mapping[str, Tensor], table: str
) -> int:
    """Return the size of the catalogue, checked before a model of that size is made."""
    text, rows = metadata.get("n_items", ""), len(tensors.get(table, ()))
    if not text.isdecimal() or int(text) != rows - 1:
        raise FileError(
            f"{path} says n_items={text!r}: expected a number, one less than the {rows} rows of "
            f"{table}"
        )
    return int(text)


def _check_tensors(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    problems = [f"missing tensor {name}" for name in sorted(expected.keys() - found.keys())]
    problems += [f"unknown tensor {name}" for name in sorted(found.keys() - expected.keys())]
    problems += [
        f"{name} has shape {tuple(found[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if problems:
        raise FileError(f"{path} does not fit its own configuration: {'; '.join(problems)}")
