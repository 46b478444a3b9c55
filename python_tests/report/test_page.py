"""Tests of ``somvae report``: pages of all kinds of results, parsed as text without a browser."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import somvae_ext
from somvae_ext.cli import main
from somvae_ext.report import assign, map_content, model_content
from somvae_ext.store import ResultFolder

ROWS, FEATURES = 60, ["height", "weight <kg>"]
MODEL = ["--epochs", "1", "--device", "cpu", "--quiet"]
SMALL_MAP = ["--model", "som", "--rows", "3", "--cols", "4", "--epochs", "2", "--quiet"]
SMALL_VAE = ["--hidden-sizes", "4", "--latent-dim", "2", *MODEL]
GONE = "The data cannot be read, so no samples are shown"


def write_table(folder: Path) -> Path:
    """Writes a table of two features, clustered around two points, and a class column."""
    generator = np.random.default_rng(0)
    label = np.arange(ROWS) % 2
    values = np.array([[1, 200], [2, 100]])[label] + generator.normal(size=(ROWS, 2))
    lines = [f"{','.join(map(repr, row.tolist()))},{'ab'[kind]}" for row, kind in zip(values, label, strict=True)]
    path = folder / "table.csv"
    path.write_text("\n".join([",".join([*FEATURES, "kind"]), *lines]) + "\n")
    return path


LABELS = ["--label-column", "kind"]
KINDS = {
    "map": ["table.csv", *LABELS, *SMALL_MAP],
    "hexagons": ["table.csv", "--drop", "kind", *SMALL_MAP, "--topology", "hexagonal", "--metric", "cosine"],
    "vae": ["table.csv", *LABELS, "--model", "vae", *SMALL_VAE],
    "conditional-vae": ["table.csv", *LABELS, "--model", "conditional-vae", *SMALL_VAE],
    "moe-vae": ["table.csv", *LABELS, "--model", "moe-vae", "--num-experts", "3", *MODEL],
    "vqvae": ["table.csv", *LABELS, "--model", "vqvae", "--num-codes", "7", *MODEL],
    "conv-vqvae": ["digits", "--model", "vqvae", "--network", "conv", "--num-codes", "8", *MODEL],
    "somvae": ["table.csv", *LABELS, "--rows", "2", "--cols", "3", "--latent-dim", "4", *MODEL],
}


@pytest.fixture(autouse=True, scope="module")
def pictures_are_dots() -> Iterator[None]:
    """Replaces pictures by dots, since drawing takes most of the time."""

    def save_a_dot(figure: Figure, file: BinaryIO, **options: object) -> None:
        Image.new("1", (1, 1)).save(file, "png")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save_a_dot)
        yield


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)  # training changes the number for the whole process


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``run_of(kind)`` returns a run of :data:`KINDS`, trained at the first call. Tests must not write to it."""
    folder = tmp_path_factory.mktemp("runs")
    write_table(folder)

    @functools.cache
    def run_of(kind: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            assert main(["fit", *KINDS[kind], "--out", kind]) == 0
        return folder / kind

    return run_of


class Reader(HTMLParser):
    """Parses a page into its tags with their attributes, its text, and the contents of its scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str, str]] = []  # id and contents
        self.styles: list[str] = []
        self.text = ""
        self._inside = ""
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attributes).get("id") or "", ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            name, contents = self.scripts[-1]
            self.scripts[-1] = name, contents + data
        elif self._inside == "style":
            self.styles.append(data)
        else:
            self.text += data

    @property
    def explorers(self) -> list[dict[str, Any]]:
        """The data of each explorer that the browser gets."""
        return [json.loads(contents) for name, contents in self.scripts if name.endswith("-data")]


def report(*arguments: object) -> Reader:
    """Writes the page of the runs and reads it."""
    out = Path(str(arguments[0])).with_name("page.html")
    assert main(["report", *map(str, arguments), "--output", str(out), "--overwrite"]) == 0
    return Reader(out)


def unpack(fields: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(fields["data"]), f"<{fields['dtype']}").reshape(fields["shape"])


# ---- every kind of result --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_written_into_the_run_without_output_on_stderr(
    kind: str, run_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(kind)
    capsys.readouterr()
    assert main(["report", str(run)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert str(run / "report.html") in said.out
    page = Reader(run / "report.html")
    assert [contents["alt"] for tag, contents in page.tags if tag == "img"]
    for title in ("Summary", "Metrics", "Pictures", "Data", "Config"):
        assert title in page.text


@pytest.mark.parametrize(
    ("kind", "noun", "nodes"),
    [
        ("map", "node", 12),
        ("hexagons", "node", 12),
        ("moe-vae", "category", 3),
        ("vqvae", "code", 7),
        ("somvae", "node", 6),
    ],
)
def test_results_that_assign_samples_to_nodes_have_an_explorer(
    kind: str, noun: str, nodes: int, run_of: Callable[[str], Path]
) -> None:
    (explorer,) = report(run_of(kind)).explorers
    assert (explorer["noun"], explorer["nodes"]) == (noun, nodes)


@pytest.mark.parametrize("kind", ["vae", "conditional-vae", "conv-vqvae"])
def test_results_without_one_node_per_sample_have_no_explorer(kind: str, run_of: Callable[[str], Path]) -> None:
    page = report(run_of(kind))
    assert page.explorers == []
    assert not any("explorer" in (attributes.get("class") or "") for _, attributes in page.tags)
    assert len(page.html) < 500_000  # Bokeh is not included
    assert ("A sample has several codes in this model" in page.text) == (kind == "conv-vqvae")


@pytest.mark.parametrize("kind", ["moe-vae", "vqvae", "somvae"])
def test_hits_and_classes_are_counted_on_the_training_data(kind: str, run_of: Callable[[str], Path]) -> None:
    from somvae_ext.training import RunRecord

    run = run_of(kind)
    (explorer,) = report(run).explorers
    train = RunRecord.from_folder(ResultFolder.open(run)).data.load().train
    node = somvae_ext.load(run).assign(train.x).numpy()
    assert unpack(explorer["hits"]).tolist() == np.bincount(node, minlength=explorer["nodes"]).tolist()
    names = explorer["classes"]["names"]
    counted = {(at, names[number]): count for at, number, count in unpack(explorer["classes"]["counts"]).tolist()}
    labels = [train.class_names[label] for label in train.label.tolist()]
    pairs = list(zip(node.tolist(), labels, strict=True))
    assert counted == {pair: pairs.count(pair) for pair in set(pairs)}


@pytest.mark.parametrize("kind", ["vqvae", "somvae"])
def test_the_features_are_decoded_from_the_codes(kind: str, run_of: Callable[[str], Path]) -> None:
    run = run_of(kind)
    (explorer,) = report(run).explorers
    model = somvae_ext.load(run)
    features = explorer["features"]
    assert features["names"] == FEATURES
    scaling = ResultFolder.open(run).config["data"]["scaling"]
    with torch.no_grad():
        decoded = model.decode(model.quantizer.codebook).double().numpy()
    expected = decoded * np.array(scaling["width"]) + np.array(scaling["shift"])
    assert pytest.approx(expected, rel=1e-5) == unpack(features["codes"]).T


def test_samples_of_a_cosine_map_have_cosine_distances(run_of: Callable[[str], Path]) -> None:
    run = run_of("hexagons")
    (explorer,) = report(run).explorers
    saved = somvae_ext.load(run)
    x = np.loadtxt(run.with_name("table.csv"), delimiter=",", skiprows=1, usecols=(0, 1))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    codes = np.asarray(saved.som.codebook_, np.float64)
    norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(codes, axis=1)
    cosine = x @ codes.T / norms
    assert unpack(explorer["samples"]["node"]).tolist() == cosine.argmax(axis=1).tolist()
    assert unpack(explorer["samples"]["distance"]) == pytest.approx(1 - cosine.max(axis=1), abs=1e-5)


# ---- searchable samples ----------------------------------------------------------------------------------------------


def test_samples_of_all_splits_are_searchable_by_their_ids(tmp_path: Path) -> None:
    from somvae_ext.training import RunRecord

    lines = write_table(tmp_path).read_text().splitlines()
    ids = ["Patient", *(f"P-{row:02d}" for row in range(ROWS))]
    (tmp_path / "patients.csv").write_text("\n".join(f"{name},{line}" for name, line in zip(ids, lines, strict=True)))
    run = tmp_path / "run"
    options = ["--id-column", "Patient", *LABELS, "--model", "vqvae", "--num-codes", "7", *MODEL]
    assert main(["fit", str(tmp_path / "patients.csv"), *options, "--out", str(run)]) == 0
    page = report(run)
    assert "Find a sample by Patient" in page.text
    samples = page.explorers[0]["samples"]
    assert (samples["ids"], samples["total"]) == (ids[1:], ROWS)
    labels = [samples["labels"]["names"][number] for number in unpack(samples["labels"]["number"])]
    assert labels == [line.split(",")[2] for line in lines[1:]]
    record, model = RunRecord.from_folder(ResultFolder.open(run)), somvae_ext.load(run)
    x = np.array([[float(cell) for cell in line.split(",")[:2]] for line in lines[1:]])
    scaled = record.data.scaling.apply(torch.from_numpy(x)).float()
    node = model.assign(scaled).numpy()
    assert unpack(samples["node"]).tolist() == node.tolist()
    splits = record.data.load()
    of_row = [samples["splits"]["names"][number] for number in unpack(samples["splits"]["number"])]
    for split in ("train", "validation", "test"):
        rows = {tuple(row) for row in getattr(splits, split).x.tolist()}
        assert [name == split for name in of_row] == [tuple(row) in rows for row in scaled.tolist()]
    # Samples are shown for each code that won training data.
    hits, nearest = unpack(page.explorers[0]["hits"]), unpack(samples["nearest"])
    assert ((nearest[:, 0] >= 0) | (hits == 0)).all()


def test_frames_are_searchable_by_the_names_of_their_files(tmp_path: Path) -> None:
    wards = tmp_path / "wards"
    wards.mkdir()
    for row in range(12):
        np.save(wards / f"bed-{row:02d}.npy", np.random.default_rng(row).normal(size=(3 + row % 2, 2)))
    ids = [f"bed-{row:02d}, {frame}" for row in range(12) for frame in range(3 + row % 2)]
    somvae = ["--rows", "2", "--cols", "2", "--latent-dim", "2", *MODEL]
    for name, options in (("map", SMALL_MAP), ("model", somvae)):
        assert main(["fit", str(wards), *options, "--out", str(tmp_path / name)]) == 0
        page = report(tmp_path / name)
        (explorer,) = page.explorers
        assert f"Find a {'row' if name == 'map' else 'frame'} by series and frame" in page.text
        assert explorer["samples"]["ids"] == ids
        paths = [path["name"].partition(" (") for path in explorer["paths"]]
        assert [series for series, *_ in paths] == [f"bed-{row:02d}" for row in range(12)]
        splits = [split.rstrip(")") for *_, split in paths]
        assert set(splits) == ({""} if name == "map" else {"train", "validation", "test"})


def test_only_the_test_split_of_series_made_of_images_is_searchable(tmp_path: Path) -> None:
    options = ["digits-series", "--num-series", "10", "--rows", "2", "--cols", "2", "--latent-dim", "2", *MODEL]
    assert main(["fit", *options, "--out", str(tmp_path / "run")]) == 0
    page = report(tmp_path / "run")
    (explorer,) = page.explorers
    assert "Find a test frame by series and frame" in page.text
    assert "those that can be found, are of the test split" in page.text
    assert explorer["samples"]["ids"] == [f"{series}, {frame}" for series in range(2) for frame in range(32)]
    assert "splits" not in explorer["samples"]
    assert [path["name"] for path in explorer["paths"]] == ["series 0 (test)", "series 1 (test)"]


# ---- safe texts and no external resources ----------------------------------------------------------------------------

HARMFUL = "</script><b onclick='x'>&amp\"'"


@pytest.fixture(scope="module")
def harmful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of data whose names, texts and folder would do harm if they were not escaped."""
    folder = tmp_path_factory.mktemp("harmful") / "<b>&amp;'"
    folder.mkdir()
    rows = [f'{at},{at % 5},"{HARMFUL.replace(chr(34), chr(34) * 2)}",<i>{at}</i>' for at in range(20)]
    (folder / "<u>.csv").write_text("\n".join(["</td><b>x,y&amp,class<b>,id<b>", *rows]) + "\n")
    columns = ["--label-column", "class<b>", "--id-column", "id<b>"]
    assert main(["fit", str(folder / "<u>.csv"), *columns, *SMALL_MAP, "--out", str(folder / "<s>run")]) == 0
    return folder / "<s>run"


def test_texts_of_the_data_are_escaped(harmful: Path) -> None:
    page = report(harmful)
    assert not {"b", "i", "u", "s"} & {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    for text in ("<u>.csv", "</td><b>x", "y&amp", "class<b>", "id<b>", HARMFUL, "<s>run"):
        assert text in page.text
    (explorer,) = page.explorers
    assert explorer["classes"]["names"] == [HARMFUL]
    assert explorer["samples"]["ids"][7] == "<i>7</i>"
    assert explorer["features"]["names"] == ["</td><b>x", "y&amp"]


def test_two_runs_with_harmful_names_are_compared(harmful: Path, run_of: Callable[[str], Path]) -> None:
    page = report(harmful, run_of("map"))
    assert not {"b", "i", "u", "s"} & {tag for tag, _ in page.tags}
    assert "<s>run and map" in page.text


@pytest.mark.parametrize("kind", ["map", "moe-vae", "vae"])
def test_a_page_has_no_external_references(kind: str, run_of: Callable[[str], Path]) -> None:
    page = report(run_of(kind))
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
        assert "http" not in (attributes.get("style") or "")
    styles = "".join(page.styles)
    assert "@import" not in styles
    assert not re.search(r"url\((?!data:)", styles)
    own = [contents for name, contents in page.scripts if name or "The map explorer" in contents]
    assert all("http:" not in contents and "https:" not in contents for contents in own)
    (policy,) = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_a_page_written_again_is_identical_except_for_random_ids(run_of: Callable[[str], Path]) -> None:
    def without_ids(page: Reader) -> str:
        return re.sub(r'"(?:p\d+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"', '""', page.html)

    assert without_ids(report(run_of("map"))) == without_ids(report(run_of("map")))


# ---- missing or changed data -----------------------------------------------------------------------------------------


def own_run(folder: Path, kind: str, *options: str) -> Path:
    write_table(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", *KINDS[kind], *options, "--out", "run"]) == 0
    return folder / "run"


@pytest.mark.parametrize("change", ["gone", "changed"])
@pytest.mark.parametrize("kind", ["map", "somvae", "vae"])
def test_the_page_of_a_run_without_its_data_says_so(
    kind: str, change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = own_run(tmp_path, kind)
    table = tmp_path / "table.csv"
    if change == "gone":
        table.unlink()
    else:
        table.write_text(table.read_text().replace("0", "1", 3))
    capsys.readouterr()
    page = report(run)
    error = capsys.readouterr().err
    assert error.startswith(f"somvae: the page of {run} shows no samples: ")
    assert error.count("\n") == 1
    assert GONE in page.text
    reason = (
        "no such file or folder" if change == "gone" else "must be what run was trained on, but its values have changed"
    )
    assert f": table.csv: {reason}." in page.text.replace("no such file.", "no such file or folder.")
    data = page.html.partition('<section id="data"')[2].partition("</section>")[0]
    assert "table.csv" in data
    assert "kind" in data
    for explorer in page.explorers:
        assert "samples" not in explorer
        assert unpack(explorer["hits"]).sum() > 0
    assert len(page.explorers) == (kind != "vae")
    assert [tag for tag, _ in page.tags].count("img") > 0


@pytest.mark.parametrize("kind", ["map", "somvae"])
def test_without_data_means_and_deviations_come_from_the_scaling(kind: str, tmp_path: Path) -> None:
    run = own_run(tmp_path, kind, "--scaling", "standard")
    (whole,) = report(run).explorers
    (tmp_path / "table.csv").unlink()
    (explorer,) = report(run).explorers
    for name in ("names", "codes", "mean", "deviation"):
        expected = whole["features"][name]
        if name in ("mean", "deviation"):  # computed from scaled float32 values
            assert unpack(explorer["features"][name]) == pytest.approx(unpack(expected), rel=1e-5)
        else:
            assert explorer["features"][name] == expected


@pytest.mark.parametrize("kind", ["map", "somvae"])
def test_without_data_and_known_means_features_have_none(kind: str, tmp_path: Path) -> None:
    run = own_run(tmp_path, kind, "--scaling", "minmax")
    (tmp_path / "table.csv").unlink()
    (explorer,) = report(run).explorers
    assert explorer["features"]["names"] == FEATURES
    assert (explorer["features"]["mean"], explorer["features"]["deviation"]) == (None, None)


def test_a_missing_table_with_gaps_is_reported_as_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = own_run(tmp_path, "map", "--missing", "ignore")
    (tmp_path / "table.csv").unlink()
    page = report(run)
    assert f"{tmp_path / 'table.csv'}: no such file or folder\n" in capsys.readouterr().err
    assert "table.csv: no such file or folder." in page.text


@pytest.mark.parametrize("content", [b"", b"no picture", None], ids=["empty", "text", "cut"])
def test_a_damaged_picture_is_reported_and_left_out(content: bytes | None, tmp_path: Path) -> None:
    run = own_run(tmp_path, "somvae")
    (tmp_path / "table.csv").unlink()
    whole = report(run)
    picture = run / "curves.png"
    picture.write_bytes(picture.read_bytes()[:-20] if content is None else content)
    page = report(run)
    assert "curves.png in the run's folder is damaged, and not shown." in page.text
    images = [[tag for tag, _ in each.tags].count("img") for each in (whole, page)]
    assert images[1] == images[0] - 1


@pytest.mark.parametrize("kind", ["map", "somvae"])
@pytest.mark.parametrize("is_gone", [False, True])
def test_the_page_names_files_without_their_folders(kind: str, is_gone: bool, tmp_path: Path) -> None:
    run = own_run(tmp_path, kind)
    if is_gone:
        (tmp_path / "table.csv").unlink()
    page = report(run)
    assert "table.csv" in page.text
    assert str(tmp_path) not in page.html


def test_data_root_does_not_apply_to_a_users_table(run_of: Callable[[str], Path]) -> None:
    (explorer,) = report(run_of("map"), "--data-root", "elsewhere").explorers
    assert explorer["samples"]["total"] == ROWS  # --data-root does not apply to a user's table


def test_a_map_saved_from_python_has_a_page_without_samples(
    run_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = somvae_ext.load(run_of("map"))
    saved.record = dataclasses.replace(saved.record, data=None)
    saved.save(tmp_path / "own")
    page = report(tmp_path / "own")
    assert "does not say which data it was trained on" in capsys.readouterr().err
    assert "samples" not in page.explorers[0]
    assert "The map does not say which data it was trained on: no samples are shown." in page.text


def test_a_result_without_an_evaluation_and_without_data_has_a_page_without_metrics(
    run_of: Callable[[str], Path], tmp_path: Path
) -> None:
    saved = somvae_ext.load(run_of("map"))
    saved.evaluation = {}
    saved.record = dataclasses.replace(saved.record, data=None)
    saved.save(tmp_path / "own")
    page = report(tmp_path / "own")
    assert "Summary" in page.text
    assert "Metrics" not in page.text


@pytest.mark.parametrize("kind", ["map", "hexagons"])
def test_the_page_of_a_map_has_the_metrics_of_evaluate(kind: str, tmp_path: Path) -> None:
    run = own_run(tmp_path, kind)
    folder = ResultFolder.open(run)

    def metrics() -> dict[str, Any]:
        saved = somvae_ext.load(run)
        content = map_content.map_content(folder, saved, saved.record.data.load(), "map")
        return {item.metric.name: item.value for item in content.metrics["train"]}

    before = metrics()
    assert main(["evaluate", str(run)]) == 0
    evaluated = ResultFolder.open(run).evaluations["train"]
    assert before == evaluated
    assert metrics() == evaluated
    neighbors = {"topographic_error_6"} if kind == "hexagons" else {"topographic_error_4", "topographic_error_8"}
    classes = set() if kind == "hexagons" else {"purity", "nmi_arithmetic", "nmi_geometric"}
    assert before.keys() == {"samples", "quantization_error", "usage"} | neighbors | classes


@pytest.mark.parametrize("kind", ["map", "somvae"])
def test_a_map_with_very_many_nodes_has_pictures_but_no_explorer(
    kind: str, run_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = map_content if kind == "map" else model_content
    monkeypatch.setattr(module, "MOST_NODES", 5)
    page = report(run_of(kind))
    assert page.explorers == []
    assert "of more than 5 nodes have pictures, but no explorer" in page.text
    assert [tag for tag, _ in page.tags].count("img") > 0
    assert len(page.html) < 500_000


def test_some_of_very_many_rows_are_searchable_including_all_nearest(
    run_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = report(run_of("map")).explorers
    monkeypatch.setattr(assign, "MOST_IDS", 50)
    (part,) = report(run_of("map")).explorers
    assert part["samples"]["total"] == ROWS
    assert len(part["samples"]["ids"]) <= 50

    def nearest(explorer: dict[str, Any]) -> list[list[str | None]]:
        ids = explorer["samples"]["ids"]
        return [[ids[at] if at >= 0 else None for at in row] for row in unpack(explorer["samples"]["nearest"]).tolist()]

    assert nearest(part) == nearest(whole)
    node = dict(zip(whole["samples"]["ids"], unpack(whole["samples"]["node"]).tolist(), strict=True))
    assert [node[name] for name in part["samples"]["ids"]] == unpack(part["samples"]["node"]).tolist()


# ---- two results -----------------------------------------------------------------------------------------------------


def test_a_run_can_be_compared_with_itself(run_of: Callable[[str], Path]) -> None:
    page = report(run_of("map"), run_of("map"))
    assert "map (1) and map (2)" in page.text
    assert len(page.explorers) == 2
    classes = [attributes.get("class") or "" for _, attributes in page.tags]
    assert "differs" not in classes
    assert not any("better" in name for name in classes)


def test_a_map_can_be_compared_with_a_model(run_of: Callable[[str], Path]) -> None:
    page = report(run_of("map"), run_of("somvae"))
    assert [explorer["nodes"] for explorer in page.explorers] == [12, 6]
    assert "map and somvae" in page.text
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)


def metric_rows(page: Reader) -> dict[str, str]:
    """Returns the table row of each metric on training data, by the metric's title."""
    section = page.html.partition("<caption>On train data")[2].partition("</table>")[0]
    rows = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', section, re.DOTALL)
    return dict(rows)


def test_only_comparable_values_are_marked_as_better(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    command = [str(run_of("map").with_name("table.csv")), *LABELS, "--model", "som", "--size", "2x5", "--epochs", "1"]
    assert main(["fit", *command, "--seed", "1", "--quiet", "--out", str(other)]) == 0
    rows = metric_rows(report(run_of("map"), other))
    assert {title for title, row in rows.items() if "better" in row} <= {"NMI", "NMI, geometric"}
    assert "12" not in rows["nodes used"].rpartition("<td>")[2]


def test_differing_definitions_are_shown_for_each_result(run_of: Callable[[str], Path]) -> None:
    assert main(["evaluate", str(run_of("somvae")), "--split", "train"]) == 0
    rows = metric_rows(report(run_of("map"), run_of("somvae")))
    definition = rows["quantization error"].rpartition("<td>")[2]
    assert definition.startswith("map: Mean distance of the rows")
    assert "somvae: Mean Euclidean distance of the encodings" in definition


def test_runs_with_equal_names_are_distinguished_by_their_folders(
    run_of: Callable[[str], Path], tmp_path: Path
) -> None:
    somvae_ext.load(run_of("map")).save(tmp_path / "other" / "map")
    assert f"{run_of('map').parent.name}/map and other/map" in report(run_of("map"), tmp_path / "other/map").text


def test_a_comparison_is_written_into_the_first_run(
    run_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run_of("vae")), str(run_of("conditional-vae"))]) == 0
    assert str(run_of("vae") / "comparison.html") in capsys.readouterr().out
    assert not (run_of("conditional-vae") / "comparison.html").exists()


# ---- refusals --------------------------------------------------------------------------------------------------------


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Returns the error message of the command."""
    capsys.readouterr()
    assert main(["report", *map(str, arguments)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("somvae: ")
    assert said.err.count("\n") == 1
    return said.err


def test_an_interrupted_training_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        save = ResultFolder.save_checkpoint

        def save_and_interrupt(self: ResultFolder, *contents: Any) -> None:
            save(self, *contents)
            raise KeyboardInterrupt

        patch.chdir(tmp_path)
        patch.setattr(ResultFolder, "save_checkpoint", save_and_interrupt)
        assert main(["fit", *KINDS["map"], "--epochs", "5", "--out", "run"]) == 130
    assert "its training was interrupted after epoch 1; resume it first" in refusal(capsys, tmp_path / "run")
    assert not (tmp_path / "run/report.html").exists()


def test_a_file_is_replaced_only_with_overwrite(
    run_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.html"
    path.write_text("mine")
    assert "choose another --output, or set --overwrite" in refusal(capsys, run_of("vae"), "-o", path)
    assert path.read_text() == "mine"
    assert main(["report", str(run_of("vae")), "-o", str(path), "--overwrite"]) == 0
    assert path.read_text().startswith("<!doctype html>")


def test_the_page_in_the_run_is_replaced(run_of: Callable[[str], Path]) -> None:
    for _ in range(2):
        assert main(["report", str(run_of("vae"))]) == 0


def test_a_missing_output_folder_is_not_created(
    run_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = refusal(capsys, run_of("vae"), "-o", tmp_path / "nowhere/page.html")
    assert "--output must be a file in a folder that exists" in sentence
    assert list(tmp_path.iterdir()) == []


def test_a_folder_as_output_is_refused(
    run_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--output must be a file" in refusal(capsys, run_of("vae"), "-o", tmp_path)


def test_folders_without_a_result_are_refused(
    run_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for runs in ([tmp_path], [run_of("vae"), tmp_path]):
        assert "must be the folder of a trained map or model" in refusal(capsys, *runs)
    assert "RUN is missing" in refusal(capsys)


def test_a_new_training_removes_the_page_of_the_old_one(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(60, 3)))
    fit = ["fit", str(tmp_path / "rows.npy"), "--model", "som", "--quiet", "--out", str(tmp_path / "map")]
    assert main([*fit, "--size", "2x2"]) == 0
    assert main(["report", str(tmp_path / "map")]) == 0
    assert (tmp_path / "map" / "report.html").is_file()
    assert main([*fit, "--size", "3x3", "--overwrite"]) == 0
    assert not (tmp_path / "map" / "report.html").exists()
