"""Maps from the shell: results for each file type, the contents of the folder, and errors."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any

import children
import numpy as np
import pandas as pd
import pytest
import torch
from installations import COMMAND, python_without
from matplotlib.image import imread
from saved_configs import config_of, contents, write_config

import somvae_ext
from somvae_ext import Grid, evaluation, plotting
from somvae_ext.cli import main
from somvae_ext.data import tables
from somvae_ext.estimators import SOM
from somvae_ext.store import ResultFolder

ROOT = Path(somvae_ext.__file__).parents[1]
SMALL = ["--rows", "3", "--cols", "4", "--epochs", "3", "--quiet", "--overwrite", "--out", "map"]


def fit(data: str, *options: str) -> int:
    return main(["fit", data, "--model", "som", *SMALL, *options])


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Three features of very different scales around two points, and the class."""
    generator = np.random.default_rng(0)
    label = np.arange(60) % 2
    values = np.array([[1, 200, -5000], [2, 100, 5000]])[label] + generator.normal(size=(60, 3))
    return pd.DataFrame(values, columns=["height", "weight", "depth"]).assign(kind=np.array(["a", "b"])[label])


def write(frame: pd.DataFrame, path: str) -> str:
    if path.endswith(".csv"):
        frame.to_csv(path, index=False)
    elif path.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        np.save(path, frame.drop(columns="kind", errors="ignore").to_numpy())
    return path


def predicted(path: str = "out.csv") -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def nodes(data: str) -> list[int]:
    assert main(["predict", "map", data, "-o", "out.csv", "--overwrite"]) == 0
    return [int(row["node"]) for row in predicted()]


