"""Table 1 of the SOM-VAE paper (Fortuin et al. 2019, arXiv 1806.02199): still images in 16 clusters."""

from __future__ import annotations

from somvae_ext.experiments.networks import SOMVAEMethod, own_loss, weigh, with_hardening
from somvae_ext.experiments.pictures import draw_prototypes
from somvae_ext.experiments.pixels import batch_som, kmeans, minisom
from somvae_ext.experiments.protocol import Column, Experiment, Row, Setting, cite

_SIDE = 4
_SIZE = {"rows": _SIDE, "cols": _SIDE}


# Weights of commitment and SOM loss: as published, larger and smaller by factors of five; and a start from k-means.
_AS_PUBLISHED, _LARGER, _SMALLER, _SMALLEST = (
    weigh(1.0, 0.9),
    weigh(5.0, 4.5),
    weigh(0.2, 0.18),
    weigh(0.04, 0.036),
)
_FROM_KMEANS = Setting("alpha 1, beta 0.9, from k-means", {"alpha": 1.0, "beta": 0.9, "init": "kmeans"})

_GB_SOM = SOMVAEMethod(
    "GB-SOM",
    tuple(
        Setting(f"beta {beta}, rate {rate}", {"beta": beta, "learning_rate": rate})
        for beta in (0.9, 0.1)
        for rate in (1e-2, 5e-2)
    ),
    {**_SIZE, "network": "identity"},
)
_VQ_VAE = SOMVAEMethod(
    "VQ-VAE",
    (
        *(Setting(f"alpha {alpha:g}", {"alpha": alpha}) for alpha in (1.0, 0.25, 0.05)),
        Setting("alpha 0.25, from k-means", {"alpha": 0.25, "init": "kmeans"}),
    ),
    {**_SIZE, "gradient": "copy", "beta": 0.0},
    is_map=False,
)
_NO_GRADS = SOMVAEMethod("no_grads", (_AS_PUBLISHED, _LARGER, _SMALLER, _FROM_KMEANS), {**_SIZE, "gradient": "none"})
_GRADCOPY = SOMVAEMethod("gradcopy", (_AS_PUBLISHED, _SMALLER, _SMALLEST, _FROM_KMEANS), {**_SIZE, "gradient": "copy"})
_PUBLISHED = SOMVAEMethod("SOM-VAE", (_AS_PUBLISHED, _LARGER, _SMALLER, _FROM_KMEANS), _SIZE)

_METHODS = (
    kmeans(_SIDE, _SIDE),
    minisom(_SIDE, _SIDE),
    batch_som(_SIDE, _SIDE),
    _GB_SOM,
    _VQ_VAE,
    _NO_GRADS,
    _GRADCOPY,
    _PUBLISHED,
    own_loss(_SIZE, margin=1.0),
    with_hardening(_SIZE),
)
_CITED = {
    "mnist": {
        "k-means": (0.690, 0.541),
        "minisom": (0.406, 0.342),
        "GB-SOM": (0.653, 0.519),
        "VQ-VAE": (0.538, 0.409),
        "no_grads": (0.114, 0.001),
        "gradcopy": (0.583, 0.436),
        "SOM-VAE": (0.731, 0.594),
    },
    "fashion-mnist": {
        "k-means": (0.654, 0.545),
        "minisom": (0.413, 0.475),
        "GB-SOM": (0.606, 0.514),
        "VQ-VAE": (0.611, 0.517),
        "no_grads": (0.110, 0.018),
        "gradcopy": (0.556, 0.444),
        "SOM-VAE": (0.678, 0.590),
    },
}

_NOTES = {
    "mnist": (
        "minisom is far better than cited: here it goes through the samples several times, with width and rate chosen "
        "on validation data, and comes near k-means. VQ-VAE stands above gradcopy with the setting that was chosen, a "
        "start from k-means and a smaller commitment; with a weight of one and a random start it is far below gradcopy "
        "on the validation split, in the order of the paper. GB-SOM is above VQ-VAE on the validation split, with the "
        "seed that chooses settings, and below it with the seeds that are reported; other rates and weights made it "
        "worse."
    ),
    "fashion-mnist": (
        "minisom is far better than cited, for the reason given for MNIST, and close to k-means. GB-SOM, VQ-VAE and "
        "gradcopy are close to each other, and no setting of theirs comes up to minisom on the validation split. By "
        "purity SOM-VAE is no better than k-means; larger and smaller weights and a start from k-means changed its NMI "
        "by a few hundredths at most."
    ),
}

TABLE1 = Experiment(
    name="table1",
    title="Table 1: still images",
    about=(
        "Still images in as many clusters in every row. `SOM-VAE` is the published loss, whose codes learn by "
        "gradients. `own loss` has its reconstruction and commitment, codes that are smoothed averages of what their "
        "nodes win (the preset `own-loss`), and, where a margin is named, a term that keeps the second best node "
        "beside the best. `with hardening` adds the loss of SOM-VAE's successors. In the last two, nodes change places "
        "to lower the topographic error, which therefore is no evidence of order there."
    ),
    source="paper, as cited",
    rows=tuple(
        Row(data, method, cited=cite(("purity", "nmi_arithmetic"), cited, method))
        for data, cited in _CITED.items()
        for method in _METHODS
    ),
    columns=(
        Column("purity", "purity"),
        Column("nmi_arithmetic", "NMI (arithmetic)"),
        Column("topographic_error_4", "topographic error (4 neighbors)"),
        Column("order", "order"),
    ),
    chosen_by="nmi_arithmetic",
    draw=draw_prototypes,
    notes={(data, None): text for data, text in _NOTES.items()},
)
