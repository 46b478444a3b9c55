"""Pictures of experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from somvae_ext.experiments.protocol import Arrays, Experiment, Row
from somvae_ext.grid import Grid
from somvae_ext.store import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 3
_LEAST_INCHES, _INCHES_PER_NODE = 3.2, 0.33  # height of a map
_PANEL = 4.2  # inches
_LOBES = 2


def save_pictures(experiment: Experiment, shown: Mapping[str, Path], folder: Path, name: str) -> None:
    """Draws a picture for each group of rows on the same data.

    Args:
        experiment: the rows, and what draws them.
        shown: by the key of a row, a ``.npz`` file with the arrays to draw; rows without one are left out.
        folder: where the pictures go.
        name: beginning of the file names; ``-DATA.png`` is added, for series of images ``-DATA-RECIPE.png``.
    """
    groups: dict[str, list[Row]] = {}
    for row in experiment.rows:
        if row.key in shown:
            groups.setdefault("-".join(filter(None, (row.data, row.recipe))), []).append(row)
    for group, rows in groups.items():
        drawn: list[tuple[Row, Arrays]] = []
        for row in rows:
            with np.load(shown[row.key]) as arrays:
                drawn.append((row, dict(arrays)))
        save_figure(folder / f"{name}-{group}.png", experiment.draw(drawn))


def draw_prototypes(rows: Sequence[tuple[Row, Arrays]]) -> Figure:
    """Draws what the nodes of each row stand for: its ``prototypes``, uint8 ``[R, C, H, W]``."""
    from matplotlib.figure import Figure

    from somvae_ext.plotting import plot_decoded_map

    maps = [arrays["prototypes"] / 255 for _, arrays in rows]
    columns = min(_COLUMNS, len(rows))
    height = -(-len(rows) // columns)
    inches = max(_LEAST_INCHES, _INCHES_PER_NODE * max(each.shape[0] for each in maps))
    aspect = max(each.shape[1] / each.shape[0] for each in maps)
    figure = Figure(figsize=(columns * inches * aspect, height * (inches + 0.3)), layout="constrained")
    axes = figure.subplots(height, columns, squeeze=False).ravel()
    for ax, (row, _), images in zip(axes, rows, maps, strict=False):
        plot_decoded_map(images, ax=ax)
        ax.set_title(row.method.title)
    for ax in axes[len(rows) :]:
        ax.set_axis_off()
    return figure


def draw_moves(rows: Sequence[tuple[Row, Arrays]]) -> Figure:
    """Draws how series move on the nodes of each row: a test series, the transition graph, and a third panel.

    The third panel shows how pure the nodes are, beside ``noise``, for rows with a ``purity``, and otherwise how long
    series stay in a node. See :meth:`~somvae_ext.experiments.nodes.Nodes.shown`.
    """
    from matplotlib.figure import Figure

    from somvae_ext import plotting
    from somvae_ext.evaluation import state_durations

    figure = Figure(figsize=(3 * _PANEL, len(rows) * (_PANEL + 0.4)), layout="constrained")
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for (row, arrays), part in zip(rows, parts, strict=True):
        part.suptitle(row.method.title)
        path, graph, last = part.subplots(1, 3)
        grid = Grid(int(arrays["rows"]), int(arrays["cols"]))
        plotting.plot_trajectory(arrays["trajectory"], grid, path, hits=arrays["visits"])
        plotting.plot_transition_graph(
            arrays["matrix"], grid, graph, visits=arrays["visits"], states=arrays.get("states")
        )
        if "purity" in arrays:
            purities = {"nodes": arrays["purity"], "noise": arrays["noise"]}
            plotting.plot_node_purity(purities, last, num_classes=_LOBES)
            last.set_xlabel("purity of a node (dashed: median)")
            last.set_title("purity of the nodes", fontsize="medium")
        else:
            index = arrays["held_out"]
            durations = state_durations(np.maximum(index, 0), grid.num_nodes, index >= 0)
            if durations.complete.any():
                plotting.plot_durations(durations, last)
            last.set_title("how long series stay in a node", fontsize="medium")
        is_map = bool(arrays["is_map"])
        path.set_title("a test series" if is_map else "a test series (no map: places mean nothing)", fontsize="medium")
        # The legend of the states takes the place of the title.
        graph.set_title("" if "states" in arrays else "transitions", fontsize="medium")
    return figure
