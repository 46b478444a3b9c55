"""Signals that end a command like Ctrl-C: with a sentence, and after removing files that are half written."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM: somebody, or a scheduler, wants the process to end."""


class HungUp(KeyboardInterrupt):
    """SIGHUP: the terminal is gone."""


_INTERRUPTIONS: dict[signal.Signals, type[KeyboardInterrupt]] = {
    signal.SIGTERM: Terminated,
    signal.SIGHUP: HungUp,
    signal.SIGINT: KeyboardInterrupt,
}


@contextlib.contextmanager
def raise_signals_as_exceptions(*, only_once: bool = False) -> Iterator[None]:
    """Raises SIGTERM, SIGHUP and Ctrl-C as exceptions in the main thread, unless they are ignored, as under nohup.

    Args:
        only_once: ignore further signals after the first one, and all signals after the block. One of several
            processes often gets a second signal, because both the scheduler and ``torchrun`` send it, and another one
            when ``torchrun`` notices that a process has ended; none of these may interrupt a command's last message.
    """
    earlier: dict[signal.Signals, Any] = {}

    def interrupt(number: int, _: FrameType | None) -> None:
        if only_once:
            ignore()
        raise _INTERRUPTIONS[signal.Signals(number)]

    def ignore() -> None:
        for number in earlier:
            signal.signal(number, signal.SIG_IGN)

    def restore() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    for number in _INTERRUPTIONS:
        if (handler := signal.getsignal(number)) in (signal.SIG_DFL, signal.default_int_handler):
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(number, interrupt)
                earlier[number] = handler
    try:
        yield
    finally:
        ignore() if only_once else restore()


def exit_code(interruption: KeyboardInterrupt) -> int:
    """Returns the exit code of a process that the signal ended: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    kinds = {kind: number for number, kind in _INTERRUPTIONS.items()}
    return 128 + kinds[type(interruption)]
