"""Files that are either complete or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PARTIAL = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)\.partial")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of ``path`` when all went well; else what was there stays.

    What killed processes left of earlier attempts at the same file is removed.

    Raises:
        OSError: it cannot be written; a full disk is called one.
    """
    remove_partial_files(path.parent, path.name)
    # In the same folder, because a rename is atomic only within a file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with full_disk_named(path):
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Says in a sentence that ``path`` has no room, and leaves other errors as they are."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(
            error.errno, f"{path} could not be written, because the disk is full; what was there before is still whole"
        ) from error


def remove_partial_files(folder: Path, name: str | None = None) -> None:
    """Removes what killed processes left of files that they were writing.

    Args:
        folder: where to look; nothing happens where it is not there.
        name: of the file, whose other writers may still run; by default any, where no other process writes.
    """
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        partial = _PARTIAL.fullmatch(path.name)
        if partial and (name is None or (partial["name"] == name and not _runs(int(partial["process"])))):
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder last through a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _runs(process: int) -> bool:
    if process == os.getpid():
        return False  # of an earlier process with the same number: ours removes its own
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        return True
    return True
