"""Where commands write: to standard output, to a file that is complete or absent, or to a folder of pictures."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from somvae_ext.store import atomic_file, check_writable

if TYPE_CHECKING:
    from jsonargparse import Namespace


_STREAM = re.compile(r"/dev/(std(in|out|err)|fd/\d+)|/proc/[^/]+/fd/\d+")


def check_output(path: str | None, *, may_replace: bool = True) -> None:
    """Checks that ``--output`` can be written, before the work on its contents begins.

    Raises:
        FileExistsError: the file exists and may not be replaced.
        FileNotFoundError: its folder does not exist.
        IsADirectoryError: the path is a folder.
        PermissionError: its folder cannot be written to.
    """
    if path is None:
        return
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"--output must be a file in a folder that exists, but {Path(path).parent} does not")
    if Path(path).is_dir():
        raise IsADirectoryError(f"--output must be a file, but {path} is a folder")
    if Path(path).is_file() and not is_special(path) and not may_replace:
        raise FileExistsError(f"{path} is there already; choose another --output, or set --overwrite")
    if not is_special(path) and not os.access(Path(path).parent, os.W_OK | os.X_OK):  # to replace a file in its folder
        raise PermissionError(f"--output must be a file in a writable folder, but {path} is not")


def check_picture_folder(folder: Path, names: Sequence[str], *, may_replace: bool) -> None:
    """Checks that pictures of these names can be written into the folder ``--out``, which need not exist yet.

    Raises:
        FileExistsError: the folder is a file, or one of the pictures exists and may not be replaced.
        PermissionError: the folder, or the one that it would be created in, cannot be written to.
    """
    check_writable(folder, "--out ")
    existing = [folder / name for name in names if (folder / name).exists()]
    if existing and not may_replace:
        raise FileExistsError(f"{existing[0]} is there already; choose another --out, or set --overwrite")


@contextlib.contextmanager
def open_output(path: str | None) -> Iterator[TextIO]:
    """Opens standard output, or a file, which is replaced only if the block succeeds."""
    check_output(path)
    if path is None:
        yield sys.stdout
    elif is_special(path):
        with open(path, "w", newline="", encoding="utf-8") as file:
            yield file
    else:
        with atomic_file(Path(path)) as binary:
            text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
            yield text
            text.flush()
            text.detach()


def is_special(path: str) -> bool:
    """Whether a path is a stream or device, such as ``/dev/stdout``, which cannot be replaced.

    Streams are recognized by their paths: ``/dev/stdout`` leads to a regular file if a shell has redirected it to one.
    """
    is_stream = _STREAM.fullmatch(str(Path(path).absolute())) is not None
    return is_stream or (Path(path).exists() and not Path(path).is_file())


def report_omitted(omitted: str) -> None:
    """Reports on stderr which rows and columns of the data were not used, to match the output with the data."""
    if omitted:
        print(f"somvae: left out: {omitted}", file=sys.stderr)


def check_id_column(options: Namespace, *, has_ids: bool) -> None:
    """Checks that the data have the column of ``--id-column``.

    Raises:
        ValueError: the column is absent. Without the option, the id column of the training data may be absent.
    """
    if options.id_column is not None and not has_ids:
        raise ValueError(f"--id-column must be one of the columns of {options.data}, got {options.id_column!r}")
