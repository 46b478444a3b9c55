"""Shows progress on stderr: of the training of one or more maps or models, and of reading long data."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from somvae_ext.extras import needed_by


class _Display:
    """A tqdm bar on a terminal, lines elsewhere; a context manager that closes the bar.

    Args:
        show: True for a bar or lines; None for a bar on a terminal and nothing elsewhere; False for nothing.
    """

    def __init__(self, show: bool | None) -> None:
        terminal = is_terminal(sys.stderr)
        self._bars = terminal and show is not False
        self._lines = not terminal and show is True and sys.stderr is not None
        self._bar: Any = None
        self._start = time.perf_counter()

    def _open_bar(self, **options: Any) -> None:
        with self._while_writable():
            self._bar = _bar(**options)

    def _close_bar(self) -> None:
        if self._bar is not None:
            with self._while_writable():
                self._bar.close()

    def _print_line(self, text: str) -> None:
        with self._while_writable():
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def _while_writable(self) -> Iterator[None]:
        """Switches the display off if stderr fails, because the work must go on without it."""
        try:
            yield
        except (OSError, ValueError):  # the reader or the terminal is gone; the stream is closed
            self._bars = self._lines = False
            if self._bar is not None:
                self._bar.disable = True  # tqdm closes its bars again when they are deleted

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close_bar()


class Progress(_Display):
    """Shows the epochs of a training: tqdm's bars on a terminal, elsewhere one line per epoch.

    Without ``num_batches`` one bar advances by epoch. With it each epoch has a bar that advances by batch; only the bar
    of the last epoch stays. As a context manager it closes the bar. Once stderr can no longer be written to, as when
    the reader of a pipe has ended, nothing more is shown.

    Args:
        num_epochs: epochs of the whole training.
        show: True for a bar or lines; None for a bar on a terminal and nothing elsewhere; False for nothing.
        completed_epochs: epochs that were completed before the training was interrupted.
        num_batches: batches per epoch.
        unit: what is counted, if not epochs but, say, whole maps.

    Raises:
        ModuleNotFoundError: a bar is to be shown, and tqdm is missing.
    """

    def __init__(
        self,
        num_epochs: int,
        *,
        show: bool | None,
        completed_epochs: int = 0,
        num_batches: int | None = None,
        unit: str = "epoch",
    ) -> None:
        super().__init__(show)
        self._num_epochs, self._epoch, self._num_batches = num_epochs, completed_epochs, num_batches
        self._unit = unit
        if self._bars and num_batches is None:
            self._open_bar(total=num_epochs, initial=completed_epochs, unit=unit)

    @property
    def shows_batches(self) -> bool:
        """Whether :meth:`after_batch` shows its values; if not, they need not be computed."""
        return self._bars and self._num_batches is not None

    def start_epoch(self) -> None:
        """Opens the bar of an epoch's batches."""
        self._start = time.perf_counter()
        if self.shows_batches:
            number = self._epoch + 1
            last = number == self._num_epochs
            self._open_bar(total=self._num_batches, desc=f"epoch {number}/{self._num_epochs}", leave=last)

    def after_batch(self, values: Mapping[str, float | str]) -> None:
        """Advances the bar of an epoch's batches, and shows values beside it, numbers with four digits."""
        if self.shows_batches:
            self._advance(values)

    def after_epoch(self, values: Mapping[str, float | str]) -> None:
        """Advances by an epoch and shows its values, numbers with four digits; a line also gives the seconds."""
        self._epoch += 1
        if self.shows_batches:
            self._close_bar()
        elif self._bars:
            self._advance(values)
        elif self._lines:
            parts = [f"{name} {text}" for name, text in _format_values(values).items()]
            parts.append(f"{time.perf_counter() - self._start:.1f} s")
            self._print_line(f"{self._unit} {self._epoch}/{self._num_epochs}: {', '.join(parts)}")
        self._start = time.perf_counter()

    def _advance(self, values: Mapping[str, float | str]) -> None:
        texts = _format_values(values)
        with self._while_writable():
            self._bar.set_postfix(texts, refresh=False)
            self._bar.update()


class CountProgress(_Display):
    """Shows how much of a long task is done: a tqdm bar on a terminal, a line for each tenth elsewhere.

    As a context manager it closes the bar. Once stderr can no longer be written to, nothing more is shown.

    Args:
        name: what is processed; the bar or line begins with it.
        total: the number of units, or None if it is unknown: then the bar has no end, and there are no lines.
        unit: ``"B"`` for bytes, or the name of another unit.
        show: True for a bar or lines; None for a bar on a terminal and nothing elsewhere; False for nothing.

    Raises:
        ModuleNotFoundError: a bar is to be shown, and tqdm is missing.
    """

    def __init__(self, name: str, total: int | None, unit: str, *, show: bool | None) -> None:
        super().__init__(show)
        self._name, self._total, self._position, self._tenths = name, total, 0, 0
        if self._bars:
            self._open_bar(total=total, desc=name, unit=unit, unit_scale=True)

    def advance_to(self, position: int) -> None:
        """Shows that ``position`` units are done."""
        advance, self._position = position - self._position, position
        tenths = 0 if self._total is None else 10 * position // max(1, self._total)
        if self._bars:
            with self._while_writable():
                self._bar.update(advance)
        elif self._lines and tenths > self._tenths:
            self._tenths = tenths
            self._print_line(f"{self._name}: {10 * tenths}%, {time.perf_counter() - self._start:.1f} s")


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; False if it cannot tell, as in some notebooks and IDEs, or is closed."""
    try:
        return bool(stream.isatty())
    except (AttributeError, OSError, ValueError):
        return False


def _bar(**options: Any) -> Any:
    with needed_by("a progress bar"):
        from tqdm import tqdm  # type: ignore[import-untyped]

    return tqdm(**options)


def _format_values(values: Mapping[str, float | str]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else f"{value:.4g}" for name, value in values.items()}
