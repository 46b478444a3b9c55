"""Clustering metrics, compared with examples worked out by hand and with scikit-learn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from somvae_ext.estimators import SOM
from somvae_ext.evaluation import NMIAverage, ari, clustering_accuracy, nmi, node_purity, purity

# Manning et al., "Introduction to Information Retrieval", figure 16.4: three clusters, x = 0, o = 1, diamond = 2.
LABEL = torch.tensor([0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 2, 0, 0, 2, 2, 2])
INDEX = torch.tensor([0] * 6 + [1] * 6 + [2] * 5)


@st.composite
def assignments(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws the classes and nodes of 1 to 30 samples."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=30))
    label, index = torch.tensor(pairs).unbind(dim=1)
    return label, index


def test_the_textbook_example() -> None:
    assert purity(LABEL, INDEX) == pytest.approx(12 / 17)
    assert nmi(LABEL, INDEX) == pytest.approx(0.36, abs=0.005)  # the book prints two digits
    # The nodes' most frequent classes are three different ones.
    assert clustering_accuracy(LABEL, INDEX) == pytest.approx(12 / 17)
    # Of 136 pairs, 20 share cluster and class, 20 only the cluster, 24 only the class (table 16.2 of the same book).
    together, expected, largest = 20, 40 * 44 / 136, (40 + 44) / 2
    assert ari(LABEL, INDEX) == pytest.approx((together - expected) / (largest - expected))


def test_the_purity_of_each_node_by_hand() -> None:
    assert node_purity(LABEL, INDEX, 3).tolist() == pytest.approx([5 / 6, 4 / 6, 3 / 5])
    unused = node_purity(["x", "o", "x"], [3, 1, 1], 5)
    assert unused.dtype == torch.float64
    np.testing.assert_array_equal(unused, [math.nan, 0.5, math.nan, 1.0, math.nan])


@given(assignments())
def test_purity_is_the_mean_of_the_nodes_purities_over_the_samples(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    label, index = pairs
    each = node_purity(label, index, 6)
    assert each[index].mean().item() == pytest.approx(purity(label, index), rel=1e-12)
    assert each.isnan().tolist() == [node not in index.tolist() for node in range(6)]


def test_invalid_arguments_of_node_purity_are_refused() -> None:
    with pytest.raises(ValueError, match="node_purity: index must hold values from 0 to 1, got 2"):
        node_purity(LABEL, INDEX, 2)
    with pytest.raises(ValueError, match="node_purity: num_clusters must be an integer of at least 1, got 0"):
        node_purity(LABEL, INDEX, 0)
    with pytest.raises(ValueError, match=r"node_purity: label and index must have the same shape \[N\]"):
        node_purity(LABEL, INDEX[1:], 3)


def test_nmi_of_a_small_table_by_hand() -> None:
    label, index = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 2, 2])
    # H(label) = ln 2, H(index) = 1.5 ln 2, and the node determines the class: I = ln 2.
    assert nmi(label, index, average="arithmetic") == pytest.approx(1 / 1.25)
    assert nmi(label, index, average="geometric") == pytest.approx(1 / math.sqrt(1.5))
    assert nmi(label, index, average="min") == pytest.approx(1)
    assert nmi(label, index, average="max") == pytest.approx(1 / 1.5)


@pytest.mark.parametrize("average", ["arithmetic", "geometric", "min", "max"])
def test_random_assignments_agree_with_scikit_learn(average: NMIAverage) -> None:
    rng = np.random.default_rng(0)
    label, index = rng.integers(10, size=500), rng.integers(64, size=500)
    counts = contingency_matrix(label, index)
    assert purity(torch.from_numpy(label), torch.from_numpy(index)) == counts.max(axis=0).sum() / 500
    expected = normalized_mutual_info_score(label, index, average_method=average)
    assert nmi(torch.from_numpy(label), torch.from_numpy(index), average=average) == expected
    assert ari(torch.from_numpy(label), torch.from_numpy(index)) == adjusted_rand_score(label, index)


def test_names_of_classes_and_nodes_do_not_matter() -> None:
    for metric in (purity, nmi, ari, clustering_accuracy):
        assert metric(LABEL * 7 - 3, 100 - INDEX) == pytest.approx(metric(LABEL, INDEX))


@given(assignments(), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_matter(pairs: tuple[torch.Tensor, torch.Tensor], random: Random) -> None:
    label, index = pairs
    order = random.sample(range(len(label)), len(label))
    for metric in (purity, nmi, ari):
        assert metric(label[order], index[order]) == pytest.approx(metric(label, index), abs=1e-12)


@given(assignments())
def test_nodes_that_determine_the_class_score_one(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    label, _ = pairs
    assert purity(label, label) == clustering_accuracy(label, label) == 1
    assert ari(label, label) == pytest.approx(1)
    if len(label.unique()) > 1:  # with a single class the entropies are 0
        assert nmi(label, label) == pytest.approx(1)


@given(assignments())
def test_accuracy_is_the_best_over_all_matchings(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    label, index = pairs
    label = torch.cat([label, torch.arange(5)])  # every class occurs; not every node has to
    index = torch.cat([index, torch.zeros(5, dtype=torch.int64)])
    best = max(int((torch.tensor(match)[index] == label).sum()) for match in itertools.permutations(range(5)))
    assert clustering_accuracy(label, index, num_clusters=5) == best / len(label)


def test_accuracy_without_a_cluster_for_each_class_is_refused() -> None:
    label = torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match="clusters must be as many as the 3 classes in label, got 2"):
        clustering_accuracy(label, torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match="clusters must be as many as the 3 classes in label, got 64"):
        clustering_accuracy(label, label, num_clusters=64)
    with pytest.raises(ValueError, match="index must hold at most num_clusters = 2 clusters, got 3"):
        clustering_accuracy(label, label, num_clusters=2)


@pytest.mark.parametrize("metric", [purity, nmi, ari, clustering_accuracy])
@pytest.mark.parametrize(("labels", "nodes"), [(3, 2), (0, 0)])
def test_labels_and_nodes_of_different_lengths_are_refused(metric: object, labels: int, nodes: int) -> None:
    message = rf"label and index must have the same shape \[N\] with N of at least 1, got \[{labels}\] and \[{nodes}\]"
    with pytest.raises(ValueError, match=message):
        metric(torch.zeros(labels), torch.zeros(nodes))  # type: ignore[operator]


# ---- types of classes and nodes --------------------------------------------------------------------------------------

METRICS = [purity, nmi, ari, clustering_accuracy]
INTEGERS: dict[str, Callable[[Any], Any]] = {
    "numpy": np.asarray,
    "uint8": np.uint8,
    "big endian": lambda values: np.asarray(values, dtype=">i4"),
    "list": np.ndarray.tolist,
    "tuple": lambda values: tuple(values.tolist()),
    "pandas": pd.Series,
    "nullable pandas": lambda values: pd.Series(values, dtype="Int64"),
    "objects": lambda values: np.asarray(values, dtype=object),
    "torch int32": lambda values: torch.from_numpy(values).int(),
    "torch uint8": lambda values: torch.from_numpy(values).byte(),
}
NAMES = np.array(["x", "o", "diamond"])
CLASSES = INTEGERS | {
    "strings": lambda values: NAMES[values],
    "list of strings": lambda values: NAMES[values].tolist(),
    "objects of strings": lambda values: NAMES[values].astype(object),
    "numpy's other strings": lambda values: NAMES[values].astype(np.dtypes.StringDType()),
    "pandas strings": lambda values: pd.Series(NAMES[values]),
    "categories": lambda values: pd.Series(NAMES[values], dtype="category"),
    "large integers": lambda values: values.astype(np.uint64) + np.uint64(2**64 - 9),
}


@pytest.mark.parametrize("index_as", INTEGERS)
@pytest.mark.parametrize("label_as", CLASSES)
def test_classes_and_nodes_may_be_arrays_of_any_kind(label_as: str, index_as: str) -> None:
    label, index = CLASSES[label_as](LABEL.numpy()), INTEGERS[index_as](INDEX.numpy())
    for metric in METRICS:
        assert metric(label, index) == pytest.approx(metric(LABEL, INDEX), abs=1e-15)


@pytest.mark.parametrize("convert", [torch.tensor, np.array, list])
def test_booleans_are_two_classes_or_two_nodes(convert: Callable[[Any], Any]) -> None:
    label, index = [True, True, False, False], [True, False, False, False]
    for metric in METRICS:
        expected = metric([1, 1, 0, 0], [1, 0, 0, 0])
        assert metric(convert(label), convert(index)) == pytest.approx(expected)


def test_labels_may_be_on_another_device_than_nodes(device: torch.device) -> None:
    for metric in METRICS:
        expected = metric(LABEL, INDEX)
        assert metric(LABEL.to(device), INDEX.to(device)) == pytest.approx(expected)
        assert metric(LABEL.numpy(), INDEX.to(device)) == pytest.approx(expected)


def test_the_estimators_labels_can_be_passed_directly() -> None:
    x = np.random.default_rng(0).random((60, 2))
    kind = np.where(x[:, 0] > 0.5, "right", "left")
    som = SOM(3, 4, random_state=0, n_epochs=5).fit(x)
    assert purity(kind, som.labels_) == purity(torch.from_numpy(kind == "right"), torch.from_numpy(som.labels_))


CONVERT = "float(32|64); convert whole numbers to int64 first"
MISSING = "position 1; leave out what is missing"


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (torch.tensor([0.2, 0.5, 0.3]), CONVERT),
        (torch.tensor([0.0, 1.0, 2.0]), CONVERT),
        (np.array([0.0, 1.0, 2.0]), CONVERT),
        ([0.0, 1, 2], CONVERT),
        (pd.Series([0.5, 1.5, 2.5]), CONVERT),
        (torch.full((3,), math.nan), "nan at position 0; leave out what is missing"),
        (np.array([0, math.nan, 1]), f"nan at {MISSING}"),
        ([0, None, 1], f"None at {MISSING}"),
        (pd.Series([0, None, 1]), f"nan at {MISSING}"),
        (np.array([0, pd.NA, 1], dtype=object), f"<NA> at {MISSING}"),
        (["a", None, "b"], f"None at {MISSING}"),
        (["a", math.nan, "b"], f"nan at {MISSING}"),
        (["a", 1, "b"], "objects of type int, str"),
        (np.array(["2020", "2021", "2022"], dtype="M8[Y]"), r"datetime64\[Y\]"),
        (torch.ones(3, dtype=torch.complex64), "complex64"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("metric", METRICS)
def test_values_that_are_not_classes_or_nodes_are_refused(
    metric: Callable[[Any, Any], float], wrong: Any, got: str
) -> None:
    with pytest.raises(
        ValueError, match=rf"^{metric.__name__}: label must be integers, booleans or strings, got {got}$"
    ):
        metric(wrong, [0, 1, 2])
    with pytest.raises(ValueError, match=rf"^{metric.__name__}: index must be integers, got {got}$"):
        metric([0, 1, 2], wrong)


@pytest.mark.parametrize("strings", [["a", "b", "c"], np.array(["a", "b", "c"]), pd.Series(["a", "b", "c"])], ids=repr)
@pytest.mark.parametrize("metric", METRICS)
def test_strings_are_refused_as_nodes(metric: Callable[[Any, Any], float], strings: Any) -> None:
    with pytest.raises(ValueError, match=f"^{metric.__name__}: index must be integers, got strings$"):
        metric([0, 1, 2], strings)
