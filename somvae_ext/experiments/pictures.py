"""Pictures of experiments: what the nodes of each row stand for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from somvae_ext.experiments.protocol import Experiment, Row
from somvae_ext.store import save_figure

_COLUMNS = 3
_LEAST_INCHES, _INCHES_PER_NODE = 3.2, 0.33  # height of a map


def draw_prototypes(experiment: Experiment, prototypes: Mapping[str, Path], folder: Path, name: str) -> None:
    """Draws the nodes of all rows on the same data in one picture.

    Args:
        experiment: the rows, and their titles.
        prototypes: by the key of a row a ``.npy`` file, uint8 ``[R, C, H, W]``; rows without one are left out.
        folder: where the pictures go.
        name: of the pictures; ``-DATA.png`` is added, for series ``-DATA-RECIPE.png``.
    """
    from matplotlib.figure import Figure

    from somvae_ext.plotting import plot_decoded_map

    groups: dict[str, list[Row]] = {}
    for row in experiment.rows:
        if row.key in prototypes:
            groups.setdefault("-".join(filter(None, (row.data, row.recipe))), []).append(row)
    for group, rows in groups.items():
        maps = [np.load(prototypes[row.key]) / 255 for row in rows]
        columns = min(_COLUMNS, len(rows))
        height = -(-len(rows) // columns)
        inches = max(_LEAST_INCHES, _INCHES_PER_NODE * max(each.shape[0] for each in maps))
        aspect = max(each.shape[1] / each.shape[0] for each in maps)
        figure = Figure(figsize=(columns * inches * aspect, height * (inches + 0.3)), layout="constrained")
        axes = figure.subplots(height, columns, squeeze=False).ravel()
        for ax, row, images in zip(axes, rows, maps, strict=False):
            plot_decoded_map(images, ax=ax)
            ax.set_title(row.method.title)
        for ax in axes[len(rows) :]:
            ax.set_axis_off()
        save_figure(folder / f"{name}-{group}.png", figure)
