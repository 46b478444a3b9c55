"""SOM-VAE, its ablations and its relatives as methods of experiments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from somvae_ext.data.record import AnySplits
from somvae_ext.experiments.protocol import DataChoice, HeldOut, Outcome, Setting
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.recipes import DECAY_FACTOR, PRESETS, RECIPES, add_schedule, make_somvae_config
from somvae_ext.training import TrainingConfig, clustering_metrics, evaluate, fit

_PRESETS = PRESETS[SOMVAE.name]
_CONFIG_FIELDS = {field.name for field in dataclasses.fields(SOMVAEConfig)}
_TRAINING_FIELDS = {field.name for field in dataclasses.fields(TrainingConfig)}
_BY_PRESET = ("epochs", "augmented_target")  # of the training; all else is shared
_FRAMES = 128  # of a step, whatever the length of series

HARDENING_SETTINGS = tuple(
    Setting(f"hardening {weight}, latent {size}", {"hardening": weight, "latent_dim": size})
    for weight, size in ((1.0, 16), (0.5, 16), (2.0, 16), (1.0, 32))
)
"""Of the loss with hardening, on any map."""


@dataclasses.dataclass(frozen=True)
class SOMVAEMethod:
    """A SOM-VAE on strided convolutions of few channels, with the images moved as for ordered maps.

    Batch size, learning rate and the random transforms of the images are those of the preset ``"ordered"`` for these
    data, so that a table compares losses. Still images are trained on for as many epochs as the method's own preset has
    for them, series for a single one: other images tell more than the same ones again.

    Args:
        title: the name in tables.
        settings: options of each are fields of :class:`~somvae_ext.models.SOMVAEConfig` and of
            :class:`~somvae_ext.training.TrainingConfig`.
        options: those that all settings share; a setting goes before them.
        preset: of ``somvae fit``, which both change.
        is_map: whether its nodes have neighbours; without, topographic error and order mean nothing.
    """

    title: str
    settings: tuple[Setting, ...]
    options: Mapping[str, Any]
    preset: str = "augmented"
    is_map: bool = True

    takes_all_images = False

    def resolve(self, setting: Setting, data: DataChoice, splits: AnySplits, epochs: float) -> dict[str, Any]:
        config, training = self._configs(setting, data, splits, epochs)
        recorded = dataclasses.asdict(training)
        del recorded["seed"]
        return {"model": dataclasses.asdict(config), "training": recorded}

    def train(
        self,
        setting: Setting,
        data: DataChoice,
        splits: AnySplits,
        epochs: float,
        *,
        seed: int,
        held_out: HeldOut,
        device: str,
    ) -> Outcome:
        config, training = self._configs(setting, data, splits, epochs)
        torch.manual_seed(seed)
        model = SOMVAE(config)
        training = dataclasses.replace(training, seed=seed)
        fit(model, splits.train, training, accelerator=device, show_progress=False)
        if held_out == "validation":  # where a figure of clusters is all that is needed
            assert splits.validation is not None
            return Outcome(clustering_metrics(model, splits.validation))
        decoded = model.decoded_map().detach().cpu()[:, :, 0]
        prototypes = (decoded.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        return Outcome(self._figures(model, splits), prototypes)

    def check_installed(self) -> None:
        """Its libraries are those that this module imports."""

    def _figures(self, model: SOMVAE, splits: AnySplits) -> dict[str, float]:
        """All figures on the test split that mean something for this method."""
        meaningless: tuple[str, ...] = () if self.is_map else ("topographic_", "order", "moves_")
        if model.config.gamma == 0:  # nothing has trained the transitions
            meaningless += ("transition_",)
        figures = evaluate(model, splits.test, train=splits.train)
        return {name: value for name, value in figures.items() if not name.startswith(meaningless)}

    def _configs(
        self, setting: Setting, data: DataChoice, splits: AnySplits, epochs: float
    ) -> tuple[SOMVAEConfig, TrainingConfig]:
        preset = _PRESETS[self.preset]
        options = {**self.options, **setting.options}
        explicit = {name: value for name, value in options.items() if name in _CONFIG_FIELDS}
        name, num_samples = data.name, len(splits.train)
        if splits.kind == "series":
            name, length = f"{data.name}-series", len(splits.train[0]["x"])
            num_samples *= length
            preferred = {"epochs": 1, "batch_size": max(1, _FRAMES // length)}
        else:
            on_these = preset.training_on.get(name, {})
            preferred = {field: on_these[field] for field in _BY_PRESET if field in on_these}
        shared = RECIPES[name] | _PRESETS["ordered"].training_on[name]
        fields = {**shared, **preferred, **options}
        fields = {field: value for field, value in fields.items() if field in _TRAINING_FIELDS}
        fields["epochs"] = max(1, round(epochs * fields["epochs"]))
        training = TrainingConfig(decay_factor=DECAY_FACTOR, **fields)
        config = make_somvae_config(
            preset,
            data=name,
            kind=splits.kind,
            sample_shape=splits.sample_shape,
            num_samples=num_samples,
            explicit=explicit,
        )
        steps = -(-len(splits.train) // training.batch_size)
        config = add_schedule(
            config, preset, kind=splits.kind, epochs=training.epochs, steps_per_epoch=steps, explicit=explicit
        )
        return config, training
