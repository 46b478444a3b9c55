"""SOM-VAE, its ablations and its relatives as methods of experiments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from somvae_ext.data.record import AnySplits
from somvae_ext.experiments.nodes import Measure, Nodes
from somvae_ext.experiments.protocol import DataChoice, Outcome, Setting, Task
from somvae_ext.experiments.series_settings import ORDERED_WITH_TRANSITIONS
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.recipes import (
    DECAY_FACTOR,
    PRESETS,
    RECIPES,
    add_schedule,
    make_somvae_config,
    recipe_for_own_data,
)
from somvae_ext.training import TrainingConfig, clustering_metrics, evaluate, fit

_PRESETS = PRESETS[SOMVAE.name]
_CONFIG_FIELDS = {field.name for field in dataclasses.fields(SOMVAEConfig)}
_TRAINING_FIELDS = {field.name for field in dataclasses.fields(TrainingConfig)}
_SET_BY_PRESET = ("epochs", "augmented_target")  # training fields of the method's preset; all others are shared
_FRAMES_PER_STEP = 128  # whatever the length of series


@dataclasses.dataclass(frozen=True)
class SOMVAEMethod:
    """A SOM-VAE: with small strided convolutions and random transforms on images, with dense layers on other series.

    Batch size, learning rate and the random transforms of the images are those of the preset ``"ordered"`` for these
    data, so that a table compares losses; a learning rate among the options takes precedence. For still images, the
    number of epochs and whether the transformed image is to be reconstructed come from the method's own preset. Series
    made of images are trained on for one epoch, because new images teach more than the same ones again.

    Args:
        title: the name in tables.
        settings: the settings to tune over; their options are fields of :class:`~somvae_ext.models.SOMVAEConfig` and of
            :class:`~somvae_ext.training.TrainingConfig`.
        options: options that all settings share; those of a setting take precedence.
        preset: the preset of ``somvae fit`` that both of them change.
        is_map: whether its nodes have neighbors; if not, topographic error and order mean nothing.
        measure: computes further figures of series and arrays to draw; by default the decoded nodes are drawn.
    """

    title: str
    settings: tuple[Setting, ...]
    options: Mapping[str, Any]
    preset: str = "augmented"
    is_map: bool = True
    measure: Measure | None = None

    takes_all_images = False
    takes_gpu = True

    def resolve(self, setting: Setting, task: Task) -> dict[str, Any]:
        training = self._training_config(setting, task)
        config = self._model_config(setting, task, training)
        recorded = dataclasses.asdict(training)
        del recorded["seed"]
        return {"model": dataclasses.asdict(config), "training": recorded}

    def train(self, setting: Setting, task: Task) -> Outcome:
        training, splits = self._training_config(setting, task), task.splits
        torch.manual_seed(task.seed)
        model = SOMVAE(self._model_config(setting, task, training))
        fit(model, splits.train, training, accelerator=task.device, show_progress=False)
        if task.held_out == "validation":  # which needs only a figure of the clusters
            figures = clustering_metrics(model, task.held_out_data)
        else:
            figures = self._figures(model, splits)
        if self.measure is not None:
            measured = self.measure(Nodes.from_model(model, task), task)
            return Outcome(figures | measured.figures, measured.shown)
        decoded = model.decoded_map().detach().cpu()[:, :, 0]
        return Outcome(figures, {"prototypes": (decoded.clamp(0, 1) * 255).round().to(torch.uint8).numpy()})

    def check_installed(self) -> None:
        """Does nothing: this module imports all libraries that the method needs."""

    def _figures(self, model: SOMVAE, splits: AnySplits) -> dict[str, float]:
        """All figures on the test split that mean something for this method."""
        meaningless: tuple[str, ...] = () if self.is_map else ("topographic_", "order", "moves_")
        if model.config.gamma == 0:  # nothing has trained the transitions
            meaningless += ("transition_",)
        figures = evaluate(model, splits.test, train=splits.train)
        return {name: value for name, value in figures.items() if not name.startswith(meaningless)}

    def _training_config(self, setting: Setting, task: Task) -> TrainingConfig:
        name, splits = _recipe_name(task.data), task.splits
        recipe = RECIPES.get(name) or recipe_for_own_data(splits.kind, len(splits.train))
        fields: dict[str, Any] = recipe | _PRESETS["ordered"].training_on.get(name, {})
        if splits.kind == "static":
            own = _PRESETS[self.preset].training_on.get(name, {})
            fields |= {field: own[field] for field in _SET_BY_PRESET if field in own}
        elif task.data.recipe is not None:
            fields |= {"epochs": 1, "batch_size": max(1, _FRAMES_PER_STEP // len(splits.train[0]["x"]))}
        fields |= {**self.options, **setting.options}
        fields["epochs"] = max(1, round(task.epoch_share * fields["epochs"]))
        known = {field: value for field, value in fields.items() if field in _TRAINING_FIELDS}
        return TrainingConfig(**known, decay_factor=DECAY_FACTOR, seed=task.seed)

    def _model_config(self, setting: Setting, task: Task, training: TrainingConfig) -> SOMVAEConfig:
        preset, splits = _PRESETS[self.preset], task.splits
        options = {**self.options, **setting.options}
        explicit = {field: value for field, value in options.items() if field in _CONFIG_FIELDS}
        frames = 1 if splits.kind == "static" else len(splits.train[0]["x"])
        config = make_somvae_config(
            preset,
            data=_recipe_name(task.data),
            kind=splits.kind,
            sample_shape=splits.sample_shape,
            num_samples=len(splits.train) * frames,
            explicit=explicit,
        )
        steps = -(-len(splits.train) // training.batch_size)
        return add_schedule(
            config, preset, kind=splits.kind, epochs=training.epochs, steps_per_epoch=steps, explicit=explicit
        )


def weigh(alpha: float, beta: float) -> Setting:
    """The weights of commitment and SOM loss for codes that learn by gradients."""
    return Setting(f"alpha {alpha:g}, beta {beta:g}", {"alpha": alpha, "beta": beta})


def own_loss(size: Mapping[str, int], *, margin: float, measure: Measure | None = None) -> SOMVAEMethod:
    """The preset ``"own-loss"``.

    Args:
        size: ``rows`` and ``cols`` of the map.
        margin: weight of the neighbor margin; a weight of zero is tried as well.
        measure: see :class:`SOMVAEMethod`.
    """
    settings = tuple(
        Setting(
            f"sigma {sigma}, margin {weight:g}, alpha {alpha}",
            {"sigma_final": sigma, "neighbor_margin": weight, "alpha": alpha},
        )
        for sigma, weight, alpha in ((0.4, margin, 0.05), (0.4, 0.0, 0.05), (0.3, margin, 0.05), (0.4, margin, 0.2))
    )
    return SOMVAEMethod("SOM-VAE, own loss", settings, size, preset="own-loss", measure=measure)


def with_hardening(size: Mapping[str, int]) -> SOMVAEMethod:
    """The preset ``"clusters"``, on a map of these ``rows`` and ``cols``."""
    settings = tuple(
        Setting(f"hardening {weight}, latent {latent}", {"hardening": weight, "latent_dim": latent})
        for weight, latent in ((1.0, 16), (0.5, 16), (2.0, 16), (1.0, 32))
    )
    return SOMVAEMethod("SOM-VAE with hardening", settings, size, preset="clusters")


def ordered_on_series(
    options: Mapping[str, Any], measure: Measure, *, window: int, prediction: float
) -> tuple[SOMVAEMethod, ...]:
    """Ordered maps of series with transitions: of frames alone, of windows of frames, and of windows that predict.

    All three are tuned over the same settings.

    Args:
        options: options that all of them share.
        measure: see :class:`SOMVAEMethod`.
        window: number of frames that an encoding of a window sees.
        prediction: weight of the prediction of the next frame.
    """
    added: dict[str, dict[str, Any]] = {
        "": {},
        ", window": {"window": window},
        ", window, prediction": {"window": window, "prediction": prediction},
    }
    return tuple(
        SOMVAEMethod(
            f"SOM-VAE-prob, ordered{name}", ORDERED_WITH_TRANSITIONS, {**options, **fields}, "ordered", measure=measure
        )
        for name, fields in added.items()
    )


def _recipe_name(data: DataChoice) -> str:
    """The name under which :mod:`somvae_ext.recipes` knows these data."""
    return data.name if data.recipe is None else f"{data.name}-series"
