"""The pictures that fit, plot and sample draw for each model."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from saved_configs import contents

import somvae_ext
from somvae_ext.cli import main
from somvae_ext.cli.sample import _draw, _figure_side_by_side
from somvae_ext.data import Samples, Splits
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.report import map_pictures
from somvae_ext.report.captions import CAPTIONS, caption_of
from somvae_ext.report.model_pictures import PICTURES as MODEL_PICTURES
from somvae_ext.report.model_pictures import _plot_curves, make_figures
from somvae_ext.store import ResultFolder
from somvae_ext.training.model_nodes import part_encoder

pytestmark = pytest.mark.pictures

QUICK = ["--epochs", "1", "--batch-size", "128", "--device", "cpu", "--threads", "1"]
FIT = ["fit", "digits", *QUICK]
SIZES = {
    "somvae": ["--rows", "2", "--cols", "3", "--latent-dim", "4"],
    "vqvae": ["--num-codes", "6", "--latent-dim", "4", "--hidden-sizes", "8"],
    "vae": ["--latent-dim", "2", "--hidden-sizes", "8"],
    "conditional-vae": ["--latent-dim", "2", "--hidden-sizes", "8"],
    "gumbel-vae": ["--latent-dim", "2", "--hidden-sizes", "8"],
    "moe-vae": ["--latent-dim", "2", "--hidden-size", "8", "--num-experts", "3"],
}
PICTURES = {
    "somvae": {"contingency", "map"},
    "vqvae": {"contingency"},
    "vae": set(),
    "conditional-vae": {"categories", "category"},
    "gumbel-vae": {"categories", "category", "contingency"},
    "moe-vae": {"categories", "category", "contingency", "experts"},
}
NO_RESULT = "nowhere must be the folder of a trained map or model, but it has no manifest.json"
ALWAYS = {"reconstructions", "samples", "curves", "iterations"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each model, named after the model. Tests must not write to it."""
    folder = tmp_path_factory.mktemp("trained")
    threads = torch.get_num_threads()
    for name, sizes in SIZES.items():
        assert main([*FIT, "--model", name, *sizes, "--out", str(folder / name)]) == 0
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained runs, which a test may change."""
    shutil.copytree(trained, tmp_path / "runs")
    return Path("runs")


def pictures_in(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in folder.glob("*.png")}


@pytest.mark.parametrize("name", SIZES)
def test_fit_draws_the_pictures_of_the_model(runs: Path, name: str) -> None:
    pictures = pictures_in(runs / name)
    assert pictures.keys() == ALWAYS | PICTURES[name]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())


@pytest.mark.parametrize("name", SIZES)
def test_plot_draws_the_same_pictures_from_the_folder(
    runs: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = pictures_in(runs / name)
    for picture in (runs / name).glob("*.png"):
        picture.unlink()
    assert main(["plot", str(runs / name)]) == 0
    assert pictures_in(runs / name) == before
    printed = capsys.readouterr().out.splitlines()
    assert {Path(line).stem for line in printed} == before.keys()
    assert all(Path(line).is_file() for line in printed)


def test_plot_draws_into_another_folder_and_replaces_files_only_on_request(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = pictures_in(runs / "vae")
    assert main(["plot", "runs/vae", "-o", "new/pictures"]) == 0
    assert pictures_in(Path("new/pictures")) == before
    Path("new/pictures/samples.png").write_text("mine")
    capsys.readouterr()
    assert main(["plot", "runs/vae", "-o", "new/pictures"]) == 2
    assert "is there already; choose another --out, or set --overwrite" in capsys.readouterr().err
    assert Path("new/pictures/samples.png").read_text() == "mine"
    assert main(["plot", "runs/vae", "-o", "new/pictures", "--overwrite"]) == 0
    assert pictures_in(Path("new/pictures")) == before


def test_frames_of_series_are_drawn_too() -> None:
    sizes = ["--rows", "2", "--cols", "2", "--latent-dim", "4", "--num-series", "20", "--out", "run"]
    assert main(["fit", "digits-series", *QUICK, *sizes]) == 0
    before = pictures_in(Path("run"))
    of_series = {"transitions", "transition-graph", "trajectory"}
    # There are durations only if series move, which depends on the training.
    assert before.keys() - {"durations"} == ALWAYS | {"contingency", "map"} | of_series
    for picture in Path("run").glob("*.png"):
        picture.unlink()
    assert main(["plot", "run"]) == 0
    assert pictures_in(Path("run")) == before


def test_moves_of_series_are_drawn_without_learned_transitions_and_without_images() -> None:
    np.save("series.npy", np.random.default_rng(0).random((20, 12, 3)))
    sizes = ["--rows", "2", "--cols", "6", "--latent-dim", "4", "--gamma", "0", "--tau", "0", "--out", "run"]
    assert main(["fit", "series.npy", "--kind", "series", *QUICK, *sizes]) == 0
    pictures = pictures_in(Path("run")).keys() - {"durations"}
    assert pictures == {"curves", "iterations", "transition-graph", "trajectory"}


def test_series_have_durations_where_they_move_and_then_stay() -> None:
    model = SOMVAE(SOMVAEConfig(input_shape=(3,), rows=2, cols=2, latent_dim=2))
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.quantizer.codebook.copy_(model.encode(x))  # assigns x[k] to node k
    for nodes, has_durations in (([0, 0, 0, 0], False), ([0, 0, 0, 1], False), ([0, 3, 3, 1], True)):
        series = [{"x": x[nodes], "mask": torch.tensor(real)} for real in ([True] * 4, [False] * 4)]
        splits: Any = SimpleNamespace(kind="series", train=series, test=series)
        figures = dict(
            make_figures(model, splits, [], ResultFolder.create("run", "model"), part_encoder(model, splits))
        )
        assert figures.keys() == {"transition-graph.png", "trajectory.png", *["durations.png"] * has_durations}
        # The series without a real frame has no path.
        assert [ax.get_title() for ax in figures["trajectory.png"].axes] == ["test series 0"]


def test_paths_are_named_after_the_files_of_their_series() -> None:
    model = SOMVAE(SOMVAEConfig(input_shape=(3,), rows=2, cols=2, latent_dim=2))
    series = Samples(torch.rand(2, 4, 3), row_keys={"series": np.array(["bed-07", "bed-02"], dtype=object)})
    splits = Splits(series, None, series, kind="series")
    figures = dict(make_figures(model, splits, [], ResultFolder.create("run", "model"), part_encoder(model, splits)))
    titles = [ax.get_title() for ax in figures["trajectory.png"].axes]
    assert titles[:2] == ["test series bed-07", "test series bed-02"]


def test_curves_have_a_panel_for_each_measurement(runs: Path) -> None:
    model = somvae_ext.load(runs / "somvae")
    losses = {"epoch": 1, "train": {"total": 1.0}}
    quality, order = {"purity": 0.5}, {"topographic_error_4": 0.3}
    widths = []
    for record, labels in (
        (losses, ["loss"]),
        (losses | {"metrics": quality}, ["loss", ""]),
        (losses | {"metrics": quality | order}, ["loss", "", "order of the map, training data"]),
    ):
        figure = _plot_curves(model, [record])
        assert [ax.get_ylabel() for ax in figure.axes] == labels
        widths.append(figure.get_size_inches()[0])
    assert widths == [6, 10, 15]


def fit_map(features: int, *options: str) -> None:
    np.save("rows.npy", np.random.default_rng(0).normal(size=(40, features)))
    sizes = ["--rows", "2", "--cols", "3", "--epochs", "2", "--quiet"]
    assert main(["fit", "rows.npy", "--model", "som", *sizes, *options, "--out", "map"]) == 0


def test_planes_of_many_features_are_drawn_on_several_pages(capsys: pytest.CaptureFixture[str]) -> None:
    fit_map(26)
    capsys.readouterr()
    assert main(["plot", "map"]) == 0
    printed = capsys.readouterr()
    assert {"map/component_planes.png", "map/component_planes-2.png"} <= set(printed.out.split())
    assert printed.err == ""
    assert main(["plot", "map", "--kind", "component_planes", "--features", "3", "25"]) == 0
    assert not Path("map/component_planes-2.png").exists()  # the earlier call drew it


def test_features_beyond_the_last_page_are_left_out_with_a_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_pictures, "MOST_PAGES", 1)
    fit_map(26)
    capsys.readouterr()
    assert main(["plot", "map", "--kind", "component_planes"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "map/component_planes.png\n"
    assert "component planes of the last 2 of 26 features were left out; name some by --features" in printed.err
    assert main(["plot", "map", "--kind", "component_planes", "--features", "25"]) == 0
    assert capsys.readouterr().err == ""


def test_the_errors_of_a_map_are_among_its_curves() -> None:
    fit_map(3, "--topographic-error")
    saved: Any = somvae_ext.load("map")
    ((name, figure),) = map_pictures.map_figures(saved, ["curves"])
    assert name == "curves.png"
    labels = [" ".join(ax.get_ylabel().split()) for ax in figure.axes]
    assert labels == ["quantization error", "topographic error (8 neighbors)", "width of the neighborhood"]
    assert all(len(ax.lines[0].get_xdata()) >= 2 for ax in figure.axes)


def test_labels_of_more_than_a_hundred_classes_are_drawn() -> None:
    rows = [f"{value},{-value},kind {value}" for value in range(120)]
    Path("table.csv").write_text("\n".join(["a,b,kind", *rows]) + "\n")
    sizes = ["--rows", "10", "--cols", "12", "--epochs", "1", "--quiet", "--label-column", "kind", "--out", "map"]
    assert main(["fit", "table.csv", "--model", "som", *sizes]) == 0
    assert main(["plot", "map", "--kind", "labels"]) == 0
    assert imread("map/labels.png").shape[2] == 4


def test_every_picture_has_a_caption_and_pages_have_that_of_the_first() -> None:
    assert {f"{kind}.png" for kind in map_pictures.KINDS} | set(MODEL_PICTURES) == CAPTIONS.keys()
    for caption in CAPTIONS.values():
        assert caption.title[0].isupper()
        assert caption.sentence.endswith(".")
    first, second = caption_of("component_planes.png"), caption_of("component_planes-2.png")
    assert first is not None
    assert second == (f"{first.title}, page 2", first.sentence)
    assert caption_of("holiday.png") is None
    assert caption_of("holiday-2.png") is None


def test_samples_of_several_codes_have_no_table_of_clusters() -> None:
    assert main([*FIT, "--model", "vqvae", "--network", "conv", "--num-codes", "6", "--out", "run"]) == 0
    assert pictures_in(Path("run")).keys() == ALWAYS


def test_data_that_are_not_images_are_not_drawn_as_images() -> None:
    rows = [f"{value},{-value},{value % 2}" for value in range(40)]
    Path("table.csv").write_text("\n".join(["a,b,kind", *rows]) + "\n")
    options = ["--model", "gumbel-vae", "--label-column", "kind", "--out", "run"]
    assert main(["fit", "table.csv", *QUICK, *SIZES["gumbel-vae"], *options]) == 0
    assert pictures_in(Path("run")).keys() == {"contingency", "curves", "iterations"}


def test_the_experts_images_of_one_z_are_recorded_across_a_resumed_training() -> None:
    moe = [*FIT, "--model", "moe-vae", *SIZES["moe-vae"], "--out"]
    assert main([*moe, "interrupted"]) == 0
    assert main(["fit", "--resume", "interrupted", "--epochs", "3"]) == 0
    assert main([*moe, "whole", "--epochs", "3"]) == 0
    experts, expected = (ResultFolder.open(run).load_tensors("experts") for run in ("interrupted", "whole"))
    assert experts is not None
    assert expected is not None
    assert experts["epochs"].tolist() == [1, 2, 3]
    images = experts["images"]
    assert images.equal(expected["images"])
    assert not images[0].equal(images[2])
    last = somvae_ext.load("whole").sample_each_category(1, generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr]
    assert images[2].equal(last[:, 0])


@pytest.mark.parametrize(
    ("name", "options", "picture"),
    [
        ("vae", [], "samples"),
        ("somvae", [], "samples"),
        ("gumbel-vae", [], "categories"),
        ("gumbel-vae", ["--category", "9"], "category"),
        ("moe-vae", ["runs/vae"], "side-by-side"),
    ],
)
def test_samples_are_drawn_into_the_run_by_default(
    runs: Path, name: str, options: list[str], picture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs / name / f"{picture}.png"
    path.unlink(missing_ok=True)
    assert main(["sample", str(runs / name), *options]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert imread(path).shape[2] == 4
    ResultFolder.create(runs / name, "model", overwrite=True).save_checkpoint(1, {}, {}, {})
    assert not path.exists()  # overwriting the run removes it


def test_the_seed_determines_the_samples(runs: Path) -> None:
    drawn = {}
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(["sample", "runs/gumbel-vae", "--seed", seed, "-o", f"{name}.png"]) == 0
        drawn[name] = Path(f"{name}.png").read_bytes()
    assert drawn["a"] == drawn["b"] != drawn["c"]


def test_the_number_of_samples_is_that_of_each_row_or_of_the_whole_sheet(runs: Path) -> None:
    sizes = {}
    for name, options in (("8", []), ("4", ["-n", "4"]), ("one", ["--category", "0", "-n", "16"])):
        assert main(["sample", "runs/gumbel-vae", *options, "-o", f"{name}.png"]) == 0
        height, width, _ = imread(f"{name}.png").shape
        sizes[name] = width / height
    assert sizes["8"] > 1.5 * sizes["4"]  # ten rows of eight samples, and ten rows of four
    assert sizes["one"] > 3  # two rows of eight samples


def test_two_models_are_drawn_side_by_side_under_their_names(runs: Path) -> None:
    models = [somvae_ext.load(runs / name) for name in ("conditional-vae", "gumbel-vae")]
    samples = [model.sample_each_category(8) for model in models]  # type: ignore[union-attr]
    figure = _figure_side_by_side(["left", "right"], models, samples)
    assert [ax.get_title() for ax in figure.axes] == ["left", "right"]
    assert [ax.get_ylabel() for ax in figure.axes] == ["class", "category"]
    for ax, model, images in zip(figure.axes, models, samples, strict=True):
        alone = _draw(model, images)
        assert (ax.images[0].get_array() == alone.images[0].get_array()).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["runs/vae", "-n", "0"], "-n must be at least 1, got 0"),
        (["runs/vae", "-n", "few"], "--number must be an integer, got 'few'"),
        (["runs/vae", "--seed", "-1"], "--seed must be an integer from 0 to 4294967295, got -1"),
        (["runs/gumbel-vae", "--category", "10"], "--category must be from 0 to 9 for runs/gumbel-vae, got 10"),
        (["runs/moe-vae", "--category", "-1"], "--category must be from 0 to 2 for runs/moe-vae, got -1"),
        (["runs/gumbel-vae", "runs/moe-vae", "--category", "5"], "--category must be from 0 to 2 for runs/moe-vae"),
        (
            ["runs/vae", "--category", "1"],
            "--category is for models with classes, categories or experts to choose from, but runs/vae is a vae",
        ),
        (["nowhere"], NO_RESULT),
        (["runs/vae", "nowhere"], NO_RESULT),
        (["map"], "map must hold a trained model, but it holds a map"),
        (["runs/vae", "-o", "samples.pdf"], "--output must be a .png file, got samples.pdf"),
        (["runs/vae", "-o", "no/folder.png"], "--output must be a file in a folder that exists, but no does not"),
        ([], "RUN is missing"),
        (["runs/vae", "runs/vae", "runs/vae"], "unexpected argument 'runs/vae'"),
    ],
)
def test_invalid_arguments_are_refused_with_one_sentence(
    runs: Path, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ResultFolder.create("map", "map").save_config({})
    assert main(["sample", *options]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_samples_that_are_no_images_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("table.csv").write_text("a,b\n" + "\n".join(f"{value},{-value}" for value in range(40)) + "\n")
    assert main(["fit", "table.csv", *QUICK, *SIZES["vae"], "--model", "vae", "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["sample", "run"]) == 2
    assert "run: must be the run of a model of images, but its samples have shape [2]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["nowhere"], NO_RESULT),
        (["runs/vae", "-o", "file"], "--out file must be a folder, but a file is there"),
        ([], "RUN is missing"),
    ],
)
def test_invalid_arguments_of_plot_are_refused_with_one_sentence(
    runs: Path, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    assert main(["plot", *options]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.out == ""


def test_an_output_that_cannot_be_written_leaves_the_existing_file(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(runs / "vae")

    def interrupted(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", interrupted)
    assert main(["sample", "runs/vae"]) == 2
    assert contents(runs / "vae") == before
