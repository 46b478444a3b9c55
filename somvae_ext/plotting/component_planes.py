"""The codebook, feature by feature."""

from __future__ import annotations

import difflib
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.grid import Grid
from somvae_ext.plotting._arguments import as_finite_codes
from somvae_ext.plotting._cells import add_colorbar, cell_centers, cell_polygons, draw_values, is_wide, sheet_axes

# Sizes in inches. Beside a sheet, or below a wide one, is room for the colour bar; above it for the title.
_PANEL = 1.9
_ROOM_BESIDE, _ROOM_BELOW = (0.5, 0.35), (0.1, 0.75)
_SMALLEST_PANEL = (1.5, 0.0)
_LARGEST_PAGE = 16.0
_LETTERS_PER_LINE = 30
_MOST_PANELS = 144


def plot_component_planes(
    codebook: ArrayLike | Tensor,
    grid: Grid,
    *,
    names: Sequence[str] | None = None,
    features: Sequence[int | str] | None = None,
) -> NDArray[np.object_]:
    """Shows the map once for each feature, coloured by the codes' values in it, in one new figure.

    Features whose planes look alike go together in the data; what is low in one plane where the other is high is
    opposed to it. Each plane has a scale of its own.

    Args:
        codebook: codes ``[K, D]`` in the grid's order, numpy or torch on any device.
        grid: the map's grid, of K = R * C nodes. They lie at ``grid.coordinates()``, row 0 on top.
        names: names of the D features; by default their numbers.
        features: which of them to show, in this order, by name or number; by default all.

    Returns:
        the panels' Axes, one for each feature shown, ``[F]``. The figure is ``axes[0].figure``.

    Raises:
        ValueError: a codebook of another shape or with values that are not finite, another number of names, unknown
            features, none of them, or more than 144.
    """
    codes = as_finite_codes("plot_component_planes", codebook, grid)
    names = (
        [f"feature {number}" for number in range(codes.shape[1])] if names is None else [str(name) for name in names]
    )
    if len(names) != codes.shape[1]:
        raise ValueError(
            f"plot_component_planes: names must hold a name for each of the codebook's {codes.shape[1]} features, got "
            f"{len(names)}"
        )
    feature_indices = (
        range(len(names)) if features is None else [_feature_index(feature, names) for feature in features]
    )
    if not 1 <= len(feature_indices) <= _MOST_PANELS:
        raise ValueError(
            f"plot_component_planes: features must name 1 to {_MOST_PANELS} of the {len(names)} features, got "
            f"{len(feature_indices)}"
        )
    cells = cell_polygons(cell_centers(grid), grid.topology)
    width, height = np.ptp(cells, axis=(0, 1))
    wide = is_wide(width, height)
    panel = np.array([width, height]) * _PANEL * (2 if wide else 1) / max(width, height)
    panel = np.maximum(panel + (_ROOM_BELOW if wide else _ROOM_BESIDE), _SMALLEST_PANEL)
    # In so many columns that the page is wider than high.
    cols = min(max(round(math.sqrt(len(feature_indices) * 2 * panel[1] / panel[0])), 1), len(feature_indices))
    rows = math.ceil(len(feature_indices) / cols)
    page = panel * (cols, rows)
    figure = Figure(figsize=tuple(page * min(1.0, _LARGEST_PAGE / max(page))), layout="constrained")
    axes = figure.subplots(rows, cols, squeeze=False).ravel()
    for ax, feature in zip(axes, feature_indices, strict=False):
        sheet_axes(ax, cells)
        add_colorbar(ax, draw_values(ax, cells, codes[:, feature], cmap="viridis"))
        ax.set_title(textwrap.fill(names[feature], _LETTERS_PER_LINE), fontsize="small")
    for ax in axes[len(feature_indices) :]:
        ax.remove()
    return axes[: len(feature_indices)]


def _feature_index(feature: Any, names: Sequence[str]) -> int:
    if isinstance(feature, str):
        if feature in names:
            return names.index(feature)
        close_matches = difflib.get_close_matches(feature, names, n=1)
        hint = f"; did you mean {close_matches[0]!r}?" if close_matches else ""
        raise ValueError(f"plot_component_planes: features must be among the names, got {feature!r}{hint}")
    if isinstance(feature, bool) or not hasattr(feature, "__index__") or not 0 <= feature < len(names):
        raise ValueError(
            f"plot_component_planes: features must be names or numbers from 0 to {len(names) - 1}, got {feature!r}"
        )
    return int(feature)
