"""Sheets of images: many images are combined into one and drawn at once.

Images are ``[H, W]`` or ``[1, H, W]`` in gray, or ``[3, H, W]`` in color.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.arrays import as_array
from somvae_ext.plotting._axes import axes_or_new
from somvae_ext.plotting._cells import set_title
from somvae_ext.plotting.palettes import GRAYS

Array = NDArray[np.floating]

_INCHES_PER_IMAGE, _LARGEST_SIDE = 0.6, 12.0
_ROOM_FOR_LABELS, _ROOM_FOR_TITLE = 0.6, 0.3  # inches
_GAP, _WIDE_GAP = 0.07, 0.35  # shares of an image's larger side


def as_images(plot: str, name: str, images: ArrayLike | Tensor, *leading: str) -> Array:
    """Returns images ``[*leading, 1 or 3, H, W]``, with values clipped to [0, 1].

    Raises:
        ValueError: a wrong shape, no image, or values that are not finite. The message calls the first axes
            ``leading``.
    """
    array = as_array(plot, name, images)
    dims = len(leading)
    pictures = array[(..., None, slice(None), slice(None))] if array.ndim == dims + 2 else array
    if pictures.ndim != dims + 3 or pictures.shape[dims] not in (1, 3) or pictures.size == 0:
        prefix = ", ".join(leading)
        raise ValueError(
            f"{plot}: {name} must have shape [{prefix}, H, W], [{prefix}, 1, H, W] or [{prefix}, 3, H, W] with at "
            f"least one image, got {list(array.shape)}"
        )
    pictures = pictures.astype(np.float32) if pictures.dtype != np.float64 else pictures
    if not np.isfinite(pictures).all():
        raise ValueError(f"{plot}: {name} must be finite, got {pictures[~np.isfinite(pictures)][0]}")
    return pictures.clip(0, 1)


def mosaic(images: Array, top: NDArray[np.int64], left: NDArray[np.int64]) -> Array:
    """Combines images ``[N, 1 or 3, H, W]`` into one, each with its upper left corner at row ``top``, column ``left``.

    Pixels that no image covers are transparent: NaN in gray, opacity 0 in a fourth channel in color, which exists only
    if needed. Channels come last; a gray result has no channel axis.
    """
    count, channels, height, width = images.shape
    tall, wide = int(top.max()) + height, int(left.max()) + width
    if channels == 3 and count * height * width < tall * wide:
        images = np.concatenate([images, np.ones_like(images[:, :1])], axis=1)
    canvas = np.full((tall, wide, images.shape[1]), np.nan if channels == 1 else 0.0, images.dtype)
    for image, row, column in zip(images.transpose(0, 2, 3, 1), top.tolist(), left.tolist(), strict=True):
        canvas[row : row + height, column : column + width] = image
    return canvas[..., 0] if channels == 1 else canvas


def draw_sheet(
    ax: Axes | None,
    images: Array,
    columns: int,
    *,
    group: int | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    title: str | None = None,
) -> Axes:
    """Draws images ``[N, 1 or 3, H, W]`` in rows of ``columns`` images.

    Args:
        group: number of columns after which a gap is wide.
        row_labels, column_labels: labels beside the rows and above the columns.
        title: title for axes that have none yet.
    """
    height, width = images.shape[2:]
    narrow, wide = (max(1, round(share * max(height, width))) for share in (_GAP, _WIDE_GAP))
    index = np.arange(len(images))
    row, column = index // columns, index % columns
    top = row * (height + narrow)
    left = column * (width + narrow)
    if group is not None:
        left += column // group * (wide - narrow)
    image = mosaic(images, top, left)
    height_px, width_px = image.shape[:2]
    side = min(_INCHES_PER_IMAGE / max(height, width), _LARGEST_SIDE / max(height_px, width_px))
    room = _ROOM_FOR_LABELS * (row_labels is not None), _ROOM_FOR_LABELS * (column_labels is not None)
    ax = axes_or_new(
        ax, (width_px * side + room[0] + 0.1, height_px * side + room[1] + _ROOM_FOR_TITLE * (title is not None) + 0.1)
    )
    ax.imshow(image, cmap=GRAYS, vmin=0, vmax=1, interpolation="nearest", extent=(0, width_px, height_px, 0))
    ax.xaxis.set_label_position("top")
    ax.tick_params(length=0, labelsize="small", top=False, labeltop=True, labelbottom=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if title is not None:
        set_title(ax, title)
    ax.set_yticks([] if row_labels is None else top[column == 0] + height / 2, row_labels)
    ax.set_xticks([] if column_labels is None else left[row == 0] + width / 2, column_labels)
    return ax
