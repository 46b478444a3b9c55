"""What the models' configs check alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

Network = Literal["dense", "conv"]


def sizes(config: object, name: str) -> None:
    """Makes a field a tuple, which JSON brings as a list, of sizes of at least 1.

    Raises:
        ValueError: a size below 1, or none at all.
    """
    given: Sequence[int] = tuple(getattr(config, name))
    if any(size < 1 for size in given) or not given:
        raise ValueError(f"{type(config).__name__}: {name} must hold sizes of at least 1, got {list(given)}")
    object.__setattr__(config, name, given)


def at_least(config: object, lowest: int, *names: str) -> None:
    """
    Raises:
        ValueError: a field that is not an integer of at least ``lowest``.
    """
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or value < lowest:
            raise ValueError(f"{type(config).__name__}: {name} must be an integer of at least {lowest}, got {value!r}")


def not_negative(config: object, *names: str) -> None:
    """
    Raises:
        ValueError: a field that is not a finite number of at least 0.
    """
    for name in names:
        value = getattr(config, name)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{type(config).__name__}: {name} must be a finite number of at least 0, got {value}")


def positive(config: object, *names: str) -> None:
    """
    Raises:
        ValueError: a field that is not a finite number above 0.
    """
    for name in names:
        value = getattr(config, name)
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{type(config).__name__}: {name} must be a finite number above 0, got {value}")


def choice(config: object, name: str, kind: Any) -> None:
    """
    Args:
        config: of which.
        name: of the field.
        kind: the ``Literal`` that lists its values.

    Raises:
        ValueError: a field that is none of them.
    """
    names, chosen = get_args(kind), getattr(config, name)
    if chosen not in names:
        listed = ", ".join(repr(value) for value in names[:-1]) + f" or {names[-1]!r}"
        raise ValueError(f"{type(config).__name__}: {name} must be {listed}, got {chosen!r}")


def autoencoder(config: Any) -> None:
    """The fields that :class:`~somvae_ext.models.gaussian_autoencoder.GaussianAutoencoder` asks of a config.

    Raises:
        ValueError: one of them.
    """
    sizes(config, "input_shape")
    sizes(config, "hidden_sizes")
    choice(config, "network", Network)
    at_least(config, 1, "latent_dim")
    if config.network == "conv" and len(config.hidden_sizes) > 1:
        raise ValueError(
            f"{type(config).__name__}: hidden_sizes must be one width for network 'conv', got "
            f"{list(config.hidden_sizes)}"
        )
