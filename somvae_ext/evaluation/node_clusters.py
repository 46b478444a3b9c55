"""Clusters of a map's nodes: a few groups of many nodes, which show the kinds of data."""

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
"""Names of the number of clusters in scikit-learn's clusterers and mixtures, of which the first that exists is used."""

_MOST_CLUSTERS = 20
_SCORED_NODES = 4096  # at most: their distances take 128 MiB
_SEED = 0  # for the draw of these nodes on larger maps


class ClusterCandidate(NamedTuple):
    """A number of clusters that was tried, and how well separated the clusters are, see :func:`cluster_nodes`.

    ``silhouette`` is from -1 to 1, larger is better; NaN if all scored nodes lie in a single cluster.
    ``davies_bouldin`` is at least 0, smaller is better; NaN if the metric has no Euclidean coordinates.
    """

    n_clusters: int
    silhouette: float
    davies_bouldin: float


class NodeClusters(NamedTuple):
    """Clusters of nodes, see :func:`cluster_nodes`.

    ``cluster`` int64 ``[K]`` on the codebook's device: the cluster of each node, -1 for none. ``n_clusters``: the
    number of clusters. ``candidates``: the numbers that were tried, ascending; empty if the number was given.
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
    """Groups the nodes of a map by their codes, with a clusterer of scikit-learn.

    Vesanto and Alhoniemi (2000) cluster data in these two steps, a large map and then a few clusters of its codes: the
    codes are fewer than the data, and less noisy. The positions of the nodes on the grid are not used.

    The default clusterer is Ward's method (1963) for the Euclidean metric, and average linkage of the map's distances
    for others. It takes O(K^2) time and memory: 2 GiB for 16,384 nodes.

    A clusterer passed as ``n_clusters`` gets the codes in coordinates whose Euclidean distances follow the map's
    metric: with weighted features and, for the cosine metric, on the unit sphere. Other metrics have no such
    coordinates; for them it gets the distances ``[K, K]``, as a clusterer whose ``metric`` is ``"precomputed"`` does
    for any metric.

    Args:
        codebook: codes ``[K, D]``, an array-like or a tensor on any device; for a SOM-VAE those of its quantizer.
        n_clusters: an integer from 2 to the number of distinct codes; ``"auto"``, which tries 2, 3, ...,
            ``max_clusters`` and takes the best by ``criterion``; or a clusterer or mixture of scikit-learn, such as
            ``KMeans(5)`` or ``DBSCAN(0.3)``, which is cloned. If its own ``n_clusters`` or ``n_components`` is
            ``"auto"``, as in ``KMeans("auto")``, it is tried with the same numbers; those that it does not reach are
            left out.
        metric: the map's metric: a name, a function, or a :class:`~somvae_ext.som.Metric`.
        criterion: score by which the best number is chosen: the largest ``"silhouette"`` (Rousseeuw 1987) of the map's
            distances, or the smallest ``"davies-bouldin"`` index (1979) of the coordinates above; ties go to the
            smallest number. The silhouette is the mean over all nodes or, on a larger map, over a fixed random sample
            of 4,096 nodes, as if there were no others.
        max_clusters: largest number to try, at most K - 1. By default the smaller of K - 1 and 20, because there are no
            colors to tell more clusters apart.

    Returns:
        The clusters, numbered 0, 1, ... in the order of their first nodes, and the candidates. Nodes that a clusterer
        such as ``DBSCAN`` leaves out have -1.

    Raises:
        ValueError: a codebook of a wrong shape or with values that are not finite; fewer distinct codes than clusters;
            a number, criterion or clusterer that cannot be used, such as a clusterer that takes no distances for a
            metric that requires them; a clusterer that leaves out all nodes; or anything that the clusterer or the
            metric rejects.
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
    # A copy: clusterers can be set to overwrite their input.
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
    """Returns the default clusterer of :func:`cluster_nodes` for a metric, with an automatic number of clusters."""
    from sklearn.cluster import AgglomerativeClustering  # type: ignore[import-untyped]

    if as_metric(metric).distance == "euclidean":
        return AgglomerativeClustering(AUTO, linkage="ward")
    return AgglomerativeClustering(AUTO, linkage="average", metric="precomputed")


def count_parameter(clusterer: Any) -> str | None:
    """Returns the name of a clusterer's parameter for the number of clusters; None if it finds the number itself."""
    parameters = clusterer.get_params(deep=False)
    return next((name for name in COUNT_PARAMETERS if name in parameters), None)


