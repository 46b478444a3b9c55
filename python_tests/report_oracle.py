"""What a report should say about the runs of :mod:`browser_runs`.

Computed in plain NumPy without somvae_ext.report, from the data files, the codes and the model's own methods.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import browser_runs
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

import somvae_ext
from somvae_ext.models import GumbelVAE
from somvae_ext.store import KeptClusters, ResultFolder
from somvae_ext.training import RunRecord

MOVES = {
    "ArrowUp": (-1, 0),
    "ArrowDown": (1, 0),
    "ArrowLeft": (0, -1),
    "ArrowRight": (0, 1),
}


SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Sheet:
    """The layout of the nodes on the plotted sheet."""

    rows: int
    cols: int
    nodes: int
    hexagonal: bool = False
    periodic: bool = False

    def place(self, node: int) -> tuple[float, float]:
        row, column = divmod(node, self.cols)
        return (column + row % 2 / 2, -row * math.sqrt(3) / 2) if self.hexagonal else (column, -row)

    @property
    def period(self) -> tuple[float, float]:
        return self.cols, self.rows * (math.sqrt(3) / 2 if self.hexagonal else 1)

    def offset(self, node: int, other: int) -> tuple[float, float]:
        """Returns the shortest step (x, y) from a node to another, across the edges if the map is periodic."""
        (x, y), (other_x, other_y) = self.place(node), self.place(other)
        way = other_x - x, other_y - y
        if not self.periodic:
            return way
        return tuple(step - size * round(step / size) for step, size in zip(way, self.period, strict=True))  # type: ignore[return-value]

    def neighbors(self, node: int) -> set[int]:
        """Returns a node's neighbors: up to 6 on a hexagonal grid, up to 8 on a rectangular one."""
        near = set()
        for other in range(self.nodes):
            x, y = self.offset(node, other)
            if other != node and (math.hypot(x, y) < 1.01 if self.hexagonal else max(abs(x), abs(y)) < 1.01):
                near.add(other)
        return near

    def move(self, node: int, key: str) -> int:
        """Returns the node to which an arrow key leads."""
        row, column = (at + step for at, step in zip(divmod(node, self.cols), MOVES[key], strict=True))
        if self.periodic:
            row, column = row % self.rows, column % self.cols
        is_on_map = 0 <= row < self.rows and 0 <= column < self.cols
        return row * self.cols + column if is_on_map else node


@dataclasses.dataclass(frozen=True)
class Found:
    """Samples and the nodes that they belong to.

    Args:
        ids: identifier of each sample.
        node: node of each sample.
        measured: distance of each sample to its node's code, or probability of its category.
        label: class of each sample.
        likelier: whether a larger ``measured`` means a better match, as for probabilities.
        split: split of each sample; None for a map, which is trained on all data.
    """

    ids: Sequence[str]
    node: NDArray[np.int64]
    measured: NDArray[Any]
    label: Sequence[str] | None
    likelier: bool = False
    split: Sequence[str] | None = None

    def nearest(self, node: int, most: int = 5) -> list[int]:
        members = np.flatnonzero(self.node == node).tolist()
        sign = -1 if self.likelier else 1
        return sorted(members, key=lambda at: (sign * float(self.measured[at]), at))[:most]


