"""Plot of the codebook as colors."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.grid import Grid
from somvae_ext.plotting._arguments import as_finite_codes
from somvae_ext.plotting._cells import cell_centers, cell_polygons, draw_colors, draw_grid_lines, sheet_axes


def plot_codebook_rgb(codebook: ArrayLike | Tensor, grid: Grid, ax: Axes | None = None) -> Axes:
    """Shows each code as a color: where colors change little, the map is smooth.

    Codes with three features within [0, 1] are shown as red, green and blue. For other codes the colors are the first
    three principal components of the codebook, each scaled to [0, 1] and with the sign that makes its farthest code
    positive; components that do not vary are 0.5. Viewers who cannot tell red from green miss part of the picture; the
    U-matrix shows in grays where codes differ.

    Args:
        codebook: codes ``[K, D]`` in the grid's order, numpy or torch on any device.
        grid: the map's grid, of K = R * C nodes. They lie at ``grid.coordinates()``, row 0 on top.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.

    Raises:
        ValueError: a codebook of a wrong shape or with values that are not finite.
    """
    codes = as_finite_codes("plot_codebook_rgb", codebook, grid)
    is_rgb = codes.shape[1] == 3 and codes.min() >= 0 and codes.max() <= 1
    colors = codes if is_rgb else _principal_colors(codes)
    cells = cell_polygons(cell_centers(grid), grid.topology)
    caption = "the codes as red, green and blue" if is_rgb else "first three principal components as red, green, blue"
    ax = sheet_axes(ax, cells, grid, title="Codes as colors", room=0.0, caption=caption)
    draw_colors(ax, cells, np.concatenate([colors, np.ones((len(colors), 1))], axis=1))
    draw_grid_lines(ax, cells)
    return ax


def _principal_colors(codes: NDArray[np.float64]) -> NDArray[np.float64]:
    centered = codes - codes.mean(axis=0)
    # Eigenvectors of the smaller of the two products: D x D, or K x K, whose eigenvectors are the scores up to scale.
    if codes.shape[1] <= len(codes):
        scores = centered @ np.linalg.eigh(centered.T @ centered)[1][:, :-4:-1]
    else:
        values, vectors = np.linalg.eigh(centered @ centered.T)
        scores = (vectors * np.sqrt(np.maximum(values, 0)))[:, :-4:-1]
    colors = np.full((len(codes), 3), 0.5)
    # Rounding error of as many additions as there are values: a smaller range is noise, not to be stretched into color.
    noise = np.finfo(np.float64).eps * centered.size * np.abs(codes).max()
    for component, score in enumerate(scores.T):
        if np.ptp(score) > noise:
            score = score * np.sign(score[np.abs(score).argmax()])
            colors[:, component] = (score - score.min()) / np.ptp(score)
    return colors
