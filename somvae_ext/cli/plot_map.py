"""``somvae plot`` for a map: draw its pictures."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from somvae_ext.cli.output import check_picture_folder
from somvae_ext.report.map_pictures import (
    count_left_out,
    feature_of,
    picture_names,
    possible_pictures,
    save_map_pictures,
)

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from matplotlib.figure import Figure

    from somvae_ext.estimators import SavedMap
    from somvae_ext.store import KeptClusters, ResultFolder

_FURTHER_PAGE = re.compile(r"component_planes-\d+\.png")


def plot_map(folder: ResultFolder, options: Namespace) -> None:
    """Draws the requested pictures of the map in a folder, and prints their paths."""
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
    names = picture_names(saved, kinds, features=options.features)
    check_picture_folder(out, names, may_replace=options.overwrite or is_map)

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
    if "component_planes" in kinds:
        if is_map:
            _remove_pages(out, names)
        if left_out := count_left_out(saved, options.features):
            print(
                f"somvae: component planes of the last {left_out:,} of {saved.som.n_features_in_:,} features were left "
                "out; name some by --features to draw them",
                file=sys.stderr,
            )


def _remove_pages(folder: Path, names: Sequence[str]) -> None:
    """Removes pages of component planes left over from an earlier call that drew more of them."""
    for path in folder.iterdir():
        if _FURTHER_PAGE.fullmatch(path.name) and path.name not in names:
            path.unlink(missing_ok=True)


def _kinds_to_draw(saved: SavedMap, options: Namespace, clusters: KeptClusters | None) -> tuple[str, ...]:
    """Returns the requested pictures, or all that the map, its folder and the options allow."""
    if options.kind is not None:
        return tuple(dict.fromkeys(options.kind))
    return possible_pictures(saved, clusters=clusters, image_shape=options.image_shape)


def _check_kinds(saved: SavedMap, options: Namespace, kinds: Sequence[str], clusters: KeptClusters | None) -> None:
    """Checks that the map and its folder have what the pictures need."""
    for kind, option, value in (
        ("component_planes", "--features", options.features),
        ("codebook_images", "--image-shape", options.image_shape),
    ):
        if value is not None and kind not in kinds:
            raise ValueError(f"{option} is for --kind {kind}, which is not among those asked for")
    dim = saved.som.n_features_in_
    if "component_planes" in kinds:
        for name in options.features or ():
            feature_of(saved, name)
    if "labels" in kinds and saved.classes is None:
        raise ValueError(f"--kind labels needs a map trained with --label-column, but {options.run} has no labels")
    if "curves" in kinds and "curves" not in possible_pictures(saved):
        raise ValueError(f"--kind curves needs a record of the training's epochs, but {options.run} has none")
    if "clusters" in kinds and clusters is None:
        raise ValueError(
            f"--kind clusters needs a map with clusters, but {options.run} has none; find some by: somvae cluster "
            f"{options.run}"
        )
    if "codebook_images" in kinds and not (options.image_shape is None and saved.image_shape):
        shape = options.image_shape or []
        is_image = len(shape) in (2, 3) and shape[2:] in ([], [1], [3]) and min(shape) > 0
        size = 1
        for side in shape:
            size *= side
        if not is_image or size != dim:
            raise ValueError(
                f"--image-shape must be H W, or H W 3 for colors, with the {dim} features of the map in all, got "
                f"{' '.join(map(str, shape)) or 'none'}"
            )
