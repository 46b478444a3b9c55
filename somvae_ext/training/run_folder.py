"""The folder of one training run."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch


class RunFolder:
    """Keeps what a run produced: ``config.json``, ``metrics.jsonl`` (one record per line) and ``checkpoint.pt``.

    Every file is written beside its place and then renamed into it, so an interruption leaves the previous version,
    never a broken one.

    Args:
        path: the folder; made if absent.
        overwrite: take a folder that is not empty. Files of an earlier run are removed, anything else stays.

    Raises:
        FileExistsError: the folder is not empty and ``overwrite`` is not set, or ``path`` is a file.
    """

    CONFIG = "config.json"
    METRICS = "metrics.jsonl"
    CHECKPOINT = "checkpoint.pt"

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"RunFolder: {self.path} must be a folder, but a file is there")
        self.path.mkdir(parents=True, exist_ok=True)
        if any(self.path.iterdir()) and not overwrite:
            raise FileExistsError(f"RunFolder: {self.path} is not empty; choose another folder, or set overwrite")
        for name in (self.CONFIG, self.METRICS, self.CHECKPOINT):
            (self.path / name).unlink(missing_ok=True)
        self._metrics = b""

    def save_config(self, config: dict[str, Any]) -> None:
        """Writes ``config.json``; the values must be what JSON knows."""
        text = json.dumps(config, indent=2) + "\n"
        self._write(self.CONFIG, lambda file: file.write(text.encode()))

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Adds a line to ``metrics.jsonl``."""
        self._metrics += json.dumps(record).encode() + b"\n"
        self._write(self.METRICS, lambda file: file.write(self._metrics))

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Writes ``checkpoint.pt``, which ``torch.load`` reads with its default ``weights_only=True``."""
        self._write(self.CHECKPOINT, lambda file: torch.save(state, file))

    def _write(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        # In the same folder, because a rename is atomic only within a file system.
        descriptor, temporary = tempfile.mkstemp(dir=self.path, prefix=f".{name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, self.path / name)
        except BaseException:
            os.unlink(temporary)
            raise


def _umask() -> int:
    """The process's file creation mask (mkstemp ignores it and makes private files)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
