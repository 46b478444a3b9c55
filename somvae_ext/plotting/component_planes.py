"""Component planes: the codebook, feature by feature."""

from __future__ import annotations

import difflib
import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.config_checks import Bounds, check_integer
from somvae_ext.grid import Grid
from somvae_ext.plotting._arguments import as_finite_codes
from somvae_ext.plotting._cells import (
    add_colorbar,
    cell_centers,
    cell_polygons,
    draw_grid_lines,
    draw_values,
    is_wide,
    sheet_axes,
)
from somvae_ext.plotting.palettes import VALUES

# Sizes in inches. Room for the color bar is beside a sheet, or below a wide one, and room for the title above it.
_PANEL = 1.9
_ROOM_BESIDE, _ROOM_BELOW = (0.7, 0.45), (0.3, 0.85)
_SMALLEST_PANEL = (1.5, 0.0)
_LARGEST_PAGE = 16.0
_PAGE_TITLE = 0.3
_LETTERS_PER_LINE = 30
_MOST_PANELS = 144

PANELS_PER_PAGE = 24
"""Number of component planes on a page that is easy to read."""


def plot_component_planes(
    codebook: ArrayLike | Tensor,
    grid: Grid,
    *,
    names: Sequence[str] | None = None,
    features: Sequence[int | str] | None = None,
) -> NDArray[np.object_]:
    """Shows the map once for each feature, colored by the values of that feature in the codes, in one new figure.

    Features with similar planes vary together in the data; features are opposed if one plane is low where the other is
    high. Each plane has its own color scale.

    Args:
        codebook: codes ``[K, D]`` in the grid's order, numpy or torch on any device.
        grid: the map's grid, of K = R * C nodes. They lie at ``grid.coordinates()``, row 0 on top.
        names: names of the D features; by default their numbers.
        features: which of them to show, in this order, by name or number; by default all.

    Returns:
        The Axes of the panels, one for each feature shown, ``[F]``. The figure is ``axes[0].figure``.

    Raises:
        ValueError: a codebook of a wrong shape or with values that are not finite, a wrong number of names, unknown
            features, no features, or more than 144; :func:`component_plane_pages` draws any number of them.
    """
    codes, names = _as_named_codes("plot_component_planes", codebook, grid, names)
    shown = _feature_indices("plot_component_planes", features, names)
    if not 1 <= len(shown) <= _MOST_PANELS:
        raise ValueError(
            f"plot_component_planes: features must name 1 to {_MOST_PANELS} of the {len(names)} features, got "
            f"{len(shown)}; component_plane_pages draws more"
        )
    return _draw_page(codes, grid, names, shown, "Component planes")


def component_plane_pages(
    codebook: ArrayLike | Tensor,
    grid: Grid,
    *,
    names: Sequence[str] | None = None,
    features: Sequence[int | str] | None = None,
    per_page: int = PANELS_PER_PAGE,
) -> Iterator[Figure]:
    """Yields the planes of many features as pages, each a figure like that of :func:`plot_component_planes`.

    The title of a page gives its number and the number of pages. Each page is drawn when it is requested.

    Args:
        codebook: codes ``[K, D]`` in the grid's order, numpy or torch on any device.
        grid: the map's grid, of K = R * C nodes.
        names: names of the D features; by default their numbers.
        features: which of them to show, in this order, by name or number; by default all.
        per_page: number of planes per page, at most 144.

    Raises:
        ValueError: anything that :func:`plot_component_planes` rejects, except for too many features.

    Example:
        >>> import torch
        >>> for number, page in enumerate(component_plane_pages(torch.rand(12, 30), Grid(3, 4)), start=1):
        ...     page.savefig(f"component-planes-{number}.png")
    """
    plot = "component_plane_pages"
    codes, names = _as_named_codes(plot, codebook, grid, names)
    shown = _feature_indices(plot, features, names)
    if not shown:
        raise ValueError(f"{plot}: features must name at least one of the {len(names)} features, got 0")
    per_page = check_integer(plot, "per_page", per_page, Bounds(at_least=1, at_most=_MOST_PANELS))
    return _draw_pages(codes, grid, names, shown, per_page)


