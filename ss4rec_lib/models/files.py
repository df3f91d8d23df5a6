"""A trained model as one file: weights, configuration and size of the catalogue.

The file is safetensors (no pickle): tensors under the names of the model's state dict, and in the
header, as text, a format mark, the configuration as JSON with the name of its class, and `n_items`.
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor, nn

from ss4rec_lib.files import FileError, read_tensors, write_tensors
from ss4rec_lib.models.registry import MODELS, config_named, make_model
from ss4rec_lib.models.ss4rec import SS4RecConfig

FORMAT = "ss4rec-lab model 1"


def save_model(model: nn.Module, path: str | Path) -> None:
    """Write a model, whole or not at all.

    Args:
        model: One of `models.registry`, on any device.
        path: Where to; a file that is there is replaced.

    Raises:
        FileError: It cannot be written; what was there before is untouched.
    """
    metadata = {
        "format": FORMAT,
        "config_type": type(model.config).__name__,
        "config": json.dumps(model.config.model_dump()),
        "n_items": str(model.n_items),
    }
    write_tensors(Path(path), model.state_dict(), metadata)


def load_model(path: str | Path) -> nn.Module:
    """Read what `save_model` wrote.

    Args:
        path: The file.

    Returns:
        The model on the CPU, in evaluation mode, with the weights bit for bit.

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
            "read by load_official_state_dict."
        )
    config, n_items = _config(path, metadata), _n_items(path, metadata, tensors)
    model = make_model(n_items, config)
    _check_tensors(path, tensors, model.state_dict())
    model.load_state_dict(tensors)
    return model.eval()


def _config(path: Path, metadata: dict[str, str]) -> object:
    name = metadata.get("config_type", SS4RecConfig.__name__)  # older files hold nothing else
    kind = config_named(name)
    if kind is None:
        raise FileError(
            f"{path} has a configuration of type {name!r}: expected one of "
            f"{', '.join(each.__name__ for each in MODELS)}"
        )
    try:
        values = dict(json.loads(metadata["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path} holds no readable configuration ({error})") from error
    unknown = sorted(values.keys() - kind.model_fields.keys())
    if unknown:
        raise FileError(
            f"{path} has configuration keys that this version does not know: "
            f"{', '.join(unknown)}. It was written by another version; read it with that one."
        )
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise FileError(f"{path} has an unusable configuration: {error}") from error


def _n_items(path: Path, metadata: dict[str, str], tensors: dict[str, Tensor]) -> int:
    """The size of the catalogue, held against the embedding: nothing is made from a wrong one."""
    text = metadata.get("n_items", "")
    rows = len(tensors["item_embedding.weight"]) if "item_embedding.weight" in tensors else None
    if not text.isdecimal() or rows is not None and int(text) != rows - 1:
        raise FileError(
            f"{path} says n_items={text!r}: expected a number, one less than the "
            f"{rows} rows of item_embedding.weight"
        )
    if rows is None:
        raise FileError(f"{path} holds no item_embedding.weight: it is not a model of this library")
    return int(text)


def _check_tensors(path: Path, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    problems = [f"{name} lacks" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name} is unknown" for name in sorted(found.keys() - expected.keys())]
    problems += [
        f"{name} has shape {tuple(found[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if problems:
        raise FileError(f"{path} does not fit its own configuration: {'; '.join(problems)}")
