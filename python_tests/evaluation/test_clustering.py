"""Clustering metrics against examples worked out by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from somvae_ext.evaluation import NMIAverage, nmi, perplexity, purity, usage

# Manning et al., "Introduction to Information Retrieval", figure 16.4: three clusters, x = 0, o = 1, diamond = 2.
LABEL = torch.tensor([0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 2, 0, 0, 2, 2, 2])
INDEX = torch.tensor([0] * 6 + [1] * 6 + [2] * 5)


def test_the_textbook_example() -> None:
    assert purity(LABEL, INDEX) == pytest.approx(12 / 17)
    assert nmi(LABEL, INDEX) == pytest.approx(0.36, abs=0.005)  # printed to two digits there


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


def test_names_of_classes_and_nodes_do_not_matter() -> None:
    assert purity(LABEL * 7 - 3, 100 - INDEX) == purity(LABEL, INDEX)


def test_usage_and_perplexity_of_small_examples() -> None:
    index = torch.tensor([[0, 0], [3, 3]])
    assert usage(index, 8) == 0.25
    assert perplexity(index, 8) == pytest.approx(2)
    assert perplexity(torch.arange(8), 8) == pytest.approx(8)
    assert perplexity(torch.zeros(5, dtype=torch.int64), 8) == pytest.approx(1)
    # Shares 1/2, 1/4, 1/4: entropy 1.5 bits.
    assert perplexity(torch.tensor([0, 0, 1, 2]), 3) == pytest.approx(2**1.5)


@pytest.mark.parametrize("metric", [purity, nmi])
@pytest.mark.parametrize(("labels", "nodes"), [(3, 2), (0, 0)])
def test_rows_that_do_not_pair_up_are_refused(metric: object, labels: int, nodes: int) -> None:
    message = rf"label and index must have the same shape \[N\] with N of at least 1, got \[{labels}\] and \[{nodes}\]"
    with pytest.raises(ValueError, match=message):
        metric(torch.zeros(labels), torch.zeros(nodes))  # type: ignore[operator]


@pytest.mark.parametrize("metric", [usage, perplexity])
def test_nodes_out_of_range_and_no_samples_are_refused(metric: object) -> None:
    with pytest.raises(ValueError, match="index must hold values from 0 to 3, got 4"):
        metric(torch.tensor([0, 4]), 4)  # type: ignore[operator]
    with pytest.raises(ValueError, match="index must hold values from 0 to 3, got -1"):
        metric(torch.tensor([-1, 0]), 4)  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"index must hold at least one sample, got shape \[0\]"):
        metric(torch.zeros(0, dtype=torch.int64), 4)  # type: ignore[operator]
