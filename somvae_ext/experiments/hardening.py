"""The table of SOM-VAE's successor DPSOM (Manduchi et al. 2021, arXiv 1910.01590): still images on 8 x 8 nodes."""

from __future__ import annotations

from somvae_ext.experiments.networks import SOMVAEMethod
from somvae_ext.experiments.pixels import kmeans
from somvae_ext.experiments.protocol import Column, Experiment, Row, Setting

_SIDE = 8
_SIZE = {"rows": _SIDE, "cols": _SIDE}

_METHODS = (
    kmeans(_SIDE, _SIDE),
    SOMVAEMethod(
        "SOM-VAE, by gradients",
        tuple(
            Setting(f"alpha {alpha}, beta {beta}", {"alpha": alpha, "beta": beta})
            for alpha, beta in ((1.0, 0.9), (5.0, 4.5), (2.5, 2.25), (10.0, 9.0))
        ),
        _SIZE,
    ),
    SOMVAEMethod(
        "SOM-VAE, ordered",
        tuple(
            Setting(f"sigma {sigma}, alpha {alpha}", {"sigma_final": sigma, "alpha": alpha})
            for sigma in (0.5, 0.65)
            for alpha in (0.05, 0.2)
        ),
        _SIZE,
        preset="ordered",
    ),
    SOMVAEMethod(
        "SOM-VAE, own loss",
        (
            Setting("sigma 0.4, margin 5", {"neighbor_margin": 5.0}),
            Setting("sigma 0.4, no margin", {"neighbor_margin": 0.0}),
            Setting("sigma 0.3, margin 5", {"sigma_final": 0.3, "neighbor_margin": 5.0}),
            Setting("sigma 0.4, margin 5, alpha 0.2", {"alpha": 0.2, "neighbor_margin": 5.0}),
        ),
        _SIZE,
        preset="own-loss",
    ),
    SOMVAEMethod(
        "SOM-VAE with hardening",
        (
            Setting("hardening 1", {}),
            Setting("hardening 0.5", {"hardening": 0.5}),
            Setting("hardening 2", {"hardening": 2.0}),
            Setting("hardening 1, latent 32", {"latent_dim": 32}),
        ),
        _SIZE,
        preset="clusters",
    ),
)
# Third-party reruns of DPSOM, which is SOM-VAE with hardening on far larger networks.
_DPSOM = {"mnist": (0.96, 0.70), "fashion-mnist": (0.77, 0.57)}


def _cited(data: str, method: str) -> dict[str, float]:
    if method != "SOM-VAE with hardening":
        return {}
    return dict(zip(("purity", "nmi_geometric"), _DPSOM[data], strict=True))


HARDENING = Experiment(
    name="hardening",
    title="Hardening: still images on 8 x 8 nodes",
    about=(
        "The loss of SOM-VAE beside that of its successors, which hardens the assignment of samples to clusters. The "
        "successors average entropies geometrically."
    ),
    source="DPSOM, as cited",
    rows=tuple(Row(data, method, paper=_cited(data, method.title)) for data in _DPSOM for method in _METHODS),
    columns=(
        Column("purity", "purity"),
        Column("nmi_geometric", "NMI (geometric)"),
        Column("nmi_arithmetic", "NMI (arithmetic)"),
        Column("topographic_error_4", "topographic error (4 neighbours)"),
        Column("order", "order"),
    ),
    chosen_by="nmi_arithmetic",
)
