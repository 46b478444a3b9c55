"""How recipes depend on the size of the data and the number of epochs."""

from __future__ import annotations

import dataclasses

import pytest

from somvae_ext.models import SOMVAEConfig
from somvae_ext.recipes import PRESETS, add_schedule, recipe_for_own_data


@pytest.mark.parametrize(
    ("kind", "samples", "epochs"),
    [
        ("static", 100, 50),
        ("static", 12_800, 50),  # 400 steps per epoch
        ("static", 12_801, 50),
        ("static", 64_000, 10),  # 2,000 steps per epoch
        ("static", 10_000_000, 8),
        ("series", 100, 20),
        ("series", 8_000, 10),
    ],
)
def test_large_data_sets_take_fewer_epochs(kind: str, samples: int, epochs: int) -> None:
    assert recipe_for_own_data(kind, samples)["epochs"] == epochs


def test_the_strided_network_is_for_large_images_alone() -> None:
    ordered = PRESETS["somvae"]["ordered"]
    networks = [ordered.make_somvae_config("", shape).network for shape in ((1, 16, 16), (3, 40, 15), (784,))]
    assert networks == ["small-conv", "dense", "dense"]
    assert PRESETS["somvae"]["published"].make_somvae_config("", (1, 28, 28)).network == "conv"


@pytest.mark.parametrize(
    ("preset", "epochs", "warm_up", "relabel_after"),
    [
        ("clusters", 1, 0, 1),
        ("clusters", 2, 1, 2),
        ("clusters", 8, 3, 8),
        ("clusters", 50, 17, 50),
        ("own-loss", 9, 0, 7),
    ],
)
def test_schedules_are_fractions_of_the_epochs(preset: str, epochs: int, warm_up: int, relabel_after: int) -> None:
    recipe = PRESETS["somvae"][preset]
    timed = add_schedule(recipe.config(), recipe, kind="static", epochs=epochs, steps_per_epoch=7)
    assert (timed.warm_up_epochs, timed.relabel_after) == (warm_up, relabel_after)


def test_the_neighborhood_narrows_after_the_warm_up() -> None:
    recipe = PRESETS["somvae"]["own-loss"]
    config = dataclasses.replace(recipe.config(), warm_up_epochs=2)
    timed = add_schedule(config, recipe, kind="static", epochs=12, steps_per_epoch=7, explicit={"warm_up_epochs"})
    assert (timed.sigma_steps, timed.relabel_after) == (round(0.7 * 10 * 7), 2 + 8)


def test_explicit_schedules_are_kept() -> None:
    recipe = PRESETS["somvae"]["clusters"]
    config = dataclasses.replace(recipe.config(), warm_up_epochs=0, relabel_after=1)
    explicit = {"warm_up_epochs", "relabel_after"}
    assert add_schedule(config, recipe, kind="static", epochs=12, steps_per_epoch=7, explicit=explicit) == config
    narrowing = dataclasses.replace(PRESETS["somvae"]["ordered"].config(), sigma_steps=3)
    assert add_schedule(narrowing, None, kind="static", epochs=12, steps_per_epoch=7) == narrowing
    plain = SOMVAEConfig()
    assert add_schedule(plain, None, kind="series", epochs=12, steps_per_epoch=7) == plain


def test_local_transitions_disable_relabeling() -> None:
    recipe = PRESETS["somvae"]["clusters"]
    config = dataclasses.replace(recipe.config(), transitions="local", tau=1.0)
    assert add_schedule(config, recipe, kind="series", epochs=9, steps_per_epoch=7).relabel_after == 0
