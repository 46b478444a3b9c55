"""A bar that goes on with every epoch."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from somvae_ext.som import Record


class EpochBar:
    """A tqdm bar on stderr with the last epoch's errors, or nothing.

    Args:
        n_epochs: its length.
        shown: False for nothing; only True needs tqdm.

    Raises:
        ModuleNotFoundError: tqdm is missing.
    """

    def __init__(self, n_epochs: int, *, shown: bool) -> None:
        self._bar: Any = None
        if shown:
            from tqdm import tqdm  # type: ignore[import-untyped]

            self._bar = tqdm(total=n_epochs, unit="epoch")

    def show(self, record: Record) -> None:
        if self._bar is not None:
            shown = {name: f"{value:.4g}" for name, value in record.items() if name != "epoch"}
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
