"""What ``config.json`` of a run says, checked: the one place that trusts nothing in it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from types import NoneType
from typing import Any, TypeVar

from somvae_ext.config_checks import check_integer, is_integer
from somvae_ext.data import Samples, Scaling
from somvae_ext.models import MODELS, SOMVAE, Model
from somvae_ext.training.run_folder import RunFolder
from somvae_ext.training.training_config import TrainingConfig

Config = TypeVar("Config")

_DATA: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "root": (str,),
    "seed": (int,),
    "recipe": (str,),
    "num_series": (int, NoneType),
    "kind": (str,),
    "label_column": (str, NoneType),
    "split": (str,),
    "fold": (int,),
    "image_size": (int, NoneType),
    "scaling": (dict,),
    "feature_names": (list, NoneType),
    "fingerprint": (str,),
}
# What run folders of earlier versions do not say.
_EARLIER_DATA: dict[str, Any] = {"split": "holdout", "fold": 0, "image_size": None}
_MEANINGS = {
    int: "an integer",
    str: "text",
    list: "a list",
    dict: "an object",
    NoneType: "null",
}


def model_section(model: type[Model], config: Any) -> dict[str, Any]:
    """What ``config.json`` says of a model: its name among :data:`~somvae_ext.models.MODELS`, and its config."""
    return {"name": model.name} | dataclasses.asdict(config)


def model_config(folder: RunFolder) -> tuple[type[Model], Any]:
    """The class and the config of a run's model.

    Raises:
        ValueError: the config describes none; the message names the file and what is wrong.
    """
    values = _section(folder, "model")
    name = values.pop("name", SOMVAE.name)  # which was left out when there were no others
    if name not in MODELS:
        raise _error(folder, "model", f"'name' must be {' or '.join(MODELS)}, got {name!r}")
    return MODELS[name], _config(folder, "model", values, MODELS[name].config_type)


def training_config(folder: RunFolder) -> TrainingConfig:
    """The recipe of a run.

    Raises:
        ValueError: the config describes none; the message names the file and what is wrong.
    """
    return _config(folder, "training", _section(folder, "training"), TrainingConfig)


def data_config(folder: RunFolder) -> dict[str, Any]:
    """What a run was trained on: the arguments of :func:`~somvae_ext.data.load` and what came of them.

    Raises:
        ValueError: the config does not tell; the message names the file and what is wrong.
    """
    values = _EARLIER_DATA | _section(folder, "data")
    for name, kinds in _DATA.items():
        if name not in values:
            raise _error(folder, "data", f"{name!r} is missing")
        if not any(is_integer(values[name]) if kind is int else isinstance(values[name], kind) for kind in kinds):
            expected = " or ".join(_MEANINGS[kind] for kind in kinds)
            raise _error(folder, "data", f"{name!r} must be {expected}, got {values[name]!r}")
    try:
        Scaling.from_dict(values["scaling"])
    except (KeyError, TypeError, ValueError) as error:
        raise _error(folder, "data", f"'scaling' must hold 'minimum' and 'maximum', got {values['scaling']}") from error
    return values


def num_threads(folder: RunFolder) -> int:
    """CPU threads of a run.

    Raises:
        ValueError: the config does not tell.
    """
    value: Any = folder.load_config().get("threads")
    return check_integer(str(folder.path / RunFolder.CONFIG), "'threads'", value)


def fingerprint(parts: Iterable[Samples]) -> str:
    """A number, in hexadecimal digits, that other data sets do not have: a hash of all values, labels and masks."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        for values in (part.x, part.label, part.mask):
            if values is None:
                digest.update(b"none")
                continue
            digest.update(f"{values.dtype} {list(values.shape)}".encode())
            digest.update(values.contiguous().numpy().data)
    return digest.hexdigest()


def _config(folder: RunFolder, name: str, values: dict[str, Any], kind: type[Config]) -> Config:
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # all kinds are dataclasses
    for key in values:
        if key not in known:
            raise _error(folder, name, f"{key!r} is not known to this version")
    try:
        return kind(**values)
    except ValueError as error:
        raise _error(folder, name, str(error)) from error


def _section(folder: RunFolder, name: str) -> dict[str, Any]:
    values = folder.load_config().get(name)
    if not isinstance(values, dict):
        raise _error(folder, name, "there is nothing" if values is None else f"there is {values!r}")
    return values


def _error(folder: RunFolder, section: str, reason: str) -> ValueError:
    return ValueError(
        f"{folder.path / RunFolder.CONFIG}: must describe the {section} of the run under {section!r} as fit wrote it, "
        f"but {reason}"
    )
