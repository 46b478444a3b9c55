"""Freely available vital signs: central venous pressure of pigs, instead of the patients of the SOM-VAE paper."""

from __future__ import annotations

from somvae_ext.experiments.networks import SOMVAEMethod, ordered_on_series
from somvae_ext.experiments.nodes import FORECASTS, measure_animals
from somvae_ext.experiments.pictures import draw_moves
from somvae_ext.experiments.protocol import Column, Experiment, Method, Row
from somvae_ext.experiments.series_settings import BY_GRADIENTS_WITH_TRANSITIONS
from somvae_ext.experiments.windows import WindowKMeans

_SIDE = 8
_SIZE = {"rows": _SIDE, "cols": _SIDE}

_METHODS: tuple[Method, ...] = (
    WindowKMeans(_SIDE, _SIDE, measure_animals),
    SOMVAEMethod("SOM-VAE-prob", BY_GRADIENTS_WITH_TRANSITIONS, _SIZE, measure=measure_animals),
    *ordered_on_series(_SIZE, measure_animals, window=32, prediction=100.0),
)

VITALS = Experiment(
    name="vitals",
    title="Vital signs: central venous pressure",
    about=(
        "Central venous pressure of pigs, split by animal: those of the test are in no training series. Nothing is "
        "labeled but the animal, so purity and NMI say how far nodes tell animals apart. Forecasts of the next node "
        "are those of the learned transitions, of transitions counted on the training series, and of a chain that "
        "stays in the last state with the probability counted there: their log-losses on the test animals, in nats per "
        "step. Those of different nodes are no measure of each other. All seeds hold out the same animals, so that "
        "errors are those of training alone."
    ),
    source="",
    rows=tuple(Row("pig-cvp", method) for method in _METHODS),
    columns=(
        Column("nmi_arithmetic", "NMI (arithmetic)"),
        Column("purity", "purity"),
        Column("topographic_error_4", "topographic error (4 neighbors)"),
        Column("order", "order"),
        Column("moves_within_1", "moves to neighbors"),
        *FORECASTS,
    ),
    chosen_by="nmi_arithmetic",
    draw=draw_moves,
    notes={
        ("pig-cvp", None): (
            "k-means tells animals apart best because it clusters whole stretches of the series, in which the shape of "
            "the pressure wave shows; an encoding answers for one frame. A window alone hardly helps, as the "
            "reconstruction of a frame asks for no more than that frame; with the prediction of the next one it does."
        ),
    },
)
