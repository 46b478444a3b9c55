"""The pictures of a map: which ones it has, and how they are drawn and saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from somvae_ext.estimators import SavedMap
    from somvae_ext.store import KeptClusters

KINDS = ("hits", "u_matrix", "component_planes", "labels", "rgb", "clusters", "codebook_images", "curves")
"""All pictures that a map may have."""

MOST_PAGES = 10
"""Number of pages of component planes that are drawn at most, if no features are chosen."""


def default_pictures(saved: SavedMap) -> tuple[str, ...]:
    """Returns the pictures that are drawn after the training of a map."""
    allowed = possible_pictures(saved)
    return tuple(kind for kind in ("hits", "u_matrix", "codebook_images", "curves") if kind in allowed)


def possible_pictures(
    saved: SavedMap, *, clusters: KeptClusters | None = None, image_shape: Sequence[int] | None = None
) -> tuple[str, ...]:
    """Returns all pictures that can be drawn of a map with what is known about it."""
    allowed = {
        "labels": saved.classes is not None,
        "clusters": clusters is not None,
        "codebook_images": image_shape is not None or saved.image_shape is not None,
        "curves": bool(getattr(saved.som, "history_", [])),
    }
    return tuple(kind for kind in KINDS if allowed.get(kind, True))


def map_figures(
    saved: SavedMap,
    kinds: Sequence[str],
    *,
    features: Sequence[str] | None = None,
    clusters: KeptClusters | None = None,
    image_shape: Sequence[int] | None = None,
) -> Iterator[tuple[str, Figure]]:
    """Draws pictures one after another, and yields them with the names of their files.

    Files are named after the kinds; the second and further pages of component planes also have a number.

    Args:
        saved: the map.
        kinds: the pictures, all of them among :func:`possible_pictures`.
        features: names or numbers of the features of the component planes; by default all, on :data:`MOST_PAGES` at
            most, see :func:`count_left_out`.
        clusters: clusters of the map's nodes.
        image_shape: shape of codes as images, ``(H, W)`` or ``(H, W, 3)``; by default that of the training data.
    """
    for kind in kinds:
        if kind == "component_planes":
            yield from zip(_plane_names(saved, features), _component_planes(saved, features), strict=True)
        else:
            yield f"{kind}.png", _figure(saved, kind, clusters, image_shape)


def picture_names(saved: SavedMap, kinds: Sequence[str], *, features: Sequence[str] | None = None) -> list[str]:
    """Returns the names of the files for :func:`map_figures`."""
    return [
        name
        for kind in kinds
        for name in (_plane_names(saved, features) if kind == "component_planes" else [f"{kind}.png"])
    ]


def count_left_out(saved: SavedMap, features: Sequence[str] | None = None) -> int:
    """Counts the features that have no component plane, because all would take too many pages."""
    return 0 if features is not None else saved.som.n_features_in_ - len(_shown_features(saved, None))


def save_map_pictures(
    saved: SavedMap,
    kinds: Sequence[str],
    save: Callable[..., Path],
    *,
    features: Sequence[str] | None = None,
    clusters: KeptClusters | None = None,
    image_shape: Sequence[int] | None = None,
) -> list[Path]:
    """Saves the pictures of :func:`map_figures` and returns their paths. All are made before the first is written."""
    figures = list(map_figures(saved, kinds, features=features, clusters=clusters, image_shape=image_shape))
    # Long names make wide legends.
    return [save(name, figure, bbox_inches="tight") for name, figure in figures]


def _figure(saved: SavedMap, kind: str, clusters: KeptClusters | None, image_shape: Sequence[int] | None) -> Figure:
    import numpy as np

    from somvae_ext import plotting

    scaled, grid = np.asarray(saved.som.codebook_), saved.grid
    axes: Axes
    if kind == "hits":
        axes = plotting.plot_hits(saved.hits, grid)
    elif kind == "u_matrix":
        axes = plotting.plot_u_matrix(scaled, grid, metric=saved.metric)
    elif kind == "rgb":
        axes = plotting.plot_codebook_rgb(scaled, grid)
    elif kind == "labels":
        assert saved.nodes.labels is not None
        node, label, count = saved.nodes.labels.T
        axes = plotting.plot_labels(label.repeat(count), node.repeat(count), grid, names=saved.classes)
    elif kind == "clusters":
        assert clusters is not None
        axes = plotting.plot_map_clusters(clusters.cluster, grid)
    elif kind == "curves":
        axes = plotting.plot_map_training(saved.som.history_, saved.evaluation)[0]
    else:
        images = _codebook_images(saved, image_shape)
        axes = plotting.plot_codebook_images(images.reshape(len(scaled), -1), grid, images.shape[1:], hits=saved.hits)
    return cast("Figure", axes.figure)


def _component_planes(saved: SavedMap, features: Sequence[str] | None) -> Iterator[Figure]:
    from somvae_ext import plotting

    shown = _shown_features(saved, features)
    return plotting.component_plane_pages(saved.codebook, saved.grid, names=saved.feature_names, features=shown)


def _plane_names(saved: SavedMap, features: Sequence[str] | None) -> list[str]:
    from somvae_ext.plotting.component_planes import PANELS_PER_PAGE

    pages = math.ceil(len(_shown_features(saved, features)) / PANELS_PER_PAGE)
    return ["component_planes.png", *(f"component_planes-{page}.png" for page in range(2, pages + 1))]


def _shown_features(saved: SavedMap, features: Sequence[str] | None) -> list[int | str]:
    from somvae_ext.plotting.component_planes import PANELS_PER_PAGE

    if features is not None:
        return [feature_of(saved, name) for name in features]
    return list(range(min(saved.som.n_features_in_, MOST_PAGES * PANELS_PER_PAGE)))


def _codebook_images(saved: SavedMap, image_shape: Sequence[int] | None) -> NDArray[np.float64]:
    """Reshapes the codes to images ``[K, C, H, W]`` or ``[K, H, W]``; a given shape has its colors last."""
    import numpy as np

    if image_shape is None:
        trained = saved.image_shape
        assert trained is not None
        return saved.codebook.reshape(-1, *trained)
    images = saved.codebook.reshape(-1, *image_shape)
    return np.moveaxis(images, -1, 1) if len(image_shape) == 3 else images


def feature_of(saved: SavedMap, name: str) -> int | str:
    """Finds a feature by its name, or by its number if no feature has that name."""
    names, dim = saved.feature_names or (), saved.som.n_features_in_
    if name in names:
        return name
    if name.isdecimal() and int(name) < dim:
        return int(name)
    known = f"{', '.join(names)}, or a number from 0 to {dim - 1}" if names else f"a number from 0 to {dim - 1}"
    raise ValueError(f"--features must be {known}, got {name!r}")
