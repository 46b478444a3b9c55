"""``somvae som``: self-organizing maps of tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import Namespace


def run(options: Namespace) -> None:
    from somvae_ext.cli.som import fit, plot, predict

    command = {"fit": fit, "predict": predict, "plot": plot}[options.command]
    command.run(options[options.command])
