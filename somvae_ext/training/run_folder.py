"""The folder of one training run."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import torch
from torch import Tensor

from somvae_ext._version import __version__
from somvae_ext.atomic_file import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RunFolder:
    """Keeps what a run produced.

    ====================  ================================================================================
    ``config.json``       model, training and data, and the version that wrote it
    ``metrics.jsonl``     one record per epoch and line, see :func:`~somvae_ext.training.fit`
    ``iterations.jsonl``  the losses of each step, those of an epoch in a line
    ``checkpoint.pt``     all that it takes to use the model, or to go on training
    ``evaluation.json``   the last evaluation of this checkpoint on each split, by the splits' names
    ``experts.pt``        of a mixture: what each expert made of one z, epoch by epoch
    ``choice.json``       which of several seeds this is, and by what it was chosen
    ``*.png``             pictures
    ====================  ================================================================================

    Every file is written beside its place and then renamed into it, so an interruption leaves the previous version,
    never a broken one.

    Args:
        path: the folder; made if absent.
        overwrite: take a folder that is not empty. Files of an earlier run are removed when this one has completed its
            first epoch, so that whatever goes wrong before costs nothing; anything else stays.

    Raises:
        FileExistsError: the folder is not empty and ``overwrite`` is not set, ``path`` is a file, or what would be
            overwritten is no run: files of these names without our ``config.json``.
    """

    FORMAT = 1
    """Version of the files' layout. A folder of another one is refused."""

    CONFIG = "config.json"
    METRICS = "metrics.jsonl"
    ITERATIONS = "iterations.jsonl"
    CHECKPOINT = "checkpoint.pt"
    EVALUATION = "evaluation.json"
    EXPERT_IMAGES = "experts.pt"
    CHOICE = "choice.json"

    RECONSTRUCTIONS = "reconstructions.png"
    SAMPLES = "samples.png"
    CATEGORIES = "categories.png"
    CATEGORY = "category.png"
    SIDE_BY_SIDE = "side-by-side.png"
    EXPERTS = "experts.png"
    CONTINGENCY = "contingency.png"
    MAP = "map.png"
    TRANSITIONS = "transitions.png"
    CURVES = "curves.png"
    ITERATION_CURVES = "iterations.png"
    PICTURES = (
        RECONSTRUCTIONS,
        SAMPLES,
        CATEGORIES,
        CATEGORY,
        SIDE_BY_SIDE,
        EXPERTS,
        CONTINGENCY,
        MAP,
        TRANSITIONS,
        CURVES,
        ITERATION_CURVES,
    )

    _FILES = (CONFIG, METRICS, ITERATIONS, CHECKPOINT, EVALUATION, EXPERT_IMAGES, CHOICE, *PICTURES)

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"RunFolder: {self.path} must be a folder, but a file is there")
        self.path.mkdir(parents=True, exist_ok=True)
        if any(self.path.iterdir()) and not overwrite:
            raise FileExistsError(f"RunFolder: {self.path} is not empty; choose another folder, or set overwrite")
        self._earlier = [self.path / name for name in self._FILES if (self.path / name).exists()]
        self._config: dict[str, Any] | None = None  # held back until the earlier run is removed
        if self._earlier and not self._is_run():
            raise FileExistsError(
                f"RunFolder: {self.path} holds {self._earlier[0].name} but no {self.CONFIG} of a run, so it is not "
                "overwritten; choose another folder"
            )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """The folder of an earlier run, with all that is in it.

        Raises:
            FileNotFoundError: there is no run.
            ValueError: its ``config.json`` is broken, or of a map or of a version that this one cannot read.
        """
        folder = cls.__new__(cls)
        folder.path = Path(path)
        if not (folder.path / cls.CONFIG).is_file():
            raise FileNotFoundError(f"RunFolder: {folder.path} must be the folder of a run, but it has no {cls.CONFIG}")
        config = folder.load_config()
        if "map_format" in config:
            raise ValueError(
                f"RunFolder: {folder.path} must be the folder of a run of somvae fit, but it is a map of somvae som "
                "fit; use somvae som"
            )
        if config.get("format") != cls.FORMAT:
            raise ValueError(
                f"RunFolder: {folder.path / cls.CONFIG} must have format {cls.FORMAT}, got {config.get('format')}, "
                f"written by somvae_ext {config.get('somvae_ext', 'of unknown version')}; this is {__version__}"
            )
        folder._earlier = []
        folder._config = None
        return folder

    def adopt(self, run: RunFolder, choice: dict[str, Any]) -> None:
        """Takes over what another run has written so far: it was chosen among several.

        Args:
            run: the one that was chosen, with a checkpoint.
            choice: how, for ``choice.json``.
        """
        self.save_config(run.load_config())
        for name in (self.METRICS, self.ITERATIONS, self.EXPERT_IMAGES, self.CHECKPOINT):
            if (run.path / name).is_file():
                content = (run.path / name).read_bytes()
                self._write(name, lambda file, content=content: file.write(content))  # type: ignore[misc]
        self._save_json(self.CHOICE, choice)

    def _is_run(self) -> bool:
        """Whether ``config.json`` is one of ours, of whatever version."""
        try:
            config = json.loads((self.path / self.CONFIG).read_bytes())
        except (OSError, ValueError):
            return False
        return isinstance(config, dict) and "format" in config and "somvae_ext" in config

    def save_config(self, config: dict[str, Any]) -> None:
        """Writes ``config.json``, with format and version; the values must be what JSON knows.

        Where an earlier run is overwritten, it waits for the first other file.
        """
        config = {"format": self.FORMAT, "somvae_ext": __version__} | config
        if self._earlier:
            self._config = config
        else:
            self._save_json(self.CONFIG, config)

    def load_config(self) -> dict[str, Any]:
        """What ``config.json`` holds.

        Raises:
            ValueError: it is not JSON, or not an object.
        """
        try:
            config = json.loads((self.path / self.CONFIG).read_text())
        except ValueError as error:
            raise ValueError(f"RunFolder: {self.path / self.CONFIG} must be JSON, but it is not: {error}") from error
        if not isinstance(config, dict):
            raise ValueError(f"RunFolder: {self.path / self.CONFIG} must hold an object, got a {type(config).__name__}")
        return config

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Adds a line to ``metrics.jsonl``."""
        self._append_line(self.METRICS, record)

    def load_metrics(self) -> list[dict[str, Any]]:
        """The records of ``metrics.jsonl``.

        Raises:
            ValueError: a line that is no record of an epoch.
        """
        return self._load_lines(self.METRICS)

    def append_iterations(self, record: dict[str, Any]) -> None:
        """Adds a line to ``iterations.jsonl``: the losses of the steps of an epoch, to six significant digits.

        Args:
            record: ``epoch``, ``step`` (the epoch's first one, from 1 on) and ``losses``: for each term a list with its
                value in each step of the epoch.
        """
        losses = {term: [float(f"{value:.6g}") for value in values] for term, values in record["losses"].items()}
        self._append_line(self.ITERATIONS, record | {"losses": losses})

    def load_iterations(self) -> list[dict[str, Any]]:
        """The records of ``iterations.jsonl``, none where there is no such file.

        Raises:
            ValueError: a line that is no record of an epoch.
        """
        return self._load_lines(self.ITERATIONS)

    def append_experts(self, epoch: int, images: Tensor) -> None:
        """Adds what each expert made of one z after an epoch, ``[num_categories, *image]``, to ``experts.pt``."""
        epochs, earlier = self.load_experts()
        added = images.detach().cpu()[None]
        # A copy in either case: of a view the whole storage would be saved.
        self._save_experts([*epochs, epoch], torch.cat([added] if earlier is None else [earlier, added]))

    def load_experts(self) -> tuple[list[int], Tensor | None]:
        """The epochs that ``experts.pt`` is about, and their images ``[E, num_categories, *image]``; None of none.

        Raises:
            ValueError: the file is broken, or something else.
        """
        path = self.path / self.EXPERT_IMAGES
        if self._earlier or not path.is_file():
            return [], None
        state = self._load_tensors(self.EXPERT_IMAGES, "images of the experts")
        epochs, images = (state.get("epochs"), state.get("images")) if isinstance(state, dict) else (None, None)
        if not isinstance(epochs, list) or not isinstance(images, Tensor) or len(images) != len(epochs):
            raise ValueError(f"RunFolder: {path} must hold images of the experts of this run, but it is something else")
        return epochs, images

    def rewind(self, epoch: int) -> list[dict[str, Any]]:
        """Drops what is there of later epochs, maybe without their checkpoint; returns the metrics' other records.

        These are lines of ``metrics.jsonl`` and ``iterations.jsonl``, and images of ``experts.pt``.
        """
        kept = {
            name: [record for record in self._load_lines(name) if record["epoch"] <= epoch]
            for name in (self.METRICS, self.ITERATIONS)
            if (self.path / name).exists()
        }
        epochs, images = self.load_experts()
        for name, records in kept.items():
            self._save_lines(name, b"".join(_line(record) for record in records))
        if images is not None:
            rows = [row for row, at in enumerate(epochs) if at <= epoch]
            self._save_experts([epochs[row] for row in rows], images[rows])
        return kept.get(self.METRICS, [])

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Writes ``checkpoint.pt``, which ``torch.load`` reads with its default ``weights_only=True``.

        Evaluations of an earlier checkpoint are removed.
        """
        self._write(self.CHECKPOINT, lambda file: torch.save(state, file))
        (self.path / self.EVALUATION).unlink(missing_ok=True)

    def load_checkpoint(self) -> dict[str, Any]:
        """What ``checkpoint.pt`` holds, on the CPU.

        Raises:
            FileNotFoundError: the run has none, because no epoch was completed.
            ValueError: the file is broken.
        """
        path = self.path / self.CHECKPOINT
        if not path.is_file():
            raise FileNotFoundError(f"RunFolder: {path} does not exist, so no epoch of this run was completed")
        state = self._load_tensors(self.CHECKPOINT, "a checkpoint")
        if not isinstance(state, dict) or not isinstance(state.get("epoch"), int) or "model" not in state:
            raise ValueError(f"RunFolder: {path} must be a checkpoint of this run, but it is something else")
        return cast("dict[str, Any]", state)

    @property
    def has_checkpoint(self) -> bool:
        """Whether an epoch of this run, not of one that it overwrites, was completed."""
        return not self._earlier and (self.path / self.CHECKPOINT).is_file()

    def save_evaluation(self, split: str, evaluation: dict[str, Any]) -> None:
        """Puts the evaluation on a split into ``evaluation.json``; the values must be what JSON knows."""
        evaluations: Any = {}
        if not self._earlier:
            # Evaluations can be made again, so a broken file is not worth an error.
            with contextlib.suppress(FileNotFoundError, ValueError):
                evaluations = json.loads((self.path / self.EVALUATION).read_bytes())
        self._save_json(self.EVALUATION, (evaluations if isinstance(evaluations, dict) else {}) | {split: evaluation})

    def save_figure(self, name: str, figure: Figure) -> Path:
        """Writes a picture as PNG and returns its path."""
        self._write(name, lambda file: figure.savefig(file, dpi=150, format="png"))
        return self.path / name

    def _append_line(self, name: str, record: dict[str, Any]) -> None:
        self._save_lines(name, self._lines(name) + _line(record))

    def _load_lines(self, name: str) -> list[dict[str, Any]]:
        records = []
        for number, line in enumerate(self._lines(name).splitlines(), start=1):
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict) or not isinstance(record.get("epoch"), int):
                raise ValueError(
                    f"RunFolder: {self.path / name} must hold the record of an epoch in each line, but line {number} "
                    "is none"
                )
            records.append(record)
        return records

    def _lines(self, name: str) -> bytes:
        path = self.path / name
        return b"" if self._earlier or not path.is_file() else path.read_bytes()

    def _save_lines(self, name: str, lines: bytes) -> None:
        self._write(name, lambda file: file.write(lines))

    def _load_tensors(self, name: str, what: str) -> object:
        content = io.BytesIO(
            (self.path / name).read_bytes()
        )  # apart from the parsing, whose errors may be OSErrors too
        try:
            return torch.load(content, map_location="cpu")
        except Exception as error:  # whatever the broken bytes lead torch.load to
            raise ValueError(f"RunFolder: {self.path / name} must be {what} of this run, but it is broken") from error

    def _save_experts(self, epochs: list[int], images: Tensor) -> None:
        self._write(self.EXPERT_IMAGES, lambda file: torch.save({"epochs": epochs, "images": images}, file))

    def _save_json(self, name: str, values: dict[str, Any]) -> None:
        text = json.dumps(values, indent=2) + "\n"
        self._write(name, lambda file: file.write(text.encode()))

    def _write(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        while self._earlier:
            self._earlier.pop().unlink(missing_ok=True)
        if self._config is not None:
            config, self._config = self._config, None
            self._save_json(self.CONFIG, config)
        with atomic_file(self.path / name) as file:
            write(file)


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"
