"""The one file that says what a result folder holds: what was trained, and which files belong to it.

It is replaced as a whole, after the files that it names have been written, so a folder changes from one state to the
next in a single step.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from somvae_ext._version import __version__

FORMAT = 2
"""Version of the folder's layout. Version 1, of somvae_ext 0.1, had no manifest."""

NAME = "manifest.json"

# Far above what the names and scalings of features take; a larger file is not one of ours.
_MAX_BYTES = 1 << 28
_KINDS = ("map", "model")


class FileDigest(NamedTuple):
    """Size and SHA-256 (hexadecimal) of a file's content. A log may have grown since."""

    size: int
    sha256: str


def file_digest(content: bytes) -> FileDigest:
    """Returns the digest of a file with this content."""
    return FileDigest(len(content), hashlib.sha256(content).hexdigest())


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The files of a training as of an epoch; logs may have grown since."""

    epoch: int
    files: dict[str, FileDigest]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a result folder holds.

    Args:
        kind: ``"map"`` or ``"model"``.
        config: what was trained, on what and how, as JSON's types.
        files: the files that belong to the result as a whole.
        checkpoints: checkpoints of the last epochs, ascending.
        evaluations: figures of the last checkpoint on each split.
        pictures: names of the files of pictures and pages.
        obsolete: names of files of the previous state, which may still exist.
        version: version of the package that began the result.
    """

    kind: str
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    files: dict[str, FileDigest] = dataclasses.field(default_factory=dict)
    checkpoints: list[Checkpoint] = dataclasses.field(default_factory=list)
    evaluations: dict[str, Any] = dataclasses.field(default_factory=dict)
    pictures: list[str] = dataclasses.field(default_factory=list)
    obsolete: list[str] = dataclasses.field(default_factory=list)
    version: str = __version__

    def named_files(self) -> dict[str, FileDigest]:
        """Returns all files of the result except pictures; logs have the size that they had at the last checkpoint."""
        return {name: file for checkpoint in self.checkpoints for name, file in checkpoint.files.items()} | self.files

    def to_bytes(self) -> bytes:
        """Returns the content of the manifest's file.

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
            "obsolete": self.obsolete,
        }
        try:
            sealed = content | {"sha256": content_hash(content)}
            return (json.dumps(sealed, indent=2, allow_nan=False) + "\n").encode()
        except (TypeError, ValueError) as error:
            raise ValueError(f"a config and evaluations must be what JSON can hold, but {error}") from error


def read_manifest(folder: Path) -> tuple[Manifest, FileDigest]:
    """Reads the manifest of a folder; also returns the digest of its file.

    Raises:
        FileNotFoundError: the folder has none.
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
    if path.stat().st_size > _MAX_BYTES:
        _raise_damaged(path, "it is too large")
    text = path.read_bytes()
    content = parse_json(path, text)
    if not isinstance(content, dict) or "format" not in content:
        _raise_damaged(path, "the field 'format' is missing")
    if content["format"] != FORMAT:
        raise ValueError(
            f"{path} must have format {FORMAT}, got {_abbreviate(content['format'])}, written by somvae_ext "
            f"{_abbreviate(content.get('somvae_ext', 'of unknown version'))}; this is {__version__}"
        )
    expected = content.pop("sha256", None)
    try:
        is_sealed = expected == content_hash(content)
    except (ValueError, RecursionError):  # invalid Unicode, or nesting at the limit
        is_sealed = False
    if not is_sealed:
        _raise_damaged(path, "its contents do not have the SHA-256 that stands in it")
    try:
        manifest = Manifest(
            kind=content["kind"],
            config=content["config"],
            files=_parse_files(content["files"]),
            checkpoints=[
                Checkpoint(_parse_count("epoch", entry["epoch"]), _parse_files(entry["files"]))
                for entry in content["checkpoints"]
            ],
            evaluations=content["evaluations"],
            pictures=[str(name) for name in content["pictures"]],
            obsolete=[str(name) for name in content["obsolete"]],
            version=content["somvae_ext"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        _raise_damaged(path, f"it lacks or misspells {error}")
    if (
        manifest.kind not in _KINDS
        or not isinstance(manifest.config, dict)
        or not isinstance(manifest.evaluations, dict)
        or not isinstance(manifest.version, str)
    ):
        _raise_damaged(path, "kind, config, evaluations or version have the wrong type")
    return manifest, file_digest(text)


def is_result_folder(folder: Path) -> bool:
    """Whether the folder holds a result of this version, even a damaged one, or of an earlier one."""
    try:
        with (folder / NAME).open("rb") as file:
            return b'"somvae_ext"' in file.read(_MAX_BYTES)
    except OSError:
        return _earlier_version(folder) is not None


def parse_json(path: Path, text: bytes) -> Any:
    """Parses the text of a JSON file.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{path} must be JSON, but it is damaged: {reason}") from error


def _earlier_version(folder: Path) -> str | None:
    """Returns the version that wrote a folder without a manifest, or None."""
    path = folder / "config.json"
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        config = parse_json(path, path.read_bytes())
    except (OSError, ValueError):
        return None
    is_earlier = isinstance(config, dict) and ("format" in config or "map_format" in config)
    return _abbreviate(config["somvae_ext"]) if is_earlier and "somvae_ext" in config else None


def content_hash(content: dict[str, Any]) -> str:
    """Returns the SHA-256 of a JSON object, whatever its layout.

    Raises:
        ValueError: text that is not valid Unicode, such as half a surrogate pair.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _parse_files(values: dict[str, Any]) -> dict[str, FileDigest]:
    return {
        str(name): FileDigest(_parse_count("size", file["size"]), str(file["sha256"])) for name, file in values.items()
    }


def _parse_count(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(repr(name))
    return value


def _abbreviate(value: Any) -> str:
    """Shortens a value of an unknown file for a message."""
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _raise_damaged(path: Path, reason: str) -> NoReturn:
    raise ValueError(f"{path} must be the manifest of a trained map or model, but it is damaged: {reason}")