@dataclasses.dataclass(frozen=True)
class Oracle:
    """The true facts about a run.

    Args:
        hits: number of training samples of each node.
        classes: counts of the training samples' classes in each node.
        found: the samples that the report can search for.
        features: names of the features, the codes ``[K, D]`` in the units of the data, and the training data's mean and
            standard deviation.
        transitions: probabilities from each node to each node, ``[K, K]``.
        walks: nodes of the frames of each series, by its name and split.
    """

    noun: str
    sheet: Sheet
    hits: NDArray[np.int64]
    found: Found
    classes: list[Counter[str]] | None = None
    cluster: NDArray[np.int64] | None = None
    u_matrix: NDArray[np.float64] | None = None
    features: tuple[list[str], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None = None
    transitions: NDArray[np.float64] | None = None
    walks: dict[str, NDArray[np.int64]] | None = None

    def main_class(self, node: int) -> str | None:
        """Returns a node's most frequent class; among equally frequent ones, the first by name."""
        assert self.classes is not None
        counted = self.classes[node]
        return min(counted, key=lambda name: (-counted[name], name)) if counted else None


def _map(run: Path, x: NDArray[Any], ids: Sequence[str], label: Sequence[str] | None, *, scaled: bool) -> Oracle:
    saved = somvae_ext.load(run)
    grid = saved.grid
    sheet = Sheet(grid.rows, grid.cols, grid.num_nodes, grid.topology == "hexagonal", grid.periodic)
    mean, deviation = np.nanmean(x, axis=0, dtype=np.float64), np.nanstd(x, axis=0, dtype=np.float64)
    scaled_x = (x - mean) / deviation if scaled else x.astype(np.float64)
    codes = np.asarray(saved.som.codebook_, np.float64)
    node, distance = _winners(scaled_x, codes)
    classes = None
    if label is not None:
        classes = [Counter(name for name, at in zip(label, node, strict=True) if at == k) for k in range(len(codes))]
    near = [sorted(sheet.neighbors(k)) for k in range(len(codes))] if len(codes) < 1000 else None
    u_matrix = None
    if near is not None:
        u_matrix = np.array([np.linalg.norm(codes[near[k]] - codes[k], axis=1).mean() for k in range(len(codes))])
    clusters = KeptClusters.load(ResultFolder.open(run), len(codes))
    names = list(saved.feature_names or [f"feature {number}" for number in range(x.shape[1])])
    return Oracle(
        noun="node",
        sheet=sheet,
        hits=np.bincount(node, minlength=len(codes)),
        found=Found(ids, node, distance, label),
        classes=classes,
        cluster=None if clusters is None else clusters.cluster,
        u_matrix=u_matrix,
        features=(names, codes * deviation + mean if scaled else codes, mean, deviation),
    )


def _winners(x: NDArray[np.float64], codes: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns the nearest code of each row and its distance as scikit-learn's nan_euclidean_distances defines it."""
    distance = cdist(x, codes)  # sums squared differences: equal codes have bitwise equal distances
    for row in np.flatnonzero(np.isnan(x).any(axis=1)).tolist():
        present = ~np.isnan(x[row])
        distance[row] = cdist(x[row : row + 1, present], codes[:, present]) * math.sqrt(len(present) / present.sum())
    node = distance.argmin(axis=1)
    return node, distance[np.arange(len(x)), node]


def of_table_map(run: Path) -> Oracle:
    path = run.with_name("patients.csv")
    frame = pd.read_csv(path, sep=";", decimal=",", encoding="cp1252", na_values="k.A.")
    names = somvae_ext.load(run).feature_names

    def column(name: str) -> NDArray[np.float64]:
        if name in frame:
            return frame[name].to_numpy(np.float64)
        return (frame[browser_runs.CATEGORY] == name.removeprefix(f"{browser_runs.CATEGORY}=")).to_numpy(np.float64)

    x = np.stack([column(name) for name in names], axis=1)
    return _map(run, x, frame[browser_runs.ID].tolist(), frame[browser_runs.CLASS].tolist(), scaled=True)


def of_large_map(run: Path) -> Oracle:
    x = np.load(run.with_name("rows.npy"))
    return _map(run, x, [str(row) for row in range(len(x))], None, scaled=True)


def of_hexagonal_map(run: Path) -> Oracle:
    table = somvae_ext.load(run).record.data.load()
    labels = [str(label) for label in table.label.tolist()]
    number_of = {image.tobytes(): str(number) for number, image in enumerate(load_digits().data / 16)}
    ids = [number_of[image.tobytes()] for image in table.x.astype(np.float64)]
    oracle = _map(run, table.x, ids, labels, scaled=False)
    return dataclasses.replace(oracle, features=None)


def _splits(run: Path) -> tuple[RunRecord, Any]:
    record = RunRecord.from_folder(ResultFolder.open(run))
    return record, record.data.load()


def of_series(run: Path) -> Oracle:
    record, splits = _splits(run)
    model = somvae_ext.load(run)
    series = {  # first scaled frame -> name and scaled series
        scaled[0].numpy().tobytes(): (path.stem, scaled)
        for path in run.with_name("wards").iterdir()
        for scaled in [record.data.scaling.apply(torch.from_numpy(pd.read_csv(path).to_numpy(np.float64))).float()]
    }
    walks, distances = {}, {}
    for split in SPLITS:
        for first in getattr(splits, split).x[:, 0]:
            name, x = series.pop(first.numpy().tobytes())
            with torch.no_grad():
                node, z = model.assign(x[None])[0], model.encode(x[None])[0]
                walks[name, split] = node.numpy()
                distances[name, split] = (z - model.quantizer.codebook[node]).double().norm(dim=-1).numpy()
    assert not series
    keys = sorted(walks)
    frames = [(name, split, frame) for name, split in keys for frame in range(len(walks[name, split]))]
    train = splits.train
    with torch.no_grad():
        decoded = model.decoded_map().flatten(0, 1).double().numpy()
        transitions = model.transitions.logits.double().softmax(dim=1).numpy()
    data = np.asarray(record.data.scaling.undo(train.x[train.mask].double().numpy()))
    codes = np.asarray(record.data.scaling.undo(decoded))
    config = model.config
    return Oracle(
        noun="node",
        sheet=Sheet(config.rows, config.cols, config.rows * config.cols),
        hits=np.bincount(np.concatenate([walks[key] for key in keys if key[1] == "train"]), minlength=len(codes)),
        found=Found(
            [f"{name}, {frame}" for name, _, frame in frames],
            np.concatenate([walks[key] for key in keys]),
            np.concatenate([distances[key] for key in keys]),
            None,
            split=[split for _, split, _ in frames],
        ),
        features=(list(record.data.feature_names or ()), codes, data.mean(axis=0), data.std(axis=0)),
        transitions=transitions,
        walks={f"{name} ({split})": walks[name, split] for name, split in keys},
    )


def of_gumbel_vae(run: Path) -> Oracle:
    _, splits = _splits(run)
    model = somvae_ext.load(run)
    assert isinstance(model, GumbelVAE)
    digits = load_digits()
    x = torch.from_numpy((digits.images / 16).astype(np.float32))[:, None]
    split_of = {image.numpy().tobytes(): split for split in SPLITS for image in getattr(splits, split).x}
    split = [split_of[image.numpy().tobytes()] for image in x]
    with torch.no_grad():
        probability = model.encode(x).log_probs.double().exp()
    node, measured = probability.argmax(dim=1).numpy(), probability.amax(dim=1).numpy()
    labels = [str(label) for label in digits.target]
    classes = [Counter(label for label, at, part in zip(labels, node, split, strict=True) if (at, part) == (k, "train"))
               for k in range(model.num_clusters)]  # fmt: skip
    return Oracle(
        noun="category",
        sheet=Sheet(3, 4, model.num_clusters),
        hits=np.array([counted.total() for counted in classes]),
        found=Found([str(number) for number in range(len(x))], node, measured, labels, likelier=True, split=split),
        classes=classes,
    )


ORACLES: dict[str, Callable[[Path], Oracle]] = {
    "table-map": of_table_map,
    "large-map": of_large_map,
    "hexagonal-map": of_hexagonal_map,
    "series": of_series,
    "gumbel-vae": of_gumbel_vae,
}
"""The function that computes the expected facts, by kind of run."""
