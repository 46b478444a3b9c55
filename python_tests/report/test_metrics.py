"""Every metric of an evaluation has a title and a definition."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import somvae_ext
from somvae_ext import Grid
from somvae_ext.cli import main
from somvae_ext.data import InterpolatedSeries, Samples, Scaling
from somvae_ext.models import MODELS, SOMVAE, SOMVAEConfig
from somvae_ext.report.metrics import EvaluationContext, MeasuredMetric, measured_metrics
from somvae_ext.store import ResultFolder
from somvae_ext.training import clustering_metrics, evaluate

SHAPE = (1, 4, 4)
SIZES = {"somvae": {"rows": 2, "cols": 2, "latent_dim": 2}, "vqvae": {"num_codes": 4, "latent_dim": 2}}

Evaluation = dict[str, Any]


def make(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return MODELS[name](MODELS[name].config_type(input_shape=SHAPE, **SIZES.get(name, {}), **options)).eval()  # type: ignore[call-arg]


def samples(num_classes: int = 4) -> Samples:
    generator = torch.Generator().manual_seed(0)
    return Samples(torch.rand(40, *SHAPE, generator=generator), torch.arange(40) % num_classes)


def evaluate_static(name: str, **options: Any) -> tuple[Evaluation, EvaluationContext]:
    model = make(name, **options)
    return evaluate(model, samples(model.config.num_classes if name == "conditional-vae" else 4)), (
        EvaluationContext.of_model(model, "test", "static")
    )


@functools.cache
def evaluate_series() -> tuple[Evaluation, EvaluationContext]:
    torch.manual_seed(0)
    model = SOMVAE(SOMVAEConfig(input_shape=SHAPE, **SIZES["somvae"], gamma=1.0, tau=1.0)).eval()
    with torch.no_grad():  # every node wins a sample, so the series move
        model.quantizer.codebook.copy_(model.encode(samples().x[:4]))
    series = InterpolatedSeries(samples(), num_series=12)
    return evaluate(model, series, train=series) | clustering_metrics(model, series), (
        EvaluationContext.of_model(model, "test", "series")
    )


def evaluate_map(folder: Path, *options: str) -> tuple[Evaluation, EvaluationContext]:
    x = np.random.default_rng(0).normal(size=(60, 3))
    np.savez(folder / "table.npz", x=x, label=np.arange(60) % 3)
    path = str(folder / "map")
    assert main(["fit", str(folder / "table.npz"), "--model", "som", "--size", "3x4", "--out", path, *options]) == 0
    assert main(["evaluate", path]) == 0
    saved = somvae_ext.load(path)
    return ResultFolder.open(path).evaluations["train"], EvaluationContext.of_map(saved)  # type: ignore[arg-type]


def by_name(evaluation: Evaluation, context: EvaluationContext) -> dict[str, MeasuredMetric]:
    return {item.metric.name: item for item in measured_metrics(evaluation, context)}


def check_definitions(evaluation: Evaluation, context: EvaluationContext) -> None:
    items = by_name(evaluation, context)
    assert items.keys() == evaluation.keys()
    for name, (metric, value, text) in items.items():
        assert value == evaluation[name]
        value = value + 0  # turns -0.0 into 0.0
        assert text in (f"{value:.3f}", f"{value:.3g}", f"{value:.4g}", str(value)) or " of " in text
        assert re.match(r"[A-Z].*[^.]\.$", metric.definition), metric
        assert re.search(r"\b(is|are|were|ranges|measured)\b|^Mean |^Share |^Negative ", metric.definition), metric
        assert "{" not in metric.title + metric.meaning + metric.definition


@pytest.mark.parametrize("name", list(MODELS))
def test_metrics_of_each_model_are_defined(name: str) -> None:
    check_definitions(*evaluate_static(name))


def test_metrics_of_hexagons_grids_of_codes_and_series_are_defined() -> None:
    check_definitions(*evaluate_static("somvae", topology="hexagonal"))
    check_definitions(*evaluate_static("vqvae", network="conv"))
    check_definitions(*evaluate_series())


@pytest.mark.parametrize("options", [[], ["--topology", "hexagonal", "--scaling", "none"]], ids=["scaled", "hexagonal"])
def test_metrics_of_a_map_are_defined(options: list[str], tmp_path: Path) -> None:
    evaluation, context = evaluate_map(tmp_path, *options)
    check_definitions(evaluation, context)
    items = by_name(evaluation, context)
    error = items["quantization_error"]
    assert error.describe() == f"{evaluation['quantization_error']:.4g}" + (" (of the scaled data)" * (not options))
    assert re.fullmatch(r"\d+ of 12", items["usage"].describe())


def test_titles_are_unique_and_the_order_does_not_depend_on_the_evaluation() -> None:
    evaluation, context = evaluate_series()
    forward = measured_metrics(evaluation, context)
    backward = measured_metrics(dict(reversed(evaluation.items())), context)
    assert forward == backward
    titles = [item.metric.title for item in forward]
    assert len(set(titles)) == len(titles) > 20


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (-1e-17, "0.000"),
        (0.012, "0.012"),
        (0.00996, "0.010"),
        (0.0094, "0.0094"),
        (-0.0012345, "-0.00123"),
        (0.000012345, "1.23e-05"),
        (123.45678, "123.457"),
    ],
)
def test_small_values_keep_three_digits(value: float, text: str) -> None:
    (item,) = measured_metrics({"commitment": value}, EvaluationContext("test"))
    assert item.text == text


def test_unknown_names_are_shown_unchanged() -> None:
    context = EvaluationContext("test", clusters="nodes", num_clusters=4)
    purity, *others = measured_metrics({"novelty": 0.25, "note": "none", "purity": 1.0}, context)
    assert purity.describe() == "1.000"
    assert [(item.metric.title, item.metric.definition, item.describe()) for item in others] == [
        ("novelty", "", "0.250"),
        ("note", "", "none"),
    ]


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("purity", "higher"),
        ("nmi_geometric", "higher"),
        ("moves_within_1", "higher"),
        ("usage", "higher"),
        ("order", "lower"),
        ("quantization_error", "lower"),
        ("topographic_error_8", "lower"),
        ("transition_nll", "lower"),
        ("reconstruction_q", "lower"),
        ("lowest_nll", None),
        ("perplexity", None),
        ("samples", None),
    ],
)
def test_the_better_direction_of_each_metric(name: str, better: str | None) -> None:
    assert by_name(*evaluate_series())[name].metric.better == better


def test_scores_of_frames_and_of_static_images_are_labeled() -> None:
    evaluation, context = evaluate_series()
    items = by_name(evaluation, context)
    assert items["purity"].metric.meaning == "of frames"
    assert items["static_purity"].metric.meaning == "of the 40 images that the series are made of"
    assert items["acc"].metric.meaning == "of frames, nodes matched with classes"
    assert "frames" in items["purity"].metric.definition


# ---- which values can be compared ------------------------------------------------------------------------------------

EVERYTHING = dict.fromkeys(
    ("reconstruction", "commitment", "purity", "nmi_arithmetic", "quantization_error", "topographic_error_8", "usage"),
    0.5,
)
MAP = EvaluationContext(
    "train",
    clusters="nodes",
    num_clusters=12,
    is_map=True,
    data=("a",),
    grid=Grid(3, 4),
    units=("euclidean", None, None, Scaling()),
)
MODEL = EvaluationContext("test", clusters="nodes", num_clusters=12, data=("a",), grid=Grid(3, 4), reconstruction="mse")


def comparable(first: EvaluationContext, second: EvaluationContext) -> set[str]:
    """Returns the metrics whose values can be compared."""
    known = [{item.metric.name: item.metric for item in measured_metrics(EVERYTHING, each)} for each in (first, second)]
    return {
        name
        for name in EVERYTHING
        if known[0][name].comparable is not None and known[0][name].comparable == known[1][name].comparable
    }


OF_NODES = {"purity", "usage", "topographic_error_8"}


@pytest.mark.parametrize(
    ("context", "change", "names"),
    [
        (MAP, {}, EVERYTHING.keys() - {"commitment"}),
        (MAP, {"data": ("b",)}, set()),
        (MAP, {"data": None}, set()),
        (MAP, {"split": "test"}, set()),
        (MAP, {"grid": Grid(5, 4), "num_clusters": 20}, {"reconstruction", "nmi_arithmetic"}),
        (MAP, {"units": ("cosine", None, None, Scaling())}, EVERYTHING.keys() - {"commitment", "quantization_error"}),
        (MODEL, {}, EVERYTHING.keys() - {"commitment", "quantization_error"}),
        (MODEL, {"reconstruction": "bce"}, OF_NODES | {"nmi_arithmetic"}),
        (MODEL, {"grid": Grid(4, 3)}, {"purity", "usage", "nmi_arithmetic", "reconstruction"}),
    ],
)
def test_values_are_comparable_only_for_equal_data_sizes_and_units(
    context: EvaluationContext, change: dict[str, Any], names: set[str]
) -> None:
    assert comparable(context, dataclasses.replace(context, **change)) == names


def test_no_value_of_a_map_is_comparable_with_a_model() -> None:
    assert comparable(MAP, dataclasses.replace(MODEL, split="train")) == set()


def test_maps_of_different_sizes_have_equal_definitions() -> None:
    other = dataclasses.replace(MAP, grid=Grid(5, 4), num_clusters=20)
    definitions = [[item.metric.definition for item in measured_metrics(EVERYTHING, each)] for each in (MAP, other)]
    assert definitions[0] == definitions[1]
