"""A fitted baseline as a file: what was learned, under the configuration it was learned with.

Factors and weights are kept, as safetensors: learning them again may take minutes, a library that
is not installed, or the same machine. What was only counted is not kept: it is counted again from
the same data in seconds, and comes out the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ss4rec_lib.files import FileError, read_tensors, write_tensors
from ss4rec_lib.models.factorization import ALS, ALSConfig, MatrixBPR, MatrixBPRConfig
from ss4rec_lib.models.fitted import counted
from ss4rec_lib.models.neural_cf import NeuralCF, NeuralCFConfig

if TYPE_CHECKING:
    from ss4rec_lib.data import Split

_FORMAT = "ss4rec-lab baseline 1"
_LEARNED = (ALSConfig, MatrixBPRConfig, NeuralCFConfig)


def save_fitted(model: nn.Module, config: Any, path: Path) -> None:
    """Write what was learned, whole or not at all (FileError); nothing if it was only counted."""
    if isinstance(config, _LEARNED):
        options = json.dumps(config.model_dump())
        write_tensors(path, model.state_dict(), {"format": _FORMAT, "config": options})


def restore_fitted(split: Split, config: Any, path: Path) -> nn.Module:
    """The model that `save_fitted` was given, in evaluation mode.

    Args:
        split: The data it was fitted to.
        config: The configuration it was fitted with.
        path: The file, if there is one.

    Raises:
        FileNotFoundError: No such file.
        FileError: It is damaged, or of another model or other data.
    """
    if not isinstance(config, _LEARNED):
        return counted(split, config).eval()
    tensors, metadata = read_tensors(path)
    here = json.dumps(config.model_dump())
    if (metadata.get("format"), metadata.get("config")) != (_FORMAT, here):
        raise FileError(
            f"{path} is not the model of this run: it holds {metadata.get('format')!r} with "
            f"{metadata.get('config')}, expected {_FORMAT!r} with {here}"
        )
    try:
        model = _from_tensors(split, config, tensors)
    except (KeyError, RuntimeError, ValueError) as error:
        raise FileError(f"{path} does not fit its own configuration: {error}") from error
    if model.n_items != split.sequences.n_items:
        raise FileError(
            f"{path} knows {model.n_items:,} items, the data has {split.sequences.n_items:,}: it "
            "is not the data the model was fitted to"
        )
    return model.eval()


def _from_tensors(split: Split, config: Any, tensors: dict[str, Tensor]) -> nn.Module:
    if isinstance(config, ALSConfig):
        return ALS(tensors["item_factors"], config)
    if isinstance(config, MatrixBPRConfig):
        return MatrixBPR(tensors["user_factors"], tensors["item_factors"], config)
    model = NeuralCF(split.sequences.n_users, split.sequences.n_items, config)
    model.load_state_dict(tensors)
    return model
