"""Settings over which SOM-VAEs on series are tuned."""

from __future__ import annotations

from typing import Any

from somvae_ext.experiments.protocol import Setting

STATIC = {"gamma": 0.0, "tau": 0.0}
"""Options of a model without transitions."""


def weigh_gradients(alpha: float, init: str = "normal", *, tau: float | None = None) -> Setting:
    """Codes that learn by gradients; the SOM loss has nine tenths of the weight of the commitment, as published."""
    start = ", from k-means" if init == "kmeans" else ""
    weights = {"alpha": alpha, "beta": 0.9 * alpha, "init": init}
    return _with_tau(f"alpha {alpha:g}, beta {0.9 * alpha:g}{start}", weights, tau)


def narrow_to(alpha: float, sigma: float, *, tau: float | None = None) -> Setting:
    """Codes that follow averages, with a neighborhood whose final width is ``sigma``."""
    return _with_tau(f"alpha {alpha}, sigma {sigma}", {"alpha": alpha, "sigma_final": sigma}, tau)


def _with_tau(name: str, options: dict[str, Any], tau: float | None) -> Setting:
    return Setting(name, options) if tau is None else Setting(f"{name}, tau {tau}", {**options, "tau": tau})


# tau 1.4 is the published weight of the smoothness, gamma 1.8 that of the transitions.
BY_GRADIENTS = (weigh_gradients(1.0), weigh_gradients(0.5), weigh_gradients(0.2), weigh_gradients(1.0, "kmeans"))
BY_GRADIENTS_WITH_TRANSITIONS = (
    weigh_gradients(1.0, tau=1.4),
    weigh_gradients(1.0, tau=0.14),
    weigh_gradients(0.2, tau=0.14),
    weigh_gradients(1.0, "kmeans", tau=0.14),
)
ORDERED = (narrow_to(0.05, 0.7), narrow_to(0.05, 0.5), narrow_to(0.2, 0.7), narrow_to(0.2, 0.5))
ORDERED_WITH_TRANSITIONS = (
    narrow_to(0.05, 0.5, tau=1.4),
    narrow_to(0.05, 0.5, tau=0.14),
    narrow_to(0.05, 0.7, tau=0.14),
    narrow_to(0.2, 0.5, tau=0.14),
)
