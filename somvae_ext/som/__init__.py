"""The self-organizing map's algorithm as plain functions over the ops: what the estimator and the layer share.

Grid and codebook go in, codes come out; nothing here keeps a state. Needs only torch and numpy, but for
:func:`lay_out` and :func:`relabeling`, which need scipy.
"""

from somvae_ext.som.initialization import (
    Init,
    initial_codebook,
    kmeans_centers,
    lay_out,
    lie_on_a_line,
    sample_rows,
    som_codes,
)
from somvae_ext.som.metrics import Distance, Metric, MetricName, WinnerSearch
from somvae_ext.som.neighborhoods import (
    Neighborhood,
    bubble,
    fastsom_gaussian,
    gaussian,
    mexican_hat,
    pull,
    smoothed,
    triangle,
)
from somvae_ext.som.relabeling import relabeling
from somvae_ext.som.rows import ArrayRows, Chunk, Missing, Rows, SlicedArray, StreamRows, Values, first_batch
from somvae_ext.som.schedules import SCHEDULES, Schedule, value_at
from somvae_ext.som.training import (
    Assignment,
    Record,
    Report,
    StepResult,
    assign,
    check_columns,
    early_stopping,
    node_sums,
    step,
    train_batch,
    train_minibatch,
)

__all__ = [
    "SCHEDULES",
    "ArrayRows",
    "Assignment",
    "Chunk",
    "Distance",
    "Init",
    "Metric",
    "MetricName",
    "Missing",
    "Neighborhood",
    "Record",
    "Report",
    "Rows",
    "Schedule",
    "SlicedArray",
    "StepResult",
    "StreamRows",
    "Values",
    "WinnerSearch",
    "assign",
    "bubble",
    "check_columns",
    "early_stopping",
    "fastsom_gaussian",
    "first_batch",
    "gaussian",
    "initial_codebook",
    "kmeans_centers",
    "lay_out",
    "lie_on_a_line",
    "mexican_hat",
    "node_sums",
    "pull",
    "relabeling",
    "sample_rows",
    "smoothed",
    "som_codes",
    "step",
    "train_batch",
    "train_minibatch",
    "triangle",
    "value_at",
]
