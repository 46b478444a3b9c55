"""``somvae tune`` and ``somvae fit --size``: choosing the size of a map from the shell."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import somvae_ext
from somvae_ext.cli import main
from somvae_ext.data import Scaling
from somvae_ext.estimators import SOM, tune_size
from somvae_ext.som import suggest_map_size

ROWS = 120


@pytest.fixture(autouse=True)
def values() -> np.ndarray:
    """Writes four features of very different scales, and a class, to table.csv; returns the features."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(ROWS, 4)) @ generator.normal(size=(4, 4)) * [1, 10, 100, 1000] + 50
    frame = pd.DataFrame(x, columns=list("abcd"))
    frame.assign(kind=np.array(["u", "v"])[np.arange(ROWS) % 2]).to_csv("table.csv", index=False)
    return frame.to_numpy()


TUNE = ["tune", "table.csv", "--label-column", "kind", "--epochs", "3", "--quiet"]


def standard(x: Any) -> Scaling:
    return Scaling.fit("standard", [x], x.shape[1])


def written(path: str = "runs/tune-table/sizes.csv") -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_sizes_are_compared_as_the_library_does(values: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TUNE, "--sizes", "2x3", "4x4", "auto", "--folds", "2", "--seed", "4"]) == 0
    printed = capsys.readouterr()
    expected = tune_size(
        values,
        [(2, 3), (4, 4), "auto"],
        som=SOM(n_epochs=3, random_state=4),
        folds=2,
        fit_scaling=standard,
        random_state=4,
    )
    rows = written()
    assert [(int(row["rows"]), int(row["cols"])) for row in rows] == [row.size for row in expected.table]
    for row, measured in zip(rows, expected.table, strict=True):
        for name, estimate in (
            ("quantization_error", measured.quantization_error),
            ("topographic_error_8", measured.topographic_error),
            ("combined_error", measured.combined_error),
        ):
            assert [float(row[name]), float(row[f"{name}_se"])] == pytest.approx(estimate, rel=1e-4)
    assert [row["chosen"] for row in rows].count("1") == 1
    (auto,) = [row for row in rows if row["auto"] == "1"]
    assert (int(auto["rows"]), int(auto["cols"])) == expected.suggested
    assert expected.reason in printed.out
    assert "each feature to mean 0 and variance 1, by the training rows of each fold" in printed.out
    assert printed.err == ""


def test_the_table_marks_the_chosen_and_the_suggested_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TUNE, "--sizes", "2x2", "5x5"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^ *size +nodes +quantization error +topographic error, 8 +combined error$", printed, re.M)
    (chosen,) = [row for row in written() if row["chosen"] == "1"]
    assert re.search(rf"^ *{chosen['rows']} x {chosen['cols']} .* \+- \S+  chosen$", printed, re.M)
    assert "auto would take " in printed
    assert main([*TUNE, "--sizes", "auto", "--overwrite"]) == 0
    assert re.search(r"  chosen, auto$", capsys.readouterr().out, re.M)


def test_the_last_line_trains_the_chosen_size_with_the_same_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TUNE, "--sizes", "2x3", "--topology", "hexagonal", "--drop", "a", "b", "--out", "here"]) == 0
    (line,) = re.findall(r"^train it  somvae (.*)$", capsys.readouterr().out, re.M)
    assert main([*shlex.split(line), "--quiet", "--out", "map"]) == 0
    saved = somvae_ext.load("map")
    parameters = saved.som.get_params()
    assert (parameters["n_rows"], parameters["n_cols"], parameters["n_epochs"]) == (2, 3, 3)
    assert parameters["topology"] == "hexagonal"
    assert saved.feature_names == ("c", "d")
    assert saved.classes == ("u", "v")


def test_by_default_a_ladder_of_sizes_is_tried_and_reported_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "table.csv", "--drop", "kind", "--epochs", "2"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 * len(written())
    assert lines[0].startswith(f"map 1/{len(lines)}: size ")
    assert len(written()) >= 4


@pytest.mark.pictures
def test_the_picture_is_drawn() -> None:
    assert main([*TUNE, "--sizes", "2x2", "3x3", "--out", "here"]) == 0
    assert Path("here/sizes.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in Path("here").iterdir()} == {"sizes.csv", "sizes.png"}


def test_results_are_replaced_only_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TUNE, "--sizes", "2x2"]) == 0
    Path("runs/tune-table/notes.txt").write_text("mine")
    assert main([*TUNE, "--sizes", "3x3"]) == 2
    assert capsys.readouterr().err == (
        "somvae: runs/tune-table/sizes.csv is there already; choose another --out, or set --overwrite\n"
    )
    assert main([*TUNE, "--sizes", "3x3", "--overwrite"]) == 0
    assert [row["rows"] for row in written()] == ["3"]
    assert Path("runs/tune-table/notes.txt").read_text() == "mine"


def test_an_interruption_leaves_existing_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TUNE, "--sizes", "2x2"]) == 0
    before = written()
    fits = iter(range(100))
    fit = SOM.fit

    def interrupted(self: SOM, *arguments: Any) -> SOM:
        if next(fits) == 2:
            raise KeyboardInterrupt
        return fit(self, *arguments)

    monkeypatch.setattr(SOM, "fit", interrupted)
    capsys.readouterr()
    assert main([*TUNE, "--sizes", "2x3", "3x3", "--overwrite"]) == 130
    assert capsys.readouterr().err == "somvae: interrupted; nothing was written\n"
    assert written() == before
    assert main([*TUNE, "--sizes", "2x3", "--out", "new"]) == 0  # later fits are not interrupted
    assert not list(Path("runs/tune-table").glob(".*"))


