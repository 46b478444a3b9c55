"""An image for each node: what a model decodes from its code, or the code itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.arrays import as_array
from somvae_ext.grid import Grid, Topology
from somvae_ext.plotting._arguments import as_finite_codes, as_node_values
from somvae_ext.plotting._axes import axes_or_new
from somvae_ext.plotting._cells import (
    draw_outlines,
    fitting_font_size,
    number_rows_and_columns,
    points_per_unit,
    set_title,
    write_caption,
)
from somvae_ext.plotting._images import as_images, mosaic
from somvae_ext.plotting.palettes import ACCENT, GRAYS, INK, MUTED

_INCHES_PER_NODE, _LARGEST_SIDE = 0.6, 12.0
_MARGIN = 0.1
_ROOM_LEFT, _ROOM_ABOVE, _CAPTION = 0.5, 0.75, 0.25  # for numbers of rows and columns, the title, a line below
_LEAST_WIDTH = 2.0
_LINE, _LARGEST_LETTER, _STROKE = 2.0, 7.0, 1.2  # points


def plot_decoded_map(
    images: ArrayLike | Tensor,
    hits: ArrayLike | Tensor | None = None,
    ax: Axes | None = None,
    *,
    topology: Topology = "rectangular",
) -> Axes:
    """Shows the decoded image of each node at its position on the map, with row 0 on top.

    Args:
        images: decoded codes, ``[R, C, H, W]`` or ``[R, C, 1, H, W]`` in gray, ``[R, C, 3, H, W]`` in color; clipped
            to [0, 1]; numpy or torch on any device.
        hits: number of samples that each node won, ``[R, C]``; written into the corners if these are large enough, with
            a caption below.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        topology: on a ``"hexagonal"`` map the odd rows are shifted right by half an image, like bricks.

    Raises:
        ValueError: images or hits of a wrong shape, or images that are not finite.

    Example:
        >>> import torch
        >>> ax = plot_decoded_map(torch.rand(4, 4, 8, 8))
        >>> ax.figure.savefig("map.png")
    """
    pictures = as_images("plot_decoded_map", "images", images, "R", "C")
    rows, cols = pictures.shape[:2]
    count = None if hits is None else as_array("plot_decoded_map", "hits", hits)
    if count is not None and count.shape != (rows, cols):
        raise ValueError(f"plot_decoded_map: hits must have shape [R, C] = {[rows, cols]}, got {list(count.shape)}")

    return _draw(pictures, count, ax, topology, "Decoded map")


def _draw(
    pictures: NDArray[np.floating], count: NDArray[Any] | None, ax: Axes | None, topology: Topology, title: str
) -> Axes:
    rows, cols, _, height, width = pictures.shape
    grid = Grid(rows, cols, topology)
    centers = grid.coordinates().numpy()
    spacing = math.sqrt(3) / 2 if topology == "hexagonal" else 1.0
    half = np.array([0.5, spacing / 2])
    low, high = centers.min(axis=0) - half, centers.max(axis=0) + half
    across, down = high[0] - low[0], rows * height / width  # in widths of an image
    side = min(_INCHES_PER_NODE, _LARGEST_SIDE / max(across, down))
    ax = axes_or_new(
        ax, (max(across * side + _MARGIN + _ROOM_LEFT, _LEAST_WIDTH), down * side + _MARGIN + _ROOM_ABOVE + _CAPTION)
    )
    ax.imshow(
        _mosaic(pictures, shifted=topology == "hexagonal"),
        cmap=GRAYS,
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(low[0], high[0], high[1], low[1]),
        aspect=height / (width * spacing),  # the pixels are square
    )
    corner = half * [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    line = min(_LINE, 0.05 * points_per_unit(ax))
    draw_outlines(ax, centers[:, None] + corner, color=MUTED, width=line)
    if count is not None:
        texts = [str(int(value)) for value in count.ravel()]
        size = fitting_font_size(ax, texts, share=0.6)
        if size is not None:
            size = min(size, _LARGEST_LETTER)
            stroke = [withStroke(linewidth=_STROKE, foreground=INK)]  # readable on white, too
            for (x, y), text in zip(centers + corner[3], texts, strict=True):
                ax.text(x + 0.05, y, text, color=ACCENT, fontsize=size, ha="left", va="bottom", path_effects=stroke)
            write_caption(ax, "numbers: samples that the node won")
    number_rows_and_columns(ax, grid)
    set_title(ax, title)
    return ax


def plot_codebook_images(
    codebook: ArrayLike | Tensor,
    grid: Grid,
    image_shape: Sequence[int],
    ax: Axes | None = None,
    *,
    hits: ArrayLike | Tensor | None = None,
) -> Axes:
    """Shows the codes themselves as images, as :func:`plot_decoded_map` does.

    Codes within [0, 1] are drawn as they are. Otherwise all codes are scaled alike, so that their smallest value is
    black and their largest white.

    Args:
        codebook: codes ``[K, D]`` in the grid's order, numpy or torch on any device.
        grid: the map's grid, of K = R * C nodes.
        image_shape: shape of a code as an image, ``(H, W)`` or ``(1, H, W)`` in gray, ``(3, H, W)`` in color, with D
            values in all.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        hits: number of samples that each node won, ``[K]``; written into the corners if these are large enough.

    Raises:
        ValueError: a codebook of a wrong shape or with values that are not finite, or an image shape that does not fit.
    """
    codes = as_finite_codes("plot_codebook_images", codebook, grid)
    shape = tuple(image_shape)
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3))
    if not is_image or min(shape) < 1 or math.prod(shape) != codes.shape[1]:
        raise ValueError(
            "plot_codebook_images: image_shape must be (H, W), (1, H, W) or (3, H, W) with the codebook's "
            f"{codes.shape[1]} values in all, got {shape}"
        )
    low, high = codes.min(), codes.max()
    if low < 0 or high > 1:
        codes = (codes - low) / ((high - low) or 1.0)
    sheet = grid.rows, grid.cols
    count = None if hits is None else as_node_values("plot_codebook_images", "hits", hits, grid).reshape(sheet)
    pictures = as_images("plot_codebook_images", "codebook", codes.reshape(*sheet, *shape), "R", "C")
    return _draw(pictures, count, ax, grid.topology, "Codes as images")


def _mosaic(images: NDArray[np.floating], *, shifted: bool) -> NDArray[np.floating]:
    """Combines images ``[R, C, 1 or 3, H, W]`` into one; ``shifted``: odd rows lie half an image further right."""
    if shifted and images.shape[-1] % 2:  # doubled pixels make half an image a whole number of them
        images = images.repeat(2, axis=-1)
    rows, cols, _, height, width = images.shape
    row, col = np.divmod(np.arange(rows * cols), cols)
    left = col * width + (row % 2 * (width // 2) if shifted else 0)
    return mosaic(images.reshape(-1, *images.shape[2:]), row * height, left)
