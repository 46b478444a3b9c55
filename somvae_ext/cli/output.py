"""Where the commands write: standard output, a file that is complete or not there, or a folder of pictures."""

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
    """Whether ``--output`` can be a file, before it takes long to make what comes into it.

    Raises:
        FileExistsError: it is there and may not be replaced.
        FileNotFoundError: its folder is not there.
        IsADirectoryError: it is a folder.
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
    if not is_special(path) and not os.access(Path(path).parent, os.W_OK | os.X_OK):  # a file is replaced in its folder
        raise PermissionError(f"--output must be a file in a folder to write to, but {path} is not")


def check_picture_folder(folder: Path, names: Sequence[str], *, may_replace: bool) -> None:
    """Whether pictures of these names can be written into a folder, ``--out``, which may be yet to be made.

    Raises:
        FileExistsError: it is a file, or one of them is there and may not be replaced.
        PermissionError: it, or where it would be made, cannot be written to.
    """
    check_writable(folder, "--out ")
    existing = [folder / name for name in names if (folder / name).exists()]
    if existing and not may_replace:
        raise FileExistsError(f"{existing[0]} is there already; choose another --out, or set --overwrite")


@contextlib.contextmanager
def open_output(path: str | None) -> Iterator[TextIO]:
    """Standard output, or a file, which is replaced when all went well."""
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
    """Whether a path is no regular file, such as ``/dev/stdout``, which nothing can replace.

    Where a shell has redirected standard output, ``/dev/stdout`` leads to a regular file.
    """
    is_stream = _STREAM.fullmatch(str(Path(path).absolute())) is not None
    return is_stream or (Path(path).exists() and not Path(path).is_file())


def report_omitted(omitted: str) -> None:
    """Says on stderr which rows and columns of the data were not used, so that what was written can be matched."""
    if omitted:
        print(f"somvae: left out: {omitted}", file=sys.stderr)


def check_id_column(options: Namespace, *, has_ids: bool) -> None:
    """
    Raises:
        ValueError: the column of ``--id-column`` is not in the data; that of the training may be absent.
    """
    if options.id_column is not None and not has_ids:
        raise ValueError(f"--id-column must be one of the columns of {options.data}, got {options.id_column!r}")
