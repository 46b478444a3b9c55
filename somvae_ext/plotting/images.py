"""Sheets of images: samples from a model, and reconstructions of its input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.arrays import as_array
from somvae_ext.config_checks import check_integer
from somvae_ext.plotting._images import as_images, draw_sheet

_COLUMNS = 8


def plot_images(images: ArrayLike | Tensor, ax: Axes | None = None) -> Axes:
    """Shows images in rows of eight, such as samples from a model's prior.

    Args:
        images: ``[N, H, W]`` or ``[N, 1, H, W]`` in gray, ``[N, 3, H, W]`` in color; clipped to [0, 1]; numpy or torch
            on any device.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.

    Raises:
        ValueError: images of a wrong shape, no images, or values that are not finite.

    Example:
        >>> import torch
        >>> ax = plot_images(torch.rand(24, 1, 8, 8))
        >>> ax.figure.savefig("samples.png")
    """
    pictures = as_images("plot_images", "images", images, "N")
    return draw_sheet(ax, pictures, min(_COLUMNS, len(pictures)))


def plot_reconstructions(
    x: ArrayLike | Tensor, reconstruction: ArrayLike | Tensor, ax: Axes | None = None, *, num_pairs: int = 24
) -> Axes:
    """Shows pairs of an original, on the left, and its reconstruction by a model, on the right.

    Args:
        x: originals, as in :func:`plot_images`.
        reconstruction: reconstructions, of the shape of ``x``.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        num_pairs: largest number of pairs to show; the first ones are shown.

    Raises:
        ValueError: images that :func:`plot_images` rejects, reconstructions of another shape than the originals, or
            ``num_pairs`` below 1.
    """
    num_pairs = check_integer("plot_reconstructions", "num_pairs", num_pairs)
    originals = as_images("plot_reconstructions", "x", x, "N")
    reconstructions = as_images("plot_reconstructions", "reconstruction", reconstruction, "N")
    if originals.shape != reconstructions.shape:
        raise ValueError(
            "plot_reconstructions: reconstruction must have the shape of x, "
            f"{list(as_array('plot_reconstructions', 'x', x).shape)}, got "
            f"{list(as_array('plot_reconstructions', 'reconstruction', reconstruction).shape)}"
        )
    pairs = np.stack([originals[:num_pairs], reconstructions[:num_pairs]], axis=1)
    columns = 2 * min(_COLUMNS // 2, len(pairs))
    return draw_sheet(
        ax,
        pairs.reshape(-1, *pairs.shape[2:]),
        columns,
        group=2,
        title="Originals, and to the right of each its reconstruction",
    )


def plot_image_rows(
    images: ArrayLike | Tensor,
    ax: Axes | None = None,
    *,
    row_labels: Sequence[object] | None = None,
    column_labels: Sequence[object] | None = None,
) -> Axes:
    """Shows images in a table: a row for each class, category or epoch, and a column for what these have in common.

    To show two tables side by side, draw them on the axes of one figure, such as
    ``Figure(layout="compressed").subplots(1, 2)`` returns.

    Args:
        images: ``[R, C, H, W]`` or ``[R, C, 1, H, W]`` in gray, ``[R, C, 3, H, W]`` in color; clipped to [0, 1]; numpy
            or torch on any device. A model's ``sample_each_category`` returns such images.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        row_labels: labels beside the R rows.
        column_labels: labels above the C columns.

    Raises:
        ValueError: images of a wrong shape, no images, values that are not finite, or not as many labels as rows or
            columns.
    """
    table = as_images("plot_image_rows", "images", images, "R", "C")
    for name, labels, count in (("row", row_labels, len(table)), ("column", column_labels, table.shape[1])):
        if labels is not None and len(labels) != count:
            raise ValueError(
                f"plot_image_rows: {name}_labels must name each of the {count} {name}s, got {len(labels)} names"
            )
    return draw_sheet(
        ax,
        table.reshape(-1, *table.shape[2:]),
        table.shape[1],
        row_labels=None if row_labels is None else [str(label) for label in row_labels],
        column_labels=None if column_labels is None else [str(label) for label in column_labels],
    )
