"""From a messy table to the nodes of new rows, with the command alone; expected values come from pandas."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import somvae_ext
from somvae_ext.cli import main
from somvae_ext.estimators import SOM
from somvae_ext.store import ResultFolder

COLORS = ["rot", "grün", "blau"]
HOW = ["--encoding", "cp1252", "--decimal", ",", "--thousands", ".", "--na", "k.A."]
USES = ["--id-column", "Kunde", "--drop", "Datum", "--one-hot", "Farbe"]
SMALL = ["--rows", "3", "--cols", "4", "--epochs", "5", "--quiet", "--out", "map"]


def german(number: float) -> str:
    return f"{number:,.2f}".replace(",", "x").replace(".", ",").replace("x", ".")


def messy_table(path: str, rows: int, seed: int) -> pd.DataFrame:
    """Writes a table of customers as a German spreadsheet saves it; returns the values that the cells mean."""
    draw = random.Random(seed)
    frame = []
    lines = ["Kunde;Datum;Größe;Gewicht;Umsatz;Rabatt;Farbe;Mitglied"]
    for row in range(rows):
        kind = row % 3
        size = None if row % 17 == 3 else round(draw.gauss(160 + 10 * kind, 4), 1)
        weight = None if row % 23 == 5 else round(draw.gauss(60 + 9 * kind, 5), 1)
        sales, discount = round(draw.gauss(2000 * (kind + 1), 300), 2), draw.randint(0, 30)
        cells = [
            f"K{row + 1000}",
            f"{1 + row % 28:02d}.{1 + row // 28:02d}.2024",
            "" if size is None else f"{size}".replace(".", ","),
            "k.A." if weight is None else f"{weight}".replace(".", ","),
            german(sales),
            f"{discount}%",
            COLORS[kind],
            str(row % 2 == 0),
        ]
        lines.append(";".join(cells))
        colors = [float(color == COLORS[kind]) for color in sorted(COLORS)]
        frame.append([cells[0], size, weight, sales, discount / 100, *colors, float(row % 2 == 0)])
    Path(path).write_bytes("\r\n".join([*lines, ""]).encode("cp1252"))
    names = ["Kunde", "Größe", "Gewicht", "Umsatz", "Rabatt", *(f"Farbe={c}" for c in sorted(COLORS)), "Mitglied"]
    return pd.DataFrame(frame, columns=names)


def written(path: str = "nodes.csv") -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_from_a_messy_table_to_the_nodes_of_new_rows(capsys: pytest.CaptureFixture[str]) -> None:
    trained = messy_table("kunden.csv", 120, 0)
    assert main(["fit", "kunden.csv", "--model", "som", *SMALL]) == 2
    assert "set" not in (sentence := capsys.readouterr().err) or "=" not in sentence
    assert sentence.endswith("older programs in Western Europe write --encoding cp1252 or --encoding latin-1\n")
    assert main(["fit", "kunden.csv", "--model", "som", *SMALL, "--encoding", "cp1252"]) == 2
    sentence = capsys.readouterr().err
    for advice in ("--id-column Kunde", "--drop Datum", "--decimal ,", "--thousands .", "--one-hot Farbe"):
        assert advice in sentence
    assert not Path("map").exists()
    assert main(["fit", "kunden.csv", "--model", "som", *SMALL, *HOW, *USES, "--missing", "ignore"]) == 0
    shown = capsys.readouterr().out
    assert "120 rows of 8 features, separated by semicolons, in CP1252, names in the first line" in shown
    assert "called by column Kunde" in shown
    assert "Datum" in shown
    saved = somvae_ext.load("map")
    assert saved.feature_names == tuple(trained.columns[1:])
    x = trained.iloc[:, 1:].to_numpy(dtype=float)
    shift, width = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
    scaled = ((x - shift) / width).astype(np.float32)
    som = SOM(3, 4, n_epochs=5, missing="ignore", random_state=0).fit(scaled)
    np.testing.assert_allclose(saved.som.codebook_, som.codebook_, atol=1e-5)

    new = messy_table("neu.csv", 30, 1)
    assert main(["predict", "map", "neu.csv", "-o", "nodes.csv", "--overwrite"]) == 0
    assert capsys.readouterr().err == ""
    expected = som.predict(((new.iloc[:, 1:].to_numpy(dtype=float) - shift) / width).astype(np.float32))
    assert [row["Kunde"] for row in written()] == new["Kunde"].tolist()
    assert [int(row["node"]) for row in written()] == expected.tolist()

    # The same rows as another program writes them, with other columns, order, separators and encoding.
    new["color"] = [COLORS[row % 3] for row in range(30)]
    plain = new[["Mitglied", "Umsatz", "Größe", "Kunde", "Gewicht", "Rabatt"]].assign(Farbe=new["color"], extra="x")
    plain.to_csv("plain.csv", index=False)
    how = ["--encoding", "utf-8", "--decimal", "point", "--thousands", "'", "--separator", "comma"]
    assert main(["predict", "map", "plain.csv", *how, "-o", "plain_nodes.csv"]) == 0
    assert capsys.readouterr().err == "somvae: left out: extra\n"
    assert written("plain_nodes.csv") == written()


def test_a_header_of_numbers_is_not_taken_for_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).random((60, 8)).round(3)
    pd.DataFrame(x, columns=[str(400 + 50 * n) for n in range(8)]).to_csv("spectra.csv", index=False)
    assert main(["fit", "spectra.csv", "--model", "som", *SMALL]) == 0
    assert "60 rows of 8 features" in capsys.readouterr().out
    assert main(["predict", "map", "spectra.csv", "-o", "nodes.csv", "--overwrite"]) == 0
    assert len(written()) == 60
    pd.DataFrame(np.arange(180).reshape(60, 3) % 7).to_csv("counts.csv", index=False)
    assert main(["fit", "counts.csv", "--model", "som", *SMALL, "--overwrite"]) == 2
    assert "set --header yes if it holds names, --header no if not" in capsys.readouterr().err
    assert main(["fit", "counts.csv", "--model", "som", *SMALL, "--overwrite", "--header", "yes"]) == 0
    assert "60 rows of 3 features" in capsys.readouterr().out


def test_a_column_that_looks_like_an_id_is_reported_and_can_identify_the_rows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    x = np.random.default_rng(0).normal(size=(40, 2)).round(3)
    frame = pd.DataFrame(x, columns=["a", "b"]).rename_axis("id")
    frame.index += 100
    frame.to_csv("table.csv")
    assert main(["fit", "table.csv", "--model", "som", *SMALL]) == 0
    printed = capsys.readouterr()
    assert printed.err == (
        "somvae: column id numbers the rows and is trained on; if it is no feature, set --id-column id or --drop id\n"
    )
    assert "column id" not in printed.out
    assert main(["fit", "table.csv", "--model", "som", *SMALL, "--overwrite", "--id-column", "id"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["predict", "map", "table.csv", "-o", "nodes.csv", "--overwrite"]) == 0
    assert [row["id"] for row in written()] == [str(100 + row) for row in range(40)]
    frame.rename_axis(None).to_csv("unnamed.csv")  # pandas writes its unnamed index as the first column
    assert main(["fit", "unnamed.csv", "--model", "som", *SMALL, "--overwrite"]) == 0
    assert "column 0, which has no name and numbers the rows" in capsys.readouterr().out
    assert somvae_ext.load("map").feature_names == ("a", "b")


def test_models_take_the_same_tables_as_maps(capsys: pytest.CaptureFixture[str]) -> None:
    frame = messy_table("kunden.csv", 90, 0)
    options = ["--rows", "2", "--cols", "2", "--latent-dim", "3", "--epochs", "1", "--quiet", "--device", "cpu"]
    fit = ["fit", "kunden.csv", *options, *HOW, *USES, "--out", "run"]
    assert main(fit) == 2
    assert "got NaN in row 3 (line 5), column 'Größe'" in (sentence := capsys.readouterr().err)
    assert sentence.endswith("; fill the gap, or set --missing drop or --missing mean\n")
    assert main([*fit, "--missing", "mean", "--scaling", "standard"]) == 0
    assert "filled with the means of their columns in the training data (--missing mean)" in capsys.readouterr().out
    assert main(["predict", "run", "kunden.csv", "-o", "nodes.csv", "--overwrite"]) == 0
    assert [row["Kunde"] for row in written()] == frame["Kunde"].tolist()
    assert main(["evaluate", "run"]) == 0
    assert main([*fit, "--missing", "drop", "--overwrite"]) == 0
    whole = frame.notna().all(axis=1)
    assert f"{90 - whole.sum()} of 90 rows, which have gaps" in capsys.readouterr().out
    assert main(["predict", "run", "kunden.csv", "-o", "nodes.csv", "--overwrite"]) == 0
    assert [row["Kunde"] for row in written()] == frame["Kunde"][whole].tolist()
    assert "rows, which have gaps" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["somvae", "vqvae"])
@pytest.mark.parametrize(
    ("scaling", "shift", "output"),
    [("minmax", 5.0, "sigmoid"), ("standard", 5.0, "linear"), ("none", 5.0, "linear"), ("none", 0.0, "sigmoid")],
)
def test_a_decoder_can_give_the_values_of_the_data(model: str, scaling: str, shift: float, output: str) -> None:
    x = np.random.default_rng(0).random((40, 3)) + shift
    np.savetxt("table.csv", x, delimiter=",", header="a,b,c", comments="")
    sizes = {"somvae": ["--rows", "2", "--cols", "2"], "vqvae": ["--num-codes", "4"]}[model]
    options = [*sizes, "--epochs", "1", "--quiet", "--device", "cpu", "--scaling", scaling, "--out", "run"]
    assert main(["fit", "table.csv", "--model", model, *options]) == 0
    assert somvae_ext.load("run").config.output == output


def test_a_resumed_map_reads_its_table_as_it_was_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    messy_table("kunden.csv", 60, 0)
    fit = ["fit", "kunden.csv", "--model", "som", *SMALL, *HOW, *USES, "--missing", "mean"]
    assert main(fit) == 0
    Path("map").rename("whole")
    save = ResultFolder.save_checkpoint

    def interrupted(self: ResultFolder, epoch: int, *contents: Any) -> None:
        save(self, epoch, *contents)
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("somvae_ext.estimators.saved_map.MAX_CHECKPOINT_SHARE", 1.0)  # a checkpoint after each epoch
    with monkeypatch.context() as patch:
        patch.setattr(ResultFolder, "save_checkpoint", interrupted)
        assert main(fit) == 130
    assert main(["evaluate", "map"]) == 2
    assert "interrupted after epoch 2" in capsys.readouterr().err
    assert main(["fit", "--resume", "map", "--quiet"]) == 0
    whole, resumed = somvae_ext.load("whole"), somvae_ext.load("map")
    assert np.array_equal(resumed.som.codebook_, whole.som.codebook_)
    assert resumed.feature_names == whole.feature_names
    assert main(["evaluate", "map"]) == 0


def test_predict_can_reset_separators_that_only_the_training_data_had() -> None:
    rows = [f"{row % 7 + 1}.000;{row % 5},5" for row in range(40)]
    Path("old.csv").write_text("\n".join(["a;b", *rows, "# end"]) + "\n")
    how = ["--separator", "semicolon", "--decimal", ",", "--thousands", ".", "--comment", "#"]
    assert main(["fit", "old.csv", "--model", "som", *SMALL, *how]) == 0
    Path("new.csv").write_text("\n".join(["a;b", *(f"{row % 7 + 1}000;{row % 5}.5" for row in range(40))]) + "\n")
    assert main(["predict", "map", "old.csv", "-o", "nodes.csv", "--overwrite"]) == 0
    undone = ["--decimal", "point", "--thousands", "none", "--comment", "none"]
    assert main(["predict", "map", "new.csv", *undone, "-o", "new_nodes.csv"]) == 0
    assert written("new_nodes.csv") == written()


def test_an_archive_with_lengths_is_trained_on_without_its_padding(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    lengths = np.array([3, 5, 4, 2, 5, 1, 3, 4, 5, 2])
    np.savez("walks.npz", x=rng.normal(size=(10, 5, 2)), lengths=lengths)
    assert main(["fit", "walks.npz", "--model", "som", *SMALL]) == 0
    shown = capsys.readouterr().out
    assert f"walks.npz: 10 series of 1 to 5 frames of 2 features, float64, {lengths.sum()} rows" in shown
    assert main(["predict", "map", "walks.npz", "-o", "nodes.csv", "--overwrite"]) == 0
    places = [(int(row["series"]), int(row["frame"])) for row in written()]
    assert places == [(series, frame) for series, length in enumerate(lengths) for frame in range(length)]
    np.savez("unknown.npz", x=rng.normal(size=(10, 2)), weights=np.ones(10))
    assert main(["fit", "unknown.npz", "--model", "som", *SMALL, "--overwrite"]) == 2
    assert "must hold 'x' and at most 'label' or 'y', 'mask' and 'lengths', got" in capsys.readouterr().err


def test_the_data_of_a_map_may_have_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", "--model", "som", *SMALL]) == 0
    # The digits need no root, but the option must be accepted.
    assert main(["evaluate", "map", "--data-root", str(tmp_path)]) == 0
    assert "1527 rows of 64 features on 3 x 4 nodes" in capsys.readouterr().out
