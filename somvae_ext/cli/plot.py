"""``somvae plot``: the pictures of a run, drawn again from what its folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from somvae_ext.cli.output import check_picture_folder
from somvae_ext.cli.pictures import PICTURES, draw, figures
from somvae_ext.cli.run_data import data_of_run

if TYPE_CHECKING:
    from jsonargparse import Namespace


def run(options: Namespace) -> None:
    import somvae_ext.plotting  # noqa: F401  # a missing extra first
    from somvae_ext.store import ResultFolder, atomic_file
    from somvae_ext.training import METRICS, RunRecord

    folder = ResultFolder.open(options.run, "model")
    record, history = RunRecord.of(folder), folder.load_log(METRICS)
    model = record.load_model(folder)
    out = folder.path if options.out is None else Path(options.out)
    is_run = out.resolve() == folder.path.resolve()
    check_picture_folder(out, PICTURES, may_replace=options.overwrite or is_run)
    _, splits = data_of_run(folder, record, options)
    if is_run:
        with folder.claim():
            pictures = draw(model, splits, history, folder)
    else:
        out.mkdir(parents=True, exist_ok=True)
        pictures = []
        for name, figure in figures(model, splits, history, folder):
            with atomic_file(out / name) as file:
                figure.savefig(file, dpi=150, format="png")
            pictures.append(out / name)
    for picture in pictures:
        print(picture)
