"""Whether a result may be written somewhere; nothing is touched."""

from __future__ import annotations

import os
from pathlib import Path

from somvae_ext.store import manifest as manifests
from somvae_ext.store.folder_lock import NAME as LOCK

EVALUATION, CHOICE = "evaluation.json", "choice.json"
FORMAT_1_FILES = (
    "config.json",
    "checkpoint.pt",
    "experts.pt",
    "metrics.jsonl",
    "iterations.jsonl",
    "codebook.npy",
    "hits.npy",
    "labels.npy",
)
"""What version 1 wrote, whose folders are replaced but not read."""

REPORT, COMPARISON = "report.html", "comparison.html"
"""Pages that show a result, or two."""

SUFFIXES = (".safetensors", ".jsonl", ".png")
"""Of the files that a manifest names."""


def check_writable(folder: Path, what: str = "") -> None:
    """Whether a folder can be written to, which may be yet to be made.

    Args:
        folder: the folder.
        what: an option that asks for it, with a space after it, for the message.

    Raises:
        FileExistsError: a file, or a link that leads nowhere, is where the folder or one above it should be.
        PermissionError: it, or the folder to make it in, must not be written to.
    """
    try:
        exists = folder.exists()
        places = (folder, *folder.absolute().parents)
        place = next(parent for parent in places if parent.exists() or parent.is_symlink())
        leads_nowhere = not place.exists()
    except OSError as error:  # a name that is too long, links that lead in a circle
        raise FileExistsError(f"{what}{folder} cannot be a folder: {error.strerror}") from error
    if leads_nowhere:
        raise FileExistsError(f"{what}{folder} must be a folder, but {place} is a link that leads nowhere")
    if exists and not folder.is_dir():
        raise FileExistsError(f"{what}{folder} must be a folder, but a file is there")
    if not place.is_dir():
        raise FileExistsError(f"{what}{folder} must be in a folder, but {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"{what}{folder} must be a folder to write to, but {place} does not allow it")


def check_destination(folder: Path, *, overwrite: bool) -> None:
    """Whether a new result may be written into a folder.

    Raises:
        FileExistsError: it is not empty and ``overwrite`` is not set, or what would be overwritten is no result: files
            of such names without our manifest; and what :func:`check_writable` refuses.
        PermissionError: see :func:`check_writable`.
    """
    check_writable(folder)
    if not is_occupied(folder):
        return
    if not overwrite:
        raise FileExistsError(f"{folder} is not empty; choose another folder, or set overwrite")
    ours = (EVALUATION, CHOICE, REPORT, COMPARISON, *FORMAT_1_FILES)
    conflicts = [path.name for path in sorted(folder.iterdir()) if path.name.endswith(SUFFIXES) or path.name in ours]
    if conflicts and not manifests.is_result_folder(folder):
        raise FileExistsError(
            f"{folder} holds {conflicts[0]} but no {manifests.NAME} of ours, so it is not overwritten; choose another "
            "folder"
        )


def is_occupied(folder: Path) -> bool:
    """Whether a folder holds more than what a training without a completed epoch has left."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir() if not is_leftover(path.name)} - {LOCK}
    if names != {manifests.NAME}:
        return bool(names)
    try:
        return bool(manifests.read_manifest(folder)[0].checkpoints)
    except (ValueError, OSError):
        return True


def is_leftover(name: str) -> bool:
    """Whether a file of this name is one that a killed process was writing."""
    return name.startswith(".") and name.endswith((".partial", ".next"))
