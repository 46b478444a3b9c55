"""The HTML that fitted maps, models and loaded results show in a notebook."""

from __future__ import annotations

import base64
import copy
import io
import pickle
import random
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from installations import python_without
from PIL import Image
from sklearn.base import clone
from sklearn.utils import estimator_html_repr

import somvae_ext
from somvae_ext.cli import main
from somvae_ext.estimators import SOM, SOMVAEClusterer
from somvae_ext.models import MODELS, SOMVAE, SOMVAEConfig
from somvae_ext.models.saved_model import model_section
from somvae_ext.store import ResultFolder

X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
IMAGES = np.random.default_rng(0).random((60, 1, 4, 4), dtype=np.float32)
VOID = {"img", "input", "br", "hr", "path", "rect", "circle", "line"}
SIZES: dict[str, dict[str, Any]] = {"somvae": {"rows": 2, "cols": 3}, "vqvae": {"num_codes": 20}}
CANNOT = "cannot be"


class Page(HTMLParser):
    """Parses a page, checks that its tags are balanced, and collects pictures, their captions and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[Image.Image] = []
        self.captions: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            values = dict(attrs)
            assert values["alt"]
            self.captions.append(values["alt"])
            kind, _, data = str(values["src"]).partition(",")
            assert kind == "data:image/png;base64"
            self.pictures.append(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data


def shown(thing: Any) -> Page:
    """Returns the parsed page of an object, which must show no failure."""
    page = Page(thing._repr_html_())
    assert CANNOT not in page.text
    return page


def captions(page: Page) -> list[str]:
    return [caption.partition(":")[0] for caption in page.captions]


def generators() -> tuple[Any, ...]:
    """Returns the states of the global random number generators."""
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()  # noqa: NPY002


def make(name: str, shape: tuple[int, ...] = (1, 4, 4), **options: Any) -> Any:
    torch.manual_seed(0)
    return MODELS[name](MODELS[name].config_type(input_shape=shape, **SIZES.get(name, {}) | options))  # type: ignore[call-arg]


def load_written(path: Path, model: Any) -> Any:
    folder = ResultFolder.create(path / "run", "model")
    folder.save_config({"model": model_section(type(model), model.config)})
    folder.save_checkpoint(1, model.state_dict(), {}, {})
    return somvae_ext.load(path / "run")


# ---- maps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "options", "data", "facts"),
    [
        ((3, 4), {}, X, "3 x 4 nodes, rectangular · 60 rows · 3 features · quantization error"),
        ((4, 3), {"topology": "hexagonal", "periodic": True}, X, "4 x 3 nodes, hexagonal, periodic · 60 rows"),
        ((3, 4), {}, torch.from_numpy(X), "3 x 4 nodes, rectangular · 60 rows"),
        ((1, 1), {}, X, "1 x 1 nodes, rectangular"),
        ((1, 20), {}, X, "1 x 20 nodes, rectangular"),
        ((20, 1), {}, X[:, :1], "60 rows · 1 feature · quantization"),
        ((3, 4), {"metric": "cosine", "feature_weights": [1, 0, 2]}, X, "3 x 4 nodes"),
    ],
    ids=["rectangular", "hexagonal", "tensor", "one node", "row", "column", "weights"],
)
def test_a_fitted_map_shows_u_matrix_and_hits(
    size: tuple[int, int], options: dict[str, Any], data: Any, facts: str
) -> None:
    som = SOM(*size, n_epochs=2, random_state=0, **options).fit(data)
    page = shown(som)
    assert captions(page) == ["U-matrix", "Hits"]
    assert page.text.startswith("SOM · ")
    assert facts in page.text
    assert f"quantization error {som.quantization_error_:.4g} · " in page.text
    assert f"{(som.hits_ > 0).sum()} of {size[0] * size[1]} nodes used" in page.text
    assert "Parameters" in page.text  # from scikit-learn's diagram


def test_unknown_facts_are_not_shown() -> None:
    page = shown(SOM(3, 4, n_epochs=2, compute_labels=False).fit(X))
    assert captions(page) == ["U-matrix"]
    first = page.text.partition("U-matrix")[0]
    assert first == "SOM · 3 x 4 nodes, rectangular · 3 features"
    assert captions(shown(SOM(3, 4).partial_fit(X))) == ["U-matrix"]


def test_an_unfitted_estimator_is_shown_by_scikit_learn() -> None:
    for estimator in (SOM(3, 4), clone(SOM(3, 4, n_epochs=2).fit(X)), SOMVAEClusterer()):
        page = Page(estimator._repr_html_())
        assert page.pictures == []
        assert page.text == Page(estimator_html_repr(estimator)).text


def test_copies_and_mime_bundles_show_the_same_page() -> None:
    som = SOM(3, 4, n_epochs=2).fit(X)
    page = shown(som)
    for other in (pickle.loads(pickle.dumps(som)), copy.deepcopy(som)):
        assert shown(other).pictures == page.pictures
    bundle = som._repr_mimebundle_(include=None, exclude=None)
    assert Page(bundle["text/html"]).pictures == page.pictures
    assert bundle["text/plain"] == repr(som)


def test_scikit_learns_display_setting_is_respected() -> None:
    som = SOM(3, 4, n_epochs=2).fit(X)
    with sklearn.config_context(display="text"):
        assert not hasattr(som, "_repr_html_")
        assert "text/html" not in som._repr_mimebundle_()


@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
def test_the_page_of_a_large_map_of_noise_stays_small(topology: Any) -> None:
    rng = np.random.default_rng(0)
    start = rng.random((128 * 128, 3))
    som = SOM(128, 128, topology=topology, init=start, sigma_initial=1e-9, sigma_final=1e-9, n_epochs=1)
    som.fit(rng.random((30_000, 3)))
    som.hits_ = rng.integers(50, size=128 * 128)
    html = som._repr_html_()
    assert len(shown(som).pictures) == 2
    assert len(html) < 300_000


def test_names_are_escaped_and_long_lists_cut() -> None:
    frame = pd.DataFrame(X, columns=["<script>alert(1)</script>", "a & b", "c"])
    page = shown(SOM(2, 2, n_epochs=2).fit(frame))
    assert "3 features: <script>alert(1)</script>, a & b, c · " in page.text
    wide = pd.DataFrame(np.repeat(X, 10, axis=1), columns=[f"column{number}" for number in range(30)])
    assert "column11 and 18 more · " in shown(SOM(2, 2, n_epochs=2).fit(wide)).text


def test_a_map_from_a_folder_shows_its_data(tmp_path: Path) -> None:
    frame = pd.DataFrame(X, columns=["<i>age", "b", "c"]).assign(kind=["<b>yes", "no"] * 30)
    frame.to_csv(tmp_path / "table.csv", index=False)
    options = ["--model", "som", "--label-column", "kind", "--size", "3x4", "--out", str(tmp_path / "map")]
    assert main(["fit", str(tmp_path / "table.csv"), *options]) == 0
    saved: Any = somvae_ext.load(tmp_path / "map")
    page = shown(saved)
    assert captions(page) == ["U-matrix", "Hits"]
    assert page.text.startswith("SavedMap · 3 x 4 nodes, rectangular · 60 rows of ")
    assert "3 features: <i>age, b, c · 2 classes: <b>yes, no · " in page.text
    assert f"quantization error of the scaled data {saved.som.quantization_error_:.4g} · " in page.text
    # The estimator alone does not know how its data were preprocessed.
    assert captions(shown(saved.som)) == ["U-matrix", "Hits"]


def test_codes_are_images_where_the_data_are_known_to_be_images(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    options = ["--model", "som", "--size", "2x3", "--out", str(tmp_path / "map")]
    assert main(["fit", str(tmp_path / "images.npy"), *options]) == 0
    saved: Any = somvae_ext.load(tmp_path / "map")
    assert saved.image_shape == (1, 4, 4)
    assert captions(shown(saved)) == ["U-matrix", "Hits", "What each node stands for"]


@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
@pytest.mark.parametrize("kind", ["images", "table", "series"])
def test_a_clusterer_shows_its_map(topology: Any, kind: str) -> None:
    data = {"images": IMAGES, "table": X, "series": X.reshape(6, 10, 3)}[kind]
    clusterer = SOMVAEClusterer(2, 3, topology=topology, n_epochs=1, preset=None, random_state=0)
    clusterer.set_params(kind="series" if kind == "series" else None).fit(data)
    page = shown(clusterer)
    expected = {"images": "60 samples · images 1 x 4 x 4", "table": "60 samples · 3 features", "series": "60 frames"}
    assert f"SOMVAEClusterer · 2 x 3 nodes, {topology} · {expected[kind]} · " in page.text
    assert captions(page) == ["U-matrix", "Hits", "What each node stands for"][: 3 if kind == "images" else 2]


# ---- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("somvae", {}, "What each node stands for"),
        ("somvae", {"topology": "hexagonal"}, "What each node stands for"),
        ("vqvae", {}, "The decoded codes"),
        (
            "vqvae",
            {"network": "conv", "num_codes": 200},
            "The decoded codes, each in all places of a sample, 128 of 200",
        ),
        ("vae", {}, "Samples from the prior"),
        ("conditional-vae", {}, "Samples from the prior, a row for each category"),
        ("gumbel-vae", {"num_categories": 30}, "Samples from the prior"),
        ("moe-vae", {}, "Samples from the prior, a row for each category"),
    ],
)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 4)], ids=["gray", "color"])
def test_a_model_of_images_shows_what_it_draws(
    name: str, options: dict[str, Any], expected: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    model = make(name, shape, **options)
    page = shown(model)
    assert captions(page) == [expected]
    assert page.text.startswith(f"{type(model).__name__} · ")
    count = sum(value.numel() for value in model.parameters())
    assert f"samples {' x '.join(map(str, shape))} · {count:,} parameters" in page.text
    for field in vars(model.config):
        assert field in page.text
    assert page.pictures == shown(load_written(tmp_path, model)).pictures


@pytest.mark.parametrize("name", list(MODELS))
def test_a_model_of_tables_shows_its_map_if_it_has_one(name: str) -> None:
    page = shown(make(name, (3,)))
    assert captions(page) == (["U-matrix"] if name == "somvae" else [])
    assert "samples of 3 features · " in page.text


def test_a_large_map_is_not_decoded() -> None:
    model = make("somvae", rows=40, cols=40, latent_dim=2)
    assert captions(shown(model)) == ["U-matrix"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", list(MODELS))
def test_models_of_any_dtype_are_shown(name: str, dtype: torch.dtype) -> None:
    shown(make(name).to(dtype))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", list(MODELS))
def test_showing_a_model_changes_no_mode_weight_or_random_state(name: str, training: bool) -> None:
    model = make(name).train(training)
    model.register_module("probe", torch.nn.BatchNorm1d(2).train(not training))
    state = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    before = generators()
    shown(model)
    assert modes == [module.training for module in model.modules()]
    assert all(value.equal(state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert generators() == before


def test_showing_a_custom_network_keeps_its_running_statistics() -> None:
    config = SOMVAEConfig(input_shape=(1, 4, 4), rows=2, cols=3, latent_dim=2)
    norm = torch.nn.BatchNorm1d(16)
    decoder = torch.nn.Sequential(torch.nn.Linear(2, 16), norm, torch.nn.Dropout(), torch.nn.Unflatten(1, (1, 4, 4)))
    model = SOMVAE(config, decoder_q=decoder).train()
    before = norm.running_mean.clone()  # type: ignore[union-attr]
    assert shown(model).pictures == shown(model).pictures
    assert norm.running_mean.equal(before)  # type: ignore[union-attr, arg-type]
    assert norm.training


def test_showing_a_map_draws_no_random_number() -> None:
    som = SOM(3, 4, n_epochs=2, random_state=0).fit(X)
    before = generators()
    shown(som)
    assert generators() == before


# ---- failures --------------------------------------------------------------------------------------------------------


def test_a_picture_that_cannot_be_drawn_is_replaced_by_a_message() -> None:
    model = make("somvae", (3,))
    model.quantizer.codebook.data.fill_(torch.nan)
    page = Page(model._repr_html_())
    assert page.pictures == []
    assert "the picture cannot be drawn: ValueError: plot_u_matrix: codebook must be finite" in page.text
    assert "SOMVAEConfig" in page.text
    som = SOM(3, 4, n_epochs=2).fit(X)
    som.grid_ = None  # type: ignore[assignment]
    page = Page(som._repr_html_())
    assert "This result cannot be shown: AttributeError: " in page.text
    assert "Parameters" in page.text


def test_the_mode_is_restored_if_the_picture_cannot_be_drawn() -> None:
    model = make("vae")
    model.decoder = torch.nn.Identity()
    assert CANNOT in Page(model._repr_html_()).text
    assert all(module.training for module in model.modules())


def test_without_matplotlib_the_page_says_what_is_missing() -> None:
    code = (
        "import numpy as np; from somvae_ext.estimators import SOM; from somvae_ext.models import VAE, VAEConfig\n"
        "print(SOM(2, 2, n_epochs=1).fit(np.eye(4))._repr_html_())\n"
        "print(VAE(VAEConfig(input_shape=(1, 4, 4)))._repr_html_())"
    )
    run = python_without(["matplotlib"], code)
    assert run.returncode == 0, run.stderr
    page = Page(run.stdout)
    assert page.pictures == []
    assert page.text.count("No pictures: somvae_ext.plotting needs matplotlib, which is not installed") == 2
    assert "2 x 2 nodes, rectangular · 4 rows" in page.text
    assert "VAEConfig" in page.text
    assert CANNOT not in page.text
