"""SOM-VAE, its ablations and its relatives as methods of experiments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from somvae_ext.experiments.protocol import AnySplits, DataChoice, HeldOut, Outcome, Setting
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.recipes import DECAY_FACTOR, PRESETS, add_schedule, make_somvae_config
from somvae_ext.training import TrainingConfig, clustering_metrics, evaluate, fit

# Shared by all rows with a network, so that a table compares losses and not what images they see. Frames of series move
# less, because transitions are learned from moved images.
MOVED: dict[str, dict[str, float]] = {
    "mnist": {"max_shift": 2.0, "max_rotation": 15.0, "max_scale": 0.2, "max_shear": 0.4},
    "fashion-mnist": {"max_shift": 1.0, "max_rotation": 5.0, "max_scale": 0.2, "max_shear": 0.2},
}
FRAMES_MOVED: dict[str, dict[str, float]] = {
    "mnist": {"max_shift": 1.0, "max_rotation": 10.0, "max_scale": 0.1, "max_shear": 0.1},
    "fashion-mnist": {"max_shift": 1.0, "max_rotation": 5.0, "max_scale": 0.1, "max_shear": 0.1},
}
_IMAGES = {"epochs": 5, "batch_size": 64, "learning_rate": 2e-3}
_SERIES = {"epochs": 1, "learning_rate": 1e-3}  # every series once: other images tell more than the same ones again
_FRAMES = 128  # of a step, whatever the length of series
_CONFIG_FIELDS = {field.name for field in dataclasses.fields(SOMVAEConfig)}


@dataclasses.dataclass(frozen=True)
class SOMVAEMethod:
    """A SOM-VAE with some preset of ``somvae fit``, on strided convolutions of few channels.

    Args:
        title: as tables show it.
        settings: options of each are fields of :class:`~somvae_ext.models.SOMVAEConfig` and of
            :class:`~somvae_ext.training.TrainingConfig`.
        options: those that all settings share.
        preset: what they change.
    """

    title: str
    settings: tuple[Setting, ...]
    options: Mapping[str, Any]
    preset: str = "augmented"

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
        fit(
            model,
            splits.train,
            dataclasses.replace(training, seed=seed),
            accelerator=device,
            show_progress=False,
        )
        if held_out == "validation":  # where figures of clusters are all that chooses
            assert splits.validation is not None
            return Outcome(clustering_metrics(model, splits.validation))
        measured = evaluate(model, splits.test, train=splits.train)
        if config.gamma == 0:  # nothing has trained the transitions
            measured = {name: value for name, value in measured.items() if not name.startswith("transition_")}
        decoded = model.decoded_map().detach().cpu()[:, :, 0]
        return Outcome(measured, (decoded.clamp(0, 1) * 255).round().to(torch.uint8).numpy())

    def check_installed(self) -> None:
        """Nothing but the extra ``train``, which this module has imported already."""

    def _configs(
        self, setting: Setting, data: DataChoice, splits: AnySplits, epochs: float
    ) -> tuple[SOMVAEConfig, TrainingConfig]:
        preset = PRESETS[SOMVAE.name][self.preset]
        options = {**self.options, **setting.options}
        explicit = {name: value for name, value in options.items() if name in _CONFIG_FIELDS}
        recipe: dict[str, Any]
        if splits.kind == "series":
            length = len(splits.train[0]["x"])
            name = f"{data.name}-series"
            recipe = _SERIES | {"batch_size": max(1, _FRAMES // length)} | FRAMES_MOVED[data.name]
            num_samples = len(splits.train) * length
        else:
            name = data.name
            recipe = _IMAGES | MOVED[data.name]
            num_samples = len(splits.train)
        if splits.kind == "static":
            by_preset = preset.training_on.get(data.name, {})
            recipe |= {field: by_preset[field] for field in ("epochs", "augmented_target") if field in by_preset}
        fields = recipe | {name: value for name, value in options.items() if name not in _CONFIG_FIELDS}
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
        config = add_schedule(
            config,
            preset,
            kind=splits.kind,
            epochs=training.epochs,
            steps_per_epoch=-(-len(splits.train) // training.batch_size),
            explicit=explicit,
        )
        return config, training
