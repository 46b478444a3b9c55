"""Table 1 of the SOM-VAE paper (Fortuin et al. 2019, arXiv 1806.02199): still images in 16 clusters."""

from __future__ import annotations

from somvae_ext.experiments.networks import SOMVAEMethod
from somvae_ext.experiments.pixels import batch_som, kmeans, minisom
from somvae_ext.experiments.protocol import Column, Experiment, Row, Setting

_SIDE = 4
_SIZE = {"rows": _SIDE, "cols": _SIDE}
_GRADIENTS = {"alpha": 5.0, "beta": 4.5}

# Weights of commitment and SOM loss: as published, larger, smaller, and from another start.
_WEIGHTS = (
    Setting("alpha 1, beta 0.9", {"alpha": 1.0, "beta": 0.9}),
    Setting("alpha 5, beta 4.5", _GRADIENTS),
    Setting("alpha 0.2, beta 0.18", {"alpha": 0.2, "beta": 0.18}),
)
_FROM_KMEANS = Setting("alpha 1, beta 0.9, from k-means", {"alpha": 1.0, "beta": 0.9, "init": "kmeans"})

GB_SOM = SOMVAEMethod(
    "GB-SOM",
    tuple(
        Setting(f"beta {beta}, rate {rate}", {"beta": beta, "learning_rate": rate})
        for beta in (0.9, 0.1)
        for rate in (2e-3, 1e-2)
    ),
    {**_SIZE, "network": "identity"},
)
VQ_VAE = SOMVAEMethod(
    "VQ-VAE",
    tuple(
        Setting(f"alpha {alpha}{start}", {"alpha": alpha, "init": init})
        for alpha in (1.0, 0.25)
        for init, start in (("normal", ""), ("kmeans", ", from k-means"))
    ),
    {**_SIZE, "gradient": "copy", "beta": 0.0},
)
NO_GRADS = SOMVAEMethod("no_grads", (*_WEIGHTS, _FROM_KMEANS), {**_SIZE, "gradient": "none"})
GRADCOPY = SOMVAEMethod("gradcopy", (*_WEIGHTS, _FROM_KMEANS), {**_SIZE, "gradient": "copy"})
PUBLISHED = SOMVAEMethod(
    "SOM-VAE, by gradients",
    (*_WEIGHTS[:2], Setting("alpha 10, beta 9", {"alpha": 10.0, "beta": 9.0}), _FROM_KMEANS),
    _SIZE,
)
OWN_LOSS = SOMVAEMethod(
    "SOM-VAE, own loss",
    (
        Setting("sigma 0.4, margin 1", {}),
        Setting("sigma 0.4, no margin", {"neighbor_margin": 0.0}),
        Setting("sigma 0.3, margin 1", {"sigma_final": 0.3}),
        Setting("sigma 0.4, margin 1, alpha 0.2", {"alpha": 0.2}),
    ),
    _SIZE,
    preset="own-loss",
)
HARDENING = SOMVAEMethod(
    "SOM-VAE with hardening",
    (
        Setting("hardening 1", {}),
        Setting("hardening 0.5", {"hardening": 0.5}),
        Setting("hardening 2", {"hardening": 2.0}),
        Setting("hardening 1, latent 32", {"latent_dim": 32}),
    ),
    _SIZE,
    preset="clusters",
)

_PAPER = {
    "mnist": {
        "k-means": (0.690, 0.541),
        "minisom": (0.406, 0.342),
        "GB-SOM": (0.653, 0.519),
        "VQ-VAE": (0.538, 0.409),
        "no_grads": (0.114, 0.001),
        "gradcopy": (0.583, 0.436),
        "SOM-VAE, by gradients": (0.731, 0.594),
        "SOM-VAE, own loss": (0.731, 0.594),
    },
    "fashion-mnist": {
        "k-means": (0.654, 0.545),
        "minisom": (0.413, 0.475),
        "GB-SOM": (0.606, 0.514),
        "VQ-VAE": (0.611, 0.517),
        "no_grads": (0.110, 0.018),
        "gradcopy": (0.556, 0.444),
        "SOM-VAE, by gradients": (0.678, 0.590),
        "SOM-VAE, own loss": (0.678, 0.590),
    },
}
_METHODS = (
    kmeans(_SIDE, _SIDE),
    minisom(_SIDE, _SIDE),
    batch_som(_SIDE, _SIDE),
    GB_SOM,
    VQ_VAE,
    NO_GRADS,
    GRADCOPY,
    PUBLISHED,
    OWN_LOSS,
    HARDENING,
)


def _cited(data: str, method: str) -> dict[str, float]:
    figures = _PAPER[data].get(method)
    return {} if figures is None else dict(zip(("purity", "nmi_arithmetic"), figures, strict=True))


TABLE1 = Experiment(
    name="table1",
    title="Table 1: still images",
    about="Still images in as many clusters in every row.",
    source="paper, as cited",
    rows=tuple(Row(data, method, paper=_cited(data, method.title)) for data in _PAPER for method in _METHODS),
    columns=(
        Column("purity", "purity"),
        Column("nmi_arithmetic", "NMI (arithmetic)"),
        Column("topographic_error_4", "topographic error (4 neighbours)"),
        Column("order", "order"),
    ),
    chosen_by="nmi_arithmetic",
)
