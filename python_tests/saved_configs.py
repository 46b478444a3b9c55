"""Configs of result folders, read and changed: what somebody, or another version, may have written there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from somvae_ext.store import ResultFolder


def config_of(path: str | Path) -> dict[str, Any]:
    return ResultFolder.open(path).config


def write_config(path: str | Path, config: dict[str, Any]) -> None:
    """Replaces the config as the store would, under a new SHA-256."""
    ResultFolder.open(path).save_config(config)


def contents(path: str | Path) -> dict[str, bytes]:
    """Every file of a folder, but for the lock that its writers leave."""
    return {entry.name: entry.read_bytes() for entry in Path(path).iterdir() if entry.name != ".lock"}
