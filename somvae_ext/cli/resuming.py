"""Trainings that go on: what their command may say, and what an interrupted one says of how to."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from somvae_ext.cli.fit_options import given
from somvae_ext.cli.model_options import option

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.store import ResultFolder


def check_options_of_resumed(options: Namespace, allowed: Collection[str], what: str) -> None:
    """
    Args:
        options: of ``fit``, with ``--resume``.
        allowed: what may be told anew.
        what: ``"run"`` or ``"map"``, for the sentence.

    Raises:
        ValueError: another option was given.
    """
    if others := given(options).keys() - set(allowed):
        name = min(others)
        shown = "DATA" if name == "data" else option(name)
        raise ValueError(f"--resume goes on with the options of the {what}, so {shown} must not be given")


@contextlib.contextmanager
def saying_how_to_resume(folder: ResultFolder) -> Iterator[None]:
    """Adds to Ctrl-C, SIGTERM and SIGHUP what the folder keeps, and the command that goes on from there."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        if not folder.epochs:
            raise type(interruption)("interrupted before an epoch was complete") from None
        raise type(interruption)(
            f"interrupted; {folder.path} keeps the last complete epoch, and somvae fit --resume {folder.path} goes on "
            "from there"
        ) from None
