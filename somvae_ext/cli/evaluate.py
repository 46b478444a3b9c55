"""``somvae evaluate``: evaluate a trained map or model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from somvae_ext.cli.evaluate_map import evaluate_map
from somvae_ext.cli.evaluate_model import evaluate_model

if TYPE_CHECKING:
    from jsonargparse import Namespace


def run(options: Namespace) -> None:
    from somvae_ext.store import ResultFolder

    folder = ResultFolder.open(options.run)
    if folder.kind == "model":
        evaluate_model(folder, options)
        return
    if options.split not in (None, "train"):
        raise ValueError(
            f"--split must be train for {folder.path}, which holds a map of all its data, got {options.split}"
        )
    evaluate_map(folder, options)
