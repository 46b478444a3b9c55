"""Objects with state or caches can be copied, pickled and saved, and the copy behaves as the original does."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from somvae_ext import Grid
from somvae_ext.data import InterpolatedSeries, Samples, Scaling
from somvae_ext.estimators import SOM
from somvae_ext.evaluation import NodeUsage
from somvae_ext.models import MODELS
from somvae_ext.nn import SOM as SOMLayer
from somvae_ext.nn import SOMQuantizer, TransitionModel, VectorQuantizer
from somvae_ext.optim import RowAdam
from somvae_ext.som import Metric


def saved_and_loaded(thing: Any) -> Any:
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "torch.save": saved_and_loaded,
}
Z = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))


def row_adam(parameter: torch.Tensor) -> RowAdam:
    optimizer = RowAdam([parameter], lr=0.1)
    rows = torch.tensor([[1, 3]])
    parameter.grad = torch.sparse_coo_tensor(rows, torch.ones(2, 6), parameter.shape, check_invariants=True)
    optimizer.step()
    return optimizer


def case(name: str) -> tuple[Any, Callable[[Any], Any]]:
    """Returns an object that has been used, and a function that uses it once more and returns the results."""
    torch.manual_seed(0)
    if name in MODELS:
        model: Any = MODELS[name](MODELS[name].config_type(input_shape=(1, 4, 4)))  # type: ignore[call-arg]
        x, label = torch.rand(5, 1, 4, 4), torch.arange(5)
        fields = {"x": x, "label": label} if "label" in model.batch_fields else {"x": x}
        model.loss(model(**fields), **fields).total.backward()
        return model.eval(), lambda model: model.reconstruct(**fields)
    if name == "Grid":
        grid = Grid(4, 5, "hexagonal")
        grid.neighbors(), grid.window(2)
        return grid, lambda grid: [grid.neighbors(), *grid.window(2)[:2]]
    if name == "SOMQuantizer":
        quantizer: Any = SOMQuantizer(Grid(4, 5), 6)
        quantizer(Z)[2].commitment.sum().backward()
        return quantizer, lambda quantizer: quantizer.assign(Z)
    if name == "VectorQuantizer":
        quantizer = VectorQuantizer(8, 6, update="ema")
        _, index, _ = quantizer(Z)
        quantizer.update_codebook(*quantizer.statistics(Z, index))
        return quantizer, lambda quantizer: [quantizer.codebook, quantizer.assign(Z)]
    if name in ("dense", "local"):
        transitions = TransitionModel(Grid(4, 5), kind=name, radius=1 if name == "local" else None)  # type: ignore[arg-type]
        transitions.matrix()
        return transitions, lambda transitions: transitions.stationary_distribution()
    if name == "SOM layer":
        layer = SOMLayer(4, 5, 6)
        return layer, lambda layer: layer.codebook
    if name == "RowAdam":
        return row_adam(torch.nn.Parameter(Z[:8].clone())), lambda optimizer: [
            *optimizer.state_dict()["state"].values()
        ]
    if name == "Metric":
        return Metric("minkowski", p=3.0), lambda metric: [metric.distance == "minkowski", metric.p]
    if name == "NodeUsage":
        usage = NodeUsage(5)
        usage.update(torch.tensor([0, 0, 3]))
        return usage, lambda usage: [usage.counts, usage.perplexity]
    if name in ("Samples", "Scaling", "InterpolatedSeries"):
        images = Samples(torch.rand(6, 1, 4, 4), torch.arange(6) % 3)
        if name == "InterpolatedSeries":
            return InterpolatedSeries(images), lambda series: series[2]
        if name == "Scaling":
            scaling = Scaling.from_samples(images, tabular=False, kind="standard")
            return scaling, lambda scaling: scaling.apply(images.x)
        return images, lambda samples: samples[3]
    x = np.random.default_rng(0).random((60, 3))
    som = SOM(5, 6, metric="cosine" if name == "cosine SOM" else "euclidean", n_epochs=2, random_state=0).fit(x)
    som.predict(x)
    return som, lambda som: [som.predict(x), som.transform(x), som.codebook_]


NAMES = [
    *MODELS,
    *("Grid", "SOMQuantizer", "VectorQuantizer", "dense", "local", "SOM layer", "RowAdam", "Metric", "NodeUsage"),
    *("Samples", "Scaling", "InterpolatedSeries", "SOM", "cosine SOM"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_a_copy_behaves_as_the_original_does(name: str, way: str) -> None:
    thing, use = case(name)
    copied = WAYS[way](thing)
    expected, got = use(thing), use(copied)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
