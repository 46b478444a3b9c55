"""Clusters of nodes: planted clusters are found, scores follow the definitions, and errors take one sentence."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import children
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.cluster import (
    DBSCAN,
    AgglomerativeClustering,
    Birch,
    FeatureAgglomeration,
    KMeans,
    MeanShift,
    SpectralClustering,
)
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from somvae_ext.evaluation import cluster_nodes, node_clusters
from somvae_ext.som import Metric

Floats = NDArray[np.float64]

# A mean of at most 60 quotients of mean distances: a few hundred roundings of numbers of about 1.
ATOL = 1000 * np.finfo(np.float64).eps
# scikit-learn computes distances as square roots of differences of squares, of magnitude 10.
ATOL_OF_ROOTS = 10 * np.finfo(np.float64).eps ** 0.5


def planted(sizes: list[int], seed: int, features: int = 3) -> tuple[Floats, list[int]]:
    """Returns codes around distant corners, in random order, and their clusters, numbered by their first nodes."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    corner = 20.0 * np.arange(len(sizes))[:, None] * np.ones(features)
    codes = corner[group] + rng.uniform(-1, 1, size=(len(group), features))
    return codes, numbered(group.tolist())


def numbered(labels: list[int]) -> list[int]:
    """Renumbers labels as 0, 1, ... in the order of their first occurrence; -1 stays."""
    order = [label for label in dict.fromkeys(labels) if label != -1]
    return [-1 if label == -1 else order.index(label) for label in labels]


def silhouette(distances: Floats, cluster: list[int]) -> float:
    """Returns the mean silhouette by Rousseeuw 1987, equations 1 to 3, node by node."""
    members = {name: [node for node, other in enumerate(cluster) if other == name] for name in set(cluster)}
    values = []
    for node, own in enumerate(cluster):
        if len(members[own]) == 1:
            values.append(0.0)
            continue
        a = math.fsum(distances[node, members[own]]) / (len(members[own]) - 1)
        b = min(math.fsum(distances[node, nodes]) / len(nodes) for name, nodes in members.items() if name != own)
        values.append((b - a) / max(a, b))
    return math.fsum(values) / len(values)


def davies_bouldin(points: Floats, cluster: list[int]) -> float:
    """Returns the index of Davies and Bouldin 1979, with mean distances to the centroids."""
    groups = [points[np.array(cluster) == name] for name in sorted(set(cluster))]
    centers = [group.mean(axis=0) for group in groups]
    spread = [np.linalg.norm(group - center, axis=1).mean() for group, center in zip(groups, centers, strict=True)]
    worst = [
        max((spread[i] + spread[j]) / np.linalg.norm(centers[i] - centers[j]) for j in range(len(groups)) if j != i)
        for i in range(len(groups))
    ]
    return float(np.mean(worst))


def euclidean(points: Floats) -> Floats:
    return np.linalg.norm(points[:, None] - points, axis=2)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(4, 8), min_size=2, max_size=5), st.integers(0, 99), st.sampled_from(["int", "auto", "DB"]))
def test_planted_clusters_are_found_and_numbered_by_their_first_nodes(sizes: list[int], seed: int, how: str) -> None:
    codes, expected = planted(sizes, seed)
    if how == "int":
        result = cluster_nodes(codes, len(sizes))
    else:
        result = cluster_nodes(codes, criterion="davies-bouldin" if how == "DB" else "silhouette")
    assert result.cluster.tolist() == expected
    assert result.cluster.dtype == torch.int64
    assert result.n_clusters == len(sizes)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
@pytest.mark.parametrize("seed", range(3))
def test_scores_of_candidates_equal_their_definitions(metric: Any, seed: int) -> None:
    codes = np.random.default_rng(seed).normal(size=(30, 4))
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    points = {"euclidean": codes, "cosine": unit, "manhattan": None}[metric]
    distances = {
        "euclidean": euclidean(codes),
        "cosine": 1 - unit @ unit.T,
        "manhattan": np.abs(codes[:, None] - codes).sum(axis=2),
    }[metric]
    result = cluster_nodes(codes, metric=metric)
    assert [candidate.n_clusters for candidate in result.candidates] == list(range(2, 21))
    for number, by_silhouette, by_index in result.candidates:
        cluster = cluster_nodes(codes, number, metric=metric).cluster.tolist()
        assert by_silhouette == pytest.approx(silhouette(distances, cluster), abs=ATOL)
        if points is None:
            assert math.isnan(by_index)
        else:
            assert by_index == pytest.approx(davies_bouldin(points, cluster), abs=ATOL_OF_ROOTS)
    best = max(result.candidates, key=lambda candidate: candidate.silhouette)
    assert result.n_clusters == best.n_clusters


