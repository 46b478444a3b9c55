"""Resumed trainings: which options they take, and what an interrupted training says about resuming."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from somvae_ext.cli.fit_options import explicit_options
from somvae_ext.cli.model_options import option_name
from somvae_ext.processes import torchrun_rank

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.store import ResultFolder


def check_resume_options(options: Namespace, allowed: Collection[str], what: str) -> None:
    """Refuses options that a resumed training takes from its folder.

    Args:
        options: the options of ``fit``, with ``--resume``.
        allowed: names of the options that may be given.
        what: ``"run"`` or ``"map"``, for the message.

    Raises:
        ValueError: another option was given.
    """
    if others := explicit_options(options).keys() - set(allowed):
        name = min(others)
        shown = "DATA" if name == "data" else option_name(name)
        raise ValueError(f"--resume goes on with the options of the {what}, so {shown} must not be given")


@contextlib.contextmanager
def explain_how_to_resume(folder: ResultFolder) -> Iterator[None]:
    """Adds to Ctrl-C, SIGTERM and SIGHUP which epoch the folder keeps, and the command that resumes from it."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        if not folder.epochs:
            raise type(interruption)("interrupted before an epoch was complete") from None
        raise type(interruption)(
            f"interrupted; {folder.path} keeps the last complete epoch, and {resume_command(folder)} goes on from there"
        ) from None


def resume_command(folder: ResultFolder) -> str:
    """Returns the command that resumes a training, by ``torchrun`` if this training was started by it."""
    start = "somvae" if torchrun_rank() is None else "torchrun ... -m somvae_ext"
    return f"{start} fit --resume {folder.path}"
