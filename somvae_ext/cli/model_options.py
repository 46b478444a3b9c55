"""The options of ``somvae fit`` that are fields of a model's config."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from somvae_ext.former_names import current_value
from somvae_ext.models import MODELS
from somvae_ext.models.networks import SMALL_CONV_MIN_SIDE
from somvae_ext.recipes import PRESETS, SHARES_TO_NARROW

_ORDERED = PRESETS["somvae"]["ordered"].config()

# The meaning of each field. Defaults that depend on the data are stated here; others are read from the configs.
_MEANINGS = {
    "rows": "rows of the map",
    "cols": "columns of the map",
    "topology": "shape of the grid",
    "periodic": "let the map wrap around at its edges",
    "latent_dim": "dimension of an encoding",
    "network": "encoder and decoder: linear layers, or strided convolutions",
    "hidden_sizes": "widths of the encoder's hidden layers",
    "reconstruction": "reconstruction loss: squared error, or binary cross entropy",
    "decay": "share of the moving averages that a step keeps (default: 0.99)",
    "num_codes": "number of codes in the codebook",
    "num_categories": "number of categories of the discrete latent variable",
    "temperature": "temperature of the relaxed categories",
    "objective": "plain: the evidence lower bound; dupont: distances of both KL divergences from capacities; "
    "entropy-capacity: the same with the entropy of the categories in place of their divergence",
    "capacity_z": "final capacity of the continuous latent variable, in nats per sample, or per batch for "
    "entropy-capacity",
    "capacity_c": "final capacity of the categories, in the units of --capacity-z",
    "capacity_ramp": "steps until capacities reach their final values; epochs for entropy-capacity",
    "num_experts": "number of experts in the mixture",
    "hidden_size": "width of the hidden layers of experts and manager",
    "std": "standard deviation of a pixel around its reconstruction",
    "balance": "weight of the variance over the experts of the number of samples that each gets of a batch of 100",
}
_OF_VAES = {"latent_dim": "dimension of the latent space", "beta": "weight of the KL divergence"}
# Meanings that are specific to one model.
_MEANINGS_IN = {
    "somvae": {
        "border": "missing neighbors count as zeros (zero) or are left out (mask); for --codebook-update gradient",
        "neighbors_only": "let the SOM loss move only the winner's neighbors, as in the paper",
        "network": "network of encoder and decoders; the presets ordered, clusters, own-loss and augmented take "
        f"small-conv for images of at least {SMALL_CONV_MIN_SIDE} x {SMALL_CONV_MIN_SIDE} pixels",
        "window": "number of frames of a series that an encoding sees: its own and those before it",
        "latent_relu": "end the dense encoder with a ReLU, like the published one",
        "init": "how codes are initialized (default: kmeans for your own data with enough samples, else normal)",
        "gradient": "what the encoder learns from besides commitment and smoothness: reconstruction by a second "
        "decoder (som), the gradient copied from the code (copy), or nothing (none)",
        "alpha": f"weight of the commitment loss; {_ORDERED.alpha} in the preset ordered",
        "beta": "weight of the SOM loss (default: 0.9; for --codebook-update ema, SOM and commitment loss weigh half "
        "of alpha each)",
        "gamma": "weight of the transition loss (default: 1.8 for series, else 0)",
        "tau": "weight of the smoothness loss (default: 1.4 for series, else 0)",
        "hardening": "weight of the hardening loss: divergence of soft assignments to nodes from sharper ones",
        "soft_som": "weight of the SOM loss of soft assignments",
        "relabel_after": "number of epochs after which nodes change places to make second best nodes neighbors of the "
        "best; 0: never",
        "neighbor_margin": "weight of the margin loss: how much nearer the second best node is than the best node's "
        "neighbors; counts after --relabel-after",
        "prediction": "weight of the prediction of the next frame",
        "transitions": "transition table of all pairs of nodes (dense), or of near ones (local)",
        "transition_radius": "distance up to which nodes are near, for --transitions local",
        "transition_updates": "what a step updates in the transition table: all of it (dense), or the rows of nodes "
        "in the batch (rows); auto takes rows for large maps",
        "warm_up_epochs": "initial epochs that train only the autoencoder; the codebook is initialized after them",
        "codebook_update": "how codes learn: by gradients (gradient), or as moving averages of what they win (ema), "
        "smoothed by a neighborhood that orders the map (default: ema for series and the presets ordered and own-loss, "
        "else gradient)",
        "sigma_initial": "initial width of the neighborhood, in nodes (default: the map's longer side)",
        "sigma_final": "final width of the neighborhood: larger, the map is more ordered; smaller, clusters are purer "
        "(default: 0.7)",
        "sigma_steps": "steps until the neighborhood has its final width (default: "
        f"{' and '.join(f'{share:.0%} for {kind} data' for kind, share in SHARES_TO_NARROW.items())} of the steps "
        "after a warm-up)",
    },
    "vqvae": {
        "init": "how codes are initialized (default: kmeans with enough samples and without a preset, else normal)",
        "codebook_update": "how codes learn: by gradients (gradient), or as moving averages of what they win (ema)",
        "beta": "weight of the commitment loss",
    },
    "vae": _OF_VAES,
    "conditional-vae": _OF_VAES,
    "gumbel-vae": _OF_VAES | {"gamma": "weight of the distances from the capacities"},
    "moe-vae": _OF_VAES,
}


def add_model_options(add: Callable[..., None], model: str) -> None:
    """Adds the fields of a model's config to a parser, by its ``add(option, help, **options)``.

    Options have no default in the parser, so that one can tell which were given.
    """
    defaults = _defaults(model)
    for name, meaning in model_options(model).items():
        if defaults[name] is False:
            add(option_name(name), meaning, action="store_true")
        elif "(default" in meaning:
            add(option_name(name), meaning, **_value_options(model, name))
        else:
            add(
                option_name(name),
                f"{meaning} (default: {_format_default(defaults[name])})",
                **_value_options(model, name),
            )


def model_options(model: str) -> dict[str, str]:
    """Returns the fields of a model's config that are options, with their meanings, in the order of the config."""
    meanings = _MEANINGS | _MEANINGS_IN[model]
    return {name: meanings[name] for name in _defaults(model) if name in meanings}


def option_name(name: str) -> str:
    """Returns the option of a field: ``--latent-dim``."""
    return f"--{name.replace('_', '-')}"


def join_names(models: Iterable[str]) -> str:
    """Joins names: ``somvae, vqvae and vae``."""
    *first, last = models
    return f"{', '.join(first)} and {last}" if first else str(last)


def _defaults(model: str) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(MODELS[model].config_type)}


def _format_default(default: Any) -> str:
    return " ".join(str(size) for size in default) if isinstance(default, tuple) else str(default)


def _value_options(model: str, name: str) -> dict[str, Any]:
    """Returns what the parser must know about the values: their type, or the choices."""
    hint = get_type_hints(MODELS[model].config_type)[name]
    if get_origin(hint) is Literal:
        return {"choices": list(get_args(hint)), "type": functools.partial(current_value, name)}
    if get_origin(hint) is tuple:
        return {"type": int, "nargs": "+"}
    # Options that are not given are None anyway.
    return {"type": next((kind for kind in get_args(hint) if kind is not NoneType), hint)}
