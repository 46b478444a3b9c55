"""Agreement of nodes with known classes, and how evenly the nodes are used."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

NMIAverage = Literal["arithmetic", "geometric", "min", "max"]


def purity(label: Tensor, index: Tensor) -> float:
    """Share of samples that belong to the most frequent class of their node: sum_k max_c n_kc / N.

    It grows with the number of nodes; compare it at equal numbers only.

    Args:
        label: class of each sample, integer ``[N]``.
        index: node of each sample, integer ``[N]``.

    Raises:
        ValueError: no samples, or shapes that differ.

    Example:
        >>> purity(torch.tensor([0, 0, 1, 1]), torch.tensor([5, 5, 5, 7]))
        0.75
    """
    _check_pairs("purity", label, index)
    classes = label.unique(return_inverse=True)[1]
    nodes = index.unique(return_inverse=True)[1]
    counts = torch.zeros(int(nodes.max()) + 1, int(classes.max()) + 1, dtype=torch.int64, device=index.device)
    counts.index_put_((nodes, classes), torch.ones_like(nodes), accumulate=True)
    return counts.amax(dim=1).sum().item() / len(label)


def nmi(label: Tensor, index: Tensor, *, average: NMIAverage = "arithmetic") -> float:
    """Normalized mutual information I(class; node) / average(H(class), H(node)), by scikit-learn.

    Args:
        label: class of each sample, integer ``[N]``.
        index: node of each sample, integer ``[N]``.
        average: how the two entropies are averaged. SOM-VAE reports ``"arithmetic"``, its successor DPSOM
            ``"geometric"``; the two differ by some hundredths when nodes outnumber classes, so name it with the number.

    Raises:
        ValueError: no samples, or shapes that differ.
        ModuleNotFoundError: scikit-learn is missing.
    """
    from sklearn.metrics import normalized_mutual_info_score  # type: ignore[import-untyped]

    _check_pairs("nmi", label, index)
    score = normalized_mutual_info_score(label.cpu().numpy(), index.cpu().numpy(), average_method=average)
    return float(score)


def usage(index: Tensor, num_nodes: int) -> float:
    """Share of the nodes that won at least one sample.

    Args:
        index: node of each sample, integer, any shape, values 0 to ``num_nodes - 1``.
        num_nodes: number of nodes K.

    Raises:
        ValueError: no samples, or a node out of range.
    """
    _check_nodes("usage", index, num_nodes)
    return len(index.unique()) / num_nodes


def perplexity(index: Tensor, num_nodes: int) -> float:
    """Effective number of nodes in use: exp of the entropy of the nodes' shares.

    K when all nodes are used alike, 1 when one takes everything.

    Args:
        index: node of each sample, integer, any shape, values 0 to ``num_nodes - 1``.
        num_nodes: number of nodes K.

    Raises:
        ValueError: no samples, or a node out of range.
    """
    _check_nodes("perplexity", index, num_nodes)
    share = index.flatten().bincount(minlength=num_nodes).double() / index.numel()
    return torch.special.entr(share).sum().exp().item()


def _check_pairs(metric: str, label: Tensor, index: Tensor) -> None:
    if label.dim() != 1 or label.shape != index.shape or len(label) == 0:
        raise ValueError(
            f"{metric}: label and index must have the same shape [N] with N of at least 1, got {list(label.shape)} and "
            f"{list(index.shape)}"
        )


def _check_nodes(metric: str, index: Tensor, num_nodes: int) -> None:
    if index.numel() == 0:
        raise ValueError(f"{metric}: index must hold at least one sample, got shape {list(index.shape)}")
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= num_nodes:
        raise ValueError(f"{metric}: index must hold values from 0 to {num_nodes - 1}, got {low if low < 0 else high}")
