"""``somvae fit``: train a map or a deep model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from somvae_ext.cli.fit_options import format_config
from somvae_ext.cli.model_choice import MAP

if TYPE_CHECKING:
    from jsonargparse import Namespace


def run(options: Namespace) -> None:
    from somvae_ext.cli import fit_map, fit_model

    if options.print_config:
        print(format_config(options), end="")
        return
    if options.resume is not None and options.model is not None:
        raise ValueError("--resume goes on with the model of the run, so --model must not be given")
    is_map = options.model == MAP if options.resumed is None else options.resumed.kind == "map"
    (fit_map if is_map else fit_model).run(options)
