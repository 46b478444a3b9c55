"""The parsed config of a model's result folder."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

from somvae_ext.config_checks import Bounds, check_integer, config_from_section
from somvae_ext.data.record import DataRecord
from somvae_ext.models import Model
from somvae_ext.models.saved_model import model_from_section, model_section, rebuild_model
from somvae_ext.store import ResultFolder
from somvae_ext.training.training_config import TrainingConfig

_MOST_THREADS = 4096


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """The record of a training: model, hyperparameters, data, number of CPU threads and accelerator.

    ``config`` is of type ``model.config_type``; ``accelerator`` is ``"auto"``, ``"cpu"`` or ``"cuda"``.
    """

    model: type[Model]
    config: Any
    training: TrainingConfig
    data: DataRecord
    threads: int
    accelerator: str = "auto"

    def load_model(self, folder: ResultFolder) -> Model:
        """Loads the model of this record's folder, see :func:`~somvae_ext.models.saved_model.load_model`."""
        return rebuild_model(folder, self.model, self.config)

    def to_config(self) -> dict[str, Any]:
        """Returns the config of the run's result folder, which :meth:`from_folder` reads."""
        return {
            "model": model_section(self.model, self.config),
            "training": dataclasses.asdict(self.training),
            "data": self.data.to_dict(),
            "threads": self.threads,
            "accelerator": self.accelerator,
        }

    @classmethod
    def from_folder(cls, folder: ResultFolder) -> Self:
        """Reads the record of a folder.

        Raises:
            ValueError: the folder's config is not that of a training; the message names the folder and what is wrong.
        """
        sections = {}
        for name, parse in _PARSERS.items():
            try:
                sections[name] = parse(folder.config.get(name))
            except ValueError as error:
                raise ValueError(
                    f"{folder.path}: its config must describe a training, but in {name!r}, {error}"
                ) from error
        model, config = sections["model"]
        names = ("training", "data", "threads", "accelerator")
        return cls(model, config, *(sections[name] for name in names))


def _parse_training(section: Any) -> TrainingConfig:
    return config_from_section(TrainingConfig, section)


def _parse_threads(section: Any) -> int:
    return check_integer(None, "it", section, Bounds(at_least=1, at_most=_MOST_THREADS))


def _parse_accelerator(section: Any) -> str:
    if section not in ("auto", "cpu", "cuda"):
        raise ValueError(f"it must be auto, cpu or cuda, got {section!r}")
    return str(section)


_PARSERS: dict[str, Any] = {
    "model": model_from_section,
    "training": _parse_training,
    "data": DataRecord.from_dict,
    "threads": _parse_threads,
    "accelerator": _parse_accelerator,
}