class _CodeSpace:
    """The codes as clusterers and criteria see them.

    Args:
        codes: ``[K, D]``, float64 on the CPU.
        metric: the map's.

    Attributes:
        points: coordinates, float64 ``[K, D]``, whose Euclidean distances order codes as the metric does; None if the
            metric has none.
        num_distinct: number of distinct codes.

    Raises:
        ValueError: codes of a wrong shape, or that are not finite.
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
        """Distances between some nodes, ``[M, M]``, in the map's metric."""
        codes = self._codes[torch.from_numpy(nodes)]
        distances = self.metric.pairwise(codes, codes)
        if not distances.isfinite().all():
            raise ValueError("cluster_nodes: metric must give finite distances between the codes, got NaN or infinity")
        return distances.fill_diagonal_(0).numpy()  # cosine distances leave rounding errors there


def _as_clusterer(n_clusters: Any, metric: Metric) -> Any:
    """Returns a clusterer whose parameters may be changed."""
    from sklearn.base import clone  # type: ignore[import-untyped]

    if is_integer(n_clusters):
        return default_clusterer(metric).set_params(n_clusters=int(n_clusters))
    if isinstance(n_clusters, str) and n_clusters == AUTO:
        return default_clusterer(metric)
    is_clusterer = hasattr(n_clusters, "fit_predict") and hasattr(n_clusters, "get_params")
    if isinstance(n_clusters, type) or not is_clusterer:
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
    """Returns the best clustering with 2 to ``limit`` clusters, and the scores of all candidates."""
    from sklearn.base import clone

    score = _Scores(space)
    results: list[tuple[ClusterCandidate, NDArray[np.int64]]] = []
    with tempfile.TemporaryDirectory() as cache:
        if clusterer.get_params(deep=False).get("memory", cache) is None:
            clusterer.set_params(memory=cache)  # keeps a linkage's tree, which is the same for all numbers
        for number in range(2, limit + 1):
            cluster = _fit_predict(clone(clusterer).set_params(**{parameter: number}), space)
            if len(np.unique(cluster)) == number:  # a mixture may leave a component without a code
                results.append((score(number, cluster), cluster))
    scored = [result for result in results if not math.isnan(_loss(result[0], criterion))]
    if not scored:
        raise ValueError(
            f"cluster_nodes: {_describe(clusterer)} must find clusters for a number from 2 to {limit}, got none that "
            "can be compared"
        )
    _, best = min(scored, key=lambda result: _loss(result[0], criterion))
    return best, tuple(candidate for candidate, _ in results)


def _loss(candidate: ClusterCandidate, criterion: Criterion) -> float:
    return -candidate.silhouette if criterion == "silhouette" else candidate.davies_bouldin


class _Scores:
    """Scores how well clusters are separated, to compare numbers of clusters."""

    def __init__(self, space: _CodeSpace) -> None:
        # scikit-learn computes distances to centroids from squares, in which a common offset costs digits.
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
        sample = cluster[self._nodes]
        if len(np.unique(sample)) > 1:
            silhouette = float(silhouette_score(self._distances, sample, metric="precomputed"))
        if self._points is not None:
            davies_bouldin = float(davies_bouldin_score(self._points, cluster))
        return ClusterCandidate(number, silhouette, davies_bouldin)


def _fit_predict(clusterer: Any, space: _CodeSpace) -> NDArray[np.int64]:
    """Returns the cluster of each node, int64 ``[K]``, -1 for none; clusters are numbered by their first nodes."""
    label = np.asarray(clusterer.fit_predict(_clusterer_input(clusterer, space)))
    if label.shape != (space.num_nodes,) or label.dtype.kind not in "iu":
        raise ValueError(
            f"cluster_nodes: {_describe(clusterer)} must give an integer for each of the {space.num_nodes} nodes, got "
            f"{label.dtype} of shape {list(label.shape)}"
        )
    is_clustered = label >= 0
    if not is_clustered.any():
        raise ValueError(
            f"cluster_nodes: {_describe(clusterer)} must put nodes into clusters, got none in any; change its "
            "parameters"
        )
    _, first, cluster_of_node = np.unique(label[is_clustered], return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    cluster = np.full(space.num_nodes, -1, np.int64)
    cluster[is_clustered] = place[cluster_of_node]
    return cluster


def _clusterer_input(clusterer: Any, space: _CodeSpace) -> NDArray[np.float64]:
    """Returns the points ``[K, D]``, or the distances ``[K, K]`` for a clusterer with ``metric="precomputed"``."""
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
