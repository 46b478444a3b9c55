"""``somvae predict``: the nodes, clusters or encodings of one's own data, as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from somvae_ext.cli.output import check_output
from somvae_ext.cli.predict_map import write_map_predictions
from somvae_ext.cli.predict_model import write_model_predictions

if TYPE_CHECKING:
    from jsonargparse import Namespace


def run(options: Namespace) -> None:
    from somvae_ext.store import ResultFolder

    check_output(options.output)
    folder = ResultFolder.open(options.run)
    predict = write_map_predictions if folder.kind == "map" else write_model_predictions
    predict(folder, options)
