"""The lock of the one process that writes to a folder."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

NAME = ".lock"

_HELD = (errno.EAGAIN, errno.EACCES)
_WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class FolderLock:
    """A lock on a folder, which the system releases when its process ends, however it ends.

    Args:
        folder: an existing folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Acquires the lock.

        Raises:
            BlockingIOError: another process, or another object in this one, holds it.
            OSError: the folder is not writable, or its file system has no locks.
        """
        try:
            descriptor = os.open(self._folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise type(error)(f"{self._folder} must be a folder to write to, but: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _HELD:
                raise BlockingIOError(
                    f"{self._folder} is being written to by another process; wait until it is done, or choose another "
                    "folder"
                ) from error
            if error.errno in _WITHOUT_LOCKS:
                raise OSError(
                    f"{self._folder} must be on a file system with locks, which keep others from writing to it, but "
                    "this one has none; choose another place"
                ) from error
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Releases the lock; the file stays, because removing it would race with processes that wait for it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
