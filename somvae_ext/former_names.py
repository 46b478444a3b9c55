"""Former names of presets and of config values, which result folders, config files and commands may still use.

This is the only place that knows them. Names are translated where a config or an option is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FORMER_PRESETS = {
    "somvae": {"notebook": "unpadded-conv"},
    "vae": {"notebook": "mnist"},
    "conditional-vae": {"notebook": "mnist"},
    "gumbel-vae": {"notebook": "entropy-capacity"},
    "moe-vae": {"tutorial": "mnist"},
}
_FORMER_VALUES = {
    "network": {"notebook": "unpadded-conv"},
    "objective": {"notebook": "entropy-capacity"},
}


def current_preset(model: str, preset: Any) -> Any:
    """Returns the current name of a model's preset; any other value is returned unchanged."""
    return _current_name(_FORMER_PRESETS.get(model, {}), preset)


def current_value(field: str, value: Any) -> Any:
    """Returns the current name of a value of a config's field; any other value is returned unchanged."""
    return _current_name(_FORMER_VALUES.get(field, {}), value)


def current_values(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a config with the current names of their values."""
    return {field: current_value(field, value) for field, value in fields.items()}


def _current_name(current_names: Mapping[str, str], value: Any) -> Any:
    # A config file may have a list here, which is not hashable; the check of the preset or config refuses it.
    return current_names.get(value, value) if isinstance(value, str) else value
