"""Clusters of a map's nodes: few groups of many nodes, which say what kinds of data there are."""

from __future__ import annotations

import functools
import math
import tempfile
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.arrays import as_floats
from somvae_ext.config_checks import Bounds, check_integer, is_integer
from somvae_ext.evaluation._arguments import as_metric
from somvae_ext.extras import needed_by
from somvae_ext.som import Distance, Metric, MetricName

Criterion = Literal["silhouette", "davies-bouldin"]

AUTO = "auto"
COUNT_PARAMETERS = ("n_clusters", "n_components")
"""What clusterers and mixtures of scikit-learn call their number of clusters; the first one that they have."""

_MOST_CLUSTERS = 20
_SCORED_NODES = 4096  # whose distances take 128 MiB
_SEED = 0  # draws these nodes on larger maps


class ClusterCandidate(NamedTuple):
    """A number of clusters that was tried, and how well they are apart, see :func:`cluster_nodes`.

    ``silhouette`` is from -1 to 1, and better the larger it is; NaN where the nodes that are looked at lie in a single
    cluster. ``davies_bouldin`` is at least 0, and better the smaller it is; NaN where the metric is not Euclidean.
    """

    n_clusters: int
    silhouette: float
    davies_bouldin: float


class NodeClusters(NamedTuple):
    """Clusters of nodes, see :func:`cluster_nodes`.

    ``cluster`` int64 ``[K]`` on the codebook's device: the cluster of each node, -1 for none. ``n_clusters``: how many
    there are. ``candidates``: the numbers that were tried, ascending; empty where the number was given.
    """

    cluster: Tensor
    n_clusters: int
    candidates: tuple[ClusterCandidate, ...]


@needed_by("cluster_nodes")
def cluster_nodes(
    codebook: ArrayLike | Tensor,
    n_clusters: Any = AUTO,
    *,
    metric: MetricName | Distance | Metric = "euclidean",
    criterion: Criterion = "silhouette",
    max_clusters: int | None = None,
) -> NodeClusters:
    """Groups the nodes of a map by their codes, by a clusterer of scikit-learn.

    A large map first and then few clusters of its codes is how Vesanto and Alhoniemi (2000) cluster data: the codes are
    fewer than the data, and less noisy. Where the grid has its nodes plays no part.

    By default the clusterer is Ward's method (1963) where the metric is Euclidean, and average linkage of the map's own
    distances in others. It takes O(K^2) time and memory: 2 GiB for 16,384 nodes.

    A clusterer of one's own is given the codes in coordinates in which the map's metric is the Euclidean one: with
    weighted features, and for the cosine metric on the unit sphere. In other metrics there are no such coordinates, and
    it is given the distances ``[K, K]``, as a clusterer whose ``metric`` is ``"precomputed"`` is in any.

    Args:
        codebook: codes ``[K, D]``, an array-like or a tensor on any device; for a SOM-VAE those of its quantizer.
        n_clusters: an integer from 2 to the number of different codes; ``"auto"``, which tries 2, 3, ...,
            ``max_clusters`` and takes the best by ``criterion``; or a clusterer or mixture of scikit-learn, such as
            ``KMeans(5)`` or ``DBSCAN(0.3)``. It is cloned. One whose own ``n_clusters``, or ``n_components``, is
            ``"auto"``, as in ``KMeans("auto")``, is tried with the same numbers; those that it does not reach are left
            out.
        metric: the map's own: a name, a function, or a :class:`~somvae_ext.som.Metric`.
        criterion: what is best: the largest ``"silhouette"`` (Rousseeuw 1987), of the map's distances, or the smallest
            ``"davies-bouldin"`` index (1979), of the coordinates above. Of equals the smallest number. The silhouette
            is a mean over all nodes, or over the same 4,096 random ones of a larger map, as if there were no others.
        max_clusters: at most K - 1. By default the smaller of that and 20, because more kinds than this have no
            colours that can be told apart.

    Returns:
        The clusters, numbered 0, 1, ... in the order of their first nodes, and the candidates. Nodes that a clusterer
        such as ``DBSCAN`` leaves out have -1.

    Raises:
        ValueError: a codebook of another shape, or with values that are not finite; fewer different codes than
            clusters; a number, criterion or clusterer that cannot be used, such as one that cannot be given distances
            where the metric is not Euclidean; nodes that are all left out; or what the clusterer or the metric refuses.
        ModuleNotFoundError: scikit-learn is missing.

    Example:
        >>> codebook = [[0.0], [0.1], [5.0], [5.1], [9.0], [9.1]]
        >>> clusters = cluster_nodes(codebook)
        >>> clusters.cluster.tolist(), clusters.n_clusters
        ([0, 0, 1, 1, 2, 2], 3)
        >>> [(candidate.n_clusters, round(candidate.silhouette, 2)) for candidate in clusters.candidates]
        [(2, 0.72), (3, 0.98), (4, 0.65), (5, 0.32)]
    """
    codes = as_floats("cluster_nodes", "codebook", codebook)
    device = codes.device
    # A copy: clusterers may be told to work in the memory that they are given.
    space = _CodeSpace(codes.to("cpu", torch.float64, copy=True), as_metric(metric))
    clusterer = _as_clusterer(n_clusters, space.metric)
    if criterion not in get_args(Criterion):
        choices = " or ".join(repr(choice) for choice in get_args(Criterion))
        raise ValueError(f"cluster_nodes: criterion must be {choices}, got {criterion!r}")
    parameter = count_parameter(clusterer)
    number = None if parameter is None else clusterer.get_params(deep=False)[parameter]
    if isinstance(number, str) and number == AUTO:
        assert parameter is not None
        limit = _largest_candidate(space, criterion, max_clusters)
        cluster, candidates = _cluster_by_criterion(clusterer, parameter, space, criterion, limit)
    else:
        if max_clusters is not None:
            raise ValueError(
                f"cluster_nodes: max_clusters must be None unless n_clusters='auto' looks for a number, got "
                f"{max_clusters!r}"
            )
        if is_integer(number):
            _check_number(number, space)
        cluster, candidates = _fit_predict(clusterer, space), ()
    return NodeClusters(torch.from_numpy(cluster).to(device), int(cluster.max()) + 1, candidates)


