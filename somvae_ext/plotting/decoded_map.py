"""The decoded codebook as a mosaic."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

_INCHES_PER_NODE = 0.6


def plot_decoded_map(images: Tensor, hits: Tensor | None = None, ax: Axes | None = None) -> Axes:
    """Shows what each node stands for, at its place on the map, with row 0 on top.

    Args:
        images: decoded codes, ``[R, C, H, W]`` or ``[R, C, 1, H, W]`` in grey, ``[R, C, 3, H, W]`` in colour; values in
            [0, 1].
        hits: how many samples each node won, ``[R, C]``; written into the corners.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.

    Raises:
        ValueError: images or hits of another shape.

    Example:
        >>> ax = plot_decoded_map(torch.rand(4, 4, 8, 8))
        >>> ax.figure.savefig("map.png")  # doctest: +SKIP
    """
    if images.dim() == 4:
        images = images[:, :, None]
    if images.dim() != 5 or images.shape[2] not in (1, 3):
        raise ValueError(
            "plot_decoded_map: images must have shape [R, C, H, W], [R, C, 1, H, W] or [R, C, 3, H, W], got "
            f"{list(images.shape)}"
        )
    rows, cols, channels, height, width = images.shape
    if hits is not None and hits.shape != (rows, cols):
        raise ValueError(f"plot_decoded_map: hits must have shape [R, C] = {[rows, cols]}, got {list(hits.shape)}")
    if ax is None:
        # A Figure of its own and not pyplot's: nothing global to close, no window system needed.
        ax = Figure(figsize=(cols * _INCHES_PER_NODE, rows * _INCHES_PER_NODE), layout="constrained").add_subplot()
    mosaic = images.detach().cpu().permute(0, 3, 1, 4, 2).reshape(rows * height, cols * width, channels)
    ax.imshow(mosaic.squeeze(2).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for row in range(1, rows):
        ax.axhline(row * height - 0.5, color="0.4", linewidth=2)
    for col in range(1, cols):
        ax.axvline(col * width - 0.5, color="0.4", linewidth=2)
    if hits is not None:
        for row, col in torch.cartesian_prod(torch.arange(rows), torch.arange(cols)).tolist():
            ax.text(
                col * width,
                (row + 1) * height - 1,
                str(int(hits[row, col])),
                color="tab:orange",
                fontsize="xx-small",
                ha="left",
                va="bottom",
            )
    ax.set_axis_off()
    return ax
