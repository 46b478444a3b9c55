"""What the explorer of a page shows of a map, and how it is written for the browser.

``explorer.js`` reads what :meth:`Explorer.to_json` writes. Arrays are base64 of little-endian numbers, because JSON
would take three times as much.
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
"""Nodes of the largest map that a browser draws and moves with ease."""

_LEAST_DEVIATION = 1e-6
_MOST_FEATURE_VALUES = 1 << 20  # of all nodes together: 5.6 MB in base64


@dataclasses.dataclass(frozen=True)
class Features:
    """The features of the nodes, in the units of the data.

    Args:
        names: of the D features that are shown.
        codes: ``[K, D]``.
        mean, deviation: of the training data, ``[D]``; their deviation is the standard deviation. None where the data
            are gone.
        total: how many features there are, of which those are shown that vary most over the map.
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
        """All features, or, of many, those whose codes vary most over the map, beside the data's own deviation.

        Args:
            names: of all D features.
            codes: ``[K, D]``.
            moments: mean and standard deviation of the training data, ``[D]`` each, where they are known.
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
        kept[np.abs(kept) < _LEAST_DEVIATION * deviation] = 0  # the rounding of a mean of zeros
        return cls(shown, kept, mean, deviation, total)


def moments_of(scaling: Scaling, dim: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Mean and standard deviation of the features that a scaling was fitted to, ``[D]`` each, where it knows them."""
    if scaling.kind != "standard" or len(scaling.shift) != dim:
        return None
    return np.array(scaling.shift), np.array(scaling.width)


@dataclasses.dataclass(frozen=True)
class AssignedSamples:
    """Samples, or frames of series, and their nodes.

    Args:
        what: one of them is called, such as ``"row"`` or ``"test frame"``.
        key: by what it is found, such as ``"index"`` or the name of the column of ids.
        total: how many there are, of which those below can be found.
        ids: of each that can be found, ``[N]``.
        node: of each, int64 ``[N]``.
        distance: to the node's code, ``[N]``, or what else says how well each belongs to its node.
        measure: what that is: ``"distance"`` or ``"probability"``.
        label: the name of each one's class, ``[N]``; None without labels.
        nearest: of each node the samples among these that it won and that lie nearest to its code, int64 ``[K, n]``,
            by their place in ``ids``; -1 where there are fewer.
        split: the name of the split that each one is of, ``[N]``; None where they are of one.
        images: of the first ``m`` nearest, node by node, ``[K * m]``.
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
        source: where they come from, a sentence.
        target: int64 ``[K, n]``, the likeliest first.
        probability: ``[K, n]``; 0 where there are fewer.
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
    """A map, or other codes on a sheet, to be looked into node by node.

    Args:
        noun: what one of them is called: ``"node"``, ``"code"`` or ``"category"``.
        grid: of the sheet, whose last row need not be full where it is no map.
        num_nodes: K.
        is_map: whether neighbours on the sheet are neighbours.
        hits: samples of the training data that each has won, int64 ``[K]``.
        hits_of: what these are, in the plural, such as ``"training rows"``.
        classes: of these, where they had labels.
        cluster: of each node, int64 ``[K]``, -1 for none.
        u_matrix: mean distance to the neighbours' codes, ``[K]``.
        u_matrix_of: what is measured, such as ``"euclidean distance of the scaled data"``.
        features: of the codes, or of what they are decoded to.
        images: that the codes are, or are decoded to.
        samples: those that can be found.
        transitions: where series go from each node.
        paths: series to be drawn over the map.
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
        """What the section is called."""
        return "Map" if self.is_map else self.nouns.capitalize()

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON can hold it."""
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
                "codes": pack(part.codes.T, "f4"),  # a plane is one run of values
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
    """Texts of which few differ."""
    names, number = np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)
    return {"names": names.tolist(), "number": pack(number, "i4")}


def pack(values: NDArray[Any], dtype: Literal["i4", "f4"]) -> dict[str, Any]:
    """An array as the type of its numbers, its shape, and base64."""
    array = np.ascontiguousarray(values, dtype=f"<{dtype}")
    return {"dtype": dtype, "shape": list(array.shape), "data": base64.b64encode(array.data).decode()}
