"""The command line: its output, the files that it writes, and its errors."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import children
import numpy as np
import pytest
import torch
from installations import COMMAND, python_without
from saved_configs import config_of, contents, write_config

import somvae_ext
from somvae_ext.cli import main
from somvae_ext.data import Scaling, load
from somvae_ext.models import SOMVAE
from somvae_ext.store import ResultFolder

ROOT = Path(somvae_ext.__file__).parents[1]
NO_RESULT = "nowhere must be the folder of a trained map or model, but it has no manifest.json"
TINY = ["--rows", "3", "--cols", "4", "--epochs", "1", "--latent-dim", "8", "--device", "cpu"]
DIGITS = ["fit", "digits", *TINY]


def python(*arguments: str, imported: str = children.TRAINING) -> subprocess.CompletedProcess[str]:
    """Runs a fresh Python without warnings; the fallback's warning is tested elsewhere."""
    return children.run("-W", "ignore", *arguments, imported=imported)


def table(output: str) -> dict[str, str]:
    lines = [re.split(r"\s{2,}", line, maxsplit=1) for line in output.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


def test_fit_trains_evaluates_and_draws() -> None:
    run = python("-m", "somvae_ext", *DIGITS, "--out", "run")
    assert run.returncode == 0, run.stderr
    assert "270 samples of the test split on 3 x 4 nodes" in run.stdout
    printed = table(run.stdout)
    errors = {"quantization error", "topographic error, 4", "topographic error, 8"}
    assert errors | {"order", "purity", "NMI", "ARI", "usage", "perplexity"} <= printed.keys()
    assert "second best node is none of the 8 neighbors of the best" in printed["topographic error, 8"]
    assert "ACC" not in printed  # twelve nodes, ten classes
    assert 0.1 <= float(printed["purity"]) <= 1
    assert re.search(r"NMI +0\.\d{3} \(arithmetic mean of the entropies\)", run.stdout)
    pictures = printed["pictures"].split(", ")
    assert {"run/map.png", "run/curves.png", "run/iterations.png"} <= set(pictures)
    for picture in pictures:
        assert Path(picture).read_bytes().startswith(b"\x89PNG")
    config = config_of("run")
    assert (config["data"]["name"], config["model"]["rows"], config["training"]["epochs"]) == ("digits", 3, 1)
    (record,) = ResultFolder.open("run").load_log("metrics")
    assert {"train", "validation", "metrics", "usage", "perplexity"} <= record.keys()
    assert {"topographic_error_4", "topographic_error_8", "order", "nmi_arithmetic"} <= record["metrics"].keys()
    assert json.loads(Path("run/evaluation.json").read_text())["test"]["samples"] == 270
    assert "transitions.logits" not in ResultFolder.open("run").load_weights()


def test_fit_trains_transitions_on_series(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits-series", *TINY, "--batch-size", "16", "--num-series", "60"]) == 0
    printed = capsys.readouterr().out
    assert "416 frames of series of the test split" in printed  # 13 test series of 32 frames
    assert {"transition NLL", "counted NLL", "lowest NLL"} <= table(printed).keys()
    assert re.search(r"^purity +0\.\d{3} \(of frames\)$", printed, re.MULTILINE)
    still = re.search(r"^purity, static images +0\.\d{3} \((.*)\)$", printed, re.MULTILINE)
    assert still is not None
    assert still[1] == "of the 270 images that the series are made of"
    assert {"NMI, static images", "ARI, static images", "order"} <= table(printed).keys()
    meaning = "the same share of the moves that the learned transitions expect"
    assert table(printed)["learned within 2"].endswith(f"({meaning})")
    (record,) = ResultFolder.open("runs/digits-series").load_log("metrics")
    assert {"static_nmi_arithmetic", "static_purity", "transition_mass_within_1"} <= record["metrics"].keys()
    assert Path("runs/digits-series/transitions.png").is_file()
    logits = ResultFolder.open("runs/digits-series").load_weights()["transitions.logits"]
    assert (logits != 0).any()


@pytest.mark.slow
def test_the_demo_finds_the_digits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", "--device", "cpu"]) == 0
    printed = table(capsys.readouterr().out)
    # Slightly below what seeds 0 to 2 reach, and far above what a random map gives.
    assert float(printed["purity"]) > 0.85
    assert float(printed["NMI"].split()[0]) > 0.6


def test_a_failed_call_with_overwrite_leaves_the_existing_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([*DIGITS, "--out", "run"]) == 0
    before = contents("run")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([*DIGITS, "--out", "run", "--overwrite", "--device", "cuda"]) == 2
    for mistake in (
        ["--alpha", "-1"],
        ["--init", "kmeans", "--rows", "50", "--cols", "50"],
        ["--learning-rate", "1e30", "--epochs", "2"],
    ):
        assert main([*DIGITS, "--out", "run", "--overwrite", *mistake]) == 2
    assert contents("run") == before


def test_a_run_is_overwritten_only_on_request_and_is_reproducible(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(DIGITS) == 0
    first, weights = table(capsys.readouterr().out), somvae_ext.load("runs/digits").state_dict()
    assert main(DIGITS) == 2
    refused = capsys.readouterr()
    assert refused.out == ""
    assert "runs/digits is not empty" in refused.err
    assert main([*DIGITS, "--overwrite"]) == 0
    again, weights_again = table(capsys.readouterr().out), somvae_ext.load("runs/digits").state_dict()
    assert all(weights[name].equal(weights_again[name]) for name in weights)
    assert (first["purity"], first["NMI"]) == (again["purity"], again["NMI"])


def test_options_come_from_a_file_and_the_command_line_wins(capsys: pytest.CaptureFixture[str]) -> None:
    Path("fit.json").write_text('{"data": "digits", "rows": 2, "cols": 3, "epochs": 1, "device": "cpu"}')
    assert main(["fit", "--config", "fit.json", "--cols", "2"]) == 0
    assert "on 2 x 2 nodes" in capsys.readouterr().out
    Path("fit.json").write_text('{"learning_rat": 0.1}')
    assert main(["fit", "--config", "fit.json"]) == 2
    error = capsys.readouterr().err
    assert error == "somvae: unknown option learning_rat in the --config file; did you mean learning_rate?\n"


SMALL = ["--rows", "2", "--cols", "3", "--latent-dim", "4", "--epochs", "2", "--device", "cpu", "--out", "run"]
TABLE = ["fit", "table.csv", "--label-column", "kind", *SMALL]


def write_table(path: str, rows: int = 40) -> np.ndarray:
    """Writes three features of very different scales around two points, and the class, with a header line."""
    generator = np.random.default_rng(0)
    label = np.arange(rows) % 2
    values = np.array([[1, 200, -5000], [2, 100, 5000]])[label] + generator.normal(size=(rows, 3))
    lines = [f"{','.join(map(repr, row.tolist()))},{'ab'[kind]}" for row, kind in zip(values, label, strict=True)]
    Path(path).write_text("\n".join(["height,weight,depth,kind", *lines]) + "\n")
    return values


def test_codes_start_as_encodings_if_there_are_enough_rows() -> None:
    write_table("table.csv", rows=40)  # 28 for training
    arguments = [*TABLE, "--overwrite"]
    for options, init in (
        ([], "kmeans"),
        (["--rows", "4", "--cols", "7"], "kmeans"),
        (["--rows", "1", "--cols", "29"], "normal"),
        (["--init", "normal"], "normal"),
        (["--preset", "published", "--network", "dense"], "normal"),
    ):
        assert main([*arguments, *options]) == 0
        assert somvae_ext.load("run").config.init == init


def predicted(path: str = "out.csv") -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_csv_is_fitted_evaluated_and_predicted_as_the_model_itself_would() -> None:
    values = write_table("table.csv")
    assert main(TABLE) == 0
    assert main(["evaluate", "run", "--split", "train"]) == 0
    evaluations = json.loads(Path("run/evaluation.json").read_text())
    assert {split: values["samples"] for split, values in evaluations.items()} == {"test": 6, "train": 28}
    assert main(["predict", "run", "table.csv", "-o", "out.csv"]) == 0
    rows = predicted()
    assert list(rows[0]) == ["index", "node", "row", "column", "distance_in_latent_space", "class"]
    assert [int(row["index"]) for row in rows] == list(range(40))

    model = somvae_ext.load("run")
    scaling = Scaling.from_dict(config_of("run")["data"]["scaling"])
    x = scaling.apply(torch.from_numpy(values.astype(np.float32)))
    node = model.assign(x)
    assert [int(row["node"]) for row in rows] == node.tolist()
    assert [(int(row["row"]), int(row["column"])) for row in rows] == [divmod(n, 3) for n in node.tolist()]
    distance = (model.encode(x) - model.quantizer.codebook[node]).double().norm(dim=1)
    # Encodings may differ in their last bits when the batch size differs.
    written = [float(row["distance_in_latent_space"]) for row in rows]
    assert written == pytest.approx(distance.tolist(), rel=1e-5, abs=1e-6)

    # The same rows get the same nodes from an array and from a table without labels.
    np.save("table.npy", values)
    np.savetxt("bare.csv", values, delimiter=",")
    for data in ("table.npy", "bare.csv"):
        assert main(["predict", "run", data, "--output", "again.csv", "--overwrite"]) == 0
        assert predicted("again.csv") == rows


def test_predictions_go_to_standard_output_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    write_table("table.csv")
    main(TABLE)
    capsys.readouterr()
    assert main(["predict", "run", "table.csv"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("index,node,row,column,distance_in_latent_space,class\n0,")
    assert printed.count("\n") == 41


def test_series_of_different_lengths_are_predicted_frame_by_frame(capsys: pytest.CaptureFixture[str]) -> None:
    Path("series").mkdir()
    lengths = [5, 3, 4, 2, 6, 1, 5, 5]
    for row, length in enumerate(lengths):
        np.save(f"series/bed-{row}.npy", np.random.default_rng(row).random((length, 2)))
    assert main(["fit", "series", *SMALL]) == 0
    printed = table(capsys.readouterr().out)
    assert "purity" not in printed  # no labels
    expected = [(f"bed-{row}", str(frame)) for row, length in enumerate(lengths) for frame in range(length)]
    assert main(["predict", "run", "series", "-o", "out.csv"]) == 0
    assert [(row["series"], row["frame"]) for row in predicted()] == expected
    assert main(["fit", "series", "--model", "som", "--size", "2x2", "--quiet", "--out", "map"]) == 0
    assert main(["predict", "map", "series", "-o", "out.csv", "--overwrite"]) == 0
    assert [(row["series"], row["frame"]) for row in predicted()] == expected


@pytest.mark.parametrize("trained_on", ["bytes.npy", "floats.npy"])
def test_images_in_bytes_and_in_floats_are_predicted_alike(trained_on: str) -> None:
    images = np.random.default_rng(0).integers(0, 200, size=(30, 6, 5), dtype=np.uint8)
    np.save("bytes.npy", images)
    np.save("floats.npy", images.astype(np.float32))
    assert main(["fit", trained_on, *SMALL]) == 0
    nodes = []
    for data in ("bytes.npy", "floats.npy"):
        assert main(["predict", "run", data, "-o", "out.csv", "--overwrite"]) == 0
        nodes.append([row["node"] for row in predicted()])
    assert nodes[0] == nodes[1]


def write_mnist(root: Path, name: str) -> None:
    """Writes 60 training and 20 test images in MNIST's format."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        images = generator.integers(0, 256, size=(count, 28, 28), dtype=np.uint8)
        header = b"".join(size.to_bytes(4, "big") for size in (2051, count, 28, 28))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = b"".join(size.to_bytes(4, "big") for size in (2049, count))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + (np.arange(count) % 10).astype(np.uint8).tobytes())


@pytest.mark.parametrize(
    ("data", "folder", "options"),
    [
        ("mnist", "MNIST", ["--revive", "--init", "kmeans", "--reconstruction", "bce"]),
        ("fashion-mnist", "FashionMNIST", ["--gradient", "copy", "--network", "unpadded-conv"]),
        (
            "mnist-series",
            "MNIST",
            ["--preset", "published", "--network", "dense", "--latent-relu", "--num-series", "6"],
        ),
    ],
)
def test_mnist_is_found_under_its_root_and_its_test_images_are_evaluated(
    data: str, folder: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_mnist(Path("images"), folder)
    arguments = ["fit", data, "--model", "somvae", "--data-root", "images", "--rows", "2", "--cols", "5"]
    assert main([*arguments, "--epochs", "1", "--threads", "1", "--device", "cpu", *options]) == 0
    printed = capsys.readouterr().out
    if data.endswith("series"):
        assert "96 frames of series of the test split on 2 x 5 nodes" in printed  # 3 series of 32 frames
    else:
        assert "20 samples of the test split on 2 x 5 nodes" in printed
        assert "ACC" in table(printed)  # ten nodes, ten classes
    assert main(["evaluate", f"runs/{data}"]) == 0
    again = table(capsys.readouterr().out)
    assert again == {name: value for name, value in table(printed).items() if name in again}


def test_series_with_noise_are_trained_by_cross_entropy_and_unscaled_data_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bce = ["--reconstruction", "bce", "--out", "run", "--overwrite"]
    assert main(["fit", "digits-series", *TINY, "--num-series", "8", *bce]) == 0
    before = contents("run")
    values = np.random.default_rng(0).random((40, 3))
    values[7] = 1e6
    np.save("outlier.npy", values)
    seed = next(seed for seed in range(100) if load("outlier.npy", seed=seed).validation.x.max() > 2)
    capsys.readouterr()
    assert main(["fit", "outlier.npy", *TINY, "--split-seed", str(seed), *bce]) == 2
    assert "validation data, scaled by the training data, must be scaled to [0, 1]" in capsys.readouterr().err
    assert contents("run") == before


def test_series_can_be_trained_without_transitions() -> None:
    arguments = ["fit", "digits-series", *TINY, "--num-series", "8", "--gamma", "0", "--tau", "0", "--out", "run"]
    assert main(arguments) == 0
    assert somvae_ext.load("run").transitions is None
    assert not Path("run/transitions.png").exists()


def test_a_resumed_run_ends_like_an_uninterrupted_one(capsys: pytest.CaptureFixture[str]) -> None:
    write_table("table.csv")
    arguments = [*TABLE, "--revive"]
    assert main([*arguments, "--epochs", "3", "--out", "whole"]) == 0
    assert main([*arguments, "--epochs", "1", "--out", "part"]) == 0
    assert main(["fit", "--resume", "part", "--epochs", "3", "--device", "cpu"]) == 0
    whole, part = (somvae_ext.load(run).state_dict() for run in ("whole", "part"))
    assert all(whole[name].equal(part[name]) for name in whole)
    capsys.readouterr()
    assert main(["fit", "--resume", "part"]) == 2
    assert "part has completed its 3 epochs; for more of them, give a larger --epochs" in capsys.readouterr().err
    assert main(["fit", "--resume", "part", "--epochs", "4", "--rows", "9"]) == 2
    assert "so --rows must not be given" in capsys.readouterr().err


def test_a_new_interpreter_resumes_with_the_bits_of_an_uninterrupted_run() -> None:
    """Starts a new interpreter because forked children would all have the same hash seed."""
    assert main([*DIGITS, "--epochs", "2", "--threads", "1", "--out", "whole"]) == 0
    assert main([*DIGITS, "--threads", "1", "--out", "part"]) == 0
    command = [sys.executable, "-m", "somvae_ext", "fit", "--resume", "part", "--epochs", "2", "--device", "cpu"]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    whole, part = (somvae_ext.load(run).state_dict() for run in ("whole", "part"))
    assert all(whole[name].equal(part[name]) for name in whole)


def test_a_map_is_trained_with_the_number_of_threads_in_the_environment() -> None:
    np.save("table.npy", np.random.default_rng(0).random((2_000, 20), dtype=np.float32))
    fit = ["fit", "table.npy", "--model", "som", "--epochs", "2", "--device", "cpu", "--out"]
    code = "import sys, torch; from somvae_ext.cli import main; print(main(sys.argv[1:]), torch.get_num_threads())"
    for number in ("1", "2"):
        environment = os.environ | {"OMP_NUM_THREADS": number}
        run = children.run("-W", "ignore", "-c", code, *fit, f"threads{number}", env=environment)
        assert run.stdout.endswith(f"\n0 {number}\n"), run.stderr
    one, two = (somvae_ext.load(run).codebook for run in ("threads1", "threads2"))
    np.testing.assert_allclose(one, two, rtol=1e-5)


def test_a_resumed_run_keeps_its_augmentation() -> None:
    bounds = {"max_shift": 1.0, "max_rotation": 10.0, "max_scale": 0.1, "max_shear": 0.2}
    options = [part for name, bound in bounds.items() for part in (f"--{name.replace('_', '-')}", str(bound))]
    assert main([*DIGITS, *options, "--out", "whole", "--epochs", "2"]) == 0
    assert main([*DIGITS, *options, "--out", "part"]) == 0
    assert main(["fit", "--resume", "part", "--epochs", "2", "--device", "cpu"]) == 0
    assert bounds.items() <= config_of("part")["training"].items()
    whole, part = (somvae_ext.load(run).state_dict() for run in ("whole", "part"))
    assert all(whole[name].equal(part[name]) for name in whole)


def test_only_images_are_augmented(capsys: pytest.CaptureFixture[str]) -> None:
    write_table("table.csv")
    assert main([*TABLE, "--max-scale", "0.1"]) == 2
    sentence = (
        "--max-scale must be 0 for table.csv, whose samples are not images [C, H, W], got 0.1 and samples of shape"
    )
    assert sentence in capsys.readouterr().err


def test_data_that_do_not_fit_a_run_are_refused_with_what_it_expects(capsys: pytest.CaptureFixture[str]) -> None:
    write_table("table.csv")
    main(TABLE)
    capsys.readouterr()
    np.save("wide.npy", np.zeros((5, 4)))
    broken = np.zeros((5, 3))
    broken[2, 1] = np.nan
    np.save("broken.npy", broken)
    np.savez("unlike.npz", x=np.zeros((5, 3)), label=np.zeros(4, dtype=int))
    for data, sentence in (
        ("wide.npy", "wide.npy: rows must have 3 features, as the training data had, got 4"),
        ("broken.npy", "got NaN in row 2, column 1"),
        ("unlike.npz", "labels must have shape [5] for x of shape [5, 3], got [4]"),
        ("nowhere.csv", "nowhere.csv: no such file or folder"),
    ):
        assert main(["predict", "run", data]) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert error.count("\n") == 1
    assert main(["predict", "run", "table.csv", "-o", "nowhere/out.csv"]) == 2
    assert "a file in a folder that exists, but nowhere does not" in capsys.readouterr().err
    Path("folder").mkdir()
    assert main(["predict", "run", "table.csv", "-o", "folder"]) == 2
    assert "--output must be a file, but folder is a folder" in capsys.readouterr().err
    assert main(["predict", "run", "folder"]) == 2
    assert "folder: must be a file, because run was trained on single samples" in capsys.readouterr().err
    write_table("table.csv", rows=30)
    assert main(["evaluate", "run"]) == 2
    assert "must be what run was trained on, but its values have changed" in capsys.readouterr().err
    Path("run/weights-2.safetensors").write_bytes(b"")
    assert main(["predict", "run", "table.csv"]) == 2
    assert "the checkpoint of epoch 1 is whole" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["value", "label"])
@pytest.mark.parametrize("command", [["evaluate", "run"], ["fit", "--resume", "run", "--epochs", "3"]])
def test_a_run_detects_that_its_data_have_changed(
    place: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_table("table.csv")
    main(TABLE)
    before = contents("run")
    capsys.readouterr()
    names, *lines = Path("table.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    cells.sort(key=lambda row: float(row[0]))
    middle = len(cells) // 2  # not an extreme value, so the scaling does not change
    if place == "value":
        cells[middle][0] = cells[middle + 1][0]
    else:
        cells[middle][-1] = "a" if cells[middle][-1] == "b" else "b"
    changed = {",".join(row) for row in cells}
    (odd,) = changed - set(lines)
    (gone,) = set(lines) - changed
    Path("table.csv").write_text("\n".join([names, *(odd if line == gone else line for line in lines)]) + "\n")
    assert main(command) == 2
    assert "must be what run was trained on, but its values have changed" in capsys.readouterr().err
    assert contents("run") == before


def test_series_of_other_images_are_not_taken_for_those_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    write_mnist(Path("images"), "MNIST")
    options = ["--num-series", "6", "--threads", "1", "--out", "run"]
    assert main(["fit", "mnist-series", *TINY, *options, "--data-root", "images"]) == 0
    path = Path("images/MNIST/raw/train-images-idx3-ubyte")
    images = bytearray(path.read_bytes())
    images[-1] ^= 1
    path.write_bytes(images)
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 2
    assert "mnist-series: must be what run was trained on" in capsys.readouterr().err


def test_columns_are_put_into_the_order_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    write_table("table.csv")
    main(TABLE)
    assert main(["predict", "run", "table.csv", "-o", "out.csv"]) == 0
    rows = [line.split(",") for line in Path("table.csv").read_text().splitlines()]
    Path("turned.csv").write_text("".join(",".join(row[::-1]) + "\n" for row in rows))
    assert main(["predict", "run", "turned.csv", "-o", "turned-out.csv"]) == 0
    assert predicted("turned-out.csv") == predicted()
    rows[0] = ["height", "weight", "width", "kind"]
    Path("other.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    capsys.readouterr()
    assert main(["predict", "run", "other.csv"]) == 2
    assert capsys.readouterr().err == (
        "somvae: other.csv: columns must be those of the training data, in any order, got a table without 'depth' and "
        "with the unknown 'width'\n"
    )


def without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def test_an_edited_config_is_refused_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    write_table("table.csv")
    main(TABLE)
    config = config_of("run")
    data, training = config["data"], config["training"]
    capsys.readouterr()
    resume, evaluate, predict = ["fit", "--resume", "run"], ["evaluate", "run"], ["predict", "run", "table.csv"]
    for command, broken, reason in (
        (resume, without(config, "training"), "but in 'training', there is nothing"),
        (
            resume,
            config | {"training": training | {"speed": 3}},
            "but in 'training', 'speed' is not known to this version",
        ),
        (
            resume,
            config | {"training": training | {"epochs": 2.5}},
            "epochs must be an integer of at least 1, got 2.5",
        ),
        (resume, config | {"threads": "all"}, "but in 'threads', it must be an integer from 1 to 4096, got 'all'"),
        (evaluate, config | {"data": without(data, "root")}, "but in 'data', 'root' is missing"),
        (evaluate, config | {"data": data | {"name": 3}}, "name must be text, got 3"),
        (predict, config | {"data": data | {"scaling": {}}}, "of 'kind', 'shift' and 'width', got nothing"),
    ):
        write_config("run", broken)
        assert main([*command, *(["--epochs", "3"] if command is resume and "epochs" not in reason else [])]) == 2
        error = capsys.readouterr().err
        assert error.startswith("somvae: run: its config must describe a ")
        assert reason in error
        assert error.count("\n") == 1


def test_an_edited_manifest_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DIGITS, "--out", "run"]) == 0
    path = Path("run/manifest.json")
    path.write_text(path.read_text().replace('"threads": ', '"threads": 1'))
    capsys.readouterr()
    for command in (["evaluate", "run"], ["plot", "run"], ["fit", "--resume", "run", "--epochs", "2"]):
        assert main(command) == 2
        assert capsys.readouterr().err == (
            "somvae: run/manifest.json must be the manifest of a trained map or model, but it is damaged: its contents "
            "do not have the SHA-256 that stands in it\n"
        )


def test_a_run_of_version_0_1_is_refused_and_can_be_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    Path("run/config.json").write_text('{"format": 1, "somvae_ext": "0.1.0"}')
    Path("run/checkpoint.pt").write_bytes(b"pickle")
    for command in (["evaluate"], ["plot"], ["sample"], ["fit", "--resume"]):
        assert main([*command, "run"]) == 2
        assert capsys.readouterr().err == (
            f"somvae: run was written by somvae_ext 0.1.0, whose folders this version, {somvae_ext.__version__}, "
            "cannot read; train again, or use version 0.1.0\n"
        )
    assert main([*DIGITS, "--out", "run", "--overwrite"]) == 0
    assert not {"config.json", "checkpoint.pt"} & contents("run").keys()


@pytest.mark.parametrize("epoch", ["1", "2"])
def test_with_a_damaged_checkpoint_training_resumes_from_the_one_before_it(
    epoch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table("table.csv")
    arguments = list(TABLE)
    assert main([*arguments, "--epochs", "3", "--out", "whole"]) == 0
    assert main(arguments) == 0
    Path("run/state-2.safetensors").write_bytes(b"")
    capsys.readouterr()
    resume = ["fit", "--resume", "run", "--epochs", "3", "--device", "cpu"]
    assert main([*resume, "--from-epoch", epoch]) == (0 if epoch == "1" else 2)
    if epoch == "2":
        assert "the checkpoint of epoch 1 is whole" in capsys.readouterr().err
    else:
        whole, part = (somvae_ext.load(run).state_dict() for run in ("whole", "run"))
        assert all(whole[name].equal(part[name]) for name in whole)
        assert [record["epoch"] for record in ResultFolder.open("run").load_log("metrics")] == [1, 2, 3]


@pytest.mark.parametrize("overwrite", [False, True])
def test_after_an_interruption_only_saved_epochs_are_reported(
    overwrite: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table("table.csv")
    arguments = list(TABLE)
    if overwrite:
        assert main(arguments) == 0
        arguments.append("--overwrite")
    steps = iter(range(100))
    last = 0
    loss = SOMVAE.loss

    def interrupted(self: SOMVAE, *inputs: Any, **fields: Any) -> Any:
        if self.training and next(steps) >= last:
            raise KeyboardInterrupt
        return loss(self, *inputs, **fields)

    monkeypatch.setattr(SOMVAE, "loss", interrupted)
    capsys.readouterr()
    assert main(arguments) == 130
    assert capsys.readouterr().err == "somvae: interrupted before an epoch was complete\n"
    last = next(steps) + 2  # the second step from now; 28 rows make one step per epoch
    assert main([*arguments, "--overwrite"]) == 130
    assert "run keeps the last complete epoch, and somvae fit --resume run goes on" in capsys.readouterr().err
    monkeypatch.setattr(SOMVAE, "loss", loss)
    assert main(["fit", "--resume", "run", "--device", "cpu"]) == 0


def test_info_says_what_this_installation_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    printed = table(capsys.readouterr().out)
    assert printed["somvae_ext"] == somvae_ext.__version__
    assert printed["torch"].startswith(torch.__version__.partition("+")[0])
    assert {"python", "compiled library", "cuda", "simd"} <= printed.keys()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "digits", "--rowz", "3"], "unknown option --rowz; did you mean --rows?"),
        (["fit", "digits", "--learning_rate=1"], "unknown option --learning_rate; did you mean --learning-rate?"),
        (["fit", "digits", "--zzzzz"], "unknown option --zzzzz"),
        (["fit", "digits", "--rows", "many"], "--rows must be an integer, got 'many'"),
        (["fit", "digits", "--learning-rate", "fast"], "--learning-rate must be a number, got 'fast'"),
        (["fit", "digits", "--rows", "0"], "--rows must be an integer of at least 1, got 0"),
        (["fit", "digits", "--alpha", "-1"], "--alpha must be a finite number of at least 0, got -1.0"),
        (["fit", "digits", "--threads", "0"], "--threads must be at least 1, got 0"),
        (["fit", "digits", "--epochs", "0"], "--epochs must be an integer of at least 1, got 0"),
        (["fit", "digits", "--topology", "hexagonal", "--periodic", "--rows", "3"], "--rows must be even"),
        (
            ["fit", "cifar"],
            "cifar: neither a file or folder nor the name of a data set; known are digits, mnist",
        ),
        (["fit", "mnits"], "did you mean mnist?"),
        (["fit", "mnist"], "set --data-root FOLDER to the one that holds MNIST/raw, or --download"),
        (["fit", "nowhere.csv"], "nowhere.csv: no such file or folder"),
        (
            ["fit", "digits", "--tau", "1"],
            "--gamma and --tau must be 0 for digits, whose samples have no order in time",
        ),
        (["fit", "digits", "--gradient", "sum"], "did you mean som?"),
        (["fit", "digits", "--preset", "publishd"], "did you mean published?"),
        (["fit", "digits", "--kind", "series"], "--kind is for one's own files, not for digits"),
        (["fit", "digits", "--label-column", "y"], "--label-column is for one's own files, not for digits"),
        (
            ["fit", "digits", "--num-series", "3"],
            "--num-series is for digits-series, mnist-series, fashion-mnist-series, lorenz, got digits",
        ),
        (["fit", "digits-series", "--gamma", "-1"], "--gamma must be a finite number of at least 0, got -1.0"),
        (["fit", "digits-series", "--num-series", "0"], "--num-series must be at least 1, got 0"),
        (["fit", "digits", "--network", "identity", "--reconstruction", "bce"], "--reconstruction must be 'mse'"),
        (["fit"], "DATA is missing"),
        (["fit", "digits", "extra"], "unexpected argument 'extra'"),
        (
            ["fit", "digits", "--from-epoch", "1"],
            "--from-epoch is for --resume of a single training, without --best-of",
        ),
        (["fit", "--resume", "nowhere"], NO_RESULT),
        (["evaluate"], "RUN is missing"),
        (["evaluate", "nowhere"], NO_RESULT),
        (["evaluate", "run", "--splt", "test"], "unknown option --splt; did you mean --split?"),
        (["predict", "run"], "DATA is missing"),
        (["predict", "nowhere", "x.npy"], NO_RESULT),
        (["evalute"], "did you mean evaluate?"),
        (["fit", "digits", "--config", "nowhere.yaml"], "File does not exist"),
        (
            ["train"],
            "unknown command 'train'; known are bench, cluster, evaluate, experiment, export, fit, info, plot, "
            "predict, report, sample, tune",
        ),
        (
            [],
            "the command is missing; known are bench, cluster, evaluate, experiment, export, fit, info, plot, pre",
        ),
        (
            ["fit", "digits", "--topology", "hexa"],
            "--topology must be rectangular or hexagonal, got 'hexa'; did you mean hexa",
        ),
        (["fit", "digits", "--rows"], "--rows needs a value, got none"),
        (["predict", "run", "x.npy", "-o"], "-o/--output needs a value, got none"),
        (["fit", "digits", "--split-seed", "-1"], "--split-seed must be an integer from 0 to 4294967295, got -1"),
        (["fit", "digits", "--max-shift", "-1"], "--max-shift must be a finite number of at least 0, got -1.0"),
        (["fit", "digits", "--max-rotation", "181"], "--max-rotation must be a finite number from 0 to 180, got 181.0"),
        (
            ["fit", "digits", "--max-scale", "1"],
            "--max-scale must be a finite number of at least 0 and below 1, got 1.0",
        ),
        (["fit", "digits", "--max-shear", "-0.5"], "--max-shear must be a finite number of at least 0, got -0.5"),
        (["fit", "digits", "--seed", "9" * 30], "--seed must be an integer from 0 to 4294967295, got 999"),
        (
            ["fit", "digits", "--init", "kmeans", "--rows", "50", "--cols", "50"],
            "--init kmeans needs a training row for each of the 2500 codes, got 1257; choose smaller --rows and",
        ),
    ],
)
def test_invalid_arguments_are_refused_with_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("somvae: ")
    assert printed.err.count("\n") == 1
    assert sentence in printed.err


def test_a_training_that_diverges_ends_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DIGITS, "--learning-rate", "1e30", "--epochs", "3", "--quiet"]) == 2
    printed = capsys.readouterr()
    assert printed.out.startswith("data     digits: gray images of 8 x 8 pixels\n")
    assert printed.err.startswith("somvae: ")
    assert "so training stopped" in printed.err
    assert printed.err.count("\n") == 1


def test_a_user_error_ends_the_process_with_code_2_and_no_traceback() -> None:
    run = python("-m", "somvae_ext", "fit", "digits", "--rows", "many")
    assert (run.returncode, run.stdout, run.stderr) == (2, "", "somvae: --rows must be an integer, got 'many'\n")


@pytest.mark.parametrize("module", ["bokeh", "jinja2"])
def test_a_report_names_the_extra_that_it_needs_before_it_looks_at_the_run(module: str) -> None:
    run = python_without([module], COMMAND, "report", "nowhere")
    assert (run.returncode, run.stdout) == (2, "")
    sentence = f"a page needs {module}, which is not installed; run: pip install 'somvae_ext[report]'"
    assert run.stderr == f"somvae: {sentence}\n"


def test_importing_the_package_loads_no_extra() -> None:
    # tqdm is not in the list, because torch.hub imports it if it is installed.
    code = """
import sys, somvae_ext, somvae_ext.nn, somvae_ext.models, somvae_ext.data, somvae_ext.evaluation, somvae_ext.cli
extras = ("bokeh", "jinja2", "jsonargparse", "lightning_fabric", "matplotlib", "sklearn")
print([name for name in extras if name in sys.modules])
"""
    assert python("-c", code, imported=children.TORCH).stdout == "[]\n"
