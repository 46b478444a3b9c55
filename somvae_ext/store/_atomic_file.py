"""Files that are either complete or absent."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PARTIAL = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.partial")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that replaces ``path`` when the block succeeds; otherwise ``path`` stays as it was.

    Partial files that killed processes left in earlier attempts at ``path`` are removed.

    Raises:
        OSError: the file cannot be written; the message says if the disk is full.
    """
    remove_partial_files(path.parent, path.name)
    # In the same folder, because a rename is atomic only within a file system.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with explain_full_disk(path):
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save_figure(path: Path, figure: Figure, **options: Any) -> Path:
    """Writes a picture as PNG and returns its path; options are those of matplotlib's ``savefig``."""
    with atomic_file(path) as file:
        figure.savefig(file, dpi=150, format="png", **options)
    return path


@contextlib.contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Replaces the error of a full disk with a message about ``path``; other errors pass unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(
            error.errno, f"{path} could not be written, because the disk is full; what was there before is still whole"
        ) from error


def remove_partial_files(folder: Path, name: str | None = None) -> None:
    """Removes partial files that killed processes left.

    Args:
        folder: the folder to look in; it need not exist.
        name: name of the file that they were writing; by default any.
    """
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        partial = _PARTIAL.fullmatch(path.name)
        if partial and name in (None, partial["name"]) and not _is_being_written(path):
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_being_written(path: Path) -> bool:
    """Whether a process, on any machine, has the file locked."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
