"""Tests of the facts about a result in ``somvae info`` and in the first table of a report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import somvae_ext
from somvae_ext import data
from somvae_ext.cli import main
from somvae_ext.data.rows import load_rows
from somvae_ext.report.result_info import describe_result
from somvae_ext.store import ResultFolder

SMALL = ["--epochs", "1", "--quiet"]
MODEL = [*SMALL, "--device", "cpu", "--latent-dim", "4"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    yield
    torch.set_num_threads(threads)  # training changes the number for the whole process


def facts_of(*arguments: str) -> dict[str, str]:
    """Trains with these arguments and returns the description of the result."""
    assert main(["fit", *arguments, "--out", "run"]) == 0
    return describe_result(ResultFolder.open("run"))


@pytest.mark.parametrize(
    ("model", "options"),
    [("som", ["--model", "som", *SMALL]), ("somvae", MODEL)],
)
def test_a_periodic_map_is_described_as_periodic_everywhere(model: str, options: list[str]) -> None:
    facts = facts_of("digits", "--rows", "2", "--cols", "3", "--periodic", *options)
    assert facts["model"] == f"{model}, 2 x 3 nodes, rectangular, periodic"
    shown = somvae_ext.load("run")._repr_html_()
    assert "2 x 3 nodes, rectangular, periodic" in (shown if isinstance(shown, str) else shown())


@pytest.mark.parametrize("options", [["--model", "som", *SMALL], MODEL], ids=["map", "model"])
def test_images_are_described_as_images_for_maps_and_models(options: list[str]) -> None:
    assert facts_of("digits", "--rows", "2", "--cols", "3", *options)["features"] == "images 1 x 8 x 8"


# ---- gaps ------------------------------------------------------------------------------------------------------------

GAPS = {(1, 0), (4, 0), (4, 2), (9, 2)}  # (row, column)
LEFT_OUT = "4 of 90 values in 2 columns: left out of distances and means (missing='ignore')"
ROWS_LEFT_OUT = "4 of 90 values in 2 columns: rows with gaps left out (missing='drop')"
FILLED = "4 of 90 values in 2 columns: filled with the means of their columns in the training data (missing='mean')"


def write_gaps(name: str) -> str:
    """Writes 30 rows of 3 features with four gaps as a file of this name, or as a folder of six series."""
    x = np.random.default_rng(0).normal(size=(30, 3))
    x[tuple(zip(*GAPS, strict=True))] = np.nan
    lines = [",".join("" if np.isnan(value) else repr(float(value)) for value in row) for row in x]
    if name.endswith(".csv"):
        Path(name).write_text("\n".join(["a,b,c", *lines]) + "\n")
    elif name.endswith(".parquet"):
        import pandas as pd

        pd.DataFrame(x, columns=list("abc")).to_parquet(name)
    elif name.endswith(".npy"):
        np.save(name, x)
    else:
        Path(name).mkdir()
        for at, part in enumerate((lines[:3], lines[3:10], *(lines[start : start + 5] for start in range(10, 30, 5)))):
            Path(name, f"{at}.csv").write_text("\n".join(["a,b,c", *part]) + "\n")
    return name


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.npy", "series"])
def test_the_description_of_map_data_counts_gaps_and_says_how_they_were_handled(name: str) -> None:
    write_gaps(name)
    for missing, text in ("ignore", LEFT_OUT), ("mean", FILLED), ("drop", ROWS_LEFT_OUT):
        if missing == "drop" and name == "series":
            continue
        rows, _ = load_rows(name, missing=missing)
        assert rows.description["gaps"] == text


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.npy", "series"])
def test_the_description_of_model_data_counts_gaps_and_says_how_they_were_handled(name: str) -> None:
    write_gaps(name)
    assert data.load(name, missing="mean").description["gaps"] == FILLED
    if name != "series":
        assert data.load(name, missing="drop").description["gaps"] == ROWS_LEFT_OUT


def test_data_without_gaps_say_so_if_gaps_were_allowed() -> None:
    np.save("x.npy", np.random.default_rng(0).normal(size=(30, 3)))
    for missing in ("ignore", "mean", "drop"):
        assert load_rows("x.npy", missing=missing)[0].description["gaps"] == "none"
    assert data.load("x.npy", missing="mean").description["gaps"] == "none"
    assert "gaps" not in load_rows("x.npy")[0].description


@pytest.mark.parametrize("options", [["--model", "som", *SMALL], MODEL], ids=["map", "model"])
def test_one_hot_columns_and_missing_values_are_described(options: list[str]) -> None:
    Path("x.csv").write_text("a,b,color\n" + "".join(f"{n},{n * n},{'rg'[n % 2]}\n" for n in range(1, 30)) + "3,,r\n")
    facts = facts_of("x.csv", "--one-hot", "color", "--missing", "mean", "--rows", "2", "--cols", "3", *options)
    assert facts["one-hot columns"] == "color"
    assert facts["missing values"] == "filled with the means of their columns in the training data"
