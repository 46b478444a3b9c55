"""Every combination of objective, codes, grid, network and augmentation trains or is refused with a clear error."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch

from somvae_ext.data import Samples
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.training import TrainingConfig, fit

CONFIGS = 1000
PARTS = 10


# Options that belong together; random draws start from one of these sets.
MODES: list[dict[str, Any]] = [
    {},
    {"codebook_update": "ema", "alpha": 0.05},
    {"codebook_update": "ema", "alpha": 0.2, "beta": 0.0, "sigma_initial": 0.3, "sigma_final": 0.05},
    {"alpha": 0.0, "beta": 0.0, "hardening": 1.0, "soft_som": 0.05, "warm_up_epochs": 1, "init": "kmeans"},
    {"gamma": 1.8, "tau": 1.4},
]


def draw_options(draw: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draws options of the model and the training: those of a mode and others, compatible with it or not."""

    def draw_some(**values: list[Any]) -> dict[str, Any]:
        return {name: draw.choice(choices) for name, choices in values.items() if draw.random() < 0.12}

    sides = [1, 2, 3, 4]
    model = (
        draw.choice(MODES)
        | {
            "input_shape": draw.choice([(1, 16, 17), (3, 16, 16), (5,), (1, 8, 8)]),
            "rows": draw.choice(sides),
            "cols": draw.choice(sides),
            "latent_dim": draw.choice([1, 3]),
            "hidden_sizes": draw.choice([(4,), ()]),
        }
        | draw_some(
            topology=["rectangular", "hexagonal"],
            periodic=[True],
            network=["dense", "small-conv", "unpadded-conv", "identity"],
            codebook_update=["gradient", "ema"],
            border=["zero", "mask"],
            neighbors_only=[True],
            decay=[0.0, 0.9],
            sigma_initial=[0.2, 2.0],
            sigma_final=[0.05, 0.7],
            sigma_steps=[1, 2],
            init=["normal", "kmeans", "som"],
            reconstruction=["mse", "bce"],
            output=["sigmoid", "linear"],
            gradient=["som", "copy", "none"],
            alpha=[0.0, 0.5],
            beta=[None, 0.0, 0.5],
            gamma=[0.0, 1.0],
            tau=[0.0, 1.0],
            transitions=["dense", "local"],
            transition_radius=[1, 8],
            transition_updates=["dense", "rows"],
            hardening=[0.0, 0.7],
            soft_som=[0.0, 0.2],
            relabel_after=[0, 1, 2],
            neighbor_margin=[0.0, 1.5],
            warm_up_epochs=[0, 1],
            window=[1, 2, 5],
            prediction=[0.0, 2.0],
        )
    )
    training = {"epochs": 2, "batch_size": draw.choice([3, 20])} | draw_some(
        max_shift=[1.0],
        max_rotation=[0.0, 20.0],
        max_scale=[0.0, 0.3],
        max_shear=[0.0, 0.2],
        augmented_target=[True],
        revive=[True],
        max_grad_norm=[0.5],
    )
    return model, training


@pytest.mark.parametrize("part", range(PARTS))
def test_a_config_trains_or_is_refused(part: int) -> None:
    trained = 0
    for number in range(part, CONFIGS, PARTS):
        draw = random.Random(number)
        options, recipe = draw_options(draw)
        torch.manual_seed(number)
        series = draw.random() < 0.5
        x = torch.rand(*((6, 4) if series else (20,)), *options["input_shape"])
        mask = torch.arange(4) < torch.arange(6)[:, None] % 4 + 1 if series and draw.random() < 0.5 else None
        try:
            model = SOMVAE(SOMVAEConfig(**options))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # neighborhoods are still wide after two epochs
                history = fit(model, Samples(x, mask=mask), TrainingConfig(**recipe), accelerator="cpu")
        except ValueError as refusal:
            sentence = str(refusal)
            assert "must" in sentence or "needs" in sentence, (number, options, recipe, sentence)
            continue
        trained += 1
        last = history[-1]["train"]
        assert all(abs(value) < 1e6 for value in last.values()), (number, options, last)
        assert all(values.isfinite().all() for values in model.state_dict().values()), (number, options)
        index = model.assign(x) if mask is None else model.assign(x, mask)[mask]
        assert 0 <= index.min() <= index.max() < model.num_clusters
    assert trained >= CONFIGS / PARTS / 4  # not all configs are refused
