"""Recipes for each kind of data, and the presets of each model."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Collection
from typing import Any

from somvae_ext.models import (
    ConditionalVAEConfig,
    GumbelVAEConfig,
    MoEVAEConfig,
    SOMVAEConfig,
    VAEConfig,
    VQVAEConfig,
)
from somvae_ext.models.networks import SMALL_CONV_MIN_SIDE

# Training settings for each data set, chosen on its validation split. One thread where steps are so small that handing
# parts of them to other threads takes longer than doing the work.
STATIC_RECIPE: dict[str, Any] = {"epochs": 50, "batch_size": 32, "learning_rate": 1e-3, "threads": 1}
SERIES_RECIPE: dict[str, Any] = {"epochs": 20, "batch_size": 4, "learning_rate": 1e-3, "threads": 1}
_MNIST = {"epochs": 20, "batch_size": 128, "learning_rate": 1e-3, "threads": 2}
_MNIST_SERIES: dict[str, Any] = {"epochs": 10, "batch_size": 4, "learning_rate": 1e-3, "threads": 2, "num_series": 5000}
RECIPES: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 60, "batch_size": 32, "learning_rate": 2e-3, "threads": 1},
    "digits-series": {"epochs": 5, "batch_size": 4, "learning_rate": 1e-3, "threads": 1},
    "mnist": _MNIST,
    "mnist-series": _MNIST_SERIES,
    "fashion-mnist": _MNIST,
    "fashion-mnist-series": _MNIST_SERIES,
    "lorenz": SERIES_RECIPE,
    "pig-cvp": SERIES_RECIPE,
}

# Own data are trained on for about _STEPS steps, but for at least _MIN_EPOCHS and at most the epochs of STATIC_RECIPE
# or SERIES_RECIPE.
_STEPS = 20_000
_MIN_EPOCHS = 8

# The published weights of the transition terms; static data have none.
TRANSITION_WEIGHTS: dict[str, dict[str, float]] = {
    "static": {"gamma": 0.0, "tau": 0.0},
    "series": {"gamma": 1.8, "tau": 1.4},
}
# A SOM-VAE's learning rate is multiplied by this every 500 steps, as published; other models learn at a constant rate.
DECAY_FACTOR = 0.9

# Image sizes that suit the strided convolutions of the VAEs, which halve the image four times.
SIZES_FOR_CONV = {"digits": 16, "mnist": 32, "fashion-mnist": 32}


# The neighborhood of an ordered map narrows over this share of the steps. In the rest the networks settle and, for
# series, the transitions, which lag behind while codes move.
SHARES_TO_NARROW = {"static": 0.7, "series": 0.5}


@dataclasses.dataclass(frozen=True)
class Preset:
    """A known setting of a model.

    Args:
        config: makes the model's config.
        training: fields of :class:`~somvae_ext.training.TrainingConfig`, and ``threads``; the recipe for the data gives
            the others.
        config_on: fields of the config, by name of the data.
        training_on: further fields like those of ``training``, and ``num_series``, by name of the data; ``training``
            takes precedence.
        split: how named images are split, see :func:`somvae_ext.data.load`.
        image_size: the size to which named images are resized.
        strided: whether images large enough for it get the network ``small-conv``.
        narrowing: the share of the steps after the warm-up over which the neighborhood narrows, by kind of data.
        warm_up: the share of the epochs in which the autoencoder trains alone; if not 0, at least one epoch, but never
            all of them.
        relabeling: when nodes are relabeled, as a share of the epochs that follow the warm-up; 0: never.
        purpose: what the preset is for, in the help text.
    """

    config: Callable[[], Any]
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    config_on: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    training_on: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    split: str = "holdout"
    image_size: int | None = None
    strided: bool = False
    narrowing: dict[str, float] = dataclasses.field(default_factory=lambda: SHARES_TO_NARROW)
    warm_up: float = 0.0
    relabeling: float = 0.0
    purpose: str = ""

    def make_somvae_config(self, data: str, sample_shape: tuple[int, ...]) -> SOMVAEConfig:
        """Makes the config of a SOM-VAE, with the network that suits samples of this shape."""
        config: SOMVAEConfig = dataclasses.replace(self.config(), **self.config_on.get(data, {}))
        if self.strided and len(sample_shape) == 3 and min(sample_shape[1:]) >= SMALL_CONV_MIN_SIDE:
            return dataclasses.replace(config, network="small-conv")
        return config


def recipe_for_own_data(kind: str, num_samples: int, batch_size: int | None = None) -> dict[str, Any]:
    """Returns the recipe for own data, which have no name.

    Args:
        kind: ``"static"`` or ``"series"``.
        num_samples: samples, or series, for training; with several processes, those of each.
        batch_size: samples per step of a process; by default the recipe's.
    """
    recipe = SERIES_RECIPE if kind == "series" else STATIC_RECIPE
    steps = -(-num_samples // (batch_size or recipe["batch_size"]))
    return recipe | {"epochs": min(recipe["epochs"], max(_MIN_EPOCHS, -(-_STEPS // steps)))}


def make_somvae_config(
    preset: Preset | None,
    *,
    data: str,
    kind: str,
    sample_shape: tuple[int, ...],
    num_samples: int,
    explicit: dict[str, Any],
) -> SOMVAEConfig:
    """Makes the config of a SOM-VAE for some data: explicit fields override the preset's, dependent fields follow.

    Args:
        preset: None for the defaults.
        data: the name of a data set, or anything else for own data.
        kind: ``"static"`` or ``"series"``.
        sample_shape: shape of a sample or frame.
        num_samples: samples or real frames for training. Without a preset, codes for own data start from k-means if
            there is a sample for each code, because few steps would leave most codes where they started.
        explicit: fields of the config that the caller has set.

    Raises:
        ValueError: a config that :class:`~somvae_ext.models.SOMVAEConfig` refuses, or
            ``codebook_update="gradient"`` for a preset whose codes are moving averages.
    """
    config = SOMVAEConfig() if preset is None else preset.make_somvae_config(data, sample_shape)
    on_data = {} if preset is None else preset.config_on.get(data, {})
    weights = {name: on_data.get(name, weight) for name, weight in TRANSITION_WEIGHTS[kind].items()}
    changes: dict[str, Any] = weights | {"input_shape": sample_shape}
    if config.network == "small-conv" and {"hidden_sizes", "latent_relu"} & explicit.keys():  # fields of other networks
        changes["network"] = "dense"
    if explicit.get("network") == "identity":
        changes["latent_dim"] = math.prod(sample_shape)
    update = explicit.get("codebook_update", config.codebook_update)
    if config.codebook_update == "ema" and update == "gradient":
        if preset is not _ORDERED:
            raise ValueError(
                "codebook_update must be 'ema' for a preset whose codes follow averages, got 'gradient'; take the "
                "preset augmented"
            )
        config = SOMVAEConfig(network=config.network)  # the same recipe without an order
    elif config.codebook_update == "gradient" and update == "ema":
        changes |= {"beta": None, "soft_som": 0.0}  # both are for codes that learn by gradients
    config = dataclasses.replace(config, **changes | explicit)
    by_default = preset is None and data not in RECIPES and "init" not in explicit
    if by_default and num_samples >= config.grid.num_nodes:
        return dataclasses.replace(config, init="kmeans")
    return config


def add_schedule(
    config: SOMVAEConfig,
    preset: Preset | None,
    *,
    kind: str,
    epochs: int,
    steps_per_epoch: int,
    explicit: Collection[str] = (),
) -> SOMVAEConfig:
    """Sets the fields of a config that depend on the length of the training: warm-up, narrowing and relabeling.

    Args:
        config: the config without them.
        preset: the preset that the config was made from; None for the defaults.
        kind: ``"static"`` or ``"series"``.
        epochs: epochs of the training.
        steps_per_epoch: steps in each epoch.
        explicit: fields of the config that the caller has set; they are kept.
    """
    preset = preset or Preset(SOMVAEConfig)
    may_warm_up = config.gradient == "som" and config.network != "identity"
    if preset.warm_up > 0 and "warm_up_epochs" not in explicit and may_warm_up:
        warm_up = min(max(1, round(preset.warm_up * epochs)), epochs - 1)
        config = dataclasses.replace(config, warm_up_epochs=warm_up)
    learning = epochs - config.warm_up_epochs
    if config.codebook_update == "ema" and config.sigma_steps is None:
        steps = round(preset.narrowing[kind] * learning * steps_per_epoch)
        config = dataclasses.replace(config, sigma_steps=max(1, steps))
    # A local transition table has no entries for nodes that move away from each other.
    if preset.relabeling > 0 and "relabel_after" not in explicit and config.transitions != "local":
        after = config.warm_up_epochs + max(1, round(preset.relabeling * learning))
        config = dataclasses.replace(config, relabel_after=after)
    return config


_VAES_ON_MNIST = {"epochs": 15, "batch_size": 128, "learning_rate": 1e-3}
_VAN_DEN_OORD = {"batch_size": 128, "learning_rate": 2e-4}
_DUPONT_CONV = {"epochs": 100, "batch_size": 64, "learning_rate": 5e-4}

# Ordered maps: affine transforms of the images keep the clusters of an ordered map as pure as those of an unordered
# one. Frames of series are moved less: their transitions are learned from moved images and used on clean ones.
_SMALL_DIGITS_MOVED: dict[str, Any] = {"max_shift": 0.5, "max_rotation": 10.0, "max_scale": 0.1, "max_shear": 0.1}
_DIGITS_MOVED: dict[str, Any] = {"max_shift": 2.0, "max_rotation": 15.0, "max_scale": 0.2, "max_shear": 0.4}
_CLOTHES_MOVED: dict[str, Any] = {"max_shift": 1.0, "max_rotation": 5.0, "max_scale": 0.2, "max_shear": 0.2}
_MOVED: dict[str, Any] = {"max_shift": 2.0, "max_rotation": 10.0, "max_scale": 0.1, "max_shear": 0.1}
_CLOTHES_MOVED_LITTLE: dict[str, Any] = {"max_shift": 1.0, "max_rotation": 5.0, "max_scale": 0.1, "max_shear": 0.05}
_ORDERED_IMAGES = {"epochs": 5, "batch_size": 64, "learning_rate": 2e-3, "threads": 2}
_FRAMES_MOVED: dict[str, Any] = {"max_shift": 1.0, "max_rotation": 10.0, "max_scale": 0.1, "max_shear": 0.1}
# Many series once rather than a few often: new images teach more than repeated ones.
_ORDERED_SERIES: dict[str, Any] = {"epochs": 1, "num_series": 8000}
# A tenth of the published weight of the smoothness term, which draws encodings together.
_ORDERED_SERIES_CONFIG = {"tau": 0.14}
_ORDERED = Preset(
    functools.partial(SOMVAEConfig, codebook_update="ema", alpha=0.05),
    config_on={
        "digits": {"decay": 0.98},
        "mnist": {"sigma_final": 0.65},
        "mnist-series": _ORDERED_SERIES_CONFIG,
        "fashion-mnist-series": _ORDERED_SERIES_CONFIG,
    },
    training_on={
        "digits": _SMALL_DIGITS_MOVED | {"epochs": 36},
        "mnist": _ORDERED_IMAGES | _DIGITS_MOVED,
        "fashion-mnist": _ORDERED_IMAGES | _CLOTHES_MOVED,
        "digits-series": _SMALL_DIGITS_MOVED,
        "mnist-series": _ORDERED_SERIES | _FRAMES_MOVED,
        "fashion-mnist-series": _ORDERED_SERIES | _FRAMES_MOVED | {"max_rotation": 5.0},
    },
    strided=True,
    purpose="an ordered map, whose neighbors look alike",
)

# The published loss with suitable networks and augmented images: the default for MNIST and Fashion-MNIST.
_AUGMENTED = Preset(
    SOMVAEConfig,
    training_on={
        "digits": _SMALL_DIGITS_MOVED,
        "mnist": _ORDERED_IMAGES | _MOVED,
        "fashion-mnist": _ORDERED_IMAGES | _CLOTHES_MOVED_LITTLE,
    },
    strided=True,
)

# Clusters: a warm-up, k-means, then hardening, for few nodes without an order.
_CLUSTERS = Preset(
    functools.partial(
        SOMVAEConfig,
        rows=4,
        cols=4,
        latent_dim=16,
        alpha=0.0,
        beta=0.0,
        hardening=1.0,
        soft_som=0.05,
        init="kmeans",
    ),
    training_on={
        "digits": _SMALL_DIGITS_MOVED,
        "mnist": _ORDERED_IMAGES | _MOVED | {"epochs": 8, "augmented_target": True},
        "fashion-mnist": _ORDERED_IMAGES | _CLOTHES_MOVED_LITTLE | {"epochs": 10},
    },
    strided=True,
    warm_up=1 / 3,
    relabeling=1.0,
    purpose="few and pure clusters, in no order, by a hardening loss",
)

# Reconstruction and commitment alone, without hardening: the neighborhood of an ordered map narrows until it hardly
# orders. Then the nodes are relabeled, and from then on a margin keeps the second best node next to the best.
_OWN_LOSS = Preset(
    functools.partial(
        SOMVAEConfig, rows=4, cols=4, codebook_update="ema", alpha=0.05, sigma_final=0.4, neighbor_margin=1.0
    ),
    training_on={
        "digits": _SMALL_DIGITS_MOVED,
        "mnist": _ORDERED_IMAGES | _DIGITS_MOVED,
        "fashion-mnist": _ORDERED_IMAGES | _CLOTHES_MOVED,
    },
    strided=True,
    relabeling=0.8,
    purpose="clusters in no order, without a hardening loss",
)

# Data sets of still images large enough for strided convolutions.
AUGMENTED_BY_DEFAULT = ("mnist", "fashion-mnist")

PRESETS: dict[str, dict[str, Preset]] = {
    "somvae": {
        "ordered": _ORDERED,
        "clusters": _CLUSTERS,
        "own-loss": _OWN_LOSS,
        "augmented": _AUGMENTED,
        "published": Preset(SOMVAEConfig.published),
        "unpadded-conv": Preset(SOMVAEConfig.unpadded_conv),
    },
    "vqvae": {
        "published": Preset(functools.partial(VQVAEConfig, network="conv", num_codes=512), _VAN_DEN_OORD),
        "ema": Preset(
            functools.partial(VQVAEConfig, network="conv", num_codes=512, codebook_update="ema"), _VAN_DEN_OORD
        ),
    },
    "vae": {"mnist": Preset(VAEConfig, _VAES_ON_MNIST, split="all")},
    "conditional-vae": {"mnist": Preset(ConditionalVAEConfig, _VAES_ON_MNIST, split="all")},
    "gumbel-vae": {
        "plain": Preset(GumbelVAEConfig.plain, _VAES_ON_MNIST | {"epochs": 20}, split="all"),
        "dupont": Preset(GumbelVAEConfig.dupont, _VAES_ON_MNIST | {"epochs": 25}, split="all"),
        "dupont-conv": Preset(GumbelVAEConfig.dupont_conv, _DUPONT_CONV, split="all", image_size=32),
        "entropy-capacity": Preset(GumbelVAEConfig.with_entropy_capacity, _VAES_ON_MNIST | {"epochs": 40}, split="all"),
    },
    "moe-vae": {
        "mnist": Preset(MoEVAEConfig, {"epochs": 100, "batch_size": 100, "learning_rate": 1e-3}, split="folds")
    },
}
"""Presets by model and name."""
