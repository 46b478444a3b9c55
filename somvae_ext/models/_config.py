"""What the models' configs check alike."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, get_args

from somvae_ext.models.networks import strided_shape

Network = Literal["dense", "conv"]


def sizes(config: object, name: str) -> None:
    """Makes a field a tuple, which JSON brings as a list, of sizes of at least 1.

    Raises:
        ValueError: something else.
    """
    given = getattr(config, name)
    if not isinstance(given, list | tuple) or not given or not all(_is_integer(size, 1) for size in given):
        shown = list(given) if isinstance(given, tuple) else given
        raise ValueError(f"{type(config).__name__}: {name} must hold sizes of at least 1, got {shown!r}")
    object.__setattr__(config, name, tuple(given))


def at_least(config: object, lowest: int, *names: str) -> None:
    """
    Raises:
        ValueError: a field that is not an integer of at least ``lowest``.
    """
    for name in names:
        value = getattr(config, name)
        if not _is_integer(value, lowest):
            raise ValueError(f"{type(config).__name__}: {name} must be an integer of at least {lowest}, got {value!r}")


def not_negative(config: object, *names: str) -> None:
    """
    Raises:
        ValueError: a field that is not a finite number of at least 0.
    """
    for name in names:
        value = getattr(config, name)
        if not (_is_finite(value) and value >= 0):
            raise ValueError(f"{type(config).__name__}: {name} must be a finite number of at least 0, got {value!r}")


def positive(config: object, *names: str) -> None:
    """
    Raises:
        ValueError: a field that is not a finite number above 0.
    """
    for name in names:
        value = getattr(config, name)
        if not (_is_finite(value) and value > 0):
            raise ValueError(f"{type(config).__name__}: {name} must be a finite number above 0, got {value!r}")


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
    if config.network == "conv":
        strided_shape(type(config).__name__, config.input_shape)
        if len(config.hidden_sizes) > 1:
            raise ValueError(
                f"{type(config).__name__}: hidden_sizes must be one width for network 'conv', got "
                f"{list(config.hidden_sizes)}"
            )


def unused(config: Any, reason: str, *names: str) -> None:
    """Refuses fields that would count nothing.

    Args:
        config: of which.
        reason: what would have to be otherwise, as a part of the sentence.
        names: of fields that must have their defaults.

    Raises:
        ValueError: one that has not.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name in names:
        if getattr(config, name) != defaults[name]:
            raise ValueError(
                f"{type(config).__name__}: {reason} for {name} to mean anything, got {getattr(config, name)!r}"
            )


def _is_integer(value: object, lowest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= lowest


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
