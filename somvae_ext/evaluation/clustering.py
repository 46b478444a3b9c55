"""Agreement of nodes with known classes.

The metrics depend only on which samples share a class and which share a node, not on the numbers or names of either.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.arrays import as_array, as_indices, as_integers, as_label_numbers
from somvae_ext.config_checks import check_integer
from somvae_ext.extras import needed_by

NMIAverage = Literal["arithmetic", "geometric", "min", "max"]


def purity(label: ArrayLike | Tensor, index: ArrayLike | Tensor) -> float:
    """Computes the share of samples that belong to the most frequent class of their node: sum_k max_c n_kc / N.

    n_kc is the number of samples of class c at node k (Manning et al. 2008, "Introduction to Information Retrieval",
    eq. 16.1). Purity grows with the number of nodes; compare it for equal numbers of nodes only.

    Args:
        label: class of each sample ``[N]``: integers, booleans or strings, an array-like or a tensor on any device.
        index: node of each sample ``[N]``: integers, an array-like or a tensor on any device.

    Raises:
        ValueError: no samples, shapes that differ, or classes or nodes of an unsupported kind, such as floats and
            missing values.

    Example:
        >>> purity(["cat", "cat", "dog", "dog"], [5, 5, 5, 7])
        0.75
    """
    classes, nodes = _classes_and_nodes("purity", label, index)
    return _contingency_table(classes, nodes).amax(dim=1).sum().item() / len(classes)


def node_purity(label: ArrayLike | Tensor, index: ArrayLike | Tensor, num_clusters: int) -> Tensor:
    """Computes the share of each node's samples that belong to its most frequent class: max_c n_kc / n_k.

    :func:`purity` is the mean of these shares over the samples, so it gives large nodes more weight.

    Args:
        label: class of each sample ``[N]``: integers, booleans or strings, an array-like or a tensor on any device.
        index: node of each sample ``[N]``: integers, 0 to K - 1, an array-like or a tensor on any device.
        num_clusters: number of nodes K, including those without samples.

    Returns:
        float64 ``[K]`` on the device of ``index``, from 1 / number of classes to 1; NaN for nodes without samples.

    Raises:
        ValueError: anything that :func:`purity` rejects, or a node out of range.

    Example:
        >>> node_purity(["cat", "cat", "dog", "dog"], [1, 1, 1, 2], 3).tolist()
        [nan, 0.6666666666666666, 1.0]
    """
    num_clusters = check_integer("node_purity", "num_clusters", num_clusters)
    classes, nodes = _classes_and_nodes("node_purity", label, index)
    as_indices("node_purity", "index", nodes, num_clusters)
    counts = _contingency_table(classes, nodes)
    share = torch.full((num_clusters,), torch.nan, dtype=torch.float64, device=nodes.device)
    share[nodes.unique()] = counts.amax(dim=1).double() / counts.sum(dim=1)
    return share


@needed_by("nmi")
def nmi(label: ArrayLike | Tensor, index: ArrayLike | Tensor, *, average: NMIAverage = "arithmetic") -> float:
    """Computes the normalized mutual information I(class; node) / average(H(class), H(node)), by scikit-learn.

    I = sum_kc n_kc / N log(N n_kc / (n_k n_c)) and H = -sum n / N log(n / N) (Manning et al. 2008, eq. 16.2 to 16.7).

    Args:
        label: class of each sample ``[N]``: integers, booleans or strings, an array-like or a tensor on any device.
        index: node of each sample ``[N]``: integers, an array-like or a tensor on any device.
        average: how the two entropies are averaged. SOM-VAE reports ``"arithmetic"``, its successor DPSOM
            ``"geometric"``. The two differ by some hundredths if nodes outnumber classes, so always state which one.

    Raises:
        ValueError: no samples, shapes that differ, or classes or nodes of an unsupported kind, such as floats and
            missing values.
        ModuleNotFoundError: scikit-learn is missing.
    """
    from sklearn.metrics import normalized_mutual_info_score  # type: ignore[import-untyped]

    classes, nodes = _classes_and_nodes("nmi", label, index)
    score = normalized_mutual_info_score(classes.cpu().numpy(), nodes.cpu().numpy(), average_method=average)
    return float(score)


@needed_by("ari")
def ari(label: ArrayLike | Tensor, index: ArrayLike | Tensor) -> float:
    """Computes the adjusted Rand index, by scikit-learn (Hubert and Arabie 1985, eq. 5).

    The index is the share of pairs of samples on which classes and nodes agree (together in both, or apart in both),
    shifted and scaled so that its expectation is 0 for random assignments of the same sizes and its maximum is 1. It
    can be negative.

    Args:
        label: class of each sample ``[N]``: integers, booleans or strings, an array-like or a tensor on any device.
        index: node of each sample ``[N]``: integers, an array-like or a tensor on any device.

    Raises:
        ValueError: no samples, shapes that differ, or classes or nodes of an unsupported kind, such as floats and
            missing values.
        ModuleNotFoundError: scikit-learn is missing.
    """
    from sklearn.metrics import adjusted_rand_score

    classes, nodes = _classes_and_nodes("ari", label, index)
    return float(adjusted_rand_score(classes.cpu().numpy(), nodes.cpu().numpy()))


@needed_by("clustering_accuracy")
def clustering_accuracy(
    label: ArrayLike | Tensor, index: ArrayLike | Tensor, *, num_clusters: int | None = None
) -> float:
    """Computes the clustering accuracy, max_m sum_k n_k,m(k) / N over all one-to-one maps m of clusters to classes.

    The best map is found by the Hungarian method (Kuhn 1955; as a metric: Xie et al. 2016, eq. 10). It exists only if
    there are as many clusters as classes.

    Args:
        label: class of each sample ``[N]``: integers, booleans or strings, an array-like or a tensor on any device.
        index: cluster of each sample ``[N]``: integers, an array-like or a tensor on any device.
        num_clusters: number of clusters, including those without samples. By default the number of those with samples.

    Raises:
        ValueError: anything that :func:`purity` rejects, more clusters in ``index`` than ``num_clusters``, or a number
            of clusters that differs from the number of classes.
        ModuleNotFoundError: scipy, a dependency of scikit-learn, is missing.

    Example:
        >>> clustering_accuracy([0, 0, 1, 1], [1, 1, 1, 0])
        0.75
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    classes, clusters = _classes_and_nodes("clustering_accuracy", label, index)
    counts = _contingency_table(classes, clusters).cpu().numpy()
    num_used, num_classes = counts.shape
    num_clusters = (
        num_used if num_clusters is None else check_integer("clustering_accuracy", "num_clusters", num_clusters)
    )
    if num_used > num_clusters:
        raise ValueError(
            f"clustering_accuracy: index must hold at most num_clusters = {num_clusters} clusters, got {num_used}"
        )
    if num_clusters != num_classes:
        raise ValueError(
            f"clustering_accuracy: clusters must be as many as the {num_classes} classes in label, got {num_clusters}; "
            "purity and nmi compare any numbers of them"
        )
    counts = np.concatenate([counts, np.zeros((num_classes - num_used, num_classes), dtype=counts.dtype)])
    cluster, class_of_cluster = linear_sum_assignment(counts, maximize=True)
    return int(counts[cluster, class_of_cluster].sum()) / len(classes)


def _contingency_table(label: Tensor, index: Tensor) -> Tensor:
    """Returns the contingency table, int64 ``[nodes that occur, classes that occur]``."""
    classes, column = label.unique(return_inverse=True)
    nodes, row = index.unique(return_inverse=True)
    cell = row * len(classes) + column.to(row.device)
    return cell.bincount(minlength=len(nodes) * len(classes)).view(len(nodes), len(classes))


def _classes_and_nodes(metric: str, label: ArrayLike | Tensor, index: ArrayLike | Tensor) -> tuple[Tensor, Tensor]:
    """Returns class and node of each sample, int64 ``[N]``."""
    arguments = [
        values if isinstance(values, Tensor) else as_array(metric, name, values)
        for name, values in (("label", label), ("index", index))
    ]
    shapes = [list(values.shape) for values in arguments]
    if len(shapes[0]) != 1 or shapes[0] != shapes[1] or shapes[0] == [0]:
        raise ValueError(
            f"{metric}: label and index must have the same shape [N] with N of at least 1, got {shapes[0]} and "
            f"{shapes[1]}"
        )
    return as_label_numbers(metric, "label", arguments[0]), as_integers(metric, "index", arguments[1])