def default_clusterer(metric: MetricName | Distance | Metric) -> Any:
    """The clusterer of :func:`cluster_nodes` for maps in this metric, which looks for the number of clusters itself."""
    from sklearn.cluster import AgglomerativeClustering  # type: ignore[import-untyped]

    if as_metric(metric).distance == "euclidean":
        return AgglomerativeClustering(AUTO, linkage="ward")
    return AgglomerativeClustering(AUTO, linkage="average", metric="precomputed")


def count_parameter(clusterer: Any) -> str | None:
    """The parameter of a clusterer of scikit-learn that is the number of clusters; None of those that find it."""
    parameters = clusterer.get_params(deep=False)
    return next((name for name in COUNT_PARAMETERS if name in parameters), None)


class _CodeSpace:
    """The codes as clusterers and criteria see them.

    Args:
        codes: ``[K, D]``, float64 on the CPU.
        metric: the map's.

    Attributes:
        points: float64 ``[K, D]``, whose Euclidean distances order codes as the metric does; None where there are none.
        num_distinct: how many codes differ.

    Raises:
        ValueError: codes of another shape, or that are not finite.
    """

    def __init__(self, codes: Tensor, metric: Metric) -> None:
        if codes.dim() != 2 or 0 in codes.shape:
            raise ValueError(
                f"cluster_nodes: codebook must have shape [K, D] with at least one code and feature, got "
                f"{list(codes.shape)}"
            )
        if not codes.isfinite().all():
            node = int((~codes.isfinite()).any(dim=1).nonzero()[0])
            raise ValueError(f"cluster_nodes: codebook must be finite, got NaN or infinity at node {node}")
        self._codes = codes
        self.metric = metric.with_weights_like(codes)
        scaled = self.metric.scale_features(codes)
        self.points = scaled.numpy() if metric.distance in ("euclidean", "cosine") else None
        self.num_distinct = len(scaled.unique(dim=0))

    @property
    def num_nodes(self) -> int:
        return len(self._codes)

    @functools.cached_property
    def distances(self) -> NDArray[np.float64]:
        """Distances between all nodes, ``[K, K]``, in the map's metric."""
        return self.distances_between(np.arange(self.num_nodes))

    def distances_between(self, nodes: NDArray[np.int64]) -> NDArray[np.float64]:
        """The same of some nodes alone, ``[M, M]``."""
        codes = self._codes[torch.from_numpy(nodes)]
        distances = self.metric.pairwise(codes, codes)
        if not distances.isfinite().all():
            raise ValueError("cluster_nodes: metric must give finite distances between the codes, got NaN or infinity")
        return distances.fill_diagonal_(0).numpy()  # where cosines leave a rounding error


