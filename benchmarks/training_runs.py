"""Runs of `somvae fit` as benchmarks: trained once, kept, and read again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def train(folder: Path, options: list[str]) -> None:
    """Trains one model into its folder, unless a complete run is there."""
    if (folder / "evaluation.json").is_file():
        return
    command = [sys.executable, "-m", "somvae_ext", "fit", *options]
    subprocess.run([*command, "--out", str(folder), "--overwrite"], check=True)


def records(folder: Path) -> list[dict[str, Any]]:
    """What was recorded after each epoch."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def evaluation(folder: Path) -> dict[str, Any]:
    """The evaluation on the test split."""
    found: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())["test"]
    return found
