"""Messages of the library are rephrased in terms of the command's options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from somvae_ext.cli import main
from somvae_ext.cli.wording import rephrase_for_command

# Names of options and their values from a parser; bools are flags.
OPTIONS = {
    "rows": None,
    "cols": None,
    "epochs": None,
    "seed": None,
    "split_seed": None,
    "topographic_error": False,
    "algorithm": None,
    "neighborhood": None,
    "batch_size": None,
    "sigma_initial": None,
    "sigma_final": None,
    "warm_up_epochs": None,
    "relabel_after": None,
    "tol": None,
    "beta": None,
    "gamma": None,
    "objective": None,
    "network": None,
    "latent_relu": False,
    "neighbors_only": False,
    "latent_dim": None,
    "label_column": None,
    "data_root": None,
    "download": False,
    "image_size": None,
    "overwrite": False,
    "drop": None,
    "out": None,
    "split": None,
    "decimal": None,
    "thousands": None,
    "na": None,
    "missing": None,
    "header": None,
    "columns": None,
    "device": None,
    "kind": None,
    "data": None,
}


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        # The owner is dropped, and parameters become options.
        ("SOM: n_epochs must be an integer of at least 1, got 0", "--epochs must be an integer of at least 1, got 0"),
        ("Grid: rows must be a positive integer, got 0", "--rows must be a positive integer, got 0"),
        (
            "Grid: rows * cols must be at most 9 nodes, got 4 * 4",
            "--rows * --cols must be at most 9 nodes, got 4 * 4",
        ),
        ("TrainingConfig: batch_size must be at least 1, got 0", "--batch-size must be at least 1, got 0"),
        ("load: seed must be an integer, got -1", "--split-seed must be an integer, got -1"),
        ("SOM: random_state must be an integer, got -1", "--seed must be an integer, got -1"),
        (
            "SOMVAEConfig: sigma_initial must be at least sigma_final, 0.7, got 0.5",
            "--sigma-initial must be at least --sigma-final, 0.7, got 0.5",
        ),
        (
            "SOMVAEConfig: relabel_after must be above warm_up_epochs = 3, before which there are no codes, got 2",
            "--relabel-after must be above --warm-up-epochs 3, before which there are no codes, got 2",
        ),
        (
            "GumbelVAEConfig: objective must be 'dupont' or 'entropy-capacity' for gamma to mean anything, got 3.0",
            "--objective must be 'dupont' or 'entropy-capacity' for --gamma to mean anything, got 3.0",
        ),
        (
            "SOMVAEConfig: latent_dim must be the size of a sample for network 'identity', 64, got 8",
            "--latent-dim must be the size of a sample for --network identity, 64, got 8",
        ),
        (
            "fit: the loss is nan at step 3 (epoch 1), so training stopped",
            "the loss is nan at step 3 (epoch 1), so training stopped",
        ),
        # None, False and True are not typed in a shell.
        (
            "SOM: tol must be None or a share from 0 to below 1, got 2.0",
            "--tol must be a share from 0 to below 1, got 2.0",
        ),
        (
            "SOMVAEConfig: sigma_final must be a finite number above 0, or None, got -1.0",
            "--sigma-final must be a finite number above 0, got -1.0",
        ),
        (
            "digits-series: image_size is for still images, so it must be None for series, got 8",
            "digits-series: --image-size is for still images, so it must not be given for series, got 8",
        ),
        (
            "SOM: track_topographic_error must be False for a map of one node, got True",
            "--topographic-error must not be given for a map of one node",
        ),
        (
            "SOMVAEConfig: latent_relu must be False for network 'conv', got True",
            "--latent-relu must not be given for --network conv",
        ),
        (
            "SOMVAEConfig: neighbors_only must be False for beta 0, which leaves no SOM loss, got True",
            "--neighbors-only must not be given for --beta 0, which leaves no SOM loss",
        ),
        # Advice in the form name=value.
        (
            "SOM: neighborhood must not be 'mexican_hat' with algorithm='batch', because a mean has no negative "
            "weights; take algorithm='minibatch'",
            "--neighborhood must not be 'mexican_hat' with --algorithm batch, because a mean has no negative weights; "
            "take --algorithm minibatch",
        ),
        (
            "flowers.csv: column 'date' must hold numbers, got 'May'; leave it out with drop=['date'], or set "
            "missing='ignore'",
            "flowers.csv: column 'date' must hold numbers, got 'May'; leave it out with --drop date, or set --missing "
            "ignore",
        ),
        ("x.csv: got text; give drop=['order id', \"it's\"]", "x.csv: got text; give --drop 'order id' 'it'\"'\"'s'"),
        ("x.csv: take na='-9999'", "x.csv: take --na -9999"),
        (
            "x.csv: the first line is unclear; give header=True or header=False",
            "x.csv: the first line is unclear; give --header yes or --header no",
        ),
        (
            "runs/x is not empty; choose another folder, or set overwrite",
            "runs/x is not empty; choose another folder, or set --overwrite",
        ),
        (
            "runs/x is not empty; choose another folder, or overwrite=True",
            "runs/x is not empty; choose another folder, or --overwrite",
        ),
        (
            "SOM: sigma_initial must be above 0; give sigma_initial=2.5",
            "--sigma-initial must be above 0; give --sigma-initial 2.5",
        ),
        # Names of files stay, and so do rows and columns of files.
        (
            "flowers.csv: label_column must be one of its columns height, rows, got 'sort'",
            "flowers.csv: --label-column must be one of its columns height, rows, got 'sort'",
        ),
        ("table.npy: rows must have 3 features, got 4", "table.npy: rows must have 3 features, got 4"),
        (
            "a.csv: columns must have different names, got 'x' 2 times",
            "a.csv: columns must have different names, got 'x' 2 times",
        ),
        (
            "mnist was not found in data; set root='FOLDER' to the one that holds MNIST/raw, or download=True",
            "mnist was not found in data; set --data-root FOLDER to the one that holds MNIST/raw, or --download",
        ),
        (
            "series: a folder holds series, so kind must be 'series', got 'static'",
            "series: a folder holds series, so --kind must be 'series', got 'static'",
        ),
        (
            "VAEConfig: height and width of input_shape must be multiples of 16, got (1, 20, 20)",
            "height and width of the images must be multiples of 16, got (1, 20, 20)",
        ),
        ("own.npz: labels of the training data must count", "own.npz: labels of the training data must count"),
        (
            "a.npz: must hold 'x', got 'target' too; leave out 'target'",
            "a.npz: must hold 'x', got 'target' too; leave out 'target'",
        ),
        ("a.csv: drop 'date' or use split 'holdout'", "a.csv: drop 'date' or use --split holdout"),
        ("a.csv: columns must hold numbers, got 'x'", "a.csv: columns must hold numbers, got 'x'"),
        (
            "a.csv: columns must be those of the training data, in any order",
            "a.csv: columns must be those of the training data, in any order",
        ),
        # "columns" is the option here, not the columns of the file.
        ("a.csv: columns must name features, got 'y'", "a.csv: --columns must name features, got 'y'"),
        (
            "a.csv: columns must be one of its columns x, rows, got 'y'",
            "a.csv: --columns must be one of its columns x, rows, got 'y'",
        ),
        (
            "a.npy: columns must not be set for a .npy file, whose columns have no names, got 'y'",
            "a.npy: --columns must not be set for a .npy file, whose columns have no names, got 'y'",
        ),
        (
            "TableFormat: thousands must differ from decimal, got ',' twice",
            "--thousands must differ from --decimal, got ',' twice",
        ),
        (
            "TableFormat: a column must have one use, got 'Wert' in columns and drop",
            "a column must have one use, got 'Wert' in --columns and --drop",
        ),
        (
            "TableFormat: a column must have one use, got 'in x' in label_column and columns",
            "a column must have one use, got 'in x' in --label-column and --columns",
        ),
        # Parameters without an option stay, and so do messages about the contents of a folder.
        ("SOM: patience must be an integer, got 0", "patience must be an integer, got 0"),
        (
            "run: its config must describe a training, but in 'training', TrainingConfig: epochs must be an integer",
            "run: its config must describe a training, but in 'training', epochs must be an integer",
        ),
    ],
)
def test_messages_are_rephrased_in_terms_of_options(sentence: str, expected: str) -> None:
    assert rephrase_for_command(sentence, OPTIONS) == expected


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"model": None}, "--missing drop or --missing mean"),
        ({"model": "vae"}, "--missing drop or --missing mean"),
        ({"model": "som"}, "--missing drop, --missing mean or, for a map, --missing ignore"),
    ],
)
def test_only_for_maps_ignoring_missing_values_is_suggested(options: dict[str, str | None], advice: str) -> None:
    sentence = "a.csv: got NaN; fill the gap, or set missing='drop', missing='mean' or, for a map, missing='ignore'"
    assert rephrase_for_command(sentence, OPTIONS | options) == f"a.csv: got NaN; fill the gap, or set {advice}"


MAP = ["table.csv", "--model", "som"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([*MAP, "--epochs", "0"], "--epochs must be an integer of at least 1, got 0"),
        ([*MAP, "--rows", "0"], "--rows must be a positive integer, got 0"),
        ([*MAP, "--sigma-final", "0"], "--sigma-final must be a finite number above 0, got 0.0"),
        ([*MAP, "--tol", "2"], "--tol must be a share from 0 to below 1, got 2.0"),
        ([*MAP, "--patience", "0"], "--patience must be an integer of at least 1, got 0"),
        ([*MAP, "--metric", "minkowski", "--p", "0.5"], "--p must be from 1 to 64, got 0.5; 'chebyshev' is its limit"),
        (
            [*MAP, "--neighborhood", "mexican_hat"],
            "--neighborhood must not be 'mexican_hat' with --algorithm batch, because a mean has no negative weights; "
            "take --algorithm minibatch",
        ),
        (
            [*MAP, "--topographic-error", "--algorithm", "minibatch"],
            "--topographic-error must not be given with --algorithm minibatch",
        ),
        (
            [*MAP, "--rows", "1", "--cols", "1", "--topographic-error"],
            "--topographic-error must not be given for a map of one node",
        ),
        (
            [*MAP, "--periodic", "--topology", "hexagonal", "--rows", "3"],
            "--rows must be even for a periodic hexagonal grid (its rows are shifted by turns), got 3",
        ),
        (["digits", "--rows", "0"], "--rows must be an integer of at least 1, got 0"),
        (["digits", "--batch-size", "0"], "--batch-size must be an integer of at least 1, got 0"),
        (["digits", "--epochs", "0"], "--epochs must be an integer of at least 1, got 0"),
        (["digits", "--alpha", "-1"], "--alpha must be a finite number of at least 0, got -1.0"),
        (["digits", "--latent-dim", "0"], "--latent-dim must be an integer of at least 1, got 0"),
        (["digits", "--hidden-sizes", "0"], "--hidden-sizes must hold sizes of at least 1, got [0]"),
        (["digits", "--warm-up-epochs", "-1"], "--warm-up-epochs must be an integer of at least 0, got -1"),
        (["digits", "--max-grad-norm", "-1"], "--max-grad-norm must be a finite number of at least 0, got -1.0"),
        (["digits", "--image-size", "0"], "--image-size must be an integer of at least 1, got 0"),
        (["digits", "--fold", "10"], "--fold must be an integer from 0 to 9, got 10"),
        (["digits", "--augmented-target"], "--augmented-target must not be given where images are left as they are"),
        (["digits", "--network", "conv", "--latent-relu"], "--latent-relu must not be given for --network conv"),
        (
            ["digits", "--network", "identity", "--reconstruction", "bce"],
            "--reconstruction must be 'mse' for --network identity, got 'bce'",
        ),
        (
            ["digits", "--network", "identity", "--warm-up-epochs", "2"],
            "--network must not be 'identity' for --warm-up-epochs to mean anything, got 2",
        ),
        (
            ["digits", "--gradient", "copy", "--warm-up-epochs", "2"],
            "--gradient must be 'som' for --warm-up-epochs to mean anything, got 2",
        ),
        (
            ["digits", "--neighbors-only", "--beta", "0"],
            "--neighbors-only must not be given for --beta 0, which leaves no SOM loss",
        ),
        (
            ["digits", "--transition-radius", "3"],
            "--transitions must be 'local' for a --transition-radius to mean anything, got 'dense' and 3",
        ),
        (
            ["digits", "--relabel-after", "3", "--warm-up-epochs", "5"],
            "--relabel-after must be above --warm-up-epochs 5, before which there are no codes, got 3",
        ),
        (
            ["digits", "--codebook-update", "ema", "--sigma-initial", "0.1", "--sigma-final", "2"],
            "--sigma-initial must be at least --sigma-final, 2.0, got 0.1",
        ),
        (
            ["digits", "--codebook-update", "ema", "--decay", "1"],
            "--decay must be a finite number of at least 0 and below 1, got 1.0",
        ),
        (
            ["digits", "--periodic", "--topology", "hexagonal", "--rows", "3"],
            "--rows must be even for a periodic hexagonal grid (its rows are shifted by turns), got 3",
        ),
        (["digits", "--model", "vqvae", "--num-codes", "0"], "--num-codes must be an integer of at least 1, got 0"),
        (
            ["digits", "--model", "vqvae", "--decay", "0.5"],
            "--codebook-update must be 'ema' for --decay to mean anything, got 0.5",
        ),
        (
            ["digits", "--model", "gumbel-vae", "--gamma", "3"],
            "--objective must be 'dupont' or 'entropy-capacity' for --gamma to mean anything, got 3.0",
        ),
        (
            ["digits", "--model", "gumbel-vae", "--temperature", "0"],
            "--temperature must be a finite number above 0, got 0.0",
        ),
        (["digits", "--model", "moe-vae", "--std", "0"], "--std must be a finite number above 0, got 0.0"),
        (
            ["odd.npy", "--model", "vae", "--network", "conv"],
            "height and width of the images must be multiples of 16 (strided convolutions halve them four times), got "
            "(1, 20, 20); bring images to another size, such as --image-size 32",
        ),
        (
            ["odd.npy", "--model", "vae", "--network", "conv", "--image-size", "16", "--hidden-sizes", "3", "4"],
            "--hidden-sizes must be one width for --network conv, got [3, 4]",
        ),
        (
            ["digits-series", "--image-size", "8"],
            "digits-series: --image-size is for still images, so it must not be given for series, got 8",
        ),
        (["digits-series", "--split", "all"], "digits-series: --split must be 'holdout' for series, got 'all'"),
        (
            ["table.csv", "--split", "folds"],
            "table.csv: --split folds needs labels, because every fold has the classes in the same proportion, got "
            "none; say where they are, or use --split holdout",
        ),
        (["full.csv", "--out", "full"], "full is not empty; choose another folder, or set --overwrite"),
    ],
)
def test_errors_of_fit_are_phrased_in_terms_of_options(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{row % 7},{row % 5 + 0.5}" for row in range(60)]
    for name in ("table.csv", "full.csv"):
        Path(name).write_text("\n".join(["height,weight", *lines]) + "\n")
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    np.save("odd.npy", np.random.default_rng(0).random((40, 20, 20)))
    before = sorted(Path().rglob("*"))
    assert main(["fit", *arguments]) == 2
    said = capsys.readouterr().err.replace(f"{Path().resolve()}/", "")
    assert said == f"somvae: {sentence}\n"
    assert sorted(Path().rglob("*")) == before
