"""The result file of a benchmark. It is complete after every row, so a stopped run loses nothing it has measured."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from somvae_ext.store import atomic_file


def command_line() -> str:
    """The command line of this script."""
    return f"python {shlex.join(sys.argv)}"


class Record:
    """The results of a benchmark, written as JSON part by part. Without a path nothing is written."""

    def __init__(self, path: Path | None, **contents: Any) -> None:
        self.path = path
        self.contents = contents
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        self.write()

    def add(self, part: str, row: Any) -> None:
        """Appends a row to a part that is a list."""
        self.contents[part].append(row)
        self.write()

    def put(self, part: str, value: Any) -> None:
        self.contents[part] = value
        self.write()

    def say_where(self) -> None:
        if self.path:
            print(f"written to {self.path}", file=sys.stderr)

    def write(self) -> None:
        """Writes all parts atomically."""
        if self.path:
            text = json.dumps(self.contents, indent=1) + "\n"
            with atomic_file(self.path) as file:
                file.write(text.encode())
