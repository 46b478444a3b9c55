"""The folder of a trained map or model."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from somvae_ext.store import manifest as manifests
from somvae_ext.store._atomic_file import atomic_file, explain_full_disk, remove_partial_files, save_figure, sync_folder
from somvae_ext.store.destination import (
    CHOICE,
    COMPARISON,
    EVALUATION,
    FORMAT_1_FILES,
    REPORT,
    SUFFIXES,
    check_destination,
    is_occupied,
)
from somvae_ext.store.folder_lock import NAME as LOCK
from somvae_ext.store.folder_lock import FolderLock
from somvae_ext.store.log_file import LogFile, parse_records
from somvae_ext.store.manifest import Checkpoint, FileDigest, Manifest, file_digest
from somvae_ext.store.tensor_file import tensors_from_bytes, tensors_to_bytes, tree_from_bytes, tree_to_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = "metrics"
"""The log that every result has: a record per epoch."""

_WEIGHTS, _STATE = "weights", "state"
_KEPT = 2  # number of checkpoints: the last one, and one to fall back on


class _Commit(NamedTuple):
    """A commit that has begun, and that may or may not have reached the disk."""

    manifest: Manifest
    file: FileDigest  # digest of the new manifest
    has_staged: bool  # whether it holds the tensors that waited for the next checkpoint


class ResultFolder:
    """A folder with the result of a training, and all that is needed to use it or to resume the training.

    ============================  ======================================================================================
    ``manifest.json``             kind, version, config, evaluations, and size and SHA-256 of the files below
    ``weights-E.safetensors``     the trained tensors after epoch E, for the last two epochs that were saved
    ``state-E.safetensors``       state needed to resume after epoch E: optimizers, schedules, generators
    ``<name>-E.safetensors``      other tensors that grow with the epochs
    ``<name>.safetensors``        tensors, or trees with tensors, of a completed result
    ``<name>.jsonl``              logs: a record per epoch and line
    ``evaluation.json``           the evaluations, for people and their scripts; written, never read
    ``choice.json``               which of several seeds was chosen, and how; written, never read
    ``*.png``, ``*.html``         pictures, and pages that show the result
    ============================  ======================================================================================

    The folder goes from one state to the next in a single step, the replacement of its manifest. Until then, new files
    have names like ``.weights-3.safetensors.next``; logs are appended to, and the manifest says how many of their bytes
    count. A process may therefore be killed at any moment. Every file is checked against its SHA-256 before it is used,
    and none holds code.

    One process at a time may write, which :meth:`lock` ensures. Every method that writes locks the folder itself if its
    caller has not.
    """

    def __init__(
        self, path: Path, manifest: Manifest, manifest_digest: FileDigest | None, *, overwrite: bool = False
    ) -> None:
        self.path = path
        self._current = manifest
        self._pending: _Commit | None = None
        # Digest of the manifest when it was read or written; None: nothing of this result is on disk.
        self._last_seen = manifest_digest
        self._on_disk = Manifest(manifest.kind) if manifest_digest is None else manifest
        self._overwrite = overwrite
        self._lock_depth = 0
        self._staged: dict[str, bytes] = {}
        self._logs: dict[str, LogFile] = {}

    @classmethod
    def create(cls, path: str | os.PathLike[str], kind: str, *, overwrite: bool = False) -> ResultFolder:
        """Prepares a folder for a new result.

        Args:
            path: the folder; the first write makes it if it does not exist.
            kind: ``"map"`` or ``"model"``.
            overwrite: accept a folder that is not empty. An earlier result in it stays whole until the new one has
                completed its first epoch, and is then removed; anything else stays.

        Raises:
            FileExistsError: the folder is not empty and ``overwrite`` is not set, ``path`` is a file, or the folder
                holds files with the names of ours but not our manifest.
            PermissionError: the folder, or the one to make it in, is not writable.
        """
        check_destination(Path(path), overwrite=overwrite)
        return cls(Path(path), Manifest(kind), None, overwrite=overwrite)

    @classmethod
    def open(cls, path: str | os.PathLike[str], kind: str | None = None) -> ResultFolder:
        """Opens the folder of an earlier result.

        Args:
            path: the folder.
            kind: ``"map"`` or ``"model"``, if only that one is accepted.

        Raises:
            FileNotFoundError: there is no result.
            ValueError: the manifest is damaged, or the result is of the other kind or of a version that this one cannot
                read.
        """
        folder = Path(path)
        manifest, manifest_digest = manifests.read_manifest(folder)
        if kind is not None and manifest.kind != kind:
            raise ValueError(f"{folder} must hold a trained {kind}, but it holds a {manifest.kind}")
        return cls(folder, manifest, manifest_digest)

    # ---- what it holds -----------------------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """``"map"`` or ``"model"``."""
        return self._manifest.kind

    @property
    def config(self) -> dict[str, Any]:
        """What was trained, on what and how: the config that :meth:`save_config` wrote."""
        return self._manifest.config

    @property
    def epochs(self) -> list[int]:
        """The epochs that have a checkpoint, ascending."""
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
        """Names of the files that :meth:`save_file` and :meth:`save_tree` wrote for a completed result."""
        return list(self._manifest.files)

    @property
    def evaluations(self) -> dict[str, Any]:
        """The evaluations of the last checkpoint, by name of the split."""
        return self._manifest.evaluations

    def load_weights(self, epoch: int | None = None) -> dict[str, Tensor]:
        """Loads the trained tensors after an epoch, by default the last one, on the CPU.

        Raises:
            FileNotFoundError: no epoch was completed, or the file is gone.
            ValueError: there is no checkpoint of that epoch, or its file is damaged.
        """
        return self._load_epoch_file(_WEIGHTS, epoch, tensors_from_bytes)

    def load_state(self, epoch: int | None = None) -> Any:
        """Loads the state needed to resume after an epoch; epoch and errors as for :meth:`load_weights`."""
        return self._load_epoch_file(_STATE, epoch, tree_from_bytes)

    def load_tensors(self, name: str, epoch: int | None = None) -> dict[str, Tensor] | None:
        """Loads other tensors of this name saved with an epoch, or returns None; errors as for :meth:`load_weights`."""
        checkpoint = self._checkpoint(epoch) if self.epochs else None
        if checkpoint is None or _epoch_file(name, checkpoint.epoch) not in checkpoint.files:
            return None
        return self._load_epoch_file(name, epoch, tensors_from_bytes)

    def load_file(self, name: str) -> dict[str, Tensor]:
        """Loads the tensors of a completed result that :meth:`save_file` wrote under this name.

        Raises:
            FileNotFoundError: there are none.
            ValueError: the file is damaged.
        """
        return self._load_result_file(name, tensors_from_bytes)

    def load_tree(self, name: str) -> Any:
        """Loads the tree of a completed result that :meth:`save_tree` wrote under this name, its tensors on the CPU.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the file is damaged.
        """
        return self._load_result_file(name, tree_from_bytes)

    def load_log(self, name: str, epoch: int | None = None) -> list[dict[str, Any]]:
        """Loads the records of a log up to an epoch, by default the last completed one; empty without such a log.

        Raises:
            FileNotFoundError: the file is gone.
            ValueError: the file is damaged.
        """
        if not self.epochs:
            return []
        checkpoint = self._checkpoint(epoch)
        file = checkpoint.files.get(_log_file(name))
        return [] if file is None else self._read_parsed(_log_file(name), file, parse_records, checkpoint.epoch)

    # ---- writing -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Locks the folder for this process, and clears away what killed processes have left.

        A folder created for the lock is removed again if an error ends the block before an epoch was completed.

        Raises:
            BlockingIOError: another process writes to the folder, or has done so since it was opened.
            FileNotFoundError: the folder has been removed since it was opened.
            OSError: the folder is not writable.
        """
        if self._lock_depth:
            self._lock_depth += 1
            try:
                yield
            finally:
                self._lock_depth -= 1
            return
        self._settle_commit()
        created = self._make_folder()
        lock = FolderLock(self.path)
        lock.acquire()
        try:
            self._lock_depth = 1
            self._recover()
            yield
        except BaseException:
            with contextlib.suppress(OSError):  # the manifest cannot be read, and may be ours
                if not self.epochs:
                    self._remove_empty(created)
            raise
        else:
            self._settle_commit()  # the block may have caught an interruption of its commit
            if self._last_seen is None:
                self._remove_empty(created)
        finally:
            self._lock_depth = 0
            lock.release()

    def save_config(self, config: dict[str, Any]) -> None:
        """Saves what is about to be trained; if an earlier result is overwritten, together with the first checkpoint.

        Args:
            config: what is trained, on what and how, as JSON's types.
        """
        manifest = dataclasses.replace(self._manifest, config=config)
        manifest.to_bytes()  # refuses what JSON cannot hold
        with self.lock():
            if self._last_seen is None and is_occupied(self.path):
                self._current = manifest
            else:
                self._commit(manifest)

    def add_to_next_checkpoint(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Adds tensors to the next checkpoint, under a name that :meth:`load_tensors` takes."""
        self._settle_commit()  # may discard those of the checkpoint before
        self._staged[name] = tensors_to_bytes(tensors)

    def save_checkpoint(
        self, epoch: int, weights: dict[str, Tensor], state: Any, records: Mapping[str, Sequence[dict[str, Any]]]
    ) -> None:
        """Saves an epoch; removes checkpoints older than the one before it, and files of an earlier completed result.

        Args:
            epoch: its number, above that of the last checkpoint.
            weights: the trained tensors.
            state: state needed to resume: containers, numbers and tensors.
            records: records to append to logs, by the name of the log; every record has its ``epoch``.

        Raises:
            ValueError: the epoch is not above that of the last checkpoint.
            OSError: a file cannot be written; the earlier checkpoints stay.
        """
        if self.epochs and epoch <= self.last_epoch:
            raise ValueError(
                f"{self.path} has a checkpoint of epoch {self.last_epoch}, so the next must be of a later one, got "
                f"{epoch}"
            )
        contents = {_WEIGHTS: tensors_to_bytes(weights), _STATE: tree_to_bytes(state)} | self._staged
        contents = {_epoch_file(name, epoch): content for name, content in contents.items()}
        with self.lock():
            try:
                logs, new_logs = self._append_to_logs(records)
                contents |= new_logs
                files = logs | {name: file_digest(content) for name, content in contents.items()}
                kept = [*self._manifest.checkpoints[1 - _KEPT :], Checkpoint(epoch, files)]
                # What was made from the previous weights does not describe these.
                manifest = dataclasses.replace(self._manifest, checkpoints=kept, files={}, pictures=[], evaluations={})
                self._commit(manifest, contents, has_staged=True)
            except BaseException as error:
                self._logs = {}  # they may be ahead of the manifest
                if not isinstance(error, OSError):
                    raise
                kept_epoch = f"; {self.path} keeps the checkpoint of epoch {self.epochs[-1]}" if self.epochs else ""
                raise OSError(error.errno, f"{error.strerror or error}{kept_epoch}") from error

    def rewind_to(self, epoch: int) -> None:
        """Discards checkpoints after an epoch, and what was made from them; the next checkpoint removes their files.

        Raises:
            ValueError: there is no checkpoint of that epoch.
        """
        self._checkpoint(epoch)
        if epoch == self.last_epoch:
            return
        kept = [checkpoint for checkpoint in self._manifest.checkpoints if checkpoint.epoch <= epoch]
        self._current = dataclasses.replace(self._manifest, checkpoints=kept, files={}, pictures=[], evaluations={})
        self._logs = {}

    def save_file(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Saves tensors of a completed result, under a name that :meth:`load_file` takes."""
        self._save_result_file(name, tensors_to_bytes(tensors))

    def save_tree(self, name: str, tree: Any) -> None:
        """Saves a tree of a completed result, under a name that :meth:`load_tree` takes.

        Args:
            name: a name that :meth:`save_file` was not given.
            tree: containers, numbers, text, None and tensors.

        Raises:
            TypeError: something else in the tree.
        """
        self._save_result_file(name, tree_to_bytes(tree))

    def save_evaluation(self, split: str, evaluation: dict[str, Any]) -> None:
        """Saves an evaluation of the last checkpoint on a split, in ``evaluation.json`` too; it holds JSON's types."""
        evaluations = self._manifest.evaluations | {split: evaluation}
        with self.lock():
            self._commit(dataclasses.replace(self._manifest, evaluations=evaluations))
            self._write_text(EVALUATION, evaluations)

    def save_figure(self, name: str, figure: Figure, **options: Any) -> Path:
        """Writes a picture as PNG and returns its path; options are those of matplotlib's ``savefig``."""
        with self.lock():
            self._list_picture(name)
            return save_figure(self.path / name, figure, **options)

    def save_page(self, name: str, html: str) -> Path:
        """Writes a page, :data:`REPORT` or :data:`COMPARISON`, and returns its path.

        Like a picture, it is discarded by the next checkpoint.
        """
        with self.lock():
            self._list_picture(name)
            with atomic_file(self.path / name) as file:
                file.write(html.encode())
        return self.path / name

    def _list_picture(self, name: str) -> None:
        if name not in self._manifest.pictures:
            self._commit(dataclasses.replace(self._manifest, pictures=[*self._manifest.pictures, name]))

    def copy_checkpoint_from(self, other: ResultFolder, choice: dict[str, Any]) -> None:
        """Copies the last checkpoint of another folder that was chosen among several.

        Args:
            other: the chosen folder, which has a checkpoint.
            choice: how it was chosen, for ``choice.json``.
        """
        checkpoint = other._checkpoint(None)
        contents = {name: other._read_content(name, file, checkpoint.epoch) for name, file in checkpoint.files.items()}
        with self.lock():
            self._logs = {}
            manifest = dataclasses.replace(
                self._manifest, config=other.config, checkpoints=[checkpoint], files={}, pictures=[], evaluations={}
            )
            self._commit(manifest, contents)
            self._write_text(CHOICE, choice)

    # ---- how it is written -------------------------------------------------------------------------------------------

    def _save_result_file(self, name: str, content: bytes) -> None:
        file = _result_file(name)
        with self.lock():
            files = self._manifest.files | {file: file_digest(content)}
            self._commit(dataclasses.replace(self._manifest, files=files), {file: content})

    def _commit(
        self, manifest: Manifest, contents: Mapping[str, bytes] | None = None, *, has_staged: bool = False
    ) -> None:
        """Takes the folder from the state on disk to that of a new manifest, in a single step.

        Args:
            manifest: the new manifest.
            contents: contents of the new files that it names.
            has_staged: whether the contents include the tensors that waited for the next checkpoint.

        Raises:
            OSError: a file cannot be written, or the manifest cannot be read back.
        """
        contents = {} if contents is None else contents
        kept = {*manifest.named_files(), *manifest.pictures}
        obsolete = sorted(name for name in self._names_on_disk(manifest) if name not in kept)
        manifest = dataclasses.replace(manifest, obsolete=obsolete)
        text = manifest.to_bytes()
        self._pending = _Commit(manifest, file_digest(text), has_staged)
        try:
            for name, content in contents.items():
                self._write_next(name, content)
            with atomic_file(self.path / manifests.NAME) as file:
                file.write(text)
            sync_folder(self.path)
        except BaseException:  # an interruption may come right after the replacement
            with contextlib.suppress(OSError):
                self._settle_commit()
                if self._on_disk is not manifest:  # the new files may be what fills the disk
                    for name in contents:
                        self._waiting_path(name).unlink(missing_ok=True)
            raise
        self._settle_commit()
        for name in contents:
            self._waiting_path(name).replace(self.path / name)
        self._remove_obsolete()

    @property
    def _manifest(self) -> Manifest:
        """The manifest of the result, with changes that wait for the next commit."""
        self._settle_commit()
        return self._current

    def _settle_commit(self) -> None:
        """Adopts the manifest of the last commit if that commit reached the disk.

        An interruption may come anywhere in this method. The commit is therefore forgotten last: until then, every
        access to the manifest settles it again.

        Raises:
            OSError: the manifest on disk cannot be read, so the outcome is unknown; the commit remains to be settled.
        """
        if self._pending is None:
            return
        commit = self._pending
        if self._has_manifest(commit.file):
            if commit.has_staged:
                self._staged = {}
            self._current = self._on_disk = commit.manifest
            self._last_seen = commit.file
        self._pending = None

    def _write_next(self, name: str, content: bytes) -> None:
        with explain_full_disk(self.path / name), self._waiting_path(name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _has_manifest(self, file: FileDigest) -> bool:
        """Whether the manifest on disk has this digest, and is not that of an earlier result."""
        try:
            return file_digest((self.path / manifests.NAME).read_bytes()) == file
        except FileNotFoundError:
            return False

    def _waiting_path(self, name: str) -> Path:
        """Returns the path at which the content of a file waits for the manifest that names it."""
        return self.path / f".{name}.next"

    def _names_on_disk(self, manifest: Manifest) -> set[str]:
        """Returns the names of the files of the state on disk, or of an earlier result that is overwritten."""
        evaluated = set() if manifest.evaluations else {EVALUATION}
        if self._last_seen is not None:
            return {*self._on_disk.named_files(), *self._on_disk.pictures, *evaluated}
        names = {EVALUATION, CHOICE}
        try:
            earlier, _ = manifests.read_manifest(self.path)
            names |= {*earlier.named_files(), *earlier.pictures}
        except (ValueError, OSError):
            if manifests.is_result_folder(self.path) and not (self.path / manifests.NAME).exists():
                names |= set(FORMAT_1_FILES)
        return names

    def _append_to_logs(
        self, records: Mapping[str, Sequence[dict[str, Any]]]
    ) -> tuple[dict[str, FileDigest], dict[str, bytes]]:
        """Appends to the logs of the last checkpoint.

        Returns:
            Digests of all logs from then on, and the contents of new logs, which may replace those of an earlier
            result.
        """
        logs = self._manifest.checkpoints[-1].files if self.epochs else {}
        logs = {name: file for name, file in logs.items() if _is_log(name)}
        beginning: dict[str, bytes] = {}
        for log, values in records.items():
            name = _log_file(log)
            lines = "".join(json.dumps(record) + "\n" for record in values).encode()
            if name not in logs:
                beginning[name] = lines
                logs[name] = file_digest(lines)
                continue
            if name not in self._logs:
                self._logs[name] = LogFile(self.path / name, logs[name])
            logs[name] = self._logs[name].append(lines)
        return logs, beginning

    def _write_text(self, name: str, values: dict[str, Any]) -> None:
        with atomic_file(self.path / name) as file:
            file.write((json.dumps(values, indent=2) + "\n").encode())

    def _make_folder(self) -> list[Path]:
        """Makes the folder if it does not exist; returns all folders that were made, the outermost first."""
        missing = [place for place in (self.path, *self.path.parents) if not place.exists()]
        if missing and self._last_seen is not None:
            raise FileNotFoundError(f"{self.path} has been removed since it was opened")
        self.path.mkdir(parents=True, exist_ok=True)
        return missing[::-1]

    def _remove_empty(self, created: list[Path]) -> None:
        """Removes folders that were made for a result without a completed epoch."""
        if not created:
            return
        if {path.name for path in self.path.iterdir()} <= {LOCK, manifests.NAME}:
            shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):  # one of them is not empty
            for place in created[-2::-1]:
                place.rmdir()

    def _recover(self) -> None:
        """Checks a folder that has just been locked, and completes or clears away what killed processes left."""
        if self._last_seen is None:
            check_destination(self.path, overwrite=self._overwrite)
        else:
            self._check_unchanged()
            named = self._on_disk.named_files()
            for path in self.path.glob(".*.next"):
                name = path.name.removeprefix(".").removesuffix(".next")
                if name in named and file_digest(path.read_bytes()) == named[name]:
                    path.replace(self.path / name)
            self._remove_obsolete()
        for path in self.path.glob(".*.next"):
            path.unlink(missing_ok=True)
        remove_partial_files(self.path)

    def _check_unchanged(self) -> None:
        """Checks that the manifest on disk is the one that was last seen.

        Raises:
            BlockingIOError: another process has written to the folder since it was opened.
        """
        try:
            digest_on_disk = file_digest((self.path / manifests.NAME).read_bytes())
        except FileNotFoundError:
            digest_on_disk = None
        if digest_on_disk != self._last_seen:
            raise BlockingIOError(
                f"{self.path} has been written to by another process since it was opened; run the command again"
            )

    def _remove_obsolete(self) -> None:
        for name in self._on_disk.obsolete:
            is_ours = name.endswith(SUFFIXES) or name in (EVALUATION, CHOICE, REPORT, COMPARISON, *FORMAT_1_FILES)
            if is_ours and Path(name).name == name:  # in case somebody has edited the manifest
                (self.path / name).unlink(missing_ok=True)

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

    def _load_result_file(self, name: str, parse: Any) -> Any:
        file = _result_file(name)
        if file not in self._manifest.files:
            raise FileNotFoundError(f"{self.path / file} does not exist")
        return self._read_parsed(file, self._manifest.files[file], parse, None)

    def _load_epoch_file(self, name: str, epoch: int | None, parse: Any) -> Any:
        checkpoint = self._checkpoint(epoch)
        file = _epoch_file(name, checkpoint.epoch)
        if file not in checkpoint.files:
            raise ValueError(f"{self.path / manifests.NAME} names no {file}, so this checkpoint cannot be used")
        return self._read_parsed(file, checkpoint.files[file], parse, checkpoint.epoch)

    def _read_parsed(self, name: str, file: FileDigest, parse: Any, epoch: int | None) -> Any:
        content = self._read_content(name, file, epoch)
        try:
            return parse(content)
        except ValueError as error:
            raise self._damage_error(name, f"is damaged: {error}", epoch) from error

    def _read_content(self, name: str, file: FileDigest, epoch: int | None) -> bytes:
        """Reads the bytes of a file that count, and checks them against its SHA-256."""
        reason = ""
        # A killed process may not have renamed it yet.
        for path in (self.path / name, self._waiting_path(name)):
            try:
                size = path.stat().st_size
                with path.open("rb") as stream:
                    content = stream.read(min(file.size, size))
            except FileNotFoundError:
                reason = reason or "is missing"
                continue
            except IsADirectoryError:
                reason = reason or "is a folder"
                continue
            is_whole = size >= file.size if _is_log(name) else size == file.size
            if is_whole and file_digest(content) == file:
                return content
            reason = reason or (
                f"is damaged: it does not have the SHA-256 in {manifests.NAME}"
                if is_whole
                else f"is damaged: it has {size} bytes, expected {file.size}"
            )
        raise self._damage_error(name, reason, epoch)

    def _damage_error(self, name: str, reason: str, epoch: int | None) -> Exception:
        kind = FileNotFoundError if reason == "is missing" else ValueError
        return kind(f"{self.path / name} {reason}{self._fallback(epoch)}")

    def _fallback(self, epoch: int | None) -> str:
        """Names the last checkpoint before an epoch whose files are intact."""
        for checkpoint in reversed(self._manifest.checkpoints):
            if epoch is not None and checkpoint.epoch < epoch:
                with contextlib.suppress(ValueError, OSError):
                    for name, file in checkpoint.files.items():
                        self._read_content(name, file, 0)
                    return f"; the checkpoint of epoch {checkpoint.epoch} is whole"
        return ""


def _epoch_file(name: str, epoch: int) -> str:
    return f"{name}-{epoch}.safetensors"


def _result_file(name: str) -> str:
    return f"{name}.safetensors"


def _log_file(name: str) -> str:
    return f"{name}.jsonl"


def _is_log(name: str) -> bool:
    return name.endswith(".jsonl")
