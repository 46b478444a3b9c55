"""The one file that says what a result folder holds: what was trained, and which files belong to it.

It is replaced as a whole, after the files that it names, so that a folder changes from one state to the next in a
single step.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from somvae_ext._version import __version__
from somvae_ext.store.atomic_file import atomic_file, sync_folder

FORMAT = 2
"""Version of the folder's layout. Version 1, of somvae_ext 0.1, had no manifest."""

NAME = "manifest.json"

# Far above what features with names and scalings take; a file beyond it is none of ours.
_MOST_BYTES = 1 << 28
_KINDS = ("map", "model")


class File(NamedTuple):
    """What a file must hold: its first ``size`` bytes, and their SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


def measured(content: bytes) -> File:
    """What a file with this content is."""
    return File(len(content), hashlib.sha256(content).hexdigest())


@dataclasses.dataclass
class Checkpoint:
    """The files of a training as of an epoch; logs may have grown since."""

    epoch: int
    files: dict[str, File]


@dataclasses.dataclass
class Manifest:
    """What a result folder holds.

    Args:
        kind: ``"map"`` or ``"model"``.
        config: what was trained, on what and how; JSON's types.
        files: those that belong to the result as a whole.
        checkpoints: of the last epochs, ascending.
        evaluations: figures on each split of the last checkpoint.
        pictures: names of their files.
        version: of the package that began the result.
    """

    kind: str
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    files: dict[str, File] = dataclasses.field(default_factory=dict)
    checkpoints: list[Checkpoint] = dataclasses.field(default_factory=list)
    evaluations: dict[str, Any] = dataclasses.field(default_factory=dict)
    pictures: list[str] = dataclasses.field(default_factory=list)
    version: str = __version__

    def write(self, folder: Path) -> None:
        """Replaces the folder's manifest.

        Raises:
            ValueError: JSON cannot hold the config or an evaluation.
        """
        content = {
            "format": FORMAT,
            "kind": self.kind,
            "somvae_ext": self.version,
            "config": self.config,
            "evaluations": self.evaluations,
            "pictures": self.pictures,
            "files": {name: file._asdict() for name, file in self.files.items()},
            "checkpoints": [
                {"epoch": entry.epoch, "files": {name: file._asdict() for name, file in entry.files.items()}}
                for entry in self.checkpoints
            ],
        }
        try:
            sealed = content | {"sha256": _seal(content)}
            text = json.dumps(sealed, indent=2, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise ValueError(f"{folder}: a config and evaluations must be what JSON can hold, but {error}") from error
        with atomic_file(folder / NAME) as file:
            file.write(text.encode())
        sync_folder(folder)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder.

    Raises:
        FileNotFoundError: it has none.
        ValueError: the manifest is damaged, or of a version that this one cannot read.
    """
    path = folder / NAME
    if not path.is_file():
        earlier = _earlier_version(folder)
        if earlier is not None:
            raise ValueError(
                f"{folder} was written by somvae_ext {earlier}, whose folders this version, {__version__}, cannot "
                f"read; train again, or use version {earlier}"
            )
        raise FileNotFoundError(f"{folder} must be the folder of a trained map or model, but it has no {NAME}")
    if path.stat().st_size > _MOST_BYTES:
        _damaged(path, "it is too large")
    content = read_json(path)
    if not isinstance(content, dict) or "format" not in content:
        _damaged(path, "it holds none")
    if content["format"] != FORMAT:
        raise ValueError(
            f"{path} must have format {FORMAT}, got {_shown(content['format'])}, written by somvae_ext "
            f"{_shown(content.get('somvae_ext', 'of unknown version'))}; this is {__version__}"
        )
    seal = content.pop("sha256", None)
    try:
        is_sealed = seal == _seal(content)
    except (ValueError, RecursionError):  # of text that is no Unicode, or nesting at the limit
        is_sealed = False
    if not is_sealed:
        _damaged(path, "its contents do not have the SHA-256 that stands in it")
    try:
        manifest = Manifest(
            kind=content["kind"],
            config=content["config"],
            files=_files(content["files"]),
            checkpoints=[
                Checkpoint(_count("epoch", entry["epoch"]), _files(entry["files"])) for entry in content["checkpoints"]
            ],
            evaluations=content["evaluations"],
            pictures=[str(name) for name in content["pictures"]],
            version=content["somvae_ext"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        _damaged(path, f"it lacks or misspells {error}")
    if (
        manifest.kind not in _KINDS
        or not isinstance(manifest.config, dict)
        or not isinstance(manifest.evaluations, dict)
        or not isinstance(manifest.version, str)
    ):
        _damaged(path, "its kind, config, evaluations or version are none")
    return manifest


def is_result(folder: Path) -> bool:
    """Whether the folder holds a result of this version, even a damaged one, or of an earlier one."""
    try:
        with (folder / NAME).open("rb") as file:
            return b'"somvae_ext"' in file.read(_MOST_BYTES)
    except OSError:
        return _earlier_version(folder) is not None


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(path.read_bytes(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{path} must be JSON, but it is damaged: {reason}") from error


def _earlier_version(folder: Path) -> str | None:
    """The version that wrote a folder without a manifest, or None."""
    path = folder / "config.json"
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        config = read_json(path)
    except (OSError, ValueError):
        return None
    is_earlier = isinstance(config, dict) and ("format" in config or "map_format" in config)
    return _shown(config["somvae_ext"]) if is_earlier and "somvae_ext" in config else None


def _seal(content: dict[str, Any]) -> str:
    """A hash that does not depend on how the JSON is laid out.

    Raises:
        ValueError: text that is no Unicode, such as half a surrogate pair.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _files(values: dict[str, Any]) -> dict[str, File]:
    return {str(name): File(_count("size", file["size"]), str(file["sha256"])) for name, file in values.items()}


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(repr(name))
    return value


def _shown(value: Any) -> str:
    """A value of an unknown file, short enough for a sentence."""
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _damaged(path: Path, reason: str) -> NoReturn:
    raise ValueError(f"{path} must be the manifest of a trained map or model, but it is damaged: {reason}")
