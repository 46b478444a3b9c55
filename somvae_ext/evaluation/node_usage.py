"""How evenly the nodes are used."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.arrays import as_booleans, as_indices, as_integers
from somvae_ext.config_checks import check_integer


class NodeUsage:
    """Counts how often each node wins, batch by batch.

    Args:
        num_nodes: number of nodes K.

    Raises:
        ValueError: ``num_nodes`` that is not an integer of at least 1.

    Example:
        >>> nodes = NodeUsage(4)
        >>> nodes.update([0, 0])
        >>> nodes.update([[3, 3], [3, 1]], mask=[[True, True], [False, False]])
        >>> nodes.used_share, nodes.perplexity, nodes.unused_nodes.tolist()
        (0.5, 2.0, [1, 2])
    """

    counts: Tensor
    """How often each node has won, int64 ``[K]`` on the CPU."""

    def __init__(self, num_nodes: int) -> None:
        self.num_nodes = check_integer("NodeUsage", "num_nodes", num_nodes)
        self.reset()

    def reset(self) -> None:
        """Resets all counts, for the next epoch."""
        self.counts = torch.zeros(self.num_nodes, dtype=torch.int64, device="cpu")

    def update(self, indices: ArrayLike | Tensor, mask: ArrayLike | Tensor | None = None) -> None:
        """Adds the winners of a batch.

        Args:
            indices: node of each sample: integers of any shape, 0 to ``num_nodes - 1``, an array-like or a tensor on
                any device.
            mask: which samples count, bool, of the same shape. The others may hold any integer.

        Raises:
            ValueError: nodes that are not integers, a node out of range, or a mask of a wrong shape or dtype.
        """
        nodes = as_integers("NodeUsage", "indices", indices)
        if mask is not None:
            is_counted = as_booleans("NodeUsage", "mask", mask)
            if is_counted.shape != nodes.shape:
                raise ValueError(
                    f"NodeUsage: mask must have the shape of indices, {list(nodes.shape)}, got {list(is_counted.shape)}"
                )
            nodes = nodes[is_counted.to(nodes.device)]
        nodes = as_indices("NodeUsage", "indices", nodes, self.num_nodes)
        self.counts += nodes.flatten().bincount(minlength=self.num_nodes).cpu()

    @property
    def used_share(self) -> float:
        """Share of the nodes that won at least one sample; 0 before the first sample."""
        return (self.counts > 0).sum().item() / self.num_nodes

    @property
    def perplexity(self) -> float:
        """Effective number of nodes in use, exp(-sum_k p_k log p_k), with p_k the share of samples that node k won.

        The perplexity is K if all nodes are used equally, 1 if one node takes everything, and 0 before the first
        sample.
        """
        total = self.counts.sum()
        if total == 0:
            return 0.0
        return torch.special.entr(self.counts.double() / total).sum().exp().item()

    @property
    def unused_nodes(self) -> Tensor:
        """Nodes that won no sample, ascending, int64."""
        return (self.counts == 0).nonzero()[:, 0]


def used_node_share(index: ArrayLike | Tensor, num_nodes: int) -> float:
    """Computes the share of the nodes that won at least one sample.

    Args:
        index: node of each sample: integers of any shape, 0 to ``num_nodes - 1``, an array-like or a tensor on any
            device.
        num_nodes: number of nodes K.

    Raises:
        ValueError: no samples, nodes that are not integers, or a node out of range.
    """
    return _count_nodes("used_node_share", index, num_nodes).used_share


def perplexity(index: ArrayLike | Tensor, num_nodes: int) -> float:
    """Computes the effective number of nodes in use, see :attr:`NodeUsage.perplexity`.

    Args:
        index: node of each sample: integers of any shape, 0 to ``num_nodes - 1``, an array-like or a tensor on any
            device.
        num_nodes: number of nodes K.

    Raises:
        ValueError: no samples, nodes that are not integers, or a node out of range.
    """
    return _count_nodes("perplexity", index, num_nodes).perplexity


def _count_nodes(metric: str, index: ArrayLike | Tensor, num_nodes: int) -> NodeUsage:
    usage = NodeUsage(num_nodes)
    nodes = as_indices(metric, "index", index, num_nodes)
    if nodes.numel() == 0:
        raise ValueError(f"{metric}: index must hold at least one sample, got shape {list(nodes.shape)}")
    usage.update(nodes)
    return usage
