"""What the explorer of a page shows of a map, and how it is written for the browser.

``explorer.js`` reads what :meth:`Explorer.to_json` writes. Arrays are base64 of little-endian numbers, because numbers
in JSON would take three times the space.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from somvae_ext.data.scaling import Scaling
from somvae_ext.grid import Grid
from somvae_ext.report.sprites import Sprites
from somvae_ext.store import NodeClasses

MOST_NODES = 128 * 128
"""Number of nodes of the largest map that a browser draws and moves with ease."""

_LEAST_DEVIATION = 1e-6
_MOST_FEATURE_VALUES = 1 << 20  # over all nodes: 5.6 MB in base64


@dataclasses.dataclass(frozen=True)
class Features:
    """The features of the nodes, in the units of the data.

    Args:
        names: names of the D features that are shown.
        codes: codes ``[K, D]``.
        mean, deviation: mean and standard deviation of the training data, ``[D]`` each; None if they are not known.
        total: number of all features; those that vary most over the map are shown.
    """

    names: tuple[str, ...]
    codes: NDArray[np.float32]
    mean: NDArray[np.float64] | None
    deviation: NDArray[np.float64] | None
    total: int

    @classmethod
    def choose(
        cls,
        names: Sequence[str],
        codes: NDArray[np.floating[Any]],
        moments: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    ) -> Features:
        """Chooses all features or, of many, those whose codes vary most over the map relative to the data's deviation.

        Args:
            names: names of all D features.
            codes: codes ``[K, D]``.
            moments: mean and standard deviation of the training data, ``[D]`` each, if they are known.
        """
        most = max(_MOST_FEATURE_VALUES // len(codes), 1)
        total = len(names)
        chosen = np.arange(total)
        if total > most:
            spread = codes.std(axis=0)
            if moments is not None:
                spread = spread / np.where(moments[1] > 0, moments[1], np.inf)
            chosen = np.sort(np.argsort(-spread, kind="stable")[:most])
        kept = codes[:, chosen].astype(np.float32)
        shown = tuple(names[feature] for feature in chosen.tolist())
        if moments is None:
            return cls(shown, kept, None, None, total)
        mean, deviation = (part[chosen] for part in moments)
        kept[np.abs(kept) < _LEAST_DEVIATION * deviation] = 0  # rounding errors in a mean of zeros
        return cls(shown, kept, mean, deviation, total)


def moments_of(scaling: Scaling, dim: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Returns mean and standard deviation of the features that a scaling was fitted to, ``[D]`` each, if known."""
    if scaling.kind != "standard" or len(scaling.shift) != dim:
        return None
    return np.array(scaling.shift), np.array(scaling.width)


@dataclasses.dataclass(frozen=True)
class AssignedSamples:
    """Samples, or frames of series, and their nodes.

    Args:
        what: noun for one of them, such as ``"row"`` or ``"test frame"``.
        key: what it is found by, such as ``"index"`` or the name of the column of ids.
        total: number of samples, of which the N below can be found.
        ids: id of each sample that can be found, ``[N]``.
        node: node of each, int64 ``[N]``.
        distance: distance of each to its node's code, ``[N]``, or another measure of how well it belongs to the node.
        measure: name of that measure: ``"distance"`` or ``"probability"``.
        label: name of each sample's class, ``[N]``; None without labels.
        nearest: for each node the samples that it won and that are nearest to its code, int64 ``[K, n]``, as indices
            into ``ids``; -1 if there are fewer.
        split: name of each sample's split, ``[N]``; None if all are of one split.
        images: images of the first ``m`` nearest samples, node by node, ``[K * m]``.
    """

    what: str
    key: str
    total: int
    ids: Sequence[str]
    node: NDArray[np.int64]
    distance: NDArray[np.floating[Any]]
    label: Sequence[str] | None
    nearest: NDArray[np.int64]
    measure: str = "distance"
    split: Sequence[str] | None = None
    images: Sprites | None = None


@dataclasses.dataclass(frozen=True)
class Transitions:
    """The most likely next nodes of each node.

    Args:
        source: a sentence that says where the probabilities come from.
        target: next nodes, int64 ``[K, n]``, the likeliest first.
        probability: their probabilities, ``[K, n]``; 0 if there are fewer.
    """

    source: str
    target: NDArray[np.int64]
    probability: NDArray[np.floating[Any]]


