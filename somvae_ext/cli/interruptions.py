"""Signals that end a command, in the way of Ctrl-C: with a sentence, and after what is half written is cleared away."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


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
def as_interruptions() -> Iterator[None]:
    """Raises SIGTERM and SIGHUP as exceptions in the main thread, unless they are ignored, as under nohup."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise _INTERRUPTIONS[signal.Signals(number)]

    earlier = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(ValueError):  # not in the main thread
                earlier[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def exit_code(interruption: KeyboardInterrupt) -> int:
    """What a shell gives for a process that the signal ended: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    kinds = {kind: number for number, kind in _INTERRUPTIONS.items()}
    return 128 + kinds[type(interruption)]
