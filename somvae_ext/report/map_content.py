"""The content of the page of a map."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from somvae_ext import evaluation
from somvae_ext.data.descriptions import pluralize
from somvae_ext.data.scaling import Scaling
from somvae_ext.data.tables import Table
from somvae_ext.estimators import SavedMap
from somvae_ext.estimators.map_evaluation import assign_rows, measure_map
from somvae_ext.estimators.saved_map import Winners
from somvae_ext.plotting.component_planes import PANELS_PER_PAGE
from somvae_ext.report.assign import (
    choose_paths,
    choose_samples,
    count_transitions,
    split_by_series,
)
from somvae_ext.report.content import ResultContent, flatten, hide_folders, pictures_of
from somvae_ext.report.explorer import MOST_NODES, AssignedSamples, Explorer, Features, SeriesPath, moments_of
from somvae_ext.report.map_pictures import map_figures, possible_pictures
from somvae_ext.report.metrics import EvaluationContext, measured_metrics
from somvae_ext.report.result_info import describe_data, describe_result
from somvae_ext.report.sprites import Sprites
from somvae_ext.store import KeptClusters, ResultFolder

_MOST_PLANES = 2 * PANELS_PER_PAGE
_SPLIT = "train"  # the only split of a map
_COUNTED = "Counted on the series that the map was trained on, including stays in the same node."


def map_content(
    folder: ResultFolder, saved: SavedMap, table: Table | None, name: str, reason: str = ""
) -> ResultContent:
    """Builds the content of the page of a map.

    Args:
        folder: folder of the map.
        saved: the map.
        table: its training data; None if they are gone, and samples cannot be shown.
        name: name of the map on the page.
        reason: a sentence that says why there is no table.
    """
    clusters = KeptClusters.load(folder, saved.grid.num_nodes)
    notes = []
    if saved.record.data is None:
        notes.append("The map does not say which data it was trained on: no samples are shown.")
    elif table is None:
        notes.append(f"The data cannot be read, so no samples are shown: {reason or 'they are gone'}.")
    evaluations, winners = folder.evaluations, None
    if table is not None:
        winners = assign_rows(saved, (block.x for block in table.blocks()))
        measured = measure_map(saved.grid, winners, table.label)
        evaluations = evaluations | {_SPLIT: evaluations.get(_SPLIT, {}) | measured}
    explorer = None
    if saved.grid.num_nodes <= MOST_NODES:
        explorer = _explorer(saved, table, winners, clusters)
    else:
        notes.append(f"Maps of more than {MOST_NODES} nodes have pictures, but no explorer.")
    kinds = possible_pictures(saved, clusters=clusters)
    planes, dim = None, saved.record.dim
    if saved.image_shape is not None:
        kinds = tuple(kind for kind in kinds if kind != "component_planes")  # the images show all pixels at once
    elif dim > _MOST_PLANES:
        planes = list((saved.feature_names or [str(number) for number in range(dim)])[:_MOST_PLANES])
        notes.append(
            f"There are component planes of the first {_MOST_PLANES} of {dim} features; 'somvae plot' draws others."
        )
    facts = describe_result(folder)
    data = saved.record.data
    content = ResultContent(
        name=name,
        summary=_summary(saved),
        facts=facts,
        data=describe_data(facts) if table is None else dict(table.description),
        config=flatten(saved.record.to_config()),
        metrics={
            split: measured_metrics(figures, EvaluationContext.of_map(saved, split))
            for split, figures in evaluations.items()
        },
        pictures=pictures_of(map_figures(saved, kinds, features=planes, clusters=clusters)),
        explorer=explorer,
        notes=notes,
    )
    return hide_folders(content, [folder.path] if data is None else [folder.path, data.name, data.root])


def _summary(saved: SavedMap) -> str:
    grid = saved.grid
    shape = f"{'periodic ' if grid.periodic else ''}{grid.topology}"
    rows = pluralize(int(saved.hits.sum()), "row")
    return (
        f"A {shape} self-organizing map of {grid.rows} x {grid.cols} nodes, trained on {rows} of "
        f"{pluralize(saved.record.dim, 'feature')}."
    )


def _explorer(saved: SavedMap, table: Table | None, winners: Winners | None, clusters: KeptClusters | None) -> Explorer:
    grid, shape = saved.grid, saved.image_shape
    codes = saved.codebook
    low, high = (0.0, 1.0) if codes.min() >= 0 and codes.max() <= 1 else (float(codes.min()), float(codes.max()))
    samples, transitions = None, None
    paths: list[SeriesPath] = []
    if table is not None and winners is not None:
        node, distance, _ = winners
        samples = _samples(saved, table, node, distance, shape, (low, high))
        series = split_by_series(table.row_keys)
        if series is not None:
            names, rows = series
            walks = [node[members] for members in rows]
            transitions, paths = count_transitions(walks, grid.num_nodes, _COUNTED), choose_paths(names, walks)
    of_scaled = "" if saved.scaling.kind == "none" else " of the scaled data"
    u_matrix = evaluation.u_matrix(saved.som.codebook_, grid, saved.metric).node.numpy() if grid.num_nodes > 1 else None
    return Explorer(
        noun="node",
        grid=grid,
        num_nodes=grid.num_nodes,
        hits=saved.hits,
        hits_of="training rows",
        classes=saved.node_classes,
        cluster=None if clusters is None else clusters.cluster,
        u_matrix=u_matrix,
        u_matrix_of=f"{saved.metric.distance} distance{of_scaled}",
        features=None if shape is not None else _features(saved, table),
        images=None if shape is None else Sprites.from_images(codes.reshape(-1, *shape), low=low, high=high),
        samples=samples,
        transitions=transitions,
        paths=paths,
    )


def _features(saved: SavedMap, table: Table | None) -> Features:
    names = saved.feature_names or [f"feature {number}" for number in range(saved.record.dim)]
    scaling = saved.scaling
    if table is not None and moments_of(scaling, table.dim) is None:
        scaling = Scaling.fit("standard", (block.x for block in table.blocks()), table.dim)
    return Features.choose(names, saved.codebook, moments_of(scaling, saved.record.dim))


def _samples(
    saved: SavedMap,
    table: Table,
    node: NDArray[np.int64],
    distance: NDArray[Any],
    shape: tuple[int, ...] | None,
    limits: tuple[float, float],
) -> AssignedSamples:
    def draw(rows: NDArray[np.int64]) -> Sprites:
        assert shape is not None
        values = np.where((rows >= 0)[:, None], np.asarray(table.x[np.maximum(rows, 0)], np.float64), limits[0])
        return Sprites.from_images(values.reshape(-1, *shape), low=limits[0], high=limits[1])

    return choose_samples(
        node,
        distance,
        saved.grid.num_nodes,
        table.row_keys,
        what="row",
        label=table.label,
        draw=None if shape is None else draw,
    )
