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

# What each field is. A default that depends on the data is told here; others are read from the configs.
_MEANINGS = {
    "rows": "rows of the map",
    "cols": "columns of the map",
    "topology": "shape of the grid",
    "periodic": "let the map wrap around",
    "latent_dim": "size of an encoding",
    "network": "encoder and decoder: linear layers, or strided convolutions",
    "hidden_sizes": "widths of the encoder's hidden layers",
    "reconstruction": "squared errors, or binary cross entropy",
    "decay": "how much of the moving averages a step leaves (default: 0.99)",
    "num_codes": "codes of the codebook",
    "num_categories": "categories of the discrete latent variable",
    "temperature": "of the relaxed categories",
    "objective": "the lower bound, or distances from capacities: of both KL divergences (dupont), or with the "
    "entropy of the categories in place of their divergence (entropy-capacity)",
    "capacity_z": "capacity of the continuous latent variable at the end, in nats per sample, or per batch for "
    "entropy-capacity",
    "capacity_c": "the same of the categories",
    "capacity_ramp": "steps until then; epochs for entropy-capacity",
    "num_experts": "experts of the mixture",
    "hidden_size": "width of the hidden layers of experts and manager",
    "std": "standard deviation of a pixel around its reconstruction",
    "balance": "weight of the variance of the experts' shares, for batches of 100",
}
_OF_VAES = {"latent_dim": "size of the latent space", "beta": "weight of the KL divergence"}
# What they are in one model alone.
_MEANINGS_IN = {
    "somvae": {
        "border": "missing neighbours: zeros, or left out; for --codebook-update gradient",
        "neighbors_only": "let the SOM loss move the winner's neighbours alone, as the paper has it",
        "network": "encoder and decoders; of the presets ordered, clusters, own-loss and augmented small-conv for "
        f"images of at least {SMALL_CONV_MIN_SIDE} x {SMALL_CONV_MIN_SIDE} pixels",
        "window": "how many frames of a series an encoding sees, its own and those before it",
        "latent_relu": "end the dense encoder with a ReLU, as the published one does",
        "init": "where codes start (default: kmeans for one's own data, if there are samples enough, else normal)",
        "gradient": "what the encoder learns from",
        "alpha": f"weight of the commitment loss; of the preset ordered {_ORDERED.alpha}",
        "beta": "weight of the SOM loss (default: 0.9; of codes that follow averages, half of alpha, and alpha then "
        "weighs half as much)",
        "gamma": "weight of the transition loss (default: 1.8 for series, else 0)",
        "tau": "weight of the smoothness loss (default: 1.4 for series, else 0)",
        "hardening": "weight of the divergence of assignments to nodes from sharper ones",
        "soft_som": "weight of the SOM loss of soft assignments",
        "relabel_after": "after how many epochs nodes change places, so that second best nodes become neighbours of "
        "the best; 0: never",
        "neighbor_margin": "weight of what a second best node is nearer than the best one's neighbours, after "
        "--relabel-after",
        "prediction": "weight of the prediction of the next frame",
        "transitions": "table of all pairs of nodes, or of near ones",
        "transition_radius": "how many nodes away is near, for local transitions",
        "transition_updates": "what a step changes of them",
        "warm_up_epochs": "epochs at first that train the autoencoder alone; the codebook starts after them",
        "codebook_update": "how codes learn: by gradients, or as moving averages of what they win, smoothed by a "
        "neighbourhood that orders the map (default: ema for series and the presets ordered and own-loss, else "
        "gradient)",
        "sigma_initial": "width of the neighbourhood at first, in nodes (default: the map's longer side)",
        "sigma_final": "its width at the end: larger, the map is more ordered; smaller, clusters are purer "
        "(default: 0.7)",
        "sigma_steps": "steps until then (default: "
        f"{' and '.join(f'{share:.0%} for {kind} data' for kind, share in SHARES_TO_NARROW.items())}, of those after "
        "a warm-up)",
    },
    "vqvae": {
        "init": "where codes start (default: kmeans, if there are samples enough and no preset is given, else normal)",
        "codebook_update": "how codes learn: by gradients, or as moving averages of what they win",
        "beta": "weight of the commitment loss",
    },
    "vae": _OF_VAES,
    "conditional-vae": _OF_VAES,
    "gumbel-vae": _OF_VAES | {"gamma": "weight of the distances from the capacities"},
    "moe-vae": _OF_VAES,
}


def add_model_options(add: Callable[..., None], model: str) -> None:
    """Adds them to a parser, by its ``add(option, help, **options)``.

    None has a default there, so that one can tell what was asked for.
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
    """The fields of a model's config that are options, in the order of the config, and what they mean."""
    meanings = _MEANINGS | _MEANINGS_IN[model]
    return {name: meanings[name] for name in _defaults(model) if name in meanings}


def option_name(name: str) -> str:
    """A field as an option: ``--latent-dim``."""
    return f"--{name.replace('_', '-')}"


def join_names(models: Iterable[str]) -> str:
    """``somvae, vqvae and vae``."""
    *first, last = models
    return f"{', '.join(first)} and {last}" if first else str(last)


def _defaults(model: str) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(MODELS[model].config_type)}


def _format_default(default: Any) -> str:
    return " ".join(str(size) for size in default) if isinstance(default, tuple) else str(default)


def _value_options(model: str, name: str) -> dict[str, Any]:
    """What the parser must know of the values: their type, or all of them."""
    hint = get_type_hints(MODELS[model].config_type)[name]
    if get_origin(hint) is Literal:
        return {"choices": list(get_args(hint)), "type": functools.partial(current_value, name)}
    if get_origin(hint) is tuple:
        return {"type": int, "nargs": "+"}
    # An option that is not given is None already.
    return {"type": next((kind for kind in get_args(hint) if kind is not NoneType), hint)}
