"""``somvae predict`` of tables: the columns beside the node, the output formats, and data of any length."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import somvae_ext
from somvae_ext.cli import main
from somvae_ext.store import KeptClusters, NodeHits, ResultFolder

RNG = np.random.default_rng(0)
SPECIES = ["blue", "green", "red"]


@pytest.fixture(autouse=True)
def in_a_folder_with_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    monkeypatch.chdir(tmp_path)
    kind = np.arange(120) % 3
    frame = pd.DataFrame(
        {
            "id": [f"K{row:03}" for row in range(120)],
            "size": 5.0 * kind + RNG.normal(size=120),
            "weight": 900.0 - 50 * kind + RNG.normal(size=120),
            "species": np.array(SPECIES)[kind],
        }
    )
    frame.to_csv("table.csv", index=False)
    return frame


def fit_map(*options: str, data: str = "table.csv") -> None:
    names = ["--label-column", "species", "--id-column", "id"] if data.endswith(".csv") else []
    small = ["--rows", "3", "--cols", "4", "--epochs", "3", "--out", "run", "--quiet", "--overwrite"]
    assert main(["fit", data, "--model", "som", *names, *small, *options]) == 0


def predict(*options: str, data: str = "table.csv", output: str = "out.csv") -> pd.DataFrame:
    assert main(["predict", "run", data, "-o", output, "--overwrite", *options]) == 0
    return pd.read_parquet(output) if output.endswith(".parquet") else pd.read_csv(output)


def test_each_row_has_the_majority_class_of_its_node(in_a_folder_with_a_table: pd.DataFrame) -> None:
    fit_map()
    rows = predict()
    assert list(rows) == ["id", "node", "row", "column", "distance_in_scaled_units", "class"]
    assert rows["id"].tolist() == in_a_folder_with_a_table["id"].tolist()
    of_nodes = in_a_folder_with_a_table["species"].groupby(rows["node"]).agg(lambda names: names.mode()[0])
    assert rows["class"].tolist() == of_nodes[rows["node"]].tolist()


def test_a_node_that_won_nothing_has_no_class_and_no_shares() -> None:
    fit_map("--rows", "6", "--cols", "7")
    hits = somvae_ext.load("run").hits  # type: ignore[union-attr]
    empty = int((hits == 0).argmax())
    assert hits[empty] == 0
    assert main(["export", "run", "--codes", "-o", "codes.csv"]) == 0
    code = pd.read_csv("codes.csv").iloc[empty]
    pd.DataFrame({"size": [code["size"]], "weight": [code["weight"]]}).to_csv("new.csv", index=False)
    for output in ("out.csv", "out.parquet"):
        rows = predict("--probabilities", data="new.csv", output=output)
        assert rows["node"].tolist() == [empty]
        assert rows[["class", *(f"share_of_{name}" for name in SPECIES)]].isna().all(axis=None)


def test_shares_of_classes_are_those_of_the_training_rows_of_the_node(in_a_folder_with_a_table: pd.DataFrame) -> None:
    fit_map("--rows", "1", "--cols", "2")
    rows = predict("--probabilities")
    shares = pd.crosstab(rows["node"], in_a_folder_with_a_table["species"], normalize="index")
    for name in SPECIES:
        np.testing.assert_allclose(rows[f"share_of_{name}"], shares[name][rows["node"]], rtol=1e-12)


def test_the_column_of_distances_names_their_units(in_a_folder_with_a_table: pd.DataFrame) -> None:
    fit_map("--scaling", "none", "--metric", "manhattan")
    rows = predict()
    saved: Any = somvae_ext.load("run")
    x = in_a_folder_with_a_table[["size", "weight"]].to_numpy()
    distance = np.abs(x - saved.codebook[rows["node"]]).sum(axis=1)
    # Codes and sum are rounded to float32: values up to 900, each with a relative error of 2 ** -24.
    np.testing.assert_allclose(rows["distance_in_data_units"], distance, atol=900 * 2**-22)


def test_parquet_and_csv_hold_the_same() -> None:
    fit_map()
    text, binary = predict("--probabilities"), predict("--probabilities", output="out.parquet")
    pd.testing.assert_frame_equal(text, binary, check_dtype=False, rtol=1e-6)
    assert binary["distance_in_scaled_units"].dtype == np.float32
    assert binary["node"].dtype == np.int64


@pytest.mark.parametrize("output", ["out.csv", "out.parquet"])
def test_the_input_of_a_text_file_is_copied_cell_by_cell(output: str, in_a_folder_with_a_table: pd.DataFrame) -> None:
    fit_map()
    country = ["NA", "DE", "null", "None", " x ", "007", "9007199254740993"]
    text = "species;weight;node;id;size;country;empty\n" + "".join(
        f"{row.species};0{row.weight:.2f};00{number};{row.id};{row.size:.3f}0;{country[number % 7]};\n".replace(
            ".", ","
        )
        for number, row in enumerate(in_a_folder_with_a_table.itertuples())
    )
    Path("german.csv").write_text(text)
    assert main(["predict", "run", "german.csv", "--decimal", "comma", "--with-input", "-o", output]) == 0
    plain = {"dtype": str, "keep_default_na": False}
    rows = pd.read_parquet(output) if output.endswith(".parquet") else pd.read_csv(output, **plain)  # type: ignore[call-overload]
    # The id is already the first column, and the input's column "node" is renamed.
    assert list(rows)[6:] == ["species", "weight", "node.1", "size", "country", "empty"]
    expected = pd.read_csv("german.csv", sep=";", **plain)  # type: ignore[call-overload]
    for name in ("species", "weight", "node", "size", "country", "empty"):
        assert rows[{"node": "node.1"}.get(name, name)].tolist() == expected[name].tolist()


def test_columns_of_parquet_files_keep_their_types() -> None:
    fit_map()
    frame = pd.read_csv("table.csv").assign(big=2**53 + 1, when=pd.Timestamp("2024-01-31"))
    frame.to_parquet("table.parquet")
    rows = predict("--with-input", data="table.parquet", output="out.parquet")
    assert (rows["big"] == 2**53 + 1).all()
    pd.testing.assert_series_equal(rows["when"], frame["when"])


def test_a_first_block_without_class_and_cluster_has_their_types(monkeypatch: pytest.MonkeyPatch) -> None:
    fit_map("--rows", "6", "--cols", "7")
    assert main(["cluster", "run", "--clusterer", "DBSCAN", "--set", "eps=0.4", "--set", "min_samples=2"]) == 0
    kept = KeptClusters.load(ResultFolder.open("run"), 42)
    assert kept is not None
    hits, codes = somvae_ext.load("run").hits, export_codes()  # type: ignore[union-attr]
    bare = np.flatnonzero((hits == 0) & (kept.cluster < 0))
    known = np.flatnonzero((hits > 0) & (kept.cluster >= 0))
    assert len(bare)
    assert len(known)
    codes.iloc[[*[bare[0]] * 20, known[0]]].to_csv("new.csv", index=False)
    monkeypatch.setattr("somvae_ext.data.text_table._BLOCK_BYTES", 256)
    rows = predict(data="new.csv", output="out.parquet")
    assert rows[["class", "cluster"]].iloc[:20].isna().all(axis=None)
    assert rows["cluster"].iloc[20] == kept.cluster[known[0]]
    assert rows["class"].iloc[20] in SPECIES


def export_codes() -> pd.DataFrame:
    assert main(["export", "run", "--codes", "-o", "codes.csv", "--overwrite"]) == 0
    return pd.read_csv("codes.csv")[["size", "weight"]]


def test_from_a_messy_table_to_the_clusters_of_new_rows_in_four_commands() -> None:
    kind = RNG.integers(0, 3, 200)
    messy = pd.DataFrame(
        {
            "Kunde": [f"K{row:04}" for row in range(200)],
            "Umsatz": [f"{900 * k + RNG.normal(scale=9):.2f}".replace(".", ",") for k in kind],
            "Farbe": np.array(["rot", "grün", "blau"])[kind],
            "Region": np.array(["Nord", "Süd"])[np.arange(200) % 2],
            "Gewicht": ["" if row % 20 == 3 else f"{80 - 5 * k:.1f}".replace(".", ",") for row, k in enumerate(kind)],
        }
    )
    messy[:150].to_csv("kunden.csv", sep=";", index=False, encoding="cp1252")
    messy[150:].to_csv("neue.csv", sep=";", index=False, encoding="cp1252")
    how = ["--encoding", "cp1252", "--decimal", ",", "--id-column", "Kunde", "--label-column", "Farbe"]
    fit = [*how, "--one-hot", "Region", "--missing", "mean", "--rows", "5", "--cols", "6", "--out", "run", "--quiet"]
    for command in (
        ["fit", "kunden.csv", "--model", "som", *fit],
        ["cluster", "run", "-n", "6"],
        ["predict", "run", "neue.csv", "-o", "nodes.csv"],
        ["export", "run", "--codes", "-o", "codes.csv"],
    ):
        assert main(command) == 0
    rows, codes = pd.read_csv("nodes.csv"), pd.read_csv("codes.csv")
    assert list(rows) == ["Kunde", "node", "row", "column", "distance_in_scaled_units", "class", "cluster"]
    assert rows["Kunde"].tolist() == messy["Kunde"][150:].tolist()
    assert (rows["class"] == messy["Farbe"][150:].to_numpy()).mean() > 0.95
    # Six groups were planted: three colors in two regions.
    planted = messy["Farbe"][150:].str.cat(messy["Region"][150:]).to_numpy()
    assert (pd.crosstab(rows["cluster"], planted) > 0).sum(axis=1).tolist() == [1] * 6
    assert rows["cluster"].tolist() == codes["cluster"][rows["node"]].tolist()
    kept = KeptClusters.load(ResultFolder.open("run"), 30)
    assert kept is not None
    assert codes["cluster"].tolist() == kept.cluster.tolist()


def test_an_id_column_may_be_called_index_or_like_a_result() -> None:
    frame = pd.read_csv("table.csv")
    for name in ("index", "distance_in_scaled_units", "class"):
        frame.rename(columns={"id": name}).to_csv("table.csv", index=False)
        options = ["--label-column", "species", "--id-column", name, "--rows", "2", "--cols", "2", "--epochs", "1"]
        assert main(["fit", "table.csv", "--model", "som", *options, "--out", "run", "--quiet", "--overwrite"]) == 0
        rows = predict("--id-column", name)
        assert rows.iloc[:, 0].tolist() == frame["id"].tolist()
        assert rows["distance_in_scaled_units"].dtype == np.float64


def test_a_cosine_distance_has_no_units() -> None:
    fit_map("--metric", "cosine")
    assert "cosine_distance" in predict()


def test_the_data_are_not_replaced_by_their_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    fit_map()
    before = Path("table.csv").read_bytes()
    assert main(["predict", "run", "table.csv", "-o", "./table.csv", "--overwrite"]) == 2
    assert "--output must be another file than the data, got ./table.csv for both" in capsys.readouterr().err
    assert Path("table.csv").read_bytes() == before


def test_an_existing_file_is_replaced_only_with_overwrite(capsys: pytest.CaptureFixture[str]) -> None:
    fit_map()
    Path("out.csv").write_text("mine")
    assert main(["predict", "run", "table.csv", "-o", "out.csv"]) == 2
    assert "out.csv is there already; choose another --output, or set --overwrite" in capsys.readouterr().err
    assert Path("out.csv").read_text() == "mine"
    assert main(["predict", "run", "table.csv", "-o", "out.xlsx"]) == 2
    assert "--output must end with .csv or .parquet, got out.xlsx" in capsys.readouterr().err
    assert len(predict()) == 120


def test_rows_may_come_on_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fit_map()
    expected = predict()
    for content, code in ((Path("table.csv").read_bytes(), 0), (b"a,b\n1,2\n", 2), (b"", 2)):
        capsys.readouterr()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert main(["predict", "run", "-"]) == code
        printed = capsys.readouterr()
        if code == 0:
            pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(printed.out)), expected)
        else:
            assert printed.err.startswith("somvae: standard input: ")
            assert printed.err.count("\n") == 1


def test_the_output_does_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.read_csv("table.csv")
    frame.loc[[5, 50, 119], "size"] = np.nan
    frame.to_csv("gaps.csv", index=False)
    np.save("rows.npy", pd.read_csv("table.csv")[["size", "weight"]].to_numpy())
    for data, options in (("gaps.csv", ["--missing", "drop"]), ("gaps.csv", ["--missing", "mean"]), ("rows.npy", [])):
        fit_map(*options, data=data)
        with_input = [] if data.endswith(".npy") else ["--with-input"]
        whole = predict(*with_input, data=data)
        with monkeypatch.context() as patch:
            patch.setattr("somvae_ext.data.text_table._BLOCK_BYTES", 256)
            patch.setattr("somvae_ext.data.tables._CHUNK_VALUES", 14)
            pd.testing.assert_frame_equal(predict(*with_input, data=data), whole)
            in_parquet = predict(*with_input, data=data, output="out.parquet")
            assert in_parquet["node"].tolist() == whole["node"].tolist()
        assert len(whole) == (117 if "drop" in options else 120)


def test_rows_that_are_left_out_are_reported_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.read_csv("table.csv").assign(extra=1)
    frame.loc[3, "size"] = np.nan
    frame.to_csv("table.csv", index=False)
    fit_map("--missing", "drop", "--drop", "extra")
    capsys.readouterr()
    frame.rename(columns={"extra": "other"}).to_csv("new.csv", index=False)
    assert len(predict(data="new.csv")) == 119
    assert capsys.readouterr().err == "somvae: left out: other; 1 of 120 rows, which have gaps\n"


def test_probabilities_need_classes(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("rows.npy", RNG.random((50, 2)))
    fit_map(data="rows.npy")
    assert main(["predict", "run", "rows.npy", "--probabilities"]) == 2
    assert "--probabilities is for results that know classes or categories" in capsys.readouterr().err


MODEL = ["--label-column", "species", "--id-column", "id", "--epochs", "2", "--hidden-sizes", "8", "--device", "cpu"]


@pytest.mark.parametrize(
    ("model", "columns"),
    [
        ("somvae", ["id", "node", "row", "column", "distance_in_latent_space", "class"]),
        ("vqvae", ["id", "code", "distance_in_latent_space", "class"]),
        ("gumbel-vae", ["id", "category", "probability", "class"]),
    ],
)
def test_models_know_the_classes_of_their_nodes(model: str, columns: list[str]) -> None:
    size = {"somvae": ["--rows", "2", "--cols", "3"], "vqvae": ["--num-codes", "6"], "gumbel-vae": []}[model]
    assert main(["fit", "table.csv", "--model", model, *MODEL, *size, "--out", "run", "--quiet"]) == 0
    rows = predict()
    assert list(rows) == columns
    folder = ResultFolder.open("run")
    num_nodes = 10 if model == "gumbel-vae" else 6
    nodes = NodeHits.load(folder, num_nodes)
    assert nodes.hits.sum() == 84  # the size of the training split
    classes = nodes.classes(SPECIES)
    assert classes is not None
    known = pd.Series(classes.majority)[rows[columns[1]]]
    assert rows["class"].where(rows["class"].notna(), None).tolist() == known.where(known.notna(), None).tolist()
    shares = predict("--probabilities")
    prefix = "probability_of_" if model == "gumbel-vae" else "share_of_"
    of_columns = [name for name in shares if name.startswith(prefix)]
    assert len(of_columns) == (10 if model == "gumbel-vae" else 3)
    with_hits = shares.dropna(subset=of_columns)
    np.testing.assert_allclose(with_hits[of_columns].sum(axis=1), 1, rtol=1e-5)


def test_a_model_copies_only_columns_of_tables(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("images.npy", RNG.random((40, 5, 4), dtype=np.float32))
    assert main(["fit", "images.npy", "--model", "vae", "--epochs", "1", "--out", "run", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["predict", "run", "images.npy", "--with-input"]) == 2
    assert "--with-input is for tables, and images.npy is none" in capsys.readouterr().err
    assert main(["predict", "run", "images.npy", "--probabilities"]) == 2
    assert "--probabilities is for results with classes or categories" in capsys.readouterr().err
