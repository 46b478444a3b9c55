"""Models in result folders: their description, and how they are loaded."""

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
    """Returns a model's section of a result's config: its name in :data:`~somvae_ext.models.MODELS`, and its config."""
    return {"name": model.name} | dataclasses.asdict(config)


def model_from_section(section: Any) -> tuple[type[Model], Any]:
    """Parses what :func:`model_section` returned into the model's class and config.

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
    """Loads the model of a result after an epoch, by default the last one, in evaluation mode.

    Raises:
        FileNotFoundError: no epoch was completed.
        ValueError: a damaged file, a config that describes no model, or weights that are not that model's. Models with
            custom networks, which their config does not name, are not rebuilt: construct the model and load the result
            of :meth:`~somvae_ext.store.ResultFolder.load_weights`.
    """
    try:
        model_type, config = model_from_section(folder.config.get("model"))
    except ValueError as error:
        raise ValueError(f"{folder.path}: its config must describe a model, but {error}") from error
    return rebuild_model(folder, model_type, config, device=device, epoch=epoch)


def rebuild_model(
    folder: ResultFolder,
    model_type: type[Model],
    config: Any,
    *,
    device: torch.device | str = "cpu",
    epoch: int | None = None,
) -> Model:
    """Loads a model as :func:`load_model` does, given its class and config."""
    weights = folder.load_weights(epoch)
    try:
        model = _build_from_weights(model_type, config, weights)
    except ValueError as error:
        raise ValueError(
            f"{folder.path}: weights must be those of the model that its config describes, but {error}"
        ) from error
    return model.to(device).eval()


def _build_from_weights(model_type: type[Model], config: Any, weights: dict[str, Tensor]) -> Model:
    dtype = _floating_dtype(weights)
    # First without memory: a config that does not belong to the weights may need more than there is.
    with torch.device("meta"):
        try:
            check_weights(model_type(config).to(dtype), weights)
        except (RuntimeError, OverflowError, TypeError) as error:  # torch's errors for impossible sizes
            raise ValueError(f"it describes none that can be made: {' '.join(str(error).split())}") from error
    model = model_type(config).to(dtype)
    check_weights(model, weights)
    model.load_state_dict(weights)
    return model


def check_weights(model: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Checks that the weights can be the parameters and buffers of a model.

    Raises:
        ValueError: weights whose names, shapes or dtypes are not those of the model, or that are not finite.
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
    """The dtype in which a model was trained: that of most weights, since averages of bfloat16 models are float32."""
    dtypes = [value.dtype for value in weights.values() if value.dtype in _DTYPES]
    return max(_DTYPES, key=dtypes.count) if dtypes else torch.float32


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