def table(output: str) -> dict[str, str]:
    lines = [re.split(r"\s{2,}", line, maxsplit=1) for line in output.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


@pytest.mark.parametrize("name", ["table.csv", "table.npy", "table.parquet"])
def test_the_training_rows_are_predicted_as_the_estimator_labels_them(
    name: str, frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = [] if name.endswith(".npy") else ["--label-column", "kind"]
    assert fit(write(frame, name), *labels) == 0
    printed = table(capsys.readouterr().out)
    values = frame.drop(columns="kind").to_numpy()
    scaled = ((values - values.mean(axis=0)) / values.std(axis=0)).astype(np.float32)
    som = SOM(3, 4, n_epochs=3, random_state=0).fit(scaled)
    assert nodes(name) == som.labels_.tolist()
    rows = predicted()
    known_class = [] if name.endswith(".npy") else ["class"]
    assert list(rows[0]) == ["index", "node", "row", "column", "distance_in_scaled_units", *known_class]
    assert [int(row["index"]) for row in rows] == list(range(60))
    assert [[int(row["row"]), int(row["column"])] for row in rows] == som.transform(scaled).tolist()
    mean = np.mean([float(row["distance_in_scaled_units"]) for row in rows])
    assert mean == pytest.approx(som.quantization_error_, rel=1e-6)
    assert printed["quantization error"] == f"{som.quantization_error_:.4g} (of the scaled data)"
    assert printed["topographic error"] == f"{som.topographic_error(scaled):.3f} (8 neighbors)"
    kinds = frame["kind"].to_numpy()
    classes = {
        "purity": evaluation.purity(kinds, som.labels_),
        "nmi_arithmetic": evaluation.nmi(kinds, som.labels_),
        "nmi_geometric": evaluation.nmi(kinds, som.labels_, average="geometric"),
    }
    assert ResultFolder.open("map").evaluations["train"] == {
        "samples": 60,
        "quantization_error": som.quantization_error_,
        "topographic_error_8": som.topographic_error(scaled),
        "usage": len(set(som.labels_.tolist())) / 12,
    } | (classes if labels else {})
    assert printed["nodes used"] == f"{len(set(som.labels_.tolist()))} of 12"
    assert printed["map"] == "map"


def test_a_saved_map_is_the_estimator_with_the_scaling_of_its_data(frame: pd.DataFrame) -> None:
    fit(write(frame, "table.csv"), "--label-column", "kind", "--topographic-error", "--scaling", "minmax")
    saved = somvae_ext.load("map")
    values = frame.drop(columns="kind").to_numpy()
    scaled = saved.scaling.apply(values)
    assert np.allclose(scaled.min(axis=0), 0)
    assert np.allclose(scaled.max(axis=0), 1)
    assert saved.som.get_params()["n_cols"] == 4
    node = saved.som.predict(scaled)
    assert saved.hits.tolist() == np.bincount(node, minlength=12).tolist()
    assert saved.classes == ("a", "b")
    labels = saved.nodes.labels
    assert labels is not None
    for winner, label, count in labels.tolist():
        assert count == ((node == winner) & (frame["kind"] == saved.classes[label])).sum()
    assert labels[:, 2].sum() == 60
    assert saved.som.quantization_error_ == saved.som.quantization_error(scaled)
    # In the units of the data, codes lie within the range of the rows.
    assert (saved.codebook >= values.min(axis=0) - 1e-3).all()
    assert (saved.codebook <= values.max(axis=0) + 1e-3).all()
    history = ResultFolder.open("map").load_log("metrics")
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert all({"sigma", "quantization_error", "topographic_error_8"} <= record.keys() for record in history)
    assert saved.som.partial_fit(scaled).codebook_.shape == (12, 3)


def test_pictures_of_a_map_are_in_its_own_metric(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def record(codebook: object, grid: Grid, **options: object) -> object:
        axes = plot_u_matrix(codebook, grid, **options)  # type: ignore[arg-type]
        drawn.append((axes, options["metric"]))
        return axes

    plot_u_matrix = plotting.plot_u_matrix
    monkeypatch.setattr(plotting, "plot_u_matrix", record)
    assert fit(write(frame, "table.csv"), "--label-column", "kind", "--metric", "minkowski", "--p", "3") == 0
    assert main(["plot", "map"]) == 0
    for axes, metric in drawn:
        assert (metric.distance, metric.p) == ("minkowski", 3)
        assert axes.child_axes[0].get_ylabel() == "minkowski distance\n(nodes: to 8 neighbors)"
    assert len(drawn) == 2


def test_features_that_do_not_vary_are_shifted_to_zero(frame: pd.DataFrame) -> None:
    # In floating point, a sum of sixty tenths is not six, so a naive variance would not be zero.
    fit(write(frame.drop(columns="kind").assign(same=0.1), "table.csv"))
    saved = somvae_ext.load("map")
    assert saved.som.codebook_[:, 3].tolist() == [0.0] * 12
    assert saved.codebook[:, 3].tolist() == [0.1] * 12


@pytest.mark.parametrize("scaling", ["none", "standard"])
def test_an_array_larger_than_a_chunk_gives_the_map_of_one_in_memory(
    scaling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).normal(3, 2, size=(1000, 3)).astype(np.float32)
    np.save("rows.npy", x)
    assert fit("rows.npy", "--scaling", scaling) == 0
    whole = somvae_ext.load("map").som.codebook_
    expected = nodes("rows.npy")
    # Chunks of 7 rows change only the rounding of the merged moments.
    monkeypatch.setattr(tables, "_CHUNK_VALUES", 21)
    monkeypatch.setattr("somvae_ext.som.rows._CHUNK_VALUES", 300)
    assert fit("rows.npy", "--scaling", scaling) == 0
    assert np.allclose(somvae_ext.load("map").som.codebook_, whole, rtol=0, atol=1e-5)
    assert nodes("rows.npy") == somvae_ext.load("map").som.predict(somvae_ext.load("map").scaling.apply(x)).tolist()
    assert np.mean(np.equal(nodes("rows.npy"), expected)) > 0.99
    if scaling == "standard":
        assert somvae_ext.load("map").scaling.shift == pytest.approx(x.astype(np.float64).mean(axis=0).tolist())
        assert somvae_ext.load("map").scaling.width == pytest.approx(x.astype(np.float64).std(axis=0).tolist())


@pytest.mark.parametrize("name", ["gaps.csv", "gaps.npy", "gaps.parquet"])
def test_missing_values_are_left_out_on_request(
    name: str, frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = frame.drop(columns="kind")
    values = frame.to_numpy(copy=True)
    values[[3, 17], [1, 2]] = np.nan
    write(pd.DataFrame(values, columns=frame.columns), name)
    assert fit(name) == 2
    column = "1" if name.endswith(".npy") else "'weight'"
    line = " (line 5)" if name.endswith(".csv") else ""
    assert capsys.readouterr().err == (
        f"somvae: {name}: values must be finite float32 numbers, got NaN in row 3{line}, column {column} (rows count "
        "from 0); fill the gap, or set --missing drop, --missing mean or, for a map, --missing ignore\n"
    )
    assert not Path("map").exists()
    assert fit(name, "--missing", "ignore") == 0
    saved = somvae_ext.load("map")
    assert saved.scaling.shift == pytest.approx(np.nanmean(values, axis=0).tolist())
    assert saved.scaling.width == pytest.approx(np.nanstd(values, axis=0).tolist())
    assert nodes(name) == saved.som.predict(saved.scaling.apply(values)).tolist()


def test_columns_are_known_by_their_names_and_labels_may_be_absent_or_empty(
    frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(write(frame, "table.csv"), "--label-column", "kind")
    expected = nodes("table.csv")
    for other in (
        frame[["kind", "depth", "weight", "height"]],
        frame[["depth", "height", "weight"]],
        frame.assign(kind=""),
    ):
        assert nodes(write(other, "other.csv")) == expected
        assert nodes(write(other, "other.parquet")) == expected
    assert nodes(write(frame, "table.npy")) == expected
    capsys.readouterr()
    write(frame.rename(columns={"depth": "deepness"}).assign(extra=1), "other.csv")
    assert main(["predict", "map", "other.csv"]) == 2
    assert capsys.readouterr().err == (
        "somvae: other.csv: columns must be those of the training data, in any order, got a table without 'depth' "
        "and with the unknown 'deepness', 'extra'\n"
    )
    np.save("wide.npy", np.zeros((5, 4)))
    assert main(["predict", "map", "wide.npy"]) == 2
    assert "wide.npy: rows must have 3 features, as the training data had, got 4" in capsys.readouterr().err


def test_predictions_go_to_standard_output_or_replace_a_file_only_when_complete(
    frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(write(frame, "table.csv"), "--label-column", "kind")
    capsys.readouterr()
    assert main(["predict", "map", "table.csv"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("index,node,row,column,distance_in_scaled_units,class\n0,")
    assert printed.count("\n") == 61
    Path("out.csv").write_text("earlier")
    write(frame.assign(depth=np.nan), "broken.csv")
    assert main(["predict", "map", "broken.csv", "-o", "out.csv", "--overwrite"]) == 2
    assert "the training data had no gaps, so fill it" in capsys.readouterr().err
    assert Path("out.csv").read_text() == "earlier"
    assert main(["predict", "map", "table.csv", "-o", "nowhere/out.csv"]) == 2
    assert "a file in a folder that exists, but nowhere does not" in capsys.readouterr().err


def is_a_picture(path: str) -> bool:
    pixels = imread(path)
    return min(pixels.shape[:2]) > 50 and len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 5


@pytest.mark.pictures
@pytest.mark.parametrize("topology", [["--topology", "hexagonal", "--rows", "4"], ["--periodic"]])
def test_every_picture_that_map_and_options_allow_is_drawn(
    topology: list[str], frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(write(frame, "table.csv"), "--label-column", "kind", *topology)
    assert table(capsys.readouterr().out)["pictures"] == "map/hits.png, map/u_matrix.png, map/curves.png"
    assert all(is_a_picture(f"map/{name}.png") for name in ("hits", "u_matrix", "curves"))
    assert main(["plot", "map"]) == 0
    plain = ["hits", "u_matrix", "component_planes", "labels", "rgb", "curves"]
    assert capsys.readouterr().out.split() == [f"map/{name}.png" for name in plain]
    assert main(["cluster", "map", "-n", "3"]) == 0
    options = ["--image-shape", "1", "3", "--features", "depth", "0"]
    assert main(["plot", "map", "--out", "pictures", *options]) == 0
    assert {path.stem for path in Path("pictures").iterdir()} == {*plain, "clusters", "codebook_images"}
    assert all(is_a_picture(str(path)) for path in Path("pictures").iterdir())
    assert main(["plot", "map", "--out", "pictures", "--kind", "rgb"]) == 2
    assert "pictures/rgb.png is there already" in capsys.readouterr().err
    assert main(["plot", "map", "--out", "pictures", "--kind", "rgb", "hits", "--overwrite"]) == 0


@pytest.mark.pictures
def test_colors_of_images_come_last() -> None:
    red = np.zeros((20, 2, 2, 3))
    red[:10, ..., 0] = 1  # half of the images are red, the others green
    red[10:, ..., 1] = 1
    np.save("images.npy", red.reshape(20, -1))
    assert fit("images.npy", "--scaling", "none", "--rows", "1", "--cols", "2", "--sigma-final", "0.1") == 0
    assert main(["plot", "map", "--kind", "codebook_images", "--image-shape", "2", "2", "3"]) == 0
    pixels = imread("map/codebook_images.png")[..., :3].reshape(-1, 3)
    pure = [bool((np.abs(pixels - color) < 0.01).all(axis=1).mean() > 0.05) for color in ((1, 0, 0), (0, 1, 0))]
    assert pure == [True, True]
    assert not (np.abs(pixels - (0, 0, 1)) < 0.2).all(axis=1).any()


@pytest.mark.pictures
def test_a_map_is_overwritten_only_on_request_and_is_reproducible(
    frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    write(frame, "table.csv")
    command = [
        "fit",
        "table.csv",
        "--model",
        "som",
        "--label-column",
        "kind",
        "--epochs",
        "2",
        "--quiet",
        "--algorithm",
    ]
    assert main([*command, "minibatch"]) == 0
    first = contents("runs/som-table")
    assert main([*command, "batch"]) == 2
    assert "runs/som-table is not empty" in capsys.readouterr().err
    assert main([*command, "minibatch", "--overwrite"]) == 0
    assert contents("runs/som-table") == first
    main(["plot", "runs/som-table"])
    before = contents("runs/som-table")
    for mistake in (["--sigma-final", "0"], ["--init", "kmeans"], ["--missing", "ignore", "--rows", "0"]):
        assert main([*command, "batch", "--overwrite", *mistake]) == 2
    assert contents("runs/som-table") == before
    assert main([*command, "batch", "--overwrite"]) == 0
    assert not Path("runs/som-table/labels.png").exists()  # a picture of the earlier map


def test_a_model_replaces_a_map_only_with_overwrite(frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    write(frame, "table.csv")
    assert fit("table.csv", "--label-column", "kind") == 0
    model = ["fit", "table.csv", "--label-column", "kind", "--rows", "2", "--cols", "2", "--epochs", "1"]
    model += ["--latent-dim", "4", "--device", "cpu", "--out", "map"]
    assert main(model) == 2
    assert "map is not empty" in capsys.readouterr().err
    assert main([*model, "--overwrite"]) == 0
    assert ResultFolder.open("map").kind == "model"
    assert ResultFolder.open("map").load_file("nodes")["hits"].shape == (4,)
    assert fit("table.csv", "--label-column", "kind") == 0  # a map may replace a model, too
    assert ResultFolder.open("map").kind == "map"


def test_an_edited_folder_is_refused_with_one_sentence(frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    write(frame, "table.csv")
    fit("table.csv", "--label-column", "kind")
    capsys.readouterr()
    config = config_of("map")
    parameters, scaling = config["parameters"], config["scaling"]
    manifest = json.loads(Path("map/manifest.json").read_text())
    whole = contents("map")

    def with_config(**changes: Any) -> None:
        write_config("map", config | changes)

    def with_nodes(**changes: torch.Tensor | None) -> None:
        folder = ResultFolder.open("map")
        arrays = folder.load_file("nodes") | changes
        folder.save_file("nodes", {name: array for name, array in arrays.items() if array is not None})

    def with_codebook(codebook: torch.Tensor) -> None:
        folder = ResultFolder.open("map")
        folder.save_checkpoint(4, {"codebook": codebook}, {}, {})

    def with_file(name: str, content: bytes | None) -> None:
        if content is None:
            Path("map", name).unlink()
        else:
            Path("map", name).write_bytes(content)

    def with_manifest(**changes: Any) -> None:
        with_file("manifest.json", json.dumps(manifest | changes).encode())

    labels = ResultFolder.open("map").load_file("nodes")["labels"]
    for change, reason in (
        (lambda: with_file("manifest.json", b"{"), "map/manifest.json must be JSON"),
        (lambda: with_file("manifest.json", b"{}"), "must be the manifest of a trained map or model, but it is dam"),
        (lambda: with_file("manifest.json", None), "map must be the folder of a trained map or model, but it has no"),
        (lambda: with_manifest(format=3), "must have format 2, got 3, written by somvae_ext"),
        (lambda: with_manifest(config=config | {"dim": 4}), "its contents do not have the SHA-256 that stands in it"),
        (lambda: with_config(parameters=parameters | {"speed": 1}), "unexpected keyword argument 'speed'"),
        (lambda: with_config(parameters=parameters | {"sigma_final": 0}), "sigma_final must be a finite number"),
        (lambda: with_config(scaling=scaling | {"width": [1, -1, 1]}), "width at least 0, got"),
        (lambda: with_config(feature_names=["one"]), "scaling and feature_names must be of the same number of feat"),
        (lambda: with_config(parameters=parameters | {"n_rows": 5}), "must be of floats and shape [20, 3], got"),
        (lambda: with_codebook(torch.zeros(12, 2)), "must be of floats and shape [12, 3], got torch.float32 of shape"),
        (lambda: with_codebook(torch.full((12, 3), torch.nan)), "the codebook must be finite, got NaN or infinity"),
        (lambda: with_file("weights-3.safetensors", b""), "map/weights-3.safetensors is damaged: it has 0 bytes"),
        (lambda: with_file("metrics.jsonl", b"?"), "map/metrics.jsonl is damaged: it has 1 bytes"),
        (lambda: with_file("nodes.safetensors", b""), "map/nodes.safetensors is damaged: it has 0 bytes"),
        (lambda: with_file("nodes.safetensors", None), "map/nodes.safetensors is missing"),
        (lambda: with_nodes(hits=torch.zeros(11)), "nodes.safetensors must hold the hits of each of the 12 nodes"),
        (lambda: with_nodes(labels=None), "nodes.safetensors must hold nodes and classes of the map, got others"),
        (
            lambda: with_nodes(labels=labels + torch.tensor([0, 12, 0])),
            "nodes.safetensors must hold nodes and classes of the map, got others",
        ),
        (
            lambda: with_nodes(labels=labels + 12),
            "nodes.safetensors must hold nodes and classes of the 12 nodes, got others",
        ),
    ):
        change()
        for command in (["predict", "map", "table.csv"], ["plot", "map"]):
            assert main(command) == 2
            printed = capsys.readouterr()
            assert printed.out == ""
            assert reason in printed.err
            assert printed.err.count("\n") == 1
        for name, content in whole.items():
            Path("map", name).write_bytes(content)
    assert main(["plot", "map"]) == 0


@pytest.fixture
def checkpoint_after_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("somvae_ext.estimators.saved_map.MAX_CHECKPOINT_SHARE", 1.0)


@pytest.mark.usefixtures("checkpoint_after_each_epoch")
def test_an_interrupted_map_resumes_and_ends_like_an_uninterrupted_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], frame: pd.DataFrame
) -> None:
    write(frame, "table.csv")
    assert fit("table.csv", "--label-column", "kind", "--epochs", "4") == 0
    Path("map").rename("whole")
    save = ResultFolder.save_checkpoint

    def interrupted(self: ResultFolder, epoch: int, *contents: Any) -> None:
        save(self, epoch, *contents)
        if epoch == 2:
            raise KeyboardInterrupt

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(ResultFolder, "save_checkpoint", interrupted)
        assert fit("table.csv", "--label-column", "kind", "--epochs", "4") == 130
    sentence = "map keeps the last complete epoch, and somvae fit --resume map goes on from there"
    assert capsys.readouterr().err == f"somvae: interrupted; {sentence}\n"
    assert main(["predict", "map", "table.csv"]) == 2
    assert "map must hold a complete map, but its training was interrupted after epoch 2" in capsys.readouterr().err
    assert main(["fit", "--resume", "map", "--quiet"]) == 0
    capsys.readouterr()
    whole, resumed = somvae_ext.load("whole"), somvae_ext.load("map")
    assert np.array_equal(resumed.som.codebook_, whole.som.codebook_)
    assert (resumed.som.history_, resumed.evaluation) == (whole.som.history_, whole.evaluation)
    assert resumed.hits.tolist() == whole.hits.tolist()
    assert resumed.nodes.labels.tolist() == whole.nodes.labels.tolist()


@pytest.mark.usefixtures("checkpoint_after_each_epoch")
def test_a_map_resumes_only_with_its_own_data_and_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], frame: pd.DataFrame
) -> None:
    save = ResultFolder.save_checkpoint

    def interrupted(self: ResultFolder, epoch: int, *contents: Any) -> None:
        if epoch == 3:
            raise KeyboardInterrupt
        save(self, epoch, *contents)

    write(frame, "table.csv")
    with monkeypatch.context() as patch:
        patch.setattr(ResultFolder, "save_checkpoint", interrupted)
        assert fit("table.csv", "--label-column", "kind") == 130
    Path("map/state-2.safetensors").write_bytes(b"")
    resume = ["fit", "--resume", "map", "--quiet"]
    for options, sentence in (
        (["--rows", "4"], "--resume goes on with the options of the map, so --rows must not be given"),
        (["--seed", "1"], "--resume goes on with the options of the map, so --seed must not be given"),
        (["--from-epoch", "3"], "map has checkpoints of epoch 1 and 2, and none of epoch 3"),
        ([], "the checkpoint of epoch 1 is whole"),
    ):
        capsys.readouterr()
        assert main([*resume, *options]) == 2
        assert sentence in capsys.readouterr().err
    assert main(["fit", "table.csv", "--resume", "map"]) == 2
    assert "so DATA must not be given" in capsys.readouterr().err
    write(frame.assign(height=frame["height"] + 1), "table.csv")
    assert main([*resume, "--from-epoch", "1"]) == 2
    assert "table.csv: must be what map was trained on, but its values have changed" in capsys.readouterr().err
    write(frame, "table.csv")
    assert main([*resume, "--from-epoch", "1"]) == 0
    assert [record["epoch"] for record in somvae_ext.load("map").som.history_] == [1, 2, 3]
    assert main(resume) == 2
    assert "map has completed its training of 3 epochs" in capsys.readouterr().err


@pytest.mark.usefixtures("checkpoint_after_each_epoch")
def test_a_complete_map_with_a_damaged_last_epoch_resumes_from_the_one_before_it(
    capsys: pytest.CaptureFixture[str], frame: pd.DataFrame
) -> None:
    fit(write(frame, "table.csv"), "--label-column", "kind")
    before = contents("map")
    Path("map/weights-3.safetensors").write_bytes(b"")
    capsys.readouterr()
    assert main(["predict", "map", "table.csv"]) == 2
    assert "the checkpoint of epoch 2 is whole" in capsys.readouterr().err
    assert main(["fit", "--resume", "map", "--from-epoch", "2", "--quiet"]) == 0
    assert contents("map") == before


FILES = {
    "text.csv": "height,name\n1,anna\n2,otto\n",
    "kinds.csv": "height,weight,kind\n" + "1,2,a\n2,3,b\n" * 4,
    "empty.csv": "",
    "names.csv": "height,weight\n",
    "hollow.csv": "height,weight\n1,\n2,\n",
    "barren.csv": "height,weight\n1,2\n,NaN\n3,4\n",
    "huge.csv": "height,weight\n1,1e300\n2,3\n",
    "sheet.xlsx": "",
    "rows.parquet": "no parquet",
    "rows.npy": "no array",
}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.csv"], "nowhere.csv: no such file"),
        (["sheet.xlsx"], "or a folder of series, got '.xlsx'; save the sheet as CSV"),
        (["hollow"], "hollow: must hold a .npy file or a table for each series, got neither"),
        (["text.csv"], "column 'name' must hold numbers, got 'anna' and 'otto', first in row 0 (line 2)"),
        (["text.parquet"], "column 'name' must hold numbers, got 'anna' and 'otto', first in row 0"),
        (["kinds.csv", "--label-column", "sort"], "must be one of its columns height, weight, kind, got 'sort'"),
        (["text.parquet", "--label-column", "sort"], "must be one of its columns height, name, got 'sort'"),
        (["ok.npy", "--label-column", "sort"], "--label-column must not be set for a .npy file, whose columns have"),
        (["empty.csv"], "must hold at least one row, got an empty file"),
        (["names.csv"], "must hold at least one row, got only a line of names"),
        (["empty.parquet"], "must hold at least one row, got none"),
        (["empty.npy"], "must have shape [N, D] with at least one row and one feature, got [0, 3]"),
        (["rows.npy"], "rows.npy: must be an array of numbers that numpy.save wrote, got something else"),
        (["rows.parquet"], "rows.parquet: must be a Parquet file, got something else"),
        (["flat.npy"], "flat.npy: static data must have 2 axes [N, F] to 4 [N, C, H, W], got shape [4]"),
        (["text.npy"], "text.npy: must hold numbers, got dtype <U1"),
        (["hollow.csv", "--missing", "ignore"], "every column must hold at least one value, got none in column"),
        (["barren.csv", "--missing", "ignore"], "every row must hold at least one value, got none in row 1 (line 3)"),
        (["huge.csv", "--missing", "ignore"], "got 1e+300 in row 0 (line 2), column 'weight'"),
        (["ok.npy", "--init", "kmeans"], "--init kmeans needs a row for each of the 10 x 10 nodes, got 4"),
        (["ok.npy", "--rows", "0"], "--rows must be a positive integer, got 0"),
        (["ok.npy", "--epochs", "-1"], "--epochs must be an integer of at least 1, got -1"),
        (["ok.npy", "--batch-size", "0"], "--batch-size must be an integer of at least 1, got 0"),
        (["ok.npy", "--topology", "hexagonal", "--periodic", "--rows", "3"], "rows must be even"),
        (
            ["ok.npy", "--neighborhood", "mexican_hat"],
            "--neighborhood must not be 'mexican_hat' with --algorithm batch, because",
        ),
        (["ok.npy", "--metric", "minkowski", "--p", "0.5"], "--p must be from 1 to 64, got 0.5"),
        (["ok.npy", "--metric", "euclid"], "did you mean euclidean?"),
        (["ok.npy", "--rowz", "1"], "unknown option --rowz; did you mean --rows?"),
        (["ok.npy", "--rows", "many"], "--rows must be an integer, got 'many'"),
        (["ok.npy", "--seed", "-1"], "--seed must be an integer from 0 to 4294967295, got -1"),
        (["ok.npy", "--threads", "0"], "--threads must be at least 1, got 0"),
        (["ok.npy", "--device", "tpu"], "--device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        (["ok.npy", "--device", "cuda:99"], "--device cuda:99 needs a GPU that torch can use, got"),
        (["ok.npy", "--out", "text.csv"], "text.csv must be a folder, but a file is there"),
        (["ok.npy", "--out", "text.csv/map"], "text.csv/map must be in a folder, but"),
        (["ok.npy", "more.npy"], "unexpected argument 'more.npy'"),
        ([], "DATA is missing"),
    ],
)
def test_invalid_arguments_are_refused_with_one_sentence_before_anything_is_written(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in FILES.items():
        Path(name).write_text(content)
    np.save("ok.npy", np.random.default_rng(0).normal(size=(4, 3)))
    np.save("empty.npy", np.zeros((0, 3)))
    np.save("flat.npy", np.zeros(4))
    Path("hollow").mkdir()
    np.save("text.npy", np.array([["a"]]))
    pd.DataFrame({"height": [1, 2], "name": ["anna", "otto"]}).to_parquet("text.parquet")
    pd.DataFrame({"height": np.zeros(0)}).to_parquet("empty.parquet")
    before = set(Path().iterdir())
    assert main(["fit", *arguments, "--model", "som"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("somvae: ")
    assert printed.err.count("\n") == 1
    assert sentence in printed.err
    assert set(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["plot"], "RUN is missing"),
        (["predict", "map"], "DATA is missing"),
        (["predict", "nowhere", "x.npy"], "nowhere must be the folder of a trained map or model, but it has no"),
        (["plot", "map", "--kind", "hit"], "did you mean hits?"),
        (["plot", "map", "--kind", "labels"], "needs a map trained with --label-column, but map has no labels"),
        (
            ["plot", "map", "--kind", "clusters"],
            "--kind clusters needs a map with clusters, but map has none; find some by: somvae cluster map",
        ),
        (["plot", "map", "--image-shape", "8", "8"], "with the 70 features of the map in all, got 8 8"),
        (["plot", "map", "--image-shape", "8", "x"], "--image-shape must be an integer, got 'x'"),
        (["plot", "map", "--image-shape"], "--image-shape needs a value, got none"),
        (["plot", "map", "--features", "70"], "--features must be a number from 0 to 69, got '70'"),
        (["plot", "map", "--out", "rows.npy"], "--out rows.npy must be a folder, but a file is there"),
    ],
)
def test_misuse_of_a_map_is_refused_with_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("rows.npy", np.random.default_rng(0).normal(size=(30, 70)))
    fit("rows.npy")
    capsys.readouterr()
    before = contents("map")
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("somvae: ")
    assert printed.err.count("\n") == 1
    assert sentence in printed.err
    assert contents("map") == before


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_is_reported_with_one_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    np.save("rows.npy", np.zeros((30, 2)))
    with monkeypatch.context() as patch:
        patch.setattr(SOM, "_fit", fail)
        assert fit("rows.npy") == 2
    assert capsys.readouterr().err == (
        "somvae: a map of 3 x 4 nodes of this data does not fit into memory; choose smaller --rows and --cols\n"
    )
    assert main(["fit", "rows.npy", "--model", "som", *(option for option in SMALL if option != "--overwrite")]) == 0


def python(*arguments: str, imported: str = children.TRAINING) -> subprocess.CompletedProcess[str]:
    return children.run("-W", "ignore", *arguments, imported=imported)


def test_a_process_shows_its_progress_on_stderr_and_its_results_on_stdout(frame: pd.DataFrame) -> None:
    write(frame, "table.csv")
    options = ["--label-column", "kind", "--epochs", "4", "--size", "5x6"]
    run = python("-m", "somvae_ext", "fit", "table.csv", "--model", "som", *options)
    assert run.returncode == 0, run.stderr
    data, _, result = run.stdout.partition("\n\n")
    assert data.startswith("data      table.csv: 60 rows of 3 features")
    assert result.startswith("60 rows of 3 features on 5 x 6 nodes\n")
    lines = run.stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"epoch {epoch}/4" for epoch in range(1, 5)]
    assert all("quantization_error 0." in line for line in lines)
    wrong = python("-m", "somvae_ext", "fit", "table.csv", "--model", "som")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "need", "extra"),
    [
        ("pyarrow", "read_table needs pyarrow", "som"),
        ("matplotlib", "somvae_ext.plotting needs matplotlib", "plot"),
        ("sklearn", "somvae_ext.estimators needs scikit-learn", "som"),
    ],
)
def test_a_missing_library_is_named_before_anything_is_written(
    module: str, need: str, extra: str, frame: pd.DataFrame
) -> None:
    write(frame.drop(columns="kind"), "table.csv")
    run = python_without([module], COMMAND, "fit", "table.csv", "--model", "som")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"somvae: {need}, which is not installed; run: pip install 'somvae_ext[{extra}]'\n"
    assert [path.name for path in Path().iterdir()] == ["table.csv"]


def test_tqdm_is_needed_only_on_a_terminal(frame: pd.DataFrame) -> None:
    write(frame.drop(columns="kind"), "table.csv")
    code = "import sys; sys.modules['tqdm'] = None; from somvae_ext.cli import main; sys.exit(main(sys.argv[1:]))"
    command = ["-W", "ignore", "-c", code, "fit", "table.csv", "--model", "som"]
    terminal, stderr = pty.openpty()
    run = children.run(*command, imported=children.TORCH, stderr=stderr)
    assert (run.returncode, run.stdout) == (2, "")
    sentence = b"somvae: fit needs tqdm, which is not installed; run: pip install 'somvae_ext[som]'"
    assert os.read(terminal, 1000).strip() == sentence
    os.close(terminal)
    os.close(stderr)
    assert [path.name for path in Path().iterdir()] == ["table.csv"]
    assert children.run(*command, imported=children.TORCH).returncode == 0
