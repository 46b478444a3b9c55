"""Where the commands write tables: standard output, or a file that is complete or not there."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from somvae_ext.atomic_file import atomic_file


def check_output(path: str | None) -> None:
    """Whether ``--output`` can be a file, before it takes long to make what comes into it.

    Raises:
        FileNotFoundError: its folder is not there.
        IsADirectoryError: it is a folder.
    """
    if path is None:
        return
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"--output must be a file in a folder that exists, but {Path(path).parent} does not")
    if Path(path).is_dir():
        raise IsADirectoryError(f"--output must be a file, but {path} is a folder")


@contextlib.contextmanager
def output(path: str | None) -> Iterator[TextIO]:
    """Standard output, or a file, which is replaced when all went well."""
    check_output(path)
    if path is None:
        yield sys.stdout
    elif Path(path).exists() and not Path(path).is_file():  # such as /dev/stdout, which nothing can replace
        with open(path, "w", newline="", encoding="utf-8") as file:
            yield file
    else:
        with atomic_file(Path(path)) as binary:
            text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
            yield text
            text.flush()
            text.detach()