def test_a_common_offset_of_the_codes_does_not_change_the_scores() -> None:
    codes = np.random.default_rng(0).normal(size=(30, 4)).round(3)
    plain, moved = (cluster_nodes(codes + offset, max_clusters=5).candidates for offset in (0, 2.0**20))
    for one, other in zip(plain, moved, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_with_the_davies_bouldin_criterion_the_smallest_index_wins() -> None:
    codes = np.random.default_rng(1).normal(size=(40, 2))
    result = cluster_nodes(codes, criterion="davies-bouldin", max_clusters=9)
    assert [candidate.n_clusters for candidate in result.candidates] == list(range(2, 10))
    assert result.n_clusters == min(result.candidates, key=lambda candidate: candidate.davies_bouldin).n_clusters
    assert result.cluster.equal(cluster_nodes(codes, result.n_clusters).cluster)


@pytest.mark.parametrize(
    ("metric", "linkage"), [("cosine", "average"), ("manhattan", "average"), ("euclidean", "ward")]
)
def test_codes_are_clustered_in_the_metric_of_the_map(metric: Any, linkage: Any) -> None:
    codes = np.random.default_rng(0).normal(size=(20, 3))
    expected = AgglomerativeClustering(3, metric=metric, linkage=linkage).fit_predict(codes)
    assert cluster_nodes(codes, 3, metric=metric).cluster.tolist() == numbered(expected.tolist())


def test_a_function_may_be_the_metric() -> None:
    codes = np.random.default_rng(0).normal(size=(20, 3))

    def manhattan(x: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
        return (x - codebook).abs().sum(dim=2)

    by_name, by_function = (cluster_nodes(codes, metric=metric) for metric in ("manhattan", manhattan))
    assert by_function.cluster.equal(by_name.cluster)


@pytest.mark.parametrize("name", ["euclidean", "manhattan"])
def test_weights_of_features_count(name: Any) -> None:
    generator = np.random.default_rng(0)
    near, far = generator.permutation(np.repeat([0.0, 5.0], 6)), generator.permutation(np.repeat([0.0, 90.0], 6))
    codes = np.stack([near, far], axis=1) + generator.uniform(-0.1, 0.1, size=(12, 2))
    for weights, halves in (([1.0, 1.0], far), ([1.0, 0.0], near), ([1.0, 1e-5], near)):
        metric = Metric(name, feature_weights=torch.tensor(weights))
        assert cluster_nodes(codes, 2, metric=metric).cluster.tolist() == numbered((halves > 1).tolist())


@pytest.mark.parametrize("kind", [np.float32, np.float64, list, torch.float32, torch.bfloat16])
def test_codes_of_any_kind_are_not_modified(kind: Any) -> None:
    codes, expected = planted([3, 4], 0)
    given = torch.tensor(codes, dtype=kind) if isinstance(kind, torch.dtype) else codes.tolist()
    given = codes.astype(kind) if kind in (np.float32, np.float64) else given
    before = torch.as_tensor(given).clone()
    assert cluster_nodes(given, KMeans(2, copy_x=False, random_state=0)).cluster.tolist() == expected
    assert torch.as_tensor(given).equal(before)


# ---- other clusterers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "clusterer",
    [
        KMeans(3, random_state=0),
        SpectralClustering(3, random_state=0, assign_labels="cluster_qr"),
        GaussianMixture(3, random_state=0),
        Birch(n_clusters=3),
        MeanShift(),
        DBSCAN(eps=5, min_samples=2),
        AgglomerativeClustering(n_clusters=None, distance_threshold=20),
        make_pipeline(StandardScaler(), KMeans(3, random_state=0)),
    ],
    ids=lambda clusterer: type(clusterer).__name__,
)
def test_any_clusterer_of_scikit_learn_is_cloned_and_stays_unfitted(clusterer: Any) -> None:
    codes, expected = planted([5, 6, 7], 3)
    before = repr(clusterer), set(vars(clusterer))
    result = cluster_nodes(codes, clusterer)
    assert result.cluster.tolist() == expected
    assert (result.n_clusters, result.candidates) == (3, ())
    assert (repr(clusterer), set(vars(clusterer))) == before


@pytest.mark.parametrize(
    "clusterer",
    [
        KMeans("auto", random_state=0),
        GaussianMixture("auto", random_state=0),
        SpectralClustering("auto", random_state=0, assign_labels="cluster_qr"),
        AgglomerativeClustering("auto", linkage="single"),
    ],
    ids=lambda clusterer: type(clusterer).__name__,
)
def test_a_clusterer_with_n_clusters_auto_is_tried_with_several_numbers(clusterer: Any) -> None:
    codes, expected = planted([5, 6, 7], 3)
    result = cluster_nodes(codes, clusterer, max_clusters=6)
    assert result.cluster.tolist() == expected
    assert [candidate.n_clusters for candidate in result.candidates] == [2, 3, 4, 5, 6]


def test_nodes_that_a_clusterer_leaves_out_are_in_no_cluster() -> None:
    codes = [[50.0], [1.0], [1.1], [8.0], [1.2], [8.1]]
    result = cluster_nodes(codes, DBSCAN(eps=0.5, min_samples=2))
    assert result.cluster.tolist() == [-1, 0, 0, 1, 0, 1]
    assert result.n_clusters == 2


def test_clusterers_get_distances_if_the_metric_has_no_coordinates() -> None:
    codes = np.random.default_rng(0).normal(size=(30, 3))
    for clusterer in (DBSCAN(eps=1.2, min_samples=2), AgglomerativeClustering(4, linkage="complete")):
        expected = clusterer.set_params(metric="manhattan").fit_predict(codes).tolist()
        assert cluster_nodes(codes, clusterer, metric="manhattan").cluster.tolist() == numbered(expected)


def test_cosine_clusters_are_euclidean_clusters_on_the_unit_sphere() -> None:
    codes = np.random.default_rng(0).normal(size=(30, 3)) * np.random.default_rng(1).uniform(1, 9, size=(30, 1))
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    by_cosine = cluster_nodes(codes, KMeans(4, random_state=0), metric="cosine").cluster
    assert by_cosine.tolist() == numbered(KMeans(4, random_state=0).fit_predict(unit).tolist())


def test_numbers_of_clusters_that_a_clusterer_does_not_reach_are_left_out() -> None:
    class AtMostThree(KMeans):
        def fit_predict(self, X: Floats, y: Any = None, sample_weight: Any = None) -> Any:
            self.n_clusters = min(self.n_clusters, 3)
            return super().fit_predict(X)

    codes, expected = planted([5, 6, 7], 3)
    result = cluster_nodes(codes, AtMostThree("auto", random_state=0))
    assert [candidate.n_clusters for candidate in result.candidates] == [2, 3]
    assert result.cluster.tolist() == expected


# ---- large maps ------------------------------------------------------------------------------------------------------


def test_the_silhouette_of_a_large_map_is_that_of_a_reproducible_sample_of_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node_clusters, "_SCORED_NODES", 25)
    codes = np.random.default_rng(0).normal(size=(60, 3))
    first, again = (cluster_nodes(codes, max_clusters=4) for _ in range(2))
    assert first.candidates == again.candidates
    nodes = np.sort(np.random.default_rng(0).choice(60, 25, replace=False))
    for number, by_silhouette, _ in first.candidates:
        cluster = cluster_nodes(codes, number).cluster.numpy()[nodes].tolist()
        assert by_silhouette == pytest.approx(silhouette(euclidean(codes[nodes]), cluster), abs=ATOL)


