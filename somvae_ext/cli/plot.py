"""``somvae plot``: draw a trained map or model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from somvae_ext.cli.plot_map import plot_map
from somvae_ext.cli.plot_model import plot_model
from somvae_ext.cli.result_kind import refuse_options_of

if TYPE_CHECKING:
    from jsonargparse import Namespace


def run(options: Namespace) -> None:
    import somvae_ext.plotting  # noqa: F401  # a missing extra fails first
    from somvae_ext.store import ResultFolder

    folder = ResultFolder.open(options.run)
    if folder.kind == "map":
        refuse_options_of("model", options, ("data_root", "download"))
        plot_map(folder, options)
    else:
        refuse_options_of("map", options, ("kind", "features", "image_shape"))
        plot_model(folder, options)
