"""Table 2 of the SOM-VAE paper (Fortuin et al. 2019, arXiv 1806.02199): interpolated series in 64 clusters.

The published code scores the still images that series are made of; frames, many of which are mixtures of two classes,
are scored beside them. Its series have 32 frames from one image to another, those of the paper 64 through four others.
"""

from __future__ import annotations

from typing import get_args

from somvae_ext.data.series import Recipe
from somvae_ext.experiments.networks import SOMVAEMethod
from somvae_ext.experiments.pictures import draw_prototypes
from somvae_ext.experiments.pixels import kmeans
from somvae_ext.experiments.protocol import Column, Experiment, Method, Row, Setting, cite

_SIDE = 8
_SIZE = {"rows": _SIDE, "cols": _SIDE}
_STATIC = {"gamma": 0.0, "tau": 0.0}  # no transitions


def _by_gradients(alpha: float, init: str = "normal", *, tau: float | None = None) -> Setting:
    """The SOM loss weighs nine tenths of the commitment, as published."""
    start = ", from k-means" if init == "kmeans" else ""
    weights = {"alpha": alpha, "beta": 0.9 * alpha, "init": init}
    return _with_tau(Setting(f"alpha {alpha:g}, beta {0.9 * alpha:g}{start}", weights), tau)


def _ordered(alpha: float, sigma: float, *, tau: float | None = None) -> Setting:
    return _with_tau(Setting(f"alpha {alpha}, sigma {sigma}", {"alpha": alpha, "sigma_final": sigma}), tau)


def _with_tau(setting: Setting, tau: float | None) -> Setting:
    return setting if tau is None else Setting(f"{setting.name}, tau {tau}", {**setting.options, "tau": tau})


# tau 1.4 is the published weight of the smoothness, gamma 1.8 that of the transitions.
_METHODS = (
    kmeans(_SIDE, _SIDE),
    SOMVAEMethod(
        "SOM-VAE",
        (_by_gradients(1.0), _by_gradients(0.5), _by_gradients(0.2), _by_gradients(1.0, "kmeans")),
        _SIZE | _STATIC,
    ),
    SOMVAEMethod(
        "SOM-VAE-prob",
        (
            _by_gradients(1.0, tau=1.4),
            _by_gradients(1.0, tau=0.14),
            _by_gradients(0.2, tau=0.14),
            _by_gradients(1.0, "kmeans", tau=0.14),
        ),
        _SIZE,
    ),
    SOMVAEMethod(
        "SOM-VAE, ordered",
        (_ordered(0.05, 0.7), _ordered(0.05, 0.5), _ordered(0.2, 0.7), _ordered(0.2, 0.5)),
        _SIZE | _STATIC,
        preset="ordered",
    ),
    SOMVAEMethod(
        "SOM-VAE-prob, ordered",
        (
            _ordered(0.05, 0.5, tau=1.4),
            _ordered(0.05, 0.5, tau=0.14),
            _ordered(0.05, 0.7, tau=0.14),
            _ordered(0.2, 0.5, tau=0.14),
        ),
        _SIZE,
        preset="ordered",
    ),
)
_STATIC_FIGURES = ("static_purity", "static_nmi_arithmetic")
_CITED = {
    "mnist": {"k-means": (0.791, 0.537), "SOM-VAE": (0.868, 0.595), "SOM-VAE-prob": (0.858, 0.596)},
    "fashion-mnist": {"k-means": (0.703, 0.492), "SOM-VAE": (0.739, 0.520), "SOM-VAE-prob": (0.724, 0.525)},
}
_CITED_TRANSITIONS = {"SOM-VAE-prob": (0.25, 0.24)}  # without a word on data and unit


def _cite(data: str, recipe: Recipe, method: Method) -> dict[str, float]:
    transitions = _CITED_TRANSITIONS if (data, recipe) == ("mnist", "paper") else {}
    return cite(_STATIC_FIGURES, _CITED[data], method) | cite(("transition_nll", "counted_nll"), transitions, method)


TABLE2 = Experiment(
    name="table2",
    title="Table 2: interpolated series",
    about=(
        "Series in which images turn into each other, by the recipe of the published code (`published`) and by that of "
        "the paper (`paper`). Models train on frames. They are scored on the still images of the test split, as the "
        "published code does, and on all frames of the test series. The learned transitions stand beside those counted "
        "on the training series, with one step spread over each row: negative log-likelihood of the test series, in "
        "nats per step. What is cited beside them does not tell its data and unit."
    ),
    source="paper, as cited",
    rows=tuple(
        Row(data, method, recipe, _cite(data, recipe, method))
        for data in _CITED
        for recipe in get_args(Recipe)
        for method in _METHODS
    ),
    columns=(
        Column("static_purity", "purity, images"),
        Column("static_nmi_arithmetic", "NMI (arithmetic), images"),
        Column("purity", "purity, frames"),
        Column("nmi_arithmetic", "NMI (arithmetic), frames"),
        Column("topographic_error_4", "topographic error (4 neighbours)"),
        Column("order", "order"),
        Column("moves_within_1", "moves to neighbours"),
        Column("transition_nll", "learned transitions"),
        Column("counted_nll", "counted"),
    ),
    chosen_by="static_nmi_arithmetic",
    draw=draw_prototypes,
)
