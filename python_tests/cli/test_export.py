"""``somvae export``: codes with the names and units of the data, and the scaling needed to find nodes with them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import somvae_ext
from somvae_ext.cli import main

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def in_a_folder_with_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x = RNG.normal(size=(300, 3)) * [1e-3, 1, 1e4] + [0, 50, -2e4]
    frame = pd.DataFrame(x, columns=["row", "width", "price"]).assign(constant=7.0, kind=np.arange(300) % 2)
    frame.to_csv("table.csv", index=False)


def fit_map(*options: str) -> None:
    small = ["--rows", "5", "--cols", "6", "--epochs", "4", "--out", "run", "--quiet"]
    assert main(["fit", "table.csv", "--model", "som", "--label-column", "kind", *small, *options]) == 0


def export(what: str, output: str = "out.csv") -> pd.DataFrame:
    assert main(["export", "run", what, "-o", output, "--overwrite"]) == 0
    return pd.read_parquet(output) if output.endswith(".parquet") else pd.read_csv(output)


@pytest.mark.parametrize("scaling", ["standard", "minmax", "none"])
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_pandas_finds_the_same_nodes_as_predict(scaling: str, ending: str) -> None:
    fit_map("--scaling", scaling)
    codes, how = export("--codes", f"codes{ending}"), export("--scaling", f"scaling{ending}")
    assert main(["predict", "run", "table.csv", "-o", "nodes.csv"]) == 0
    predicted = pd.read_csv("nodes.csv")
    features = how["feature"].tolist()
    assert features == ["row", "width", "price", "constant"]
    divisor = how["divide_by"].to_numpy()
    rows = pd.read_csv("table.csv")[features].to_numpy() / divisor
    distance = np.sqrt(((rows[:, None] - codes[features].to_numpy() / divisor) ** 2).sum(axis=2))
    nearest = distance.argmin(axis=1)
    # The map is trained in float32, so rounding decides between two codes at nearly the same distance from a row.
    at_winner = distance[np.arange(300), predicted["node"]]
    rounding = 2**-23 * np.abs(rows).max()
    assert (at_winner - distance.min(axis=1) <= 8 * rounding).all()
    assert (nearest == predicted["node"]).mean() > 0.98
    np.testing.assert_allclose(at_winner, predicted.filter(like="distance").iloc[:, 0], atol=8 * rounding)


def test_codes_are_exported_with_the_facts_about_their_nodes() -> None:
    fit_map()
    codes = export("--codes")
    # A feature called "row" keeps its name.
    assert list(codes) == ["node", "of_node_row", "column", "hits", "class", "row", "width", "price", "constant"]
    saved: Any = somvae_ext.load("run")
    assert codes["hits"].tolist() == saved.hits.tolist()
    assert codes[["of_node_row", "column"]].to_numpy().tolist() == [list(divmod(node, 6)) for node in range(30)]
    np.testing.assert_array_equal(codes[["row", "width", "price", "constant"]], saved.codebook)
    assert set(codes["class"].dropna()) <= {0, 1}


def test_codes_of_a_model_are_decoded_into_the_units_of_the_data() -> None:
    small = ["--rows", "2", "--cols", "3", "--epochs", "1", "--hidden-sizes", "8", "--latent-dim", "4"]
    assert main(["fit", "table.csv", "--label-column", "kind", *small, "--out", "run", "--quiet"]) == 0
    codes, latent, how = export("--codes"), export("--latent-codes"), export("--scaling")
    model: Any = somvae_ext.load("run")
    codebook = model.quantizer.codebook.detach()
    np.testing.assert_array_equal(latent[["z0", "z1", "z2", "z3"]].to_numpy(dtype=np.float32), codebook.numpy())
    with torch.no_grad():
        decoded = model.eval().decode(codebook).double().numpy()
    expected = decoded * how["divide_by"].to_numpy() + how["subtract"].to_numpy()
    expected[:, 3] = 7  # a constant feature decodes to its constant
    np.testing.assert_allclose(codes[["row", "width", "price", "constant"]], expected, rtol=1e-6)


def test_codes_go_to_standard_output_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    fit_map()
    capsys.readouterr()
    assert main(["export", "run", "--codes"]) == 0
    assert len(pd.read_csv(io.StringIO(capsys.readouterr().out))) == 30


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "export takes one of --codes, --latent-codes and --scaling, got none"),
        (["--codes", "--scaling"], "got --codes and --scaling"),
        (["--latent-codes"], "--latent-codes is for models, but run holds a map; choose --codes"),
        (["--codes", "-o", "table.csv"], "table.csv is there already; choose another --output, or set --overwrite"),
        (["--codes", "-o", "codes.txt"], "--output must end with .csv or .parquet, got codes.txt"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fit_map()
    capsys.readouterr()
    assert main(["export", "run", *options]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_a_model_without_codes_has_none_to_export(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--model", "gumbel-vae", "--epochs", "1", "--hidden-sizes", "8", "--out", "run", "--quiet"]
    assert main(["fit", "table.csv", *small]) == 0
    capsys.readouterr()
    assert main(["export", "run", "--codes"]) == 2
    assert "is for results with one code for each sample, but run holds a gumbel-vae" in capsys.readouterr().err