def _as_clusterer(n_clusters: Any, metric: Metric) -> Any:
    """A clusterer whose parameters may be changed."""
    from sklearn.base import clone  # type: ignore[import-untyped]

    if is_integer(n_clusters):
        return default_clusterer(metric).set_params(n_clusters=int(n_clusters))
    if isinstance(n_clusters, str) and n_clusters == AUTO:
        return default_clusterer(metric)
    has_face = hasattr(n_clusters, "fit_predict") and hasattr(n_clusters, "get_params")
    if isinstance(n_clusters, type) or not has_face:
        raise ValueError(
            "cluster_nodes: n_clusters must be 'auto', an integer of at least 2 or a clusterer of scikit-learn with "
            f"fit_predict, got {n_clusters!r}"
        )
    return clone(n_clusters)


def _check_number(number: object, space: _CodeSpace) -> None:
    number = check_integer("cluster_nodes", "n_clusters", number, Bounds(at_least=2))
    if number > space.num_distinct:
        raise ValueError(
            f"cluster_nodes: n_clusters must be at most the number of different codes, {space.num_distinct} of "
            f"{space.num_nodes}, got {number}"
        )


def _largest_candidate(space: _CodeSpace, criterion: Criterion, max_clusters: int | None) -> int:
    if criterion == "davies-bouldin" and space.points is None:
        raise ValueError(
            f"cluster_nodes: criterion must be 'silhouette' for a map in the {_metric_name(space)} metric, because the "
            "Davies-Bouldin index needs Euclidean distances, got 'davies-bouldin'"
        )
    if space.num_nodes < 3 or space.num_distinct < 2:
        raise ValueError(
            "cluster_nodes: codebook must hold at least 3 nodes, and 2 different codes, for n_clusters='auto', got "
            f"{space.num_distinct} different of {space.num_nodes}"
        )
    limit = _MOST_CLUSTERS
    if max_clusters is not None:
        bounds = Bounds(at_least=2, at_most=space.num_nodes - 1)
        limit = check_integer("cluster_nodes", "max_clusters", max_clusters, bounds)
    return min(limit, space.num_nodes - 1, space.num_distinct)


def _cluster_by_criterion(
    clusterer: Any, parameter: str, space: _CodeSpace, criterion: Criterion, limit: int
) -> tuple[NDArray[np.int64], tuple[ClusterCandidate, ...]]:
    """The best clusters among those of 2 to ``limit``, and the scores of all."""
    from sklearn.base import clone

    score = _Scores(space)
    found: list[tuple[ClusterCandidate, NDArray[np.int64]]] = []
    with tempfile.TemporaryDirectory() as cache:
        if clusterer.get_params(deep=False).get("memory", cache) is None:
            clusterer.set_params(memory=cache)  # of linkages: the tree, which is the same for all numbers
        for number in range(2, limit + 1):
            cluster = _fit_predict(clone(clusterer).set_params(**{parameter: number}), space)
            if len(np.unique(cluster)) == number:  # a mixture may leave a component without a code
                found.append((score(number, cluster), cluster))
    scored = [pair for pair in found if not math.isnan(_loss(pair[0], criterion))]
    if not scored:
        raise ValueError(
            f"cluster_nodes: {_describe(clusterer)} must find clusters for a number from 2 to {limit}, got none that "
            "can be compared"
        )
    _, best = min(scored, key=lambda pair: _loss(pair[0], criterion))
    return best, tuple(candidate for candidate, _ in found)


