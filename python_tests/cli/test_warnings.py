"""The warnings of ``somvae fit`` about maps and models that the user hardly wanted, and cases without a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import datasets

from somvae_ext.cli import fit_model, main
from somvae_ext.cli.fit_model import _warn_of_collapse
from somvae_ext.models import MODELS

MAP = ["--model", "som", "--quiet", "--overwrite", "--out", "map"]
NAMES = ["digits", "wine", "iris", "breast_cancer", "diabetes"]


def fit(*options: str) -> int:
    return main(["fit", "table.csv", *MAP, *options])


def write(name: str) -> int:
    """Writes a data set of scikit-learn as a table and returns its number of rows."""
    frame = getattr(datasets, f"load_{name}")(as_frame=True).data
    frame.to_csv("table.csv", index=False)
    return len(frame)


@pytest.mark.parametrize("name", NAMES)
def test_data_sets_of_scikit_learn_cause_no_warning(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(name)
    assert fit("--size", "auto", "--epochs", "5") == 0
    assert capsys.readouterr().err == ""


def test_more_nodes_than_rows_cause_a_warning_before_the_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write("wine")
    assert fit("--size", "1x178", "--epochs", "1") == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("somvae_ext.cli.fit_map._train", interrupt)
    assert fit("--size", "10x20", "--epochs", "1") == 130
    assert capsys.readouterr().err.splitlines()[0] == (
        f"somvae: the map has 200 nodes for {rows} rows, so some nodes win none; --size auto would take 7 x 9"
    )


def interrupt(*arguments: Any, **options: Any) -> Any:
    raise KeyboardInterrupt


def test_a_collapsed_map_causes_a_warning_after_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    write("wine")
    assert fit("--rows", "10", "--cols", "10", "--sigma-initial", "10", "--sigma-final", "10") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("somvae: the map has collapsed: its rows are spread as over ")
    assert line.endswith(
        "; try a smaller --sigma-final, more --epochs or another --init, and look at --scaling and for outliers"
    )


def test_an_id_in_an_array_causes_a_warning_but_no_line_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    np.save("rows.npy", np.column_stack([np.arange(60), x]))
    assert main(["fit", "rows.npy", *MAP, "--size", "2x3", "--epochs", "1"]) == 0
    printed = capsys.readouterr()
    assert printed.err == (
        "somvae: column 0 numbers the rows and is trained on; if it is no feature, remove that from the array\n"
    )
    assert "numbers the rows" not in printed.out


def test_ids_cause_a_warning_for_models_as_for_maps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(0).normal(size=(60, 2)).round(3).tolist()
    Path("table.csv").write_text(
        "a,b,visit_id\n" + "".join(f"{a},{b},{7 * row % 61}\n" for row, (a, b) in enumerate(x))
    )
    monkeypatch.setattr(fit_model, "_train", interrupt)
    assert main(["fit", "table.csv", "--rows", "2", "--cols", "2", "--device", "cpu", "--quiet"]) == 130
    assert capsys.readouterr().err.splitlines()[0] == (
        "somvae: column visit_id looks like an id and is trained on; if it is no feature, set --id-column visit_id or "
        "--drop visit_id"
    )


def test_warnings_of_the_library_are_in_the_words_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("rows.npy", np.random.default_rng(0).normal(size=(60, 2)))
    options = ["--preset", "ordered", "--rows", "2", "--cols", "2", "--epochs", "1", "--sigma-steps", "500"]
    assert main(["fit", "rows.npy", *options, "--device", "cpu", "--quiet", "--out", "run"]) == 0
    assert capsys.readouterr().err.splitlines()[0] == (
        "somvae: --sigma-steps should be below the steps of the training, 2, so that the neighborhood reaches its "
        "final width; it is 500, and nodes are still averaged over a width of 1.99 instead of 0.7"
    )


def test_a_warning_about_the_data_names_their_columns(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("rows.npy", (2.0**31 + np.arange(120).reshape(60, 2) % 7 * 512).astype(np.float32))
    assert main(["fit", "rows.npy", *MAP, "--size", "2x3", "--epochs", "1", "--scaling", "none"]) == 0
    assert capsys.readouterr().err == (
        "somvae: the data should hold values that differ by many steps of float32, got column 0, and 1 more columns, "
        "whose values are multiples of 256 there; subtract an offset, or give float64\n"
    )


class Clustering:
    """A stand-in for a model that assigns each sample to one of 16 clusters."""

    num_clusters = 16


@pytest.mark.parametrize(
    ("evaluation", "is_told"),
    [
        ({"samples": 100, "perplexity": 1.3}, True),
        ({"samples": 100, "perplexity": 12.0}, False),
        ({"samples": 3, "perplexity": 1.9}, False),  # high for three samples
        ({"samples": 1, "perplexity": 1.0}, False),
        ({"samples": 100}, False),
    ],
)
def test_a_collapsed_model_causes_a_warning(
    evaluation: dict[str, float], is_told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    _warn_of_collapse(Clustering(), evaluation, vars_of_fit())
    error = capsys.readouterr().err
    assert error == (
        "somvae: the model has collapsed: test samples are spread as over 1.3 of 16 clusters (perplexity); try more "
        "--epochs, another --seed or a smaller --learning-rate\n"
        if is_told
        else ""
    )


def test_only_some_models_can_revive_codes() -> None:
    assert {name for name, model in MODELS.items() if hasattr(model, "revive")} == {"somvae", "vqvae"}


def vars_of_fit() -> Any:
    from jsonargparse import Namespace

    return Namespace(model="somvae")
