"""Clustering metrics against examples worked out by hand and against scikit-learn."""

from __future__ import annotations

import itertools
import math
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from somvae_ext.evaluation import NMIAverage, acc, ari, nmi, purity

# Manning et al., "Introduction to Information Retrieval", figure 16.4: three clusters, x = 0, o = 1, diamond = 2.
LABEL = torch.tensor([0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 2, 0, 0, 2, 2, 2])
INDEX = torch.tensor([0] * 6 + [1] * 6 + [2] * 5)


@st.composite
def assignments(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes and nodes of 1 to 30 samples."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=30))
    label, index = torch.tensor(pairs).unbind(dim=1)
    return label, index


def test_the_textbook_example() -> None:
    assert purity(LABEL, INDEX) == pytest.approx(12 / 17)
    assert nmi(LABEL, INDEX) == pytest.approx(0.36, abs=0.005)  # printed to two digits there
    assert acc(LABEL, INDEX) == pytest.approx(12 / 17)  # here the most frequent classes are three different ones
    # Of the 136 pairs 20 are together in both, 20 only in a cluster, 24 only in a class (table 16.2 of the same book).
    together, expected, largest = 20, 40 * 44 / 136, (40 + 44) / 2
    assert ari(LABEL, INDEX) == pytest.approx((together - expected) / (largest - expected))


def test_nmi_of_a_small_table_by_hand() -> None:
    label, index = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 2, 2])
    # H(label) = ln 2, H(index) = 1.5 ln 2, and the nodes tell the class: I = ln 2.
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
    for metric in (purity, nmi, ari, acc):
        assert metric(LABEL * 7 - 3, 100 - INDEX) == pytest.approx(metric(LABEL, INDEX))


@given(assignments(), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_matter(pairs: tuple[torch.Tensor, torch.Tensor], random: Random) -> None:
    label, index = pairs
    order = random.sample(range(len(label)), len(label))
    for metric in (purity, nmi, ari):
        assert metric(label[order], index[order]) == pytest.approx(metric(label, index), abs=1e-12)


@given(assignments())
def test_nodes_that_know_the_class_score_one(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    label, _ = pairs
    assert purity(label, label) == acc(label, label) == 1
    assert ari(label, label) == pytest.approx(1)
    if len(label.unique()) > 1:  # the entropies of a single class are 0
        assert nmi(label, label) == pytest.approx(1)


@given(assignments())
def test_accuracy_is_the_best_over_all_matchings(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    label, index = pairs
    label = torch.cat([label, torch.arange(5)])  # every class occurs; nodes need not
    index = torch.cat([index, torch.zeros(5, dtype=torch.int64)])
    best = max(int((torch.tensor(match)[index] == label).sum()) for match in itertools.permutations(range(5)))
    assert acc(label, index, num_clusters=5) == best / len(label)


def test_accuracy_without_a_cluster_for_each_class_is_refused() -> None:
    label = torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match="clusters must be as many as the 3 classes in label, got 2"):
        acc(label, torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match="clusters must be as many as the 3 classes in label, got 64"):
        acc(label, label, num_clusters=64)
    with pytest.raises(ValueError, match="index must hold at most num_clusters = 2 clusters, got 3"):
        acc(label, label, num_clusters=2)


@pytest.mark.parametrize("metric", [purity, nmi, ari, acc])
@pytest.mark.parametrize(("labels", "nodes"), [(3, 2), (0, 0)])
def test_rows_that_do_not_pair_up_are_refused(metric: object, labels: int, nodes: int) -> None:
    message = rf"label and index must have the same shape \[N\] with N of at least 1, got \[{labels}\] and \[{nodes}\]"
    with pytest.raises(ValueError, match=message):
        metric(torch.zeros(labels), torch.zeros(nodes))  # type: ignore[operator]
