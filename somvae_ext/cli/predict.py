"""``somvae predict``: the nodes, clusters or encodings of one's own data, as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from somvae_ext.cli.output import check_output
from somvae_ext.cli.predict_map import predict_by_map
from somvae_ext.cli.predict_model import predict_by_model

if TYPE_CHECKING:
    from jsonargparse import Namespace


def run(options: Namespace) -> None:
    from somvae_ext.store import ResultFolder

    check_output(options.output)
    folder = ResultFolder.open(options.run)
    predict = predict_by_map if folder.kind == "map" else predict_by_model
    predict(folder, options)