def test_images_arrays_and_series_are_tuned_too(capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    np.save("rows.npy", generator.normal(size=(60, 3)))
    np.save("images.npy", generator.integers(0, 256, (40, 6, 6)).astype(np.uint8))
    np.save("series.npy", generator.normal(size=(6, 10, 2)).astype(np.float32))
    unscaled, series = ["rows.npy", "--scaling", "none"], ["series.npy", "--kind", "series"]
    for data in (["rows.npy"], unscaled, ["images.npy"], series):
        assert main(["tune", *data, "--sizes", "2x2", "2x3", "--epochs", "2", "--quiet", "--overwrite"]) == 0
    assert main(["tune", *series, "--folds", "7", "--quiet", "--out", "other"]) == 2
    assert capsys.readouterr().err == "somvae: --folds must be at most the 6 groups of rows, got 7\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--sizes", "big"], "--sizes must be rows x columns, such as 8x12, or auto, got 'big'"),
        (["--sizes", "3x0"], "--sizes must be rows x columns, such as 8x12, or auto, got '3x0'"),
        (["--sizes"], "--sizes needs a value, got none"),
        (["--sizes", "1x1"], "--sizes must have at least 2 nodes, because a single node has no order"),
        (["--folds", "1"], "--folds must be an integer of at least 2, got 1"),
        (["--folds", "200"], "--folds must be at most the 120 rows, got 200"),
        (["--rows", "4"], "--rows is for fit, and tune compares --sizes"),
        (["--size", "4x4"], "--size is for fit, and tune compares --sizes"),
        (["--resume", "map"], "unknown option --resume"),
        (["--topographic-error"], "unknown option --topographic-error"),
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--sigma-final", "0"], "--sigma-final must be a finite number above 0, got 0.0"),
        (["--device", "tpu"], "--device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        (["--out", "table.csv"], "--out table.csv must be a folder, but a file is there"),
    ],
)
def test_invalid_arguments_are_refused_with_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TUNE, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"somvae: {sentence}")
    assert error.count("\n") == 1
    assert not Path("runs").exists()


def test_missing_data_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune"]) == 2
    assert capsys.readouterr().err == "somvae: DATA is missing; the same command with --help says what goes where\n"


def test_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("somvae_ext.cli.tune.torchrun_rank", lambda: 0)
    assert main(TUNE) == 2
    assert "somvae tune runs in one process; start it without torchrun" in capsys.readouterr().err


# ---- fit --size ------------------------------------------------------------------------------------------------------

FIT = ["fit", "table.csv", "--model", "som", "--label-column", "kind", "--epochs", "2", "--quiet", "--out", "map"]


def test_size_sets_rows_and_columns_in_one_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT, "--size", "3x5"]) == 0
    assert "120 rows of 4 features on 3 x 5 nodes" in capsys.readouterr().out
    assert somvae_ext.load("map").grid.rows == 3


@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
def test_auto_uses_the_suggestion_for_the_scaled_data_and_explains_it(
    topology: Any, values: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*FIT, "--size", "auto", "--topology", topology]) == 0
    size = suggest_map_size(standard(values).apply(values), topology=topology)
    printed = capsys.readouterr().out
    assert (
        f"size      {size.rows} x {size.cols} nodes: at most 5 sqrt(120) = 55, with sides in the ratio of the two "
        "longest axes of the scaled data\n"
    ) in printed
    assert f"on {size.rows} x {size.cols} nodes\n" in printed
    parameters = somvae_ext.load("map").som.get_params()
    assert (parameters["n_rows"], parameters["n_cols"]) == size


def test_few_rows_get_at_most_one_node_each(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("few.npy", np.random.default_rng(0).normal(size=(9, 3)))
    assert main(["fit", "few.npy", "--model", "som", "--size", "auto", "--epochs", "1", "--quiet"]) == 0
    assert "at most one for each of 9 rows" in capsys.readouterr().out


def test_a_config_file_may_set_size(capsys: pytest.CaptureFixture[str]) -> None:
    Path("fit.yaml").write_text("data: table.csv\nmodel: som\nlabel_column: kind\nsize: 2x3\nepochs: 1\nout: map\n")
    assert main(["fit", "--config", "fit.yaml", "--quiet"]) == 0
    assert "on 2 x 3 nodes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--size", "3x4", "--rows", "3"], "--size gives rows and columns, so --rows must not be given with it"),
        (["--size", "auto", "--cols", "3"], "--size gives rows and columns, so --cols must not be given with it"),
        (["--size", "12"], "--size must be rows x columns, such as 8x12, or auto, got '12'"),
        (["--size", "0x4"], "--size must be rows x columns, such as 8x12, or auto, got '0x4'"),
    ],
)
def test_a_wrong_size_is_refused_before_anything_is_written(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*FIT, *arguments]) == 2
    assert capsys.readouterr().err == f"somvae: {sentence}\n"
    assert not Path("map").exists()
    assert main(["fit", "table.csv", "--label-column", "kind", "--size", "3x4"]) == 2
    assert "--size is for som, and --model somvae has no use for it" in capsys.readouterr().err
