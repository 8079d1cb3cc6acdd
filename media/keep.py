"""Small files that outlive a power cut: written whole or not at all, put aside when damaged."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

_Model = TypeVar("_Model", bound=BaseModel)

MAX_BYTES = 16 * 1024 * 1024


def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Writes a file that is there with the old content or the new, whenever the power goes.

    Raises OSError: ENOSPC on a full disk, which leaves the old one as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            file.write(data)
            file.flush()
            os.fsync(handle)
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes a rename in this folder last."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> bytes | None:
    """The content of a small file; None if there is none. Raises OSError, and for a giant one."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise OSError(27, "it is too large to be ours")
        return path.read_bytes()
    except FileNotFoundError:
        return None


def read_model(path: Path, model: type[_Model]) -> tuple[_Model | None, bool]:
    """What the file says, and whether it was damaged; a damaged one is put aside and None."""
    try:
        data = read(path)
        return (model.model_validate_json(data) if data is not None else None), False
    except (OSError, ValidationError):
        put_aside(path)
        return None, True


def put_aside(path: Path) -> None:
    """Renames a damaged file to `NAME.damaged`, over an earlier one; nothing if that fails."""
    with contextlib.suppress(OSError):
        path.replace(path.with_name(path.name + ".damaged"))


def clear_scratch(folder: Path) -> None:
    """Removes what writes left behind that the power cut off."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name.startswith(".") and path.is_file():
                path.unlink(missing_ok=True)