def _draw_pages(
    codes: NDArray[np.float64], grid: Grid, names: Sequence[str], shown: Sequence[int], per_page: int
) -> Iterator[Figure]:
    count = math.ceil(len(shown) / per_page)
    full_page = per_page if count > 1 else None
    for page in range(count):
        title = "Component planes" if count == 1 else f"Component planes, page {page + 1} of {count}"
        figure = _draw_page(codes, grid, names, shown[page * per_page : (page + 1) * per_page], title, full_page)[
            0
        ].figure
        assert isinstance(figure, Figure)
        yield figure


def _draw_page(
    codes: NDArray[np.float64],
    grid: Grid,
    names: Sequence[str],
    shown: Sequence[int],
    title: str,
    full_page: int | None = None,
) -> NDArray[np.object_]:
    """Draws the panels of these features in one new figure, in as many columns as ``full_page`` panels would take."""
    cells = cell_polygons(cell_centers(grid), grid.topology)
    width, height = np.ptp(cells, axis=(0, 1))
    wide = is_wide(width, height)
    panel = np.array([width, height]) * _PANEL * (2 if wide else 1) / max(width, height)
    panel = np.maximum(panel + (_ROOM_BELOW if wide else _ROOM_BESIDE), _SMALLEST_PANEL)
    # As many columns as make a page about twice as wide as high.
    count = full_page or len(shown)
    cols = min(max(round(math.sqrt(count * 2 * panel[1] / panel[0])), 1), count)
    rows = math.ceil(len(shown) / cols)
    page = panel * (cols, rows) + (0, _PAGE_TITLE)
    figure = Figure(figsize=tuple(page * min(1.0, _LARGEST_PAGE / max(page))), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    axes = figure.subplots(rows, cols, squeeze=False).ravel()
    for place, (ax, feature) in enumerate(zip(axes, shown, strict=False)):
        sheet_axes(ax, cells, grid, title=None)
        # Rows and columns are numbered only at the edge of the page: the numbers are the same in all panels.
        ax.tick_params(labelleft=place % cols == 0, labeltop=place < cols)
        add_colorbar(ax, draw_values(ax, cells, codes[:, feature], cmap=VALUES))
        draw_grid_lines(ax, cells)
        ax.set_title(textwrap.fill(names[feature], _LETTERS_PER_LINE), fontsize="small")
    for ax in axes[len(shown) :]:
        ax.remove()
    return axes[: len(shown)]


def _as_named_codes(
    plot: str, codebook: ArrayLike | Tensor, grid: Grid, names: Sequence[str] | None
) -> tuple[NDArray[np.float64], list[str]]:
    codes = as_finite_codes(plot, codebook, grid)
    if names is None:
        return codes, [f"feature {number}" for number in range(codes.shape[1])]
    if len(names) != codes.shape[1]:
        raise ValueError(
            f"{plot}: names must hold a name for each of the codebook's {codes.shape[1]} features, got {len(names)}"
        )
    return codes, [str(name) for name in names]


def _feature_indices(plot: str, features: Sequence[int | str] | None, names: Sequence[str]) -> Sequence[int]:
    return range(len(names)) if features is None else [_feature_index(plot, feature, names) for feature in features]


def _feature_index(plot: str, feature: Any, names: Sequence[str]) -> int:
    if isinstance(feature, str):
        if feature in names:
            return names.index(feature)
        close_matches = difflib.get_close_matches(feature, names, n=1)
        hint = f"; did you mean {close_matches[0]!r}?" if close_matches else ""
        raise ValueError(f"{plot}: features must be among the names, got {feature!r}{hint}")
    if isinstance(feature, bool) or not hasattr(feature, "__index__") or not 0 <= feature < len(names):
        raise ValueError(f"{plot}: features must be names or numbers from 0 to {len(names) - 1}, got {feature!r}")
    return int(feature)
