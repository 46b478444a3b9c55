"""What an interrupted training says of how to go on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from somvae_ext.store import ResultFolder


@contextlib.contextmanager
def saying_how_to_resume(folder: ResultFolder, command: str) -> Iterator[None]:
    """Adds to Ctrl-C, SIGTERM and SIGHUP what the folder keeps, and the command that goes on from there."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        if not folder.epochs:
            raise type(interruption)("interrupted before an epoch was complete") from None
        raise type(interruption)(
            f"interrupted; {folder.path} keeps the last complete epoch, and {command} --resume {folder.path} goes on "
            "from there"
        ) from None
