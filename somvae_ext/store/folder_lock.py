"""The claim of one process on a folder that it writes to."""

from __future__ import annotations

from pathlib import Path

NAME = ".lock"


class FolderLock:
    """A lock on a folder, which the system takes back when its process ends, however it ends.

    Args:
        folder: that is there.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock

        self._folder = folder
        self._lock = FileLock(folder / NAME)

    def acquire(self) -> None:
        """
        Raises:
            BlockingIOError: another process, or another object of this one, holds it.
            OSError: the folder must not be written to.
        """
        from filelock import Timeout

        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise BlockingIOError(
                f"{self._folder} is being written to by another process; wait until it is done, or choose another "
                "folder"
            ) from error
        except PermissionError as error:
            raise PermissionError(f"{self._folder} must be a folder to write to, but it does not allow it") from error
        except NotImplementedError as error:
            raise OSError(f"{self._folder} is on a file system without locks; choose another place") from error

    def release(self) -> None:
        self._lock.release()
