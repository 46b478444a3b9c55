"""``somvae plot`` for a model: draw the pictures of a run again from the contents of its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from somvae_ext.cli.output import check_picture_folder
from somvae_ext.cli.run_data import load_run_data
from somvae_ext.report.model_pictures import PICTURES, make_figures, save_pictures

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.store import ResultFolder


def plot_model(folder: ResultFolder, options: Namespace) -> None:
    """Draws all pictures of the model in a folder, and prints their paths."""
    from somvae_ext.store import METRICS, save_figure
    from somvae_ext.training import RunRecord
    from somvae_ext.training.model_nodes import part_encoder

    record, history = RunRecord.from_folder(folder), folder.load_log(METRICS)
    model = record.load_model(folder)
    out = folder.path if options.out is None else Path(options.out)
    is_run = out.resolve() == folder.path.resolve()
    check_picture_folder(out, PICTURES, may_replace=options.overwrite or is_run)
    _, splits = load_run_data(folder, record, options)
    encode_part = part_encoder(model, splits)
    if is_run:
        with folder.lock():
            pictures = save_pictures(model, splits, history, folder, encode_part)
    else:
        # Draw all of them before anything is written.
        figures = list(make_figures(model, splits, history, folder, encode_part))
        out.mkdir(parents=True, exist_ok=True)
        pictures = [save_figure(out / name, figure) for name, figure in figures]
    for picture in pictures:
        print(picture)
