"""Options of a command that apply to one kind of result only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from somvae_ext.cli.model_options import option_name

if TYPE_CHECKING:
    from jsonargparse import Namespace


def refuse_options_of(kind: str, options: Namespace, names: Iterable[str]) -> None:
    """Refuses options for a kind of result that the folder ``options.run`` does not hold.

    Args:
        kind: that kind, ``"map"`` or ``"model"``.
        options: the options of a command.
        names: names of the options that apply only to results of this kind.

    Raises:
        ValueError: one of these options was given.
    """
    for name in names:
        if options[name] not in (None, False):
            other = "map" if kind == "model" else "model"
            raise ValueError(f"{option_name(name)} is for a {kind}, but {options.run} holds a {other}")
