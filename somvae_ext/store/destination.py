"""Checks whether a result may be written somewhere, without changing anything."""

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
"""Files of format version 1, whose folders are overwritten but not read."""

REPORT, COMPARISON = "report.html", "comparison.html"
"""Names of pages that show a result, or compare two."""

SUFFIXES = (".safetensors", ".jsonl", ".png")
"""Suffixes of the files that a manifest names."""


def check_writable(folder: Path, what: str = "") -> None:
    """Checks that a folder, which need not exist yet, can be written to.

    Args:
        folder: the folder.
        what: an option that asks for it, with a space after it, for the message.

    Raises:
        FileExistsError: a file or a broken link is in place of the folder or of one above it.
        PermissionError: the folder, or the one to make it in, is not writable.
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
    """Checks that a new result may be written into a folder.

    Raises:
        FileExistsError: the folder is not empty and ``overwrite`` is not set; it holds files with the names of ours but
            not our manifest; or :func:`check_writable` refuses it.
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
    """Whether a folder holds more than a training without a completed epoch leaves behind."""
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
    """Whether a file of this name was left by a killed process."""
    return name.startswith(".") and name.endswith((".partial", ".next"))
