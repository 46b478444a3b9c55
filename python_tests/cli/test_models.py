"""``somvae fit`` for every model: presets, options, and the errors about options that conflict."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from saved_configs import config_of, write_config

import somvae_ext
from somvae_ext.cli import main
from somvae_ext.cli.configure import configure
from somvae_ext.cli.options import parse
from somvae_ext.models import MODELS, VAEConfig
from somvae_ext.recipes import PRESETS, Preset
from somvae_ext.store import ResultFolder

TINY = ["--epochs", "1", "--device", "cpu"]
DIGITS = ["fit", "digits", *TINY]


def write_table(name: str, rows: int = 40, *, label: bool = True) -> None:
    values = np.random.default_rng(0).normal(size=(rows, 3)).round(4)
    with Path(name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "c", *(["kind"] if label else [])])
        writer.writerows([*row, *([str(place % 3)] if label else [])] for place, row in enumerate(values.tolist()))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "somvae"])
def test_every_model_trains_into_a_folder_of_its_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DIGITS, "--model", name]) == 0
    folder = f"runs/{name}-digits"
    assert "270 samples of the test split" in capsys.readouterr().out
    assert config_of(folder)["model"]["name"] == name
    model = somvae_ext.load(folder)
    assert type(model) is MODELS[name]
    (record,) = ResultFolder.open(folder).load_log("metrics")
    clusters = hasattr(model, "num_clusters")
    assert ("metrics" in record) == clusters
    if clusters:
        assert {"nmi_arithmetic", "purity", "usage", "perplexity"} <= record["metrics"].keys()
        assert ("acc" in record["metrics"]) == (model.num_clusters == 10)


@pytest.mark.parametrize(("model", "preset"), [(m, p) for m in PRESETS for p in PRESETS[m] if m != "somvae"])
def test_presets_determine_the_config_the_recipe_and_the_split(model: str, preset: str) -> None:
    expected = PRESETS[model][preset]
    small = [] if "conv" in preset or model == "vqvae" else ["--image-size", "4"]
    assert main([*DIGITS, "--model", model, "--preset", preset, "--out", "run", *small]) == 0
    config = config_of("run")
    recipe = expected.training | {"epochs": 1}
    assert {name: config["training"][name] for name in recipe} == recipe
    assert config["training"]["decay_factor"] == 1.0
    assert config["data"]["split"] == expected.split
    made = somvae_ext.load("run").config
    wanted = expected.config()
    data_fields = {"input_shape", "num_classes"}
    assert {k: v for k, v in vars(made).items() if k not in data_fields} == {
        k: v for k, v in vars(wanted).items() if k not in data_fields
    }
    (record,) = ResultFolder.open("run").load_log("metrics")
    assert ("validation" in record) == (expected.split != "all")


def test_options_override_the_preset() -> None:
    options = ["--model", "gumbel-vae", "--preset", "entropy-capacity", "--gamma", "3", "--num-categories", "12"]
    assert main([*DIGITS, *options, "--hidden-sizes", "20", "10", "--batch-size", "500", "--out", "run"]) == 0
    config = somvae_ext.load("run").config
    assert config.objective == "entropy-capacity"
    assert (config.gamma, config.num_categories, config.hidden_sizes) == (3, 12, (20, 10))
    assert config_of("run")["training"]["batch_size"] == 500


def test_augmentation_comes_from_the_preset_and_options_override_it(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = Preset(VAEConfig, {"max_shift": 2.0, "max_shear": 0.1})
    monkeypatch.setitem(PRESETS["vae"], "mnist", preset)
    options = ["fit", "digits", "--model", "vae", "--preset", "mnist", "--max-shift", "0", "--max-scale", "0.2"]
    training = configure(parse(options)["fit"]).record.training
    assert (training.max_shift, training.max_scale, training.max_shear) == (0.0, 0.2, 0.1)


def test_images_are_resized_as_strided_convolutions_need() -> None:
    options = ["--network", "conv", "--hidden-sizes", "16", "--batch-size", "600"]
    assert main([*DIGITS, "--model", "vae", *options, "--out", "run"]) == 0
    assert somvae_ext.load("run").config.input_shape == (1, 16, 16)


def test_a_table_is_trained_evaluated_and_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    write_table("table.csv")
    for model in ("vae", "conditional-vae", "moe-vae"):
        options = ["--model", model, "--label-column", "kind", "--out", model]
        assert main(["fit", "table.csv", *TINY, *options]) == 0, capsys.readouterr().err
        assert main(["evaluate", model]) == 0, capsys.readouterr().err
    assert somvae_ext.load("conditional-vae").config.num_classes == 3


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([10**9 * (place % 3 + 1) for place in range(40)], "got 3 classes from 1000000000 to 3000000000"),
        ([place % 3 - 1 for place in range(40)], "got 3 classes from -1 to 1"),
        ([2 * (place % 3) for place in range(40)], "got 3 classes from 0 to 4"),
    ],
)
def test_labels_that_are_not_class_numbers_are_refused_by_the_conditional_vae(
    labels: list[int], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("own.npz", x=np.random.default_rng(0).random((40, 4)), label=np.array(labels))
    assert main(["fit", "own.npz", *TINY, "--model", "conditional-vae", "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert "labels of the training data must count the classes from 0 on, without a gap, for --model " in error
    assert sentence in error
    assert not Path("run").exists()


def test_a_model_that_does_not_fit_into_memory_is_refused_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DIGITS, "--model", "vae", "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["sample", "run", "-n", str(10**12)]) == 2
    assert capsys.readouterr().err.startswith("somvae: there is not enough memory for this; ")


def test_a_model_of_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DIGITS, "--rows", "2", "--cols", "2", "--out", "run"]) == 0
    config = config_of("run")
    config["model"]["name"] = "autoencoder"
    write_config("run", config)
    assert main(["evaluate", "run"]) == 2
    assert "'name' must be somvae or vqvae or vae" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["digits", "--model", "vae", "--rows", "3"],
            "--rows is for som and somvae, and --model vae has no use for it",
        ),
        (["digits", "--temperature", "1"], "--temperature is for gumbel-vae, and --model somvae has no use for it"),
        (
            ["digits", "--model", "vae", "--revive"],
            "--revive is for somvae and vqvae, and --model vae has no use for it",
        ),
        (
            ["digits", "--model", "gumbel-vae", "--gamma", "3"],
            "--objective must be 'dupont' or 'entropy-capacity' for --gamma",
        ),
        (["own.npy", "--model", "vae", "--network", "conv"], "multiples of 16"),
        (["digits", "--model", "vae", "--preset", "dupont"], "--preset must be mnist for --model vae, got 'dupont'"),
        (["digits", "--model", "moe-vae", "--std", "0"], "--std must be a finite number above 0, got 0.0"),
        (
            ["digits", "--model", "gumbel-vae", "--temperature", "0"],
            "--temperature must be a finite number above 0, got 0.0",
        ),
        (
            ["digits", "--model", "gumbel-vae", "--capacity-z", "-1"],
            "--capacity-z must be a finite number of at least 0, got -1.0",
        ),
        (["digits-series", "--model", "vae"], "--model vae is for single samples, and digits-series holds"),
        (["own.csv", "--model", "conditional-vae"], "--model conditional-vae needs the class of each sample"),
        (["digits", "--split", "all", "--fold", "2"], "--fold is for --split folds, got --split all"),
        (["digits", "--fold", "10"], "--fold must be"),
        (["digits", "--image-size", "0"], "--image-size must be an integer of at least 1, got 0"),
        (["digits", "--split", "half"], "--split must be holdout or all or folds, got 'half'"),
        (
            ["digits", "--model", "gan"],
            "--model must be som or somvae or vqvae or vae or conditional-vae or gumbel-vae or moe-vae, got",
        ),
    ],
)
def test_conflicting_options_are_refused_with_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table("own.csv", label=False)
    np.save("own.npy", np.random.default_rng(0).random((40, 20, 20)))
    assert main(["fit", *arguments, *TINY, "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not Path("run").exists()
