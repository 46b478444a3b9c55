"""The algorithm of the self-organizing map as plain functions over the ops, shared by the estimator and the layer.

Grid and codebook go in, codes come out; no function keeps state. Only torch and numpy are needed, except that
:func:`arrange_on_grid`, :func:`combined_error`, :func:`find_relabeling`, :func:`path_lengths` and the initialization
``"kmeans"`` need scipy.
"""

from somvae_ext.som.initialization import (
    Init,
    are_collinear,
    arrange_on_grid,
    init_sample_size,
    initial_codebook,
    kmeans_centers,
    som_codes,
)
from somvae_ext.som.map_paths import combined_error, path_lengths
from somvae_ext.som.map_size import MapSize, suggest_map_size
from somvae_ext.som.metrics import Distance, Metric, MetricName, WinnerSearch
from somvae_ext.som.neighborhoods import (
    Neighborhood,
    bubble,
    fastsom_gaussian,
    gaussian,
    mexican_hat,
    neighborhood_sums,
    neighborhood_update,
    triangle,
)
from somvae_ext.som.relabeling import find_relabeling
from somvae_ext.som.rows import (
    ArrayRows,
    Chunk,
    Missing,
    RowFormat,
    Rows,
    SlicedArray,
    StreamRows,
    evenly_spaced_rows,
    read_first_batch,
)
from somvae_ext.som.schedules import SCHEDULES, Schedule, schedule_value
from somvae_ext.som.training import (
    Assignment,
    EpochCallback,
    EpochRecord,
    StepResult,
    assign,
    check_no_empty_columns,
    early_stopping,
    minibatch_step,
    node_sums,
    train_batch,
    train_minibatch,
)

__all__ = [
    "SCHEDULES",
    "ArrayRows",
    "Assignment",
    "Chunk",
    "Distance",
    "EpochCallback",
    "EpochRecord",
    "Init",
    "MapSize",
    "Metric",
    "MetricName",
    "Missing",
    "Neighborhood",
    "RowFormat",
    "Rows",
    "Schedule",
    "SlicedArray",
    "StepResult",
    "StreamRows",
    "WinnerSearch",
    "are_collinear",
    "arrange_on_grid",
    "assign",
    "bubble",
    "check_no_empty_columns",
    "combined_error",
    "early_stopping",
    "evenly_spaced_rows",
    "fastsom_gaussian",
    "find_relabeling",
    "gaussian",
    "init_sample_size",
    "initial_codebook",
    "kmeans_centers",
    "mexican_hat",
    "minibatch_step",
    "neighborhood_sums",
    "neighborhood_update",
    "node_sums",
    "path_lengths",
    "read_first_batch",
    "schedule_value",
    "som_codes",
    "suggest_map_size",
    "train_batch",
    "train_minibatch",
    "triangle",
]
