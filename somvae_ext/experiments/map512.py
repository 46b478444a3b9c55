"""Figures 2, S4 and S5 of the SOM-VAE paper (Fortuin et al. 2019, arXiv 1806.02199): decoded maps of 512 nodes."""

from __future__ import annotations

from somvae_ext.experiments.networks import SOMVAEMethod
from somvae_ext.experiments.pictures import draw_prototypes
from somvae_ext.experiments.protocol import Column, Experiment, Row, Setting

_ROWS, _COLS = 16, 32

_METHOD = SOMVAEMethod(
    "SOM-VAE, ordered",
    tuple(
        Setting(f"sigma {sigma}, alpha {alpha}", {"sigma_final": sigma, "alpha": alpha})
        for sigma in (0.65, 0.8)
        for alpha in (0.05, 0.2)
    ),
    {"rows": _ROWS, "cols": _COLS},
    preset="ordered",
)

MAP512 = Experiment(
    name="map512",
    title="Figures 2, S4 and S5: a map of 512 nodes",
    about="What the nodes of a large ordered map stand for: the codes, decoded, each at its place.",
    source="paper, as cited",
    rows=tuple(Row(data, _METHOD) for data in ("mnist", "fashion-mnist")),
    columns=(
        Column("topographic_error_4", "topographic error (4 neighbors)"),
        Column("topographic_error_8", "(8 neighbors)"),
        Column("order", "order"),
        Column("purity", "purity"),
        Column("nmi_arithmetic", "NMI (arithmetic)"),
        Column("usage", "nodes in use"),
    ),
    chosen_by="nmi_arithmetic",
    draw=draw_prototypes,
)
