"""Models in result folders: how they are described there, and how they come back."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from somvae_ext.config_checks import check_object, config_from_section
from somvae_ext.former_names import current_values
from somvae_ext.models import MODELS, Model
from somvae_ext.store import ResultFolder

_DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def model_section(model: type[Model], config: Any) -> dict[str, Any]:
    """What a result's config says of a model: its name among :data:`~somvae_ext.models.MODELS`, and its config."""
    return {"name": model.name} | dataclasses.asdict(config)


def model_from_section(section: Any) -> tuple[type[Model], Any]:
    """The class and the config that :func:`model_section` was given.

    Raises:
        ValueError: the section describes no model.
    """
    section = check_object(section)
    name = section.get("name")
    if not isinstance(name, str) or name not in MODELS:
        raise ValueError(f"'name' must be {' or '.join(MODELS)}, got {name!r}")
    fields = {key: value for key, value in section.items() if key != "name"}
    return MODELS[name], config_from_section(MODELS[name].config_type, current_values(fields))


def load_model(folder: ResultFolder, *, device: torch.device | str = "cpu", epoch: int | None = None) -> Model:
    """The model of a result after an epoch, by default the last one, in evaluation mode.

    Raises:
        FileNotFoundError: no epoch was completed.
        ValueError: a damaged file, a config that describes no model, or weights that are not that model's. Models with
            networks of their own, rather than one that their config names, are not rebuilt: make the model, and load
            what :meth:`~somvae_ext.store.ResultFolder.load_weights` gives.
    """
    try:
        make, config = model_from_section(folder.config.get("model"))
    except ValueError as error:
        raise ValueError(f"{folder.path}: its config must describe a model, but {error}") from error
    return rebuild_model(folder, make, config, device=device, epoch=epoch)


def rebuild_model(
    folder: ResultFolder,
    make: type[Model],
    config: Any,
    *,
    device: torch.device | str = "cpu",
    epoch: int | None = None,
) -> Model:
    """:func:`load_model` for those who have parsed what model it is."""
    weights = folder.load_weights(epoch)
    try:
        model = _build_from_weights(make, config, weights)
    except ValueError as error:
        raise ValueError(
            f"{folder.path}: weights must be those of the model that its config describes, but {error}"
        ) from error
    return model.to(device).eval()


def _build_from_weights(make: type[Model], config: Any, weights: dict[str, Tensor]) -> Model:
    dtype = _floating_dtype(weights)
    # First without memory: a config that is not that of the weights may ask for more than there is.
    with torch.device("meta"):
        try:
            check_weights(make(config).to(dtype), weights)
        except (RuntimeError, OverflowError, TypeError) as error:  # what torch says of sizes that cannot be
            raise ValueError(f"it describes none that can be made: {' '.join(str(error).split())}") from error
    model = make(config).to(dtype)
    check_weights(model, weights)
    model.load_state_dict(weights)
    return model


def check_weights(model: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Whether these can be a model's parameters and buffers.

    Raises:
        ValueError: weights of other names, shapes or dtypes than the model's, or not finite ones.
    """
    state = model.state_dict()
    for name in sorted(state.keys() ^ weights.keys()):
        raise ValueError(f"{name} is missing" if name in state else f"there is {name} too")
    for name, expected in state.items():
        value = weights[name]
        if (value.dtype, value.shape) != (expected.dtype, expected.shape):
            raise ValueError(
                f"{name} must be {_dtype_name(expected.dtype)} of shape {list(expected.shape)}, got "
                f"{_dtype_name(value.dtype)} of {list(value.shape)}"
            )
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity")


def _floating_dtype(weights: dict[str, Tensor]) -> torch.dtype:
    """The dtype in which a model was trained: that of most of its weights; averages of bfloat16 models are float32."""
    dtypes = [value.dtype for value in weights.values() if value.dtype in _DTYPES]
    return max(_DTYPES, key=dtypes.count) if dtypes else torch.float32


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
