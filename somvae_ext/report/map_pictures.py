"""The pictures of a map: which of them it has, and where they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from somvae_ext.estimators import SavedMap
    from somvae_ext.store import KeptClusters

KINDS = ("hits", "u_matrix", "component_planes", "labels", "rgb", "clusters", "codebook_images")
"""All pictures that a map may have."""


def default_pictures(saved: SavedMap) -> tuple[str, ...]:
    """The pictures that are drawn when a map has been trained."""
    return ("hits", "u_matrix", *(["codebook_images"] if training_image_shape(saved) is not None else []))


def save_map_pictures(
    saved: SavedMap,
    kinds: Sequence[str],
    save: Callable[..., Path],
    *,
    features: Sequence[str] | None = None,
    clusters: KeptClusters | None = None,
    image_shape: Sequence[int] | None = None,
) -> list[Path]:
    """Saves pictures, named by their kinds, and returns their paths. All are made before the first is written."""
    figures = {kind: _figure(saved, kind, features, clusters, image_shape) for kind in kinds}
    # Long names make wide legends.
    return [save(f"{kind}.png", figure, bbox_inches="tight") for kind, figure in figures.items()]


def _figure(
    saved: SavedMap,
    kind: str,
    features: Sequence[str] | None,
    clusters: KeptClusters | None,
    image_shape: Sequence[int] | None,
) -> Figure:
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
    elif kind == "component_planes":
        shown = None if features is None else [feature_of(saved, name) for name in features]
        axes = plotting.plot_component_planes(saved.codebook, grid, names=saved.feature_names, features=shown)[0]
    elif kind == "labels":
        assert saved.nodes.labels is not None
        node, label, count = saved.nodes.labels.T
        axes = plotting.plot_labels(label.repeat(count), node.repeat(count), grid, names=saved.classes)
    elif kind == "clusters":
        assert clusters is not None
        axes = plotting.plot_map_clusters(clusters.cluster, grid)
    else:
        images = _codebook_images(saved, image_shape)
        axes = plotting.plot_codebook_images(images.reshape(len(scaled), -1), grid, images.shape[1:], hits=saved.hits)
    return cast("Figure", axes.figure)


def training_image_shape(saved: SavedMap) -> tuple[int, ...] | None:
    """The shape ``(C, H, W)`` of the images that a map was trained on, where it is known."""
    return saved.image_shape


def _codebook_images(saved: SavedMap, image_shape: Sequence[int] | None) -> NDArray[np.float64]:
    """The codes as images ``[K, C, H, W]`` or ``[K, H, W]``, of a shape with the colours last if one is given."""
    import numpy as np

    if image_shape is None:
        trained = training_image_shape(saved)
        assert trained is not None
        return saved.codebook.reshape(-1, *trained)
    images = saved.codebook.reshape(-1, *image_shape)
    return np.moveaxis(images, -1, 1) if len(image_shape) == 3 else images


def feature_of(saved: SavedMap, name: str) -> int | str:
    """A feature by its name, or by its number where no name is alike."""
    names, dim = saved.feature_names or (), saved.som.n_features_in_
    if name in names:
        return name
    if name.isdecimal() and int(name) < dim:
        return int(name)
    known = f"{', '.join(names)}, or a number from 0 to {dim - 1}" if names else f"a number from 0 to {dim - 1}"
    raise ValueError(f"--features must be {known}, got {name!r}")


def map_figures(saved: Any, history: Any, *, clusters: Any = None) -> Any:
    """stub until the pictures branch is merged"""
    kinds = (
        ["hits", "u_matrix", "component_planes"]
        + (["labels"] if saved.classes else [])
        + ["rgb"]
        + (["clusters"] if clusters is not None else [])
        + (["codebook_images"] if training_image_shape(saved) else [])
    )
    if saved.som.n_features_in_ > 64:
        kinds.remove("component_planes")
    for kind in kinds:
        yield f"{kind}.png", _figure(saved, kind, None, clusters, None)
