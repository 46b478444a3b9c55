"""The chaotic system of the SOM-VAE paper (Fortuin et al. 2019, arXiv 1806.02199): two lobes as macro-states."""

from __future__ import annotations

from somvae_ext.experiments.networks import SOMVAEMethod, ordered_on_series, own_loss
from somvae_ext.experiments.nodes import FORECASTS, measure_lobes
from somvae_ext.experiments.pictures import draw_moves
from somvae_ext.experiments.protocol import Column, Experiment, Method, Row
from somvae_ext.experiments.series_settings import BY_GRADIENTS_WITH_TRANSITIONS
from somvae_ext.experiments.windows import WindowKMeans

_SIDE = 8
_SIZE = {"rows": _SIDE, "cols": _SIDE}

_METHODS: tuple[Method, ...] = (
    WindowKMeans(_SIDE, _SIDE, measure_lobes),
    SOMVAEMethod("SOM-VAE-prob", BY_GRADIENTS_WITH_TRANSITIONS, _SIZE, measure=measure_lobes),
    *ordered_on_series(_SIZE, measure_lobes, window=16, prediction=10.0),
    own_loss(_SIZE, margin=1.0, measure=measure_lobes),
)

LORENZ = Experiment(
    name="lorenz",
    title="The Lorenz system",
    about=(
        "Noisy trajectories of the Lorenz system, whose frames belong to one of its two lobes. Macro-states are two "
        "sets of nodes among which series stay for long, found from the transition matrix alone; their accuracy is the "
        "share of test frames in the lobe that they are matched with. Purity is that of the nodes, noise that of nodes "
        "with as many frames drawn at random. Encodings with a window see the frames before their own; those with a "
        "prediction are also to tell the next one. Forecasts of the next node are compared by their log-loss in nats "
        "per step; those of different nodes are no measure of each other. All seeds train on the same trajectories."
    ),
    source="",
    rows=tuple(Row("lorenz", method) for method in _METHODS),
    columns=(
        Column("macro_accuracy", "accuracy of macro-states"),
        Column("purity", "purity"),
        Column("noise_purity", "purity of noise"),
        Column("nmi_arithmetic", "NMI (arithmetic)"),
        Column("topographic_error_4", "topographic error (4 neighbors)"),
        Column("order", "order"),
        Column("moves_within_1", "moves to neighbors"),
        *FORECASTS,
    ),
    chosen_by="nmi_arithmetic",
    draw=draw_moves,
)