@dataclasses.dataclass(frozen=True)
class SeriesPath:
    """One series as the nodes of its frames, int64 ``[T]``."""

    name: str
    node: NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explorer:
    """A map, or other codes on a sheet, to inspect node by node.

    Args:
        noun: noun for one of them: ``"node"``, ``"code"`` or ``"category"``.
        grid: grid of the sheet, whose last row need not be full if it is not a map.
        num_nodes: K.
        is_map: whether the sheet is a map, on which neighbors have a meaning.
        hits: number of training samples that each node won, int64 ``[K]``.
        hits_of: noun for these samples, in the plural, such as ``"training rows"``.
        classes: classes of these samples, if they have labels.
        cluster: cluster of each node, int64 ``[K]``, -1 for none.
        u_matrix: mean distance to the neighbors' codes, ``[K]``.
        u_matrix_of: what is measured, such as ``"euclidean distance of the scaled data"``.
        features: features of the codes or of the decoded codes.
        images: images of the codes or of the decoded codes.
        samples: samples that can be found.
        transitions: where series go from each node.
        paths: series to draw over the map.
    """

    noun: str
    grid: Grid
    num_nodes: int
    is_map: bool = True
    hits: NDArray[np.int64] | None = None
    hits_of: str = "training samples"
    classes: NodeClasses | None = None
    cluster: NDArray[np.int64] | None = None
    u_matrix: NDArray[np.floating[Any]] | None = None
    u_matrix_of: str = ""
    features: Features | None = None
    images: Sprites | None = None
    samples: AssignedSamples | None = None
    transitions: Transitions | None = None
    paths: Sequence[SeriesPath] = ()

    @property
    def nouns(self) -> str:
        """The plural of the noun."""
        return "categories" if self.noun == "category" else f"{self.noun}s"

    @property
    def title(self) -> str:
        """The title of the section."""
        return "Map" if self.is_map else self.nouns.capitalize()

    def to_json(self) -> dict[str, Any]:
        """Converts everything to types that JSON can hold."""
        grid = self.grid
        neighbors = grid.neighbors(connectivity=grid.connectivities[-1]).numpy()
        fields: dict[str, Any] = {
            "noun": self.noun,
            "nodes": self.num_nodes,
            "rows": grid.rows,
            "cols": grid.cols,
            "topology": grid.topology,
            "periodic": grid.periodic,
            "is_map": self.is_map,
            "hits_of": self.hits_of,
            "u_matrix_of": self.u_matrix_of,
            "neighbors": pack(neighbors, "i4") if self.is_map else None,
            "hits": None if self.hits is None else pack(self.hits, "i4"),
            "cluster": None if self.cluster is None else pack(self.cluster, "i4"),
            "u_matrix": None if self.u_matrix is None else pack(self.u_matrix, "f4"),
        }
        if self.classes is not None:
            node, number = self.classes.counts.nonzero()
            rows = np.stack([node, number, self.classes.counts[node, number]], axis=1)
            fields["classes"] = {"names": list(self.classes.names), "counts": pack(rows, "i4")}
        if self.features is not None:
            part = self.features
            fields["features"] = {
                "names": list(part.names),
                "total": part.total,
                "codes": pack(part.codes.T, "f4"),  # the values of a plane are contiguous
                "mean": None if part.mean is None else pack(part.mean, "f4"),
                "deviation": None if part.deviation is None else pack(part.deviation, "f4"),
            }
        if self.images is not None:
            fields["images"] = self.images.to_json()
        if self.samples is not None:
            fields["samples"] = _samples_to_json(self.samples)
        if self.transitions is not None:
            fields["transitions"] = {
                "source": self.transitions.source,
                "target": pack(self.transitions.target, "i4"),
                "probability": pack(self.transitions.probability, "f4"),
            }
        fields["paths"] = [{"name": path.name, "node": pack(path.node, "i4")} for path in self.paths]
        return fields


def _samples_to_json(samples: AssignedSamples) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "what": samples.what,
        "key": samples.key,
        "measure": samples.measure,
        "total": samples.total,
        "ids": list(samples.ids),
        "node": pack(samples.node, "i4"),
        "distance": pack(samples.distance, "f4"),
        "nearest": pack(samples.nearest, "i4"),
        "images": None if samples.images is None else samples.images.to_json(),
    }
    if samples.label is not None:
        fields["labels"] = _numbered(samples.label)
    if samples.split is not None:
        fields["splits"] = _numbered(samples.split)
    return fields


def _numbered(texts: Sequence[str]) -> dict[str, Any]:
    """Encodes texts, few of which differ, as names and numbers."""
    names, number = np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)
    return {"names": names.tolist(), "number": pack(number, "i4")}


def pack(values: NDArray[Any], dtype: Literal["i4", "f4"]) -> dict[str, Any]:
    """Encodes an array as the type of its numbers, its shape, and base64."""
    array = np.ascontiguousarray(values, dtype=f"<{dtype}")
    return {"dtype": dtype, "shape": list(array.shape), "data": base64.b64encode(array.data).decode()}
