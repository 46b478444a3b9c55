"""Methods that cluster pixels, without a network: k-means, minisom, and the batch map of this package."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from somvae_ext import evaluation, ops
from somvae_ext.data import InterpolatedSeries, Samples
from somvae_ext.experiments.nodes import cluster_figures
from somvae_ext.experiments.protocol import Outcome, Setting, Task
from somvae_ext.grid import Grid


class Fitted(NamedTuple):
    """What a method has learned: the codes ``[K, D]``, and a function from rows ``[N, D]`` to their nodes ``[N]``."""

    codes: NDArray[np.floating]
    predict: Callable[[NDArray[np.float32]], NDArray[np.integer]]


Fit = Callable[[NDArray[np.float32], Grid, dict[str, Any], int], Fitted]
"""Learns from rows of pixels ``[N, D]``, the grid of the nodes, options and a seed."""


@dataclasses.dataclass(frozen=True)
class PixelMethod:
    """A method that takes images, or frames of series, as rows of pixels.

    Args:
        title: the name in tables.
        settings: the settings to tune over; their options go to ``fit``.
        fit: the function that learns.
        rows, cols: size of the map, or of the sheet on which clusters without an order are shown.
        is_map: whether the nodes have neighbors.
        takes_all_images: see :class:`~somvae_ext.experiments.protocol.Method`.
        needs: a module that only this method imports.
    """

    title: str
    settings: tuple[Setting, ...]
    fit: Fit
    rows: int
    cols: int
    is_map: bool = True
    takes_all_images: bool = False
    needs: str | None = None

    takes_gpu = False

    def check_installed(self) -> None:
        if self.needs is not None:
            importlib.import_module(self.needs)

    def resolve(self, setting: Setting, task: Task) -> dict[str, Any]:
        return {"rows": self.rows, "cols": self.cols, **setting.options, "samples": len(task.splits.train)}

    def train(self, setting: Setting, task: Task) -> Outcome:
        grid, splits = Grid(self.rows, self.cols), task.splits
        fitted = self.fit(_pixels(splits.train), grid, dict(setting.options), task.seed)
        part: Any = task.held_out_data
        x = _pixels(part)
        figures = cluster_figures(_labels(part), fitted.predict(x), grid.num_nodes)
        if self.is_map:
            figures |= _map_figures(torch.as_tensor(x), torch.as_tensor(fitted.codes), grid)
        if isinstance(part, InterpolatedSeries):
            static = cluster_figures(_labels(part.images), fitted.predict(_pixels(part.images)), grid.num_nodes)
            figures |= {f"static_{name}": value for name, value in static.items()}
        sheet = (self.rows, self.cols, *splits.sample_shape[-2:])
        prototypes = (fitted.codes.reshape(sheet).clip(0, 1) * 255).round().astype(np.uint8)
        return Outcome(figures, {"prototypes": prototypes})


def kmeans(rows: int, cols: int) -> PixelMethod:
    """k-means++ by scikit-learn, the best of ten starts; on still images it takes the whole training split."""
    settings = tuple(
        Setting(
            "pixels" if components is None else f"{components} principal components",
            {"components": components, "n_init": 10},
        )
        for components in (None, 128, 64, 32)
    )
    return PixelMethod(
        "k-means", settings, _fit_kmeans, rows, cols, is_map=False, takes_all_images=True, needs="sklearn"
    )


def minisom(rows: int, cols: int) -> PixelMethod:
    """The package MiniSom: on-line, five passes over the samples in a random order."""
    settings = tuple(
        Setting(f"sigma {sigma}, rate {rate}", {"sigma": sigma, "learning_rate": rate, "passes": 5})
        for sigma in (0.5, 1.0)
        for rate in (0.1, 0.5)
    )
    return PixelMethod("minisom", settings, _fit_minisom, rows, cols, needs="minisom")


def batch_som(rows: int, cols: int) -> PixelMethod:
    """This package's batch map, :class:`~somvae_ext.estimators.SOM`."""
    settings = tuple(
        Setting(f"sigma {sigma}", {"sigma_final": sigma, "init": "random", "n_epochs": 20})
        for sigma in (0.2, 0.3, 0.5, 0.7)
    )
    return PixelMethod("batch SOM", settings, _fit_batch_som, rows, cols, needs="sklearn")


def _fit_kmeans(x: NDArray[np.float32], grid: Grid, options: dict[str, Any], seed: int) -> Fitted:
    from sklearn.cluster import KMeans  # type: ignore[import-untyped]
    from sklearn.decomposition import PCA  # type: ignore[import-untyped]

    kmeans = KMeans(grid.num_nodes, init="k-means++", n_init=options["n_init"], random_state=seed)
    if options["components"] is None:
        kmeans.fit(x)
        return Fitted(kmeans.cluster_centers_, kmeans.predict)
    pca = PCA(min(options["components"], *x.shape), random_state=seed)
    kmeans.fit(pca.fit_transform(x))
    return Fitted(pca.inverse_transform(kmeans.cluster_centers_), lambda rows: kmeans.predict(pca.transform(rows)))


def _fit_minisom(x: NDArray[np.float32], grid: Grid, options: dict[str, Any], seed: int) -> Fitted:
    from minisom import MiniSom  # type: ignore[import-untyped]

    passes = options.pop("passes")
    som = MiniSom(grid.rows, grid.cols, x.shape[1], random_seed=seed, **options)
    som.random_weights_init(x)
    som.train(x, passes * len(x), random_order=True)
    codes = som.get_weights().reshape(-1, x.shape[1])
    codebook = torch.as_tensor(codes, dtype=torch.float32)
    return Fitted(codes, lambda rows: ops.bmu(torch.as_tensor(rows), codebook).index.numpy())


def _fit_batch_som(x: NDArray[np.float32], grid: Grid, options: dict[str, Any], seed: int) -> Fitted:
    from somvae_ext.estimators import SOM

    som = SOM(grid.rows, grid.cols, random_state=seed, **options).fit(x)
    return Fitted(np.asarray(som.codebook_), lambda rows: np.asarray(som.predict(rows)))


def _pixels(part: Samples | InterpolatedSeries) -> NDArray[np.float32]:
    """Images, or all frames of series, as rows ``[N, D]``."""
    x = part.x
    frames = x.flatten(0, 1) if isinstance(part, InterpolatedSeries) else x
    result: NDArray[np.float32] = frames.flatten(1).numpy()
    return result


def _labels(part: Samples | InterpolatedSeries) -> Tensor:
    """The class of each row of :func:`_pixels`."""
    assert part.label is not None
    return part.label.flatten()


def _map_figures(x: Tensor, codes: Tensor, grid: Grid) -> dict[str, float]:
    codes = codes.to(x.dtype)
    errors = {
        f"topographic_error_{connectivity}": evaluation.topographic_error(x, codes, grid, connectivity=connectivity)
        for connectivity in grid.connectivities
    }
    return errors | {"order": evaluation.prototype_order(codes, grid)}