def test_a_number_for_which_the_scored_nodes_are_in_one_cluster_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_clusters, "_SCORED_NODES", 25)
    codes = np.random.default_rng(0).normal(size=(60, 3))
    scored = np.random.default_rng(0).choice(60, 25, replace=False)
    codes[np.setdiff1d(np.arange(60), scored)[0]] = 1000  # with two clusters, this node is one and all others the other
    result = cluster_nodes(codes, max_clusters=4)
    assert math.isnan(result.candidates[0].silhouette)
    assert result.n_clusters > 2


@pytest.mark.slow
def test_a_map_of_128_by_128_nodes_is_clustered_by_ward() -> None:
    codes, expected = planted([5000, 6000, 5384], 0, features=64)
    assert cluster_nodes(codes.astype(np.float32), max_clusters=4).cluster.tolist() == expected


def test_the_tree_of_a_linkage_is_built_once_for_all_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.cluster import hierarchy

    calls = []
    ward = hierarchy.ward
    monkeypatch.setattr(hierarchy, "ward", lambda codes: calls.append(1) or ward(codes))
    cluster_nodes(np.random.default_rng(0).normal(size=(30, 2)))
    assert len(calls) == 1


# ---- errors ----------------------------------------------------------------------------------------------------------

CODES = np.random.default_rng(0).normal(size=(6, 2))
PAIRS = np.repeat(CODES[:2], 3, axis=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cluster_nodes(CODES[0]), r"codebook must have shape \[K, D\] .*, got \[2\]"),
        (lambda: cluster_nodes(CODES[:, :0]), r"codebook must have shape \[K, D\] .*, got \[6, 0\]"),
        (lambda: cluster_nodes(CODES * [[1, math.nan]]), "codebook must be finite, got NaN or infinity at node 0"),
        (lambda: cluster_nodes([["a"]]), "codebook must hold real numbers, got strings"),
        (lambda: cluster_nodes(CODES, 1), "n_clusters must be an integer of at least 2, got 1"),
        (lambda: cluster_nodes(CODES, 7), "at most the number of different codes, 6 of 6, got 7"),
        (lambda: cluster_nodes(PAIRS, 3), "at most the number of different codes, 2 of 6, got 3"),
        (lambda: cluster_nodes(PAIRS, KMeans(3)), "at most the number of different codes, 2 of 6, got 3"),
        (lambda: cluster_nodes(PAIRS, GaussianMixture(3)), "at most the number of different codes, 2 of 6, got 3"),
        (
            lambda: cluster_nodes(CODES * [[1, 0]] + [[0, 1]], 3, metric=Metric(feature_weights=torch.tensor([0, 1]))),
            "at most the number of different codes, 1 of 6, got 3",
        ),
        (
            lambda: cluster_nodes(PAIRS[:3]),
            "3 nodes, and 2 different codes, for n_clusters='auto', got 1 different of 3",
        ),
        (
            lambda: cluster_nodes(CODES[:2]),
            "3 nodes, and 2 different codes, for n_clusters='auto', got 2 different of 2",
        ),
        (lambda: cluster_nodes(CODES, 2.5), "must be 'auto', an integer of at least 2 or a clusterer .*, got 2.5"),
        (lambda: cluster_nodes(CODES, True), "must be 'auto', an integer of at least 2 or a clusterer .*, got True"),
        (
            lambda: cluster_nodes(CODES, "many"),
            "must be 'auto', an integer of at least 2 or a clusterer .*, got 'many'",
        ),
        (
            lambda: cluster_nodes(CODES, KMeans),
            "must be 'auto', an integer of at least 2 or a clusterer .*, got <class",
        ),
        (lambda: cluster_nodes(CODES, FeatureAgglomeration()), "clusterer .* with fit_predict, got FeatureAgglom"),
        (lambda: cluster_nodes(CODES, max_clusters=6), "max_clusters must be an integer from 2 to 5, got 6"),
        (lambda: cluster_nodes(CODES, 3, max_clusters=4), "max_clusters must be None unless n_clusters='auto'"),
        (
            lambda: cluster_nodes(CODES, criterion="elbow"),  # type: ignore[arg-type]
            "criterion must be 'silhouette' or 'davies-bouldin', got 'elbow'",
        ),
        (
            lambda: cluster_nodes(CODES, criterion="davies-bouldin", metric="chebyshev"),
            "criterion must be 'silhouette' for a map in the chebyshev metric, because the Davies-Bouldin index needs",
        ),
        (
            lambda: cluster_nodes(CODES, KMeans(2), metric="manhattan"),
            "a clusterer for a map in the manhattan metric must take distances .*, got KMeans$",
        ),
        (
            lambda: cluster_nodes(CODES, AgglomerativeClustering(2), metric="manhattan"),
            "must take distances by metric='precomputed', .*, got AgglomerativeClustering with linkage='ward'",
        ),
        (lambda: cluster_nodes(CODES, DBSCAN(1e-6)), r"DBSCAN\(eps=1e-06\) must put nodes into clusters, got none"),
        (
            lambda: cluster_nodes(CODES, metric=lambda x, codebook: (x - codebook).sum(dim=2) / 0),
            "metric must give finite distances between the codes, got NaN or infinity",
        ),
        (lambda: cluster_nodes(CODES, metric="hamming"), "metric must be one of .*, got 'hamming'"),  # type: ignore[arg-type]
        (
            lambda: cluster_nodes(CODES, metric=Metric(feature_weights=torch.ones(3))),
            "feature_weights must hold one number for each of the 2 features, got 3",
        ),
    ],
)
def test_invalid_arguments_raise_one_sentence_without_a_warning(call: Any, message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=message) as caught:
            call()
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 3), st.integers(2, 9), st.integers(0, 99))
def test_equal_codes_are_never_separated(distinct: int, nodes: int, seed: int) -> None:
    codes = np.random.default_rng(seed).normal(size=(distinct, 2))
    codes = codes[np.random.default_rng(seed).integers(distinct, size=nodes)]
    different = len(np.unique(codes, axis=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if different < 2 or nodes < 3:
            with pytest.raises(ValueError, match="codebook must hold at least 3 nodes, and 2 different codes"):
                cluster_nodes(codes)
            return
        cluster = cluster_nodes(codes).cluster.tolist()
    for one, other in itertools.combinations(range(nodes), 2):
        assert cluster[one] == cluster[other] or (codes[one] != codes[other]).any()


def test_importing_evaluation_imports_neither_scikit_learn_nor_matplotlib() -> None:
    code = "import sys, somvae_ext.evaluation; assert not {'sklearn', 'matplotlib', 'scipy'} & set(sys.modules)"
    done = children.run("-W", "ignore", "-c", code, imported=children.TORCH)
    assert done.returncode == 0, done.stderr