def _loss(candidate: ClusterCandidate, criterion: Criterion) -> float:
    return -candidate.silhouette if criterion == "silhouette" else candidate.davies_bouldin


class _Scores:
    """How well clusters are apart, by what several numbers of clusters are compared."""

    def __init__(self, space: _CodeSpace) -> None:
        # scikit-learn takes the distances to centroids from squares, in which an offset that all share costs digits.
        self._points = None if space.points is None else space.points - space.points.mean(axis=0)
        if space.num_nodes <= _SCORED_NODES:
            self._nodes, self._distances = np.arange(space.num_nodes), space.distances
        else:
            drawn = np.random.default_rng(_SEED).choice(space.num_nodes, _SCORED_NODES, replace=False)
            self._nodes = np.sort(drawn)
            self._distances = space.distances_between(self._nodes)

    def __call__(self, number: int, cluster: NDArray[np.int64]) -> ClusterCandidate:
        from sklearn.metrics import davies_bouldin_score, silhouette_score  # type: ignore[import-untyped]

        silhouette = davies_bouldin = math.nan
        looked_at = cluster[self._nodes]
        if len(np.unique(looked_at)) > 1:
            silhouette = float(silhouette_score(self._distances, looked_at, metric="precomputed"))
        if self._points is not None:
            davies_bouldin = float(davies_bouldin_score(self._points, cluster))
        return ClusterCandidate(number, silhouette, davies_bouldin)


def _fit_predict(clusterer: Any, space: _CodeSpace) -> NDArray[np.int64]:
    """The cluster of each node, int64 ``[K]``, numbered in the order of their first nodes; -1 for none."""
    label = np.asarray(clusterer.fit_predict(_clusterer_input(clusterer, space)))
    if label.shape != (space.num_nodes,) or label.dtype.kind not in "iu":
        raise ValueError(
            f"cluster_nodes: {_describe(clusterer)} must give an integer for each of the {space.num_nodes} nodes, got "
            f"{label.dtype} of shape {list(label.shape)}"
        )
    is_in_a_cluster = label >= 0
    if not is_in_a_cluster.any():
        raise ValueError(
            f"cluster_nodes: {_describe(clusterer)} must put nodes into clusters, got none in any; change its "
            "parameters"
        )
    _, first, cluster_of_node = np.unique(label[is_in_a_cluster], return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    cluster = np.full(space.num_nodes, -1, np.int64)
    cluster[is_in_a_cluster] = place[cluster_of_node]
    return cluster


def _clusterer_input(clusterer: Any, space: _CodeSpace) -> NDArray[np.float64]:
    """The points ``[K, D]``, or the distances ``[K, K]`` for a clusterer that is told that it gets these."""
    parameters = clusterer.get_params(deep=False)
    metric, linkage = parameters.get("metric"), parameters.get("linkage")
    if space.points is None:
        if "metric" not in parameters or linkage == "ward":
            raise ValueError(
                f"cluster_nodes: a clusterer for a map in the {_metric_name(space)} metric must take distances by "
                "metric='precomputed', as DBSCAN does, or AgglomerativeClustering with linkage='average', got "
                f"{type(clusterer).__name__}{'' if linkage is None else f' with linkage={linkage!r}'}"
            )
        clusterer.set_params(metric="precomputed")
        return space.distances
    return space.distances if isinstance(metric, str) and metric == "precomputed" else space.points


def _metric_name(space: _CodeSpace) -> str:
    return space.metric.distance if isinstance(space.metric.distance, str) else "custom"


def _describe(clusterer: Any) -> str:
    return " ".join(str(clusterer).split())
