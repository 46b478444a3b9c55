"""``somvae plot`` of a map: its pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from somvae_ext.cli.output import check_picture_folder

if TYPE_CHECKING:
    import numpy as np
    from jsonargparse import Namespace
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from somvae_ext.estimators import SavedMap
    from somvae_ext.store import KeptClusters, ResultFolder

KINDS = ("hits", "u_matrix", "component_planes", "labels", "rgb", "clusters", "codebook_images")
"""All pictures that a map may have."""

_MOST_PLANES = 64
_MOST_CLASSES = 100


def plot_map(folder: ResultFolder, options: Namespace) -> None:
    """Draws the pictures of the map of a folder that are asked for, and prints their paths."""
    from somvae_ext.estimators import SavedMap
    from somvae_ext.store import KeptClusters, save_figure

    saved = SavedMap.from_folder(folder)
    out = Path(options.out or options.run)
    clusters = None
    if options.kind is None or "clusters" in options.kind:
        clusters = KeptClusters.load(folder, saved.grid.num_nodes)
    kinds = _kinds_to_draw(saved, options, clusters)
    _check_kinds(saved, options, kinds, clusters)
    is_map = out.resolve() == folder.path.resolve()
    check_picture_folder(out, [f"{kind}.png" for kind in kinds], may_replace=options.overwrite or is_map)

    def save(name: str, figure: Figure, **options: Any) -> Path:
        out.mkdir(parents=True, exist_ok=True)
        return save_figure(out / name, figure, **options)

    for picture in save_map_pictures(
        saved,
        kinds,
        folder.save_figure if is_map else save,
        features=options.features,
        clusters=clusters,
        image_shape=options.image_shape,
    ):
        print(picture)


def default_pictures(saved: SavedMap) -> tuple[str, ...]:
    """The pictures that are drawn when a map has been trained."""
    return ("hits", "u_matrix", *(["codebook_images"] if _training_image_shape(saved) is not None else []))


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
        shown = None if features is None else [_feature(saved, name) for name in features]
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


def _training_image_shape(saved: SavedMap) -> tuple[int, ...] | None:
    """The shape ``(C, H, W)`` of the images that a map was trained on, where it is known."""
    data = saved.record.data
    shape = None if data is None else data.image_shape
    return shape if shape is not None and shape[0] in (1, 3) else None


def _codebook_images(saved: SavedMap, image_shape: Sequence[int] | None) -> NDArray[np.float64]:
    """The codes as images ``[K, C, H, W]`` or ``[K, H, W]``, of a shape with the colours last if one is given."""
    import numpy as np

    if image_shape is None:
        trained = _training_image_shape(saved)
        assert trained is not None
        return saved.codebook.reshape(-1, *trained)
    images = saved.codebook.reshape(-1, *image_shape)
    return np.moveaxis(images, -1, 1) if len(image_shape) == 3 else images


def _kinds_to_draw(saved: SavedMap, options: Namespace, clusters: KeptClusters | None) -> tuple[str, ...]:
    """The pictures that are asked for, or all that the map, its folder and the options allow."""
    if options.kind is not None:
        return tuple(dict.fromkeys(options.kind))
    allowed = {
        "component_planes": options.features is not None or saved.som.n_features_in_ <= _MOST_PLANES,
        "labels": saved.classes is not None and len(saved.classes) <= _MOST_CLASSES,
        "clusters": clusters is not None,
        "codebook_images": options.image_shape is not None or _training_image_shape(saved) is not None,
    }
    return tuple(kind for kind in KINDS if allowed.get(kind, True))


def _check_kinds(saved: SavedMap, options: Namespace, kinds: Sequence[str], clusters: KeptClusters | None) -> None:
    """Whether the map and its folder have what the pictures need."""
    for kind, option, value in (
        ("component_planes", "--features", options.features),
        ("codebook_images", "--image-shape", options.image_shape),
    ):
        if value is not None and kind not in kinds:
            raise ValueError(f"{option} is for --kind {kind}, which is not among those asked for")
    dim = saved.som.n_features_in_
    if "component_planes" in kinds:
        if options.features is None and dim > _MOST_PLANES:
            raise ValueError(
                f"--kind component_planes needs --features for more than {_MOST_PLANES} features, got {dim}"
            )
        for name in options.features or ():
            _feature(saved, name)
    if "labels" in kinds:
        if saved.classes is None:
            raise ValueError(f"--kind labels needs a map trained with --label-column, but {options.run} has no labels")
        if len(saved.classes) > _MOST_CLASSES:
            raise ValueError(
                f"--kind labels can show {_MOST_CLASSES} classes at most, got the {len(saved.classes)} of column "
                f"{saved.record.data.table.label_column if saved.record.data else None!r}"
            )
    if "clusters" in kinds and clusters is None:
        raise ValueError(
            f"--kind clusters needs a map with clusters, but {options.run} has none; find some by: somvae cluster "
            f"{options.run}"
        )
    if "codebook_images" in kinds and not (options.image_shape is None and _training_image_shape(saved)):
        shape = options.image_shape or []
        is_image = len(shape) in (2, 3) and shape[2:] in ([], [1], [3]) and min(shape) > 0
        size = 1
        for side in shape:
            size *= side
        if not is_image or size != dim:
            raise ValueError(
                f"--image-shape must be H W, or H W 3 for colours, with the {dim} features of the map in all, got "
                f"{' '.join(map(str, shape)) or 'none'}"
            )


def _feature(saved: SavedMap, name: str) -> int | str:
    """A feature by its name, or by its number where no name is alike."""
    names, dim = saved.feature_names or (), saved.som.n_features_in_
    if name in names:
        return name
    if name.isdecimal() and int(name) < dim:
        return int(name)
    known = f"{', '.join(names)}, or a number from 0 to {dim - 1}" if names else f"a number from 0 to {dim - 1}"
    raise ValueError(f"--features must be {known}, got {name!r}")
