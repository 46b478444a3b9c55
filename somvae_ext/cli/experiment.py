"""``somvae experiment``: reproduce tables and figures of the literature on real data."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from somvae_ext.cli.devices import check_device
from somvae_ext.models import SOMVAE

if TYPE_CHECKING:
    from jsonargparse import Namespace

DEFAULT_FOLDER = "runs/experiments"
SUMMARIES = {
    "table1": "still images in 16 clusters, compared with k-means, maps, VQ-VAE and the paper's ablations",
    "table2": "interpolated series in 64 clusters, with and without transitions, ordered and unordered",
    "map512": "pictures of maps with 512 nodes",
    "hardening": "still images on 8 x 8 nodes, compared with SOM-VAE's successor",
    "lorenz": "a chaotic system: whether nodes and macro-states find its two lobes",
    "vitals": "venous pressure of pigs: states, transitions and forecasts of the next state",
    "eicu": "patients of the eICU database in the folder that --data-root names",
}
"""A summary of each experiment, kept here because the help is shown without importing the experiments."""


def run(options: Namespace) -> None:
    if options.workers is not None and options.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {options.workers}")
    check_device(options.device, SOMVAE.name)
    from somvae_ext.experiments import EXPERIMENTS, FULL, QUICK, page_path, render_page, run_experiment, write_page
    from somvae_ext.experiments.protocol import IMAGES

    experiment = EXPERIMENTS[options.name]
    if options.download and not any(row.data in IMAGES for row in experiment.rows):
        raise ValueError(f"--download is for experiments on {' and '.join(IMAGES)}, which {experiment.name} is not")
    folder = Path(options.out or DEFAULT_FOLDER).absolute()
    name = f"{experiment.name}-quick" if options.quick else experiment.name
    # Find out now, not hours later, that the page cannot be written.
    page_path(folder)
    render_page(folder, list(EXPERIMENTS))
    try:
        results = run_experiment(
            experiment,
            QUICK if options.quick else FULL,
            folder,
            name,
            root=Path(options.data_root or "data").resolve(),
            download=options.download,
            workers=options.workers,
            device=options.device or "auto",
            report=_ignore if options.quiet else _print_line,
        )
    except KeyboardInterrupt as interrupt:
        raise type(interrupt)("interrupted; the same command continues and keeps the trainings that are done") from None
    page = write_page(folder, list(EXPERIMENTS))
    print(f"results: {results}, with pictures beside it; page of all experiments in this folder: {page}")


def _print_line(line: str) -> None:
    """Prints a line; a closed pipe does not stop the trainings."""
    with contextlib.suppress(BrokenPipeError):
        print(line, flush=True)


def _ignore(line: str) -> None:
    """Prints nothing, for ``--quiet``."""
