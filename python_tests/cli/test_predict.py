"""``somvae evaluate`` and ``somvae predict`` for all models and splits, and for images that were resized."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from saved_configs import config_of, write_config
from sklearn.metrics import normalized_mutual_info_score

import somvae_ext
from somvae_ext.cli import main
from somvae_ext.cli.run_data import clamp_splits
from somvae_ext.data import Samples, Scaling, load, load_array, resize
from somvae_ext.data.record import DataRecord
from somvae_ext.models import MODELS
from somvae_ext.store import ResultFolder
from somvae_ext.training import RunRecord, TrainingConfig

RNG = np.random.default_rng(0)

# Small models for images of 6 x 5 pixels in four classes.
SMALL: dict[str, dict[str, Any]] = {
    "somvae": {"rows": 2, "cols": 2, "hidden_sizes": (8,), "latent_dim": 3},
    "vqvae": {"num_codes": 4, "hidden_sizes": (8,), "latent_dim": 3},
    "vae": {"hidden_sizes": (8,), "latent_dim": 3},
    "conditional-vae": {"num_classes": 4, "hidden_sizes": (8,), "latent_dim": 3},
    "gumbel-vae": {"num_categories": 4, "hidden_sizes": (8,), "latent_dim": 3},
    "moe-vae": {"num_experts": 4, "hidden_size": 8, "latent_dim": 3},
}


@pytest.fixture(autouse=True)
def in_a_folder_with_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = RNG.integers(0, 256, (80, 6, 5), dtype=np.uint8)
    np.savez("images.npz", x=images, label=np.arange(80) % 4)


def write_run(model_name: str, *, config: dict[str, Any] | None = None, **data_options: Any) -> Any:
    """Writes the folder ``run`` as ``somvae fit`` would, with random weights, and returns its model."""
    data = {"name": "images.npz", "root": "data", "seed": 0, "recipe": "published", "num_series": None} | data_options
    data = {"kind": None, "split": "holdout", "fold": 0, "image_size": None} | data
    model_type: Any = MODELS[model_name]
    splits = clamp_splits(model_type, load(data["name"], **{key: data[key] for key in data if key != "name"}))
    torch.manual_seed(0)
    options = SMALL[model_name] if config is None else config
    model = model_type(model_type.config_type(input_shape=splits.sample_shape, **options))
    for weights in model.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights)  # spreads the samples over several clusters
    record = RunRecord(model_type, model.config, TrainingConfig(), DataRecord.from_splits(data, splits), threads=1)
    folder = ResultFolder.create("run", "model", overwrite=True)
    folder.save_config(record.to_config())
    folder.save_checkpoint(1, model.state_dict(), {}, {})
    return somvae_ext.load("run")


def predicted(data: str = "images.npz") -> list[dict[str, str]]:
    assert main(["predict", "run", data, "-o", "out.csv", "--overwrite"]) == 0
    with open("out.csv", newline="") as file:
        return list(csv.DictReader(file))


def column(rows: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name]) for row in rows]


def unit_images(path: str = "images.npz") -> torch.Tensor:
    return load_array(path).x.float() / 255


@pytest.mark.parametrize("name", ["gumbel-vae", "moe-vae"])
def test_the_most_probable_category_of_each_sample_is_written_with_its_probability(name: str) -> None:
    model = write_run(name)
    rows = predicted()
    assert list(rows[0]) == ["index", "category", "probability"]
    assert column(rows, "index") == list(range(80))
    assert column(rows, "category") == model.assign(unit_images()).tolist()
    probability = model.encode(unit_images()).log_probs.exp().amax(dim=1)
    assert column(rows, "probability") == pytest.approx(probability.tolist(), rel=1e-4)  # six digits are written
    assert len(set(column(rows, "category"))) > 1


@pytest.mark.parametrize("name", ["vae", "conditional-vae"])
def test_for_models_without_clusters_the_latent_means_are_written(name: str) -> None:
    model = write_run(name)
    np.save("bare.npy", np.load("images.npz")["x"])  # encoding needs no labels
    rows = predicted("bare.npy")
    assert list(rows[0]) == ["index", "z0", "z1", "z2"]
    mu = model.encode(unit_images()).mu
    for number in range(3):
        assert column(rows, f"z{number}") == pytest.approx(mu[:, number].tolist(), rel=1e-4, abs=1e-5)


def test_the_code_of_each_sample_is_written_with_its_distance() -> None:
    model = write_run("vqvae")
    rows = predicted()
    assert list(rows[0]) == ["index", "code", "distance_in_latent_space"]
    code = model.assign(unit_images())
    assert column(rows, "code") == code.tolist()
    distance = (model.encode(unit_images()) - model.quantizer.codebook[code]).norm(dim=1)
    assert column(rows, "distance_in_latent_space") == pytest.approx(distance.tolist(), rel=1e-4)


def test_each_code_of_a_sample_is_written_with_its_position() -> None:
    np.save("large.npy", RNG.integers(0, 256, (20, 8, 12), dtype=np.uint8))
    model = write_run("vqvae", config={"network": "conv", "num_codes": 5, "latent_dim": 3}, name="large.npy")
    rows = predicted("large.npy")
    assert list(rows[0]) == ["index", "row", "column", "code", "distance_in_latent_space"]
    codes = model.assign(unit_images("large.npy"))
    assert codes.shape == (20, 2, 3)
    places = [[int(row["index"]), int(row["row"]), int(row["column"])] for row in rows]
    assert places == torch.ones(20, 2, 3).nonzero().tolist()
    assert column(rows, "code") == codes.flatten().tolist()


def test_images_are_resized_like_those_that_the_model_was_trained_on() -> None:
    model = write_run("gumbel-vae", image_size=9)
    assert model.config.input_shape == (1, 9, 9)
    assert column(predicted(), "category") == model.assign(resize(unit_images(), 9)).tolist()
    # Images of another height and width are resized, too; those of 9 x 9 pixels stay as they are.
    for shape in ((12, 7), (9, 9)):
        np.save("other.npy", RNG.integers(0, 256, (10, *shape), dtype=np.uint8))
        expected = model.assign(resize(unit_images("other.npy"), 9))
        assert column(predicted("other.npy"), "category") == expected.tolist()


@pytest.mark.parametrize(
    ("image_size", "expected"), [(None, "[1, 6, 5], as"), (9, "[1, 9, 9], or another height and width, as")]
)
def test_images_that_do_not_fit_are_refused_with_the_expected_shape(
    image_size: int | None, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run("vae", image_size=image_size)
    np.save("color.npy", RNG.random((5, 3, 9, 9)))
    assert main(["predict", "run", "color.npy"]) == 2
    assert f"color.npy: samples must have shape {expected} those that run was trained on, got [3, 9, 9]" in (
        capsys.readouterr().err
    )


def test_values_outside_the_training_range_are_clamped_for_models_of_the_unit_interval() -> None:
    np.save("table.npy", RNG.normal(size=(60, 4)))
    model = write_run("vae", name="table.npy")
    np.save("wide.npy", RNG.normal(size=(10, 4), scale=9))
    scaling = Scaling.from_dict(config_of("run")["data"]["scaling"])
    x = scaling.apply(load_array("wide.npy").x)
    assert not x.equal(x.clamp(0, 1))
    assert column(predicted("wide.npy"), "z0") == pytest.approx(model.encode(x.clamp(0, 1)).mu[:, 0].tolist(), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "somvae",
            {
                *("purity", "NMI", "NMI, geometric", "ARI", "ACC", "usage", "perplexity"),
                *("quantization error", "topographic error, 4", "topographic error, 8", "order"),
            },
        ),
        (
            "vqvae",
            {
                "reconstruction",
                "purity",
                "NMI",
                "NMI, geometric",
                "ARI",
                "ACC",
                "quantization error",
                "usage",
                "perplexity",
            },
        ),
        ("vae", {"reconstruction", "KL"}),
        ("conditional-vae", {"reconstruction", "KL"}),
        (
            "gumbel-vae",
            {
                "reconstruction",
                "KL of z",
                "KL of categories",
                "purity",
                "NMI",
                "NMI, geometric",
                "ARI",
                "ACC",
                "usage",
                "perplexity",
            },
        ),
        ("moe-vae", {"reconstruction", "KL", "purity", "NMI", "NMI, geometric", "ARI", "ACC", "usage", "perplexity"}),
    ],
)
def test_only_metrics_that_apply_to_the_model_are_printed(
    name: str, expected: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(name)
    assert main(["evaluate", "run"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    clusters = {"somvae": " on 2 x 2 nodes", "vae": "", "conditional-vae": ""}.get(name, " in 4 clusters")
    assert first == f"12 samples of the test split{clusters}"
    assert {re.split(r"\s{2,}", line)[0] for line in lines} == expected
    assert ("node" in "".join(lines)) == (name == "somvae")
    saved = ResultFolder.open("run").evaluations["test"]
    assert saved["samples"] == 12
    if "NMI" in expected:
        test = load("images.npz").test
        assert isinstance(test, Samples)
        nmi = normalized_mutual_info_score(test.label, somvae_ext.load("run").assign(test.x))  # type: ignore[union-attr]
        assert saved["nmi_arithmetic"] == pytest.approx(nmi)


@pytest.mark.parametrize(
    ("split", "sizes"), [("holdout", [56, 12, 12]), ("folds", [61, 7, 12]), ("all", [68, None, 12])]
)
def test_a_run_is_evaluated_on_the_split_of_its_training(
    split: str, sizes: list[int | None], capsys: pytest.CaptureFixture[str]
) -> None:
    write_run("gumbel-vae", split=split, fold=3 if split == "folds" else 0, image_size=7)
    for part, size in zip(("train", "validation", "test"), sizes, strict=True):
        assert main(["evaluate", "run", "--split", part]) == (2 if size is None else 0)
        printed = capsys.readouterr()
        if size is None:
            sentence = (
                "--split validation: there is none, because run was trained on all data that are not for the test"
            )
            assert sentence in printed.err
        else:
            assert f"{size} samples of the {part} split" in printed.out


def test_an_invalid_split_in_the_config_is_refused_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    write_run("vae")
    config = config_of("run")
    for name, value, sentence in (
        ("split", 3, "split must be 'holdout', 'all' or 'folds', got 3"),
        ("split", "half", "split must be 'holdout', 'all' or 'folds', got 'half'"),
        ("fold", "first", "fold must be an integer of at least 0, got 'first'"),
        ("image_size", 2.5, "image_size must be an integer of at least 1, or None, got 2.5"),
    ):
        write_config("run", config | {"data": config["data"] | {name: value}})
        assert main(["evaluate", "run"]) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert error.count("\n") == 1
