"""Atomic file writes, and tensors in files without pickle."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

PARTIAL = ".partial-"


class FileError(OSError):
    """A file that cannot be written, or whose content is not what it should be."""


def publish_file(temporary: Path, final: Path) -> None:
    """Move a finished file to `final`, on the same file system, atomically and durably.

    A file of that name is replaced. After a crash either the old or the new one is there, whole.
    """
    with open(temporary, "rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(temporary, final)
    if os.name == "posix":  # elsewhere a folder cannot be opened, and need not be flushed
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` when the block ends without error.

    Left-over temporary files of the same name, from processes that were killed, are removed. When
    it cannot be written a FileError is raised, and the file that was there before is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f"{PARTIAL}{path.name}-*"):
            leftover.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{PARTIAL}{path.name}-", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp lets nobody else read; a published file is as readable as any other.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        publish_file(temporary, path)
    except FileError:
        raise
    except OSError as error:
        raise FileError(
            f"cannot write {path}: {error.strerror or error}. What was there before is untouched."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) atomically."""
    with whole_file(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically; raise ValueError for a number that is not finite."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and texts by name as one safetensors file, atomically.

    Complex tensors must be given as real pairs: not every reader of the format supports them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # Copies: the format refuses tensors that share memory, or that are views.
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    with whole_file(Path(path)) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:  # wraps what the system said, a full disk for example
            raise OSError(str(error)) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `write_tensors` wrote; raise FileError for a damaged file."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise FileError(
            f"{path} is truncated or not a safetensors file ({error}); it holds "
            f"{path.stat().st_size:,} bytes. Take another copy, or remove it and start again."
        ) from error
