"""Files with weights of the published code, read without building any pickled object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ss4rec_lib.files import FileError, read_tensors
from ss4rec_lib.models.published_weights import load_official_state_dict
from ss4rec_lib.models.ss4rec import SS4Rec


def load_official_checkpoint(path: str | Path, model: SS4Rec | None = None) -> SS4Rec:
    """Read published weights from a file: a RecBole checkpoint, or a state dict alone.

    A `.safetensors` file is read as such, anything else by `torch.load(weights_only=True)`, which
    builds tensors and plain containers and refuses all other pickled objects. RecBole pickles its
    `Config` beside the weights; the error then says how to take the weights out.

    Args:
        path: The file.
        model: As for `load_official_state_dict`.

    Returns:
        The model.

    Raises:
        FileNotFoundError: No such file.
        FileError: Truncated, or not written by `torch.save` (or not a safetensors file).
        ValueError: Refused because of pickled objects, not a checkpoint, or weights that
            `load_official_state_dict` refuses.
    """
    path = Path(path)
    content = read_tensors(path)[0] if path.suffix == ".safetensors" else _read_pth(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not any(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise ValueError(
            f"{path} is not a checkpoint: it holds a {type(content).__name__} without weights, "
            "expected a dict of tensors, or a dict with one under 'state_dict'"
        )
    try:
        return load_official_state_dict(model, content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_pth(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with path.open("rb") as file:  # the system's own error where it may not be read
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # it fails in many ways on bytes that are no checkpoint
            raise _explained(path, error) from error


def _explained(path: Path, error: Exception) -> Exception:
    """What to say when `torch.load(weights_only=True)` fails."""
    refused = re.search(r"GLOBAL (\S+)", str(error))  # a class or function by its name
    if refused is None:
        return FileError(
            f"{path} is truncated or not a file that torch.save wrote; it holds "
            f"{path.stat().st_size:,} bytes. Take another copy."
        )
    weights = path.with_name(f"{path.stem}-weights.pth")
    return ValueError(
        f"{path} holds pickled objects besides tensors, the first one {refused[1]} (RecBole saves "
        "its Config so). Reading them would run code that the file chooses, so the file is "
        "refused. If you trust it, take the weights out in the environment that made it\n\n"
        f'    checkpoint = torch.load({str(path)!r}, map_location="cpu", weights_only=False)\n'
        f'    torch.save(checkpoint["state_dict"], {str(weights)!r})\n\n'
        f"(leave weights_only out with torch before 1.13) and load {weights} here"
    )
