"""Table 3 of the SOM-VAE paper (Fortuin et al. 2019, arXiv 1806.02199): patients of the eICU database.

The database may not be redistributed: its tables are read from the folder of a user who has been granted access.
"""

from __future__ import annotations

from somvae_ext.experiments.networks import SOMVAEMethod, ordered_on_series
from somvae_ext.experiments.nodes import FORECASTS, measure_scores
from somvae_ext.experiments.pictures import draw_moves
from somvae_ext.experiments.protocol import Column, Experiment, Method, Row, cite
from somvae_ext.experiments.series_settings import (
    BY_GRADIENTS,
    BY_GRADIENTS_WITH_TRANSITIONS,
    STATIC,
)
from somvae_ext.experiments.windows import WindowKMeans

_SIDE = 8
_FRAMES = {"rows": _SIDE, "cols": _SIDE, "output": "linear"}  # vital signs have mean 0 and variance 1

_METHODS: tuple[Method, ...] = (
    WindowKMeans(_SIDE, _SIDE, measure_scores),
    SOMVAEMethod("SOM-VAE", BY_GRADIENTS, _FRAMES | STATIC, measure=measure_scores),
    SOMVAEMethod("SOM-VAE-prob", BY_GRADIENTS_WITH_TRANSITIONS, _FRAMES, measure=measure_scores),
    *ordered_on_series(_FRAMES, measure_scores, window=16, prediction=10.0),
)
_FIGURES = ("nmi_score_6h", "nmi_score_12h", "nmi_score_24h")
_CITED = {"k-means": (0.0411, 0.0384, 0.0366), "SOM-VAE-prob": (0.0474, 0.0444, 0.0421)}

EICU = Experiment(
    name="eicu",
    title="Table 3: patients of the eICU database",
    about=(
        "Vital signs of patients in intensive care, from the folder of the eICU database that is given; the patients "
        "of the test are in no training series. NMI of the nodes with the worst physiology score of the following "
        "hours: that part of the score of APACHE III which heart rate, blood pressure, temperature and breathing tell, "
        "without laboratory values. The last NMI is that with the score that the database itself gives for the whole "
        "stay."
    ),
    source="paper, as cited",
    rows=tuple(Row("eicu", method, cited=cite(_FIGURES, _CITED, method)) for method in _METHODS),
    columns=(
        Column("nmi_score_6h", "NMI, worst score of 6 hours"),
        Column("nmi_score_12h", "12 hours"),
        Column("nmi_score_24h", "24 hours"),
        Column("nmi_stay_score", "score of the stay"),
        Column("topographic_error_4", "topographic error (4 neighbors)"),
        Column("order", "order"),
        *FORECASTS,
    ),
    chosen_by="nmi_score_24h",
    draw=draw_moves,
)
