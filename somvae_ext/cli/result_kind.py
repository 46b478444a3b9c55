"""Options that a command has for one kind of result alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from somvae_ext.cli.model_options import option_name

if TYPE_CHECKING:
    from jsonargparse import Namespace


def refuse_options_of(kind: str, options: Namespace, names: Iterable[str]) -> None:
    """
    Args:
        kind: ``"map"`` or ``"model"``, which the folder ``options.run`` does not hold.
        options: of a command.
        names: those which only results of this kind have a use for.

    Raises:
        ValueError: one of them was given.
    """
    for name in names:
        if options[name] not in (None, False):
            other = "map" if kind == "model" else "model"
            raise ValueError(f"{option_name(name)} is for a {kind}, but {options.run} holds a {other}")
