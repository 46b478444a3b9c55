"""Logs: files that grow by lines of JSON, and of which a manifest says how many bytes count."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from somvae_ext.store._atomic_file import explain_full_disk
from somvae_ext.store.manifest import FileDigest, file_digest


class LogFile:
    """A file that lines are appended to.

    Args:
        path: the file.
        file: digest of the bytes that count; the rest of the file is overwritten.

    Raises:
        ValueError: the file is damaged.
    """

    def __init__(self, path: Path, file: FileDigest) -> None:
        self._path = path
        with path.open("rb") as stream:
            content = stream.read(file.size)
        if file_digest(content) != file:
            raise ValueError(f"{path} is damaged: it does not have the SHA-256 in the manifest")
        self._size, self._hash = len(content), hashlib.sha256(content)

    def append(self, lines: bytes) -> FileDigest:
        """Appends lines after the bytes that count; returns the digest of the bytes that count from then on."""
        with explain_full_disk(self._path), self._path.open("ab") as stream:
            stream.truncate(self._size)
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())
        self._size += len(lines)
        self._hash.update(lines)
        return FileDigest(self._size, self._hash.hexdigest())


def parse_records(content: bytes) -> list[dict[str, Any]]:
    """Parses the records of a log, one per line.

    Raises:
        ValueError: a line that is not the record of an epoch.
    """
    try:
        records = [json.loads(line) for line in content.splitlines()]
    except RecursionError as error:
        raise ValueError("its records are nested too deeply") from error
    for number, record in enumerate(records, start=1):
        epoch = record.get("epoch") if isinstance(record, dict) else None
        if not isinstance(epoch, int) or isinstance(epoch, bool):
            raise ValueError(f"line {number} is no record of an epoch")
    return records
