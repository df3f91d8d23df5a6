"""Arrays in a folder: memory-mappable, replaced as a whole, readable without running any code.

    folder/contents.json        which generation counts, its arrays' dtypes and lengths
    folder/<generation>/*.npy   one file an array

`contents.json` is replaced by a single rename after everything it names is on the disk, so an
interrupted writer leaves what was there before, and a reader never sees half of anything.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path

import numpy as np
from filelock import FileLock

from ss4rec_lib.data.errors import CorruptFileError, DataError

_CONTENTS = "contents.json"
_PART = f"{_CONTENTS}.part"
_LOCK = ".lock"
_GENERATION = "generation-"


def save_arrays(folder: str | Path, arrays: dict[str, np.ndarray], properties: dict) -> Path:
    """Write arrays so that they appear in `folder` all at once.

    Args:
        folder: made when missing; what an earlier call wrote there is replaced.
        arrays: vectors by name; no object arrays.
        properties: small JSON-able values to keep beside them.

    Returns:
        The folder.

    Raises:
        DataError: the folder holds something else.
        OSError: the disk is full or not writable; what was there before is untouched.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / _LOCK):
        foreign = sorted(path.name for path in folder.iterdir() if not _ours(path))
        if foreign:
            raise DataError(
                f"{folder.name}: the folder holds other files ({', '.join(foreign[:3])}); choose a "
                "new or empty folder."
            )
        generation = folder / f"{_GENERATION}{uuid.uuid4().hex[:12]}"
        generation.mkdir()
        contents = {
            "generation": generation.name,
            "arrays": {
                name: {"dtype": array.dtype.str, "length": len(array)}
                for name, array in arrays.items()
            },
            "properties": properties,
        }
        try:
            for name, array in arrays.items():
                with open(generation / f"{name}.npy", "wb") as file:
                    np.save(file, array, allow_pickle=False)
                    _flush(file)
            _sync_folder(generation)
            with open(folder / _PART, "w", encoding="utf-8") as file:
                json.dump(contents, file, indent=1)
                _flush(file)
        except BaseException:
            shutil.rmtree(generation, ignore_errors=True)
            raise
        os.replace(folder / _PART, folder / _CONTENTS)  # from here on the new arrays count
        _sync_folder(folder)
        # Earlier generations, and those of writers that were killed: nothing names them now.
        for old in folder.glob(f"{_GENERATION}*"):
            if old != generation:
                shutil.rmtree(old, ignore_errors=True)
    return folder


def load_arrays(
    folder: str | Path, names: tuple[str, ...], mmap: bool = True
) -> tuple[dict[str, np.ndarray], dict]:
    """Read what `save_arrays` wrote.

    Args:
        folder: the folder given to `save_arrays`.
        names: the arrays that must be there.
        mmap: map the files read-only instead of reading them.

    Returns:
        The arrays by name, and the properties.

    Raises:
        DataError: nothing was saved there.
        CorruptFileError: a file is missing, truncated or not what `contents.json` says.
    """
    folder = Path(folder)
    contents = _contents(folder)
    while True:
        try:
            return _read(folder, contents, names, mmap), contents["properties"]
        except FileNotFoundError as error:
            # A writer may have replaced the generation between our two reads: then look again.
            latest = _contents(folder)
            if latest == contents:
                raise CorruptFileError(
                    f"{folder.name}: {Path(error.filename).name} is missing. Save it again."
                ) from None
            contents = latest


def _read(folder: Path, contents: dict, names: tuple[str, ...], mmap: bool) -> dict:
    arrays = {}
    for name in names:
        path = folder / contents["generation"] / f"{name}.npy"
        try:
            expected = contents["arrays"][name]
            # An empty array need not be mapped (and cannot be everywhere).
            mode = "r" if mmap and expected["length"] else None
            array = np.load(path, mmap_mode=mode, allow_pickle=False)
        except (ValueError, EOFError, KeyError) as error:
            raise CorruptFileError(
                f"{folder.name}/{path.name} cannot be read ({error}). Save it again."
            ) from None
        if array.dtype.str != expected["dtype"] or array.shape != (expected["length"],):
            raise CorruptFileError(
                f"{folder.name}/{path.name} holds {array.dtype} of shape {array.shape}, expected "
                f"{expected['dtype']} of length {expected['length']}. Save it again."
            )
        arrays[name] = array
    return arrays


def _contents(folder: Path) -> dict:
    try:
        contents = json.loads((folder / _CONTENTS).read_text(encoding="utf-8"))
        named = contents["generation"], contents["arrays"], contents["properties"]
        if Path(named[0]).name != named[0]:
            raise ValueError(f"generation {named[0]!r}")
    except FileNotFoundError:
        raise DataError(
            f"{folder.name}: nothing was saved there (no {_CONTENTS}). Save it first, or name the "
            "folder that was given to save()."
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptFileError(
            f"{folder.name}/{_CONTENTS} is not what save() writes ({error}). Save it again."
        ) from None
    return contents


def _ours(path: Path) -> bool:
    return path.name in (_CONTENTS, _PART, _LOCK) or path.name.startswith(_GENERATION)


def _flush(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (POSIX; other systems do not need it)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
