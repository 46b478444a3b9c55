"""Reads and changes the configs of result folders, as a user or another version might have written them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from somvae_ext.store import ResultFolder


def config_of(path: str | Path) -> dict[str, Any]:
    return ResultFolder.open(path).config


def write_config(path: str | Path, config: dict[str, Any]) -> None:
    """Replaces the config through the store, which updates its SHA-256."""
    ResultFolder.open(path).save_config(config)


def contents(path: str | Path) -> dict[str, bytes]:
    """Returns the bytes of every file in a folder except the lock file that writers leave behind."""
    return {entry.name: entry.read_bytes() for entry in Path(path).iterdir() if entry.name != ".lock"}
