"""Finds out which model ``somvae fit`` trains, because its options depend on the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from somvae_ext.models import SOMVAE

if TYPE_CHECKING:
    from somvae_ext.store import ResultFolder

MAP = "som"
DEFAULT = SOMVAE.name
TRAINABLE = {
    MAP: "self-organizing map of tables, images and series, without a network",
    "somvae": "SOM-VAE: autoencoder with encodings on the nodes of a map, for tables, images and series",
    "vqvae": "VQ-VAE: autoencoder with encodings on the codes of a codebook, without a map",
    "vae": "variational autoencoder",
    "conditional-vae": "VAE that is told the class of each sample",
    "gumbel-vae": "VAE with a categorical latent variable beside the continuous one",
    "moe-vae": "mixture of VAEs, each an expert for some of the samples",
}
"""Descriptions of the models that can be trained, by name."""


class ModelChoice(NamedTuple):
    """The model of a command line.

    Args:
        model: a name of :data:`TRAINABLE`.
        resumed: the folder of ``--resume``, opened once for the whole command; None if nothing is resumed.
    """

    model: str
    resumed: ResultFolder | None = None


def choose_model(arguments: Sequence[str]) -> ModelChoice:
    """Returns the model of ``--model``, else of the ``--config`` file, else of the ``--resume`` folder, else SOM-VAE.

    Errors in any of these are left to the parser or the training to report.

    Args:
        arguments: the arguments of ``somvae fit``.
    """
    config = _read_config(last_value(arguments, "--config"))
    run = last_value(arguments, "--resume") or config.get("resume")
    resumed = _open_or_none(Path(run)) if isinstance(run, str) else None
    model = last_value(arguments, "--model") or config.get("model")
    if model is None and isinstance(run, str):
        model = _model_of_folder(resumed or _first_candidate(Path(run)))
    return ModelChoice(model if isinstance(model, str) and model in TRAINABLE else DEFAULT, resumed)


def last_value(arguments: Sequence[str], option: str) -> str | None:
    """Returns the value of an option; if it is given more than once, the last one, as a parser would."""
    value = None
    for index, argument in enumerate(arguments):
        if argument == option:
            value = arguments[index + 1] if index + 1 < len(arguments) else None
        elif argument.startswith(f"{option}="):
            value = argument.partition("=")[2]
    return value


def _read_config(path_or_text: str | None) -> dict[str, Any]:
    """Returns the contents of a config file; empty if it cannot be read."""
    if path_or_text is None:
        return {}
    import yaml  # type: ignore[import-untyped]

    try:
        path = Path(path_or_text)
        config = yaml.safe_load(path.read_text() if path.is_file() else path_or_text)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _open_or_none(path: Path) -> ResultFolder | None:
    from somvae_ext.store import ResultFolder

    try:
        return ResultFolder.open(path)
    except (OSError, ValueError):
        return None


def _first_candidate(run: Path) -> ResultFolder | None:
    """Opens a training of an interrupted ``--best-of``, whose own folder holds no result yet."""
    return next((folder for path in sorted(run.glob("seeds/*")) if (folder := _open_or_none(path)) is not None), None)


def _model_of_folder(folder: ResultFolder | None) -> str | None:
    if folder is None:
        return None
    if folder.kind == "map":
        return MAP
    section = folder.config.get("model")
    name = section.get("name") if isinstance(section, dict) else None
    return name if isinstance(name, str) else None
