"""The folder of a trained map or model."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from torch import Tensor

from somvae_ext.store import manifest as manifests
from somvae_ext.store.atomic_file import atomic_file, remove_partial_files
from somvae_ext.store.folder_lock import NAME as LOCK
from somvae_ext.store.folder_lock import FolderLock
from somvae_ext.store.log_file import LogFile, parse_records
from somvae_ext.store.manifest import Checkpoint, File, Manifest, measured
from somvae_ext.store.tensor_file import tensors_from_bytes, tensors_to_bytes, tree_from_bytes, tree_to_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHTS, STATE = "weights", "state"

_KEPT = 2  # checkpoints: the last one, and the one to fall back on
_OF_EPOCH = re.compile(r"(\w+)-(\d+)\.safetensors")
_EVALUATION, _CHOICE = "evaluation.json", "choice.json"
_SUFFIXES = (".safetensors", ".jsonl", ".png")  # of what a manifest may name
# What version 1 wrote, whose folders are replaced but not read.
_EARLIER = (
    "config.json",
    "checkpoint.pt",
    "experts.pt",
    "metrics.jsonl",
    "iterations.jsonl",
    "codebook.npy",
    "hits.npy",
    "labels.npy",
)


class ResultFolder:
    """What a training produced, and all that it takes to use it or to go on.

    ============================  ======================================================================================
    ``manifest.json``             kind, version, config, evaluations, and size and SHA-256 of the files below
    ``weights-E.safetensors``     the trained tensors after epoch E, of the last two epochs
    ``state-E.safetensors``       what it takes to go on after epoch E: optimizers, generators
    ``<name>-E.safetensors``      other tensors that grow with the epochs
    ``<name>.safetensors``        tensors of a completed result
    ``<name>.jsonl``              logs: a record per epoch and line
    ``evaluation.json``           the evaluations, for people and their scripts; only written here
    ``choice.json``               which of several seeds this is, and by what it was chosen; only written here
    ``*.png``                     pictures
    ``.lock``                     empty; locked by the process that writes
    ============================  ======================================================================================

    The manifest is replaced after the files that it names were written, and logs are appended to, so that a process
    may be killed at any moment: the folder is as of one of the last epochs. Every file is checked against its SHA-256
    before it is used, and none holds code.

    One process at a time may write, which :meth:`claim` ensures. Every method that writes claims the folder for itself
    where its caller has not.
    """

    def __init__(self, path: Path, manifest: Manifest, *, is_new: bool, overwrite: bool = False) -> None:
        self.path = path
        self._manifest = manifest
        self._is_new = is_new  # nothing of it is on disk
        self._overwrite = overwrite
        self._lock: FolderLock | None = None
        self._claims = 0
        self._seen: File | None = None if is_new else measured((path / manifests.NAME).read_bytes())
        self._named_on_disk = set() if is_new else _files_of_epochs(manifest)
        self._staged: dict[str, bytes] = {}
        self._logs: dict[str, LogFile] = {}

    @classmethod
    def create(cls, path: str | os.PathLike[str], kind: str, *, overwrite: bool = False) -> ResultFolder:
        """A folder for a new result.

        Args:
            path: made by the first writing if it is not there.
            kind: ``"map"`` or ``"model"``.
            overwrite: take a folder that is not empty. An earlier result in it is removed when the new one has
                completed its first epoch, so that whatever goes wrong before costs nothing; anything else stays.

        Raises:
            FileExistsError: the folder is not empty and ``overwrite`` is not set, ``path`` is a file, or what would be
                overwritten is no result: files of such names without our manifest.
            PermissionError: it, or the folder to make it in, must not be written to.
        """
        folder = cls(Path(path), Manifest(kind), is_new=True, overwrite=overwrite)
        folder._check_place()
        return folder

    @classmethod
    def open(cls, path: str | os.PathLike[str], kind: str | None = None) -> ResultFolder:
        """The folder of an earlier result.

        Args:
            path: the folder.
            kind: ``"map"`` or ``"model"``, where only one will do.

        Raises:
            FileNotFoundError: there is no result.
            ValueError: its manifest is damaged, or it is of the other kind, or of a version that this one cannot read.
        """
        folder = Path(path)
        manifest = manifests.read_manifest(folder)
        if kind is not None and manifest.kind != kind:
            raise ValueError(f"{folder} must hold a trained {kind}, but it holds a {manifest.kind}")
        return cls(folder, manifest, is_new=False)

    # ---- what it holds -----------------------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """``"map"`` or ``"model"``."""
        return self._manifest.kind

    @property
    def config(self) -> dict[str, Any]:
        """What was trained, on what and how, as :meth:`begin` was given it."""
        return self._manifest.config

    @property
    def epochs(self) -> list[int]:
        """The epochs that there are checkpoints of, ascending."""
        return [checkpoint.epoch for checkpoint in self._manifest.checkpoints]

    @property
    def last_epoch(self) -> int:
        """The last epoch that was completed.

        Raises:
            FileNotFoundError: none was.
        """
        return self._checkpoint(None).epoch

    @property
    def files(self) -> list[str]:
        """Names of the files of a completed result that :meth:`save_file` wrote."""
        return list(self._manifest.files)

    @property
    def evaluations(self) -> dict[str, Any]:
        """The evaluations of the last checkpoint, by the splits' names."""
        return self._manifest.evaluations

    def load_weights(self, epoch: int | None = None) -> dict[str, Tensor]:
        """The trained tensors after an epoch, by default the last one, on the CPU.

        Raises:
            FileNotFoundError: no epoch was completed, or the file is gone.
            ValueError: there is no checkpoint of that epoch, or its file is damaged.
        """
        return self._load_of_epoch(WEIGHTS, epoch, tensors_from_bytes)

    def load_state(self, epoch: int | None = None) -> Any:
        """What it takes to go on after an epoch, likewise."""
        return self._load_of_epoch(STATE, epoch, tree_from_bytes)

    def load_tensors(self, name: str, epoch: int | None = None) -> dict[str, Tensor] | None:
        """Other tensors as of an epoch, or None where there are none of this name, likewise."""
        checkpoint = self._checkpoint(epoch) if self.epochs else None
        if checkpoint is None or _of_epoch(name, checkpoint.epoch) not in checkpoint.files:
            return None
        return self._load_of_epoch(name, epoch, tensors_from_bytes)

    def load_file(self, name: str) -> dict[str, Tensor]:
        """The tensors of a completed result that :meth:`save_file` wrote under this name.

        Raises:
            FileNotFoundError: there are none.
            ValueError: the file is damaged.
        """
        file = f"{name}.safetensors"
        if file not in self._manifest.files:
            raise FileNotFoundError(f"{self.path / file} does not exist")
        return self._parsed(file, self._manifest.files[file], tensors_from_bytes, None)

    def load_log(self, name: str, epoch: int | None = None) -> list[dict[str, Any]]:
        """The records of a log up to an epoch, by default the last one that was completed; none without such a log.

        Raises:
            FileNotFoundError: the file is gone.
            ValueError: the file is damaged.
        """
        if not self.epochs:
            return []
        checkpoint = self._checkpoint(epoch)
        file = checkpoint.files.get(_log(name))
        return [] if file is None else self._parsed(_log(name), file, parse_records, checkpoint.epoch)

    # ---- writing -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Makes this process the only one that writes to the folder, and removes what killed ones left.

        Raises:
            BlockingIOError: another process writes to it, or has done so since it was opened.
            OSError: it must not be written to.
        """
        if self._claims:
            self._claims += 1
            try:
                yield
            finally:
                self._claims -= 1
            return
        made = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.path)
        try:
            self._lock.acquire()
            try:
                self._claims = 1
                self._tidy()
                yield
            except BaseException:
                if made and not self.epochs:
                    self._remove_if_empty()
                raise
            finally:
                self._claims = 0
                if made and self._is_new:
                    self._remove_if_empty()
                self._lock.release()
        finally:
            self._lock = None

    def begin(self, config: dict[str, Any]) -> None:
        """Says what is about to be trained; where an earlier result is overwritten, it waits for the first epoch.

        Args:
            config: JSON's types.
        """
        self._manifest.config = config
        with self.claim():
            if not (self._is_new and self._holds_a_result()):
                self._write_manifest()

    def stage(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Lets tensors be written with the next checkpoint."""
        self._staged[name] = tensors_to_bytes(tensors)

    def save_checkpoint(
        self, epoch: int, weights: dict[str, Tensor], state: Any, records: Mapping[str, Sequence[dict[str, Any]]]
    ) -> None:
        """Writes what an epoch has made, and removes what is older than the epoch before it.

        Args:
            epoch: its number; one after that of the last checkpoint.
            weights: the trained tensors.
            state: what it takes to go on: containers, numbers and tensors.
            records: by the names of the logs, what is appended to each; every record has the ``epoch`` that it is of.

        Raises:
            OSError: a file cannot be written; the checkpoints before it stay.
        """
        contents = {WEIGHTS: tensors_to_bytes(weights), STATE: tree_to_bytes(state)} | self._staged
        contents = {_of_epoch(name, epoch): content for name, content in contents.items()}
        with self.claim():
            self._take_over()
            before = self._manifest
            try:
                files = {name: self._write(name, content) for name, content in contents.items()}
                files |= self._append(records)
                kept = [checkpoint for checkpoint in before.checkpoints if checkpoint.epoch < epoch]
                kept = [*kept[1 - _KEPT :], Checkpoint(epoch, files)]
                self._manifest = dataclasses.replace(before, checkpoints=kept, evaluations={})
                self._write_manifest()
            except OSError as error:
                self._manifest, self._logs = before, {}
                self._remove_old_epochs()  # with them what was written of this one, which may be what fills the disk
                kept_epoch = f"; {self.path} keeps the checkpoint of epoch {self.epochs[-1]}" if self.epochs else ""
                raise OSError(error.errno, f"{error.strerror or error}{kept_epoch}") from error
            (self.path / _EVALUATION).unlink(missing_ok=True)
            self._remove_old_epochs()
            self._staged = {}

    def go_back(self, epoch: int) -> None:
        """Forgets checkpoints of later epochs, and what was made of them; their files go with the next checkpoint.

        Raises:
            ValueError: there is no checkpoint of that epoch.
        """
        self._checkpoint(epoch)
        if epoch == self.last_epoch:
            return
        self._manifest.checkpoints = [entry for entry in self._manifest.checkpoints if entry.epoch <= epoch]
        self._manifest.files, self._manifest.evaluations = {}, {}  # of the last epoch
        self._logs = {}

    def save_file(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Writes tensors of a completed result, under a name that :meth:`load_file` takes."""
        with self.claim():
            self._take_over()
            self._manifest.files[f"{name}.safetensors"] = self._write(f"{name}.safetensors", tensors_to_bytes(tensors))
            self._write_manifest()

    def save_evaluation(self, split: str, evaluation: dict[str, Any]) -> None:
        """Keeps the evaluation of the last checkpoint on a split, in ``evaluation.json`` too; JSON's types."""
        with self.claim():
            self._manifest.evaluations[split] = evaluation
            self._write_manifest()
            self._write_text(_EVALUATION, self._manifest.evaluations)

    def save_figure(self, name: str, figure: Figure, **options: Any) -> Path:
        """Writes a picture as PNG and returns its path; options are those of matplotlib's ``savefig``."""
        with self.claim():
            with atomic_file(self.path / name) as file:
                figure.savefig(file, dpi=150, format="png", **options)
            if name not in self._manifest.pictures:
                self._manifest.pictures.append(name)
                self._write_manifest()
        return self.path / name

    def adopt(self, other: ResultFolder, choice: dict[str, Any]) -> None:
        """Takes over the last checkpoint of another folder: it was chosen among several.

        Args:
            other: the one that was chosen, with a checkpoint.
            choice: how, for ``choice.json``.
        """
        checkpoint = other._checkpoint(None)
        with self.claim():
            self._manifest.config = other.config
            self._take_over()
            for name, file in checkpoint.files.items():
                self._write(name, other._content(name, file, checkpoint.epoch))
            self._manifest.checkpoints = [checkpoint]
            self._logs = {}
            self._write_manifest()
            self._write_text(_CHOICE, choice)

    # ---- how it is written -------------------------------------------------------------------------------------------

    def _check_place(self) -> None:
        path = self.path
        places = (path, *path.absolute().parents)
        try:
            exists = path.exists()
            place = next(parent for parent in places if parent.exists() or parent.is_symlink())
            is_broken_link = not place.exists()
        except OSError as error:  # a name that is too long, links that lead in a circle
            raise FileExistsError(f"{path} cannot be a folder: {error.strerror}") from error
        if is_broken_link:
            raise FileExistsError(f"{path} must be a folder, but {place} is a link that leads nowhere")
        if exists and not path.is_dir():
            raise FileExistsError(f"{path} must be a folder, but a file is there")
        if not place.is_dir():
            raise FileExistsError(f"{path} must be in a folder, but {place} is a file")
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(f"{path} must be a folder to write to, but {place} does not allow it")
        if not exists or not self._is_occupied():
            return
        if not self._overwrite:
            raise FileExistsError(f"{path} is not empty; choose another folder, or set overwrite")
        held = [name for name in _names(path) if name.endswith(_SUFFIXES) or name in (_EVALUATION, _CHOICE, *_EARLIER)]
        if held and not manifests.is_result(path):
            raise FileExistsError(
                f"{path} holds {held[0]} but no {manifests.NAME} of ours, so it is not overwritten; choose another "
                "folder"
            )

    def _is_occupied(self) -> bool:
        """Whether there is more than what a training without a completed epoch has left."""
        others = [name for name in _names(self.path) if name not in (LOCK, manifests.NAME) and not _is_partial(name)]
        if others or not (self.path / manifests.NAME).exists():
            return bool(others)
        try:
            return bool(manifests.read_manifest(self.path).checkpoints)
        except (ValueError, OSError):
            return True

    def _holds_a_result(self) -> bool:
        return self._is_occupied() and manifests.is_result(self.path)

    def _tidy(self) -> None:
        """Looks at a folder that has just been claimed, and removes what killed processes left in it."""
        if self._is_new:
            self._check_place()
        else:
            self._check_unchanged()
            self._remove_old_epochs()
        remove_partial_files(self.path)

    def _check_unchanged(self) -> None:
        """
        Raises:
            BlockingIOError: another process has written to the folder since it was opened.
        """
        if self._seen is None:
            return
        try:
            now = measured((self.path / manifests.NAME).read_bytes())
        except FileNotFoundError:
            now = None
        if now != self._seen:
            raise BlockingIOError(
                f"{self.path} has been written to by another process since it was opened; run the command again"
            )

    def _take_over(self) -> None:
        """Replaces an earlier result by this one, which has nothing yet."""
        if not self._is_new:
            return
        earlier = self._names_of_earlier()
        self._write_manifest()  # first: from here on nothing of the earlier result counts
        for name in earlier:
            (self.path / name).unlink(missing_ok=True)

    def _names_of_earlier(self) -> list[str]:
        """What an earlier result in the folder has written."""
        named: set[str] = {_EVALUATION, _CHOICE}
        if not (self.path / manifests.NAME).exists():
            named |= set(_EARLIER)
        with contextlib.suppress(ValueError, OSError):
            earlier = manifests.read_manifest(self.path)
            named |= {*earlier.files, *earlier.pictures}
            named |= {name for checkpoint in earlier.checkpoints for name in checkpoint.files if _is_log(name)}
        written = [name for name in _names(self.path) if name.endswith(_SUFFIXES) or name in named]
        return [name for name in written if _OF_EPOCH.fullmatch(name) or name in named]

    def _write_manifest(self) -> None:
        self._manifest.write(self.path)
        self._seen = measured((self.path / manifests.NAME).read_bytes())
        self._named_on_disk = _files_of_epochs(self._manifest)
        self._is_new = False

    def _write(self, name: str, content: bytes) -> File:
        with atomic_file(self.path / name) as file:
            file.write(content)
        return measured(content)

    def _append(self, records: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, File]:
        """Appends to the logs of the last checkpoint, and gives all of them."""
        logs = {} if not self.epochs else self._manifest.checkpoints[-1].files
        logs = {name: file for name, file in logs.items() if _is_log(name)}
        try:
            for name, lines in records.items():
                if name not in self._logs:
                    self._logs[name] = LogFile(self.path / _log(name), logs.get(_log(name)))
                logs[_log(name)] = self._logs[name].append(
                    "".join(json.dumps(record) + "\n" for record in lines).encode()
                )
        except BaseException:
            self._logs = {}  # which may be ahead of the manifest
            raise
        return logs

    def _write_text(self, name: str, values: dict[str, Any]) -> None:
        self._write(name, (json.dumps(values, indent=2) + "\n").encode())

    def _remove_old_epochs(self) -> None:
        """Removes files of epochs that no checkpoint is of, those of a killed process too."""
        for name in _names(self.path):
            if _OF_EPOCH.fullmatch(name) and name not in self._named_on_disk:
                (self.path / name).unlink(missing_ok=True)

    def _remove_if_empty(self) -> None:
        """Removes the folder if it holds no more than what says what was to be trained."""
        if self.path.is_dir() and set(_names(self.path)) <= {LOCK, manifests.NAME}:
            shutil.rmtree(self.path, ignore_errors=True)

    # ---- how it is read ----------------------------------------------------------------------------------------------

    def _checkpoint(self, epoch: int | None) -> Checkpoint:
        if not self.epochs:
            raise FileNotFoundError(f"{self.path} holds no checkpoint, because no epoch of its training was completed")
        if epoch is None:
            return self._manifest.checkpoints[-1]
        for checkpoint in self._manifest.checkpoints:
            if checkpoint.epoch == epoch:
                return checkpoint
        known = " and ".join(map(str, self.epochs))
        raise ValueError(f"{self.path} has checkpoints of epoch {known}, and none of epoch {epoch}")

    def _load_of_epoch(self, name: str, epoch: int | None, parse: Any) -> Any:
        checkpoint = self._checkpoint(epoch)
        file = _of_epoch(name, checkpoint.epoch)
        if file not in checkpoint.files:
            raise ValueError(f"{self.path / manifests.NAME} names no {file}, so this checkpoint cannot be used")
        return self._parsed(file, checkpoint.files[file], parse, checkpoint.epoch)

    def _parsed(self, name: str, file: File, parse: Any, epoch: int | None) -> Any:
        content = self._content(name, file, epoch)
        try:
            return parse(content)
        except ValueError as error:
            self._refuse(name, f"but {error}", epoch)

    def _content(self, name: str, file: File, epoch: int | None) -> bytes:
        """The first bytes of a file, as many as belong to it, which have its SHA-256."""
        path = self.path / name
        try:
            if path.stat().st_size < file.size:
                self._refuse(name, "but it is shorter", epoch)
            with path.open("rb") as stream:
                content = stream.read(file.size)
        except FileNotFoundError:
            self._refuse(name, "but it is not there", epoch, FileNotFoundError)
        except IsADirectoryError:
            self._refuse(name, "but it is a folder", epoch)
        if not _is_log(name) and path.stat().st_size != file.size:
            self._refuse(name, "but it is longer", epoch)
        if measured(content) != file:
            self._refuse(name, f"but it is damaged: it does not have the SHA-256 in {manifests.NAME}", epoch)
        return content

    def _refuse(self, name: str, reason: str, epoch: int | None, kind: type[Exception] = ValueError) -> NoReturn:
        raise kind(f"{self.path / name} must be as it was written, {reason}{self._fallback(epoch)}")

    def _fallback(self, epoch: int | None) -> str:
        """Names the last checkpoint before an epoch whose files are whole."""
        for checkpoint in reversed(self._manifest.checkpoints):
            if epoch is not None and checkpoint.epoch < epoch:
                with contextlib.suppress(ValueError, OSError):
                    for name, file in checkpoint.files.items():
                        self._content(name, file, 0)
                    return f"; the checkpoint of epoch {checkpoint.epoch} is whole"
        return ""


def _files_of_epochs(manifest: Manifest) -> set[str]:
    return {name for checkpoint in manifest.checkpoints for name in checkpoint.files}


def _of_epoch(name: str, epoch: int) -> str:
    return f"{name}-{epoch}.safetensors"


def _log(name: str) -> str:
    return f"{name}.jsonl"


def _is_log(name: str) -> bool:
    return name.endswith(".jsonl")


def _is_partial(name: str) -> bool:
    return name.startswith(".") and name.endswith(".partial")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
