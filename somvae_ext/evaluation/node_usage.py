"""How evenly the nodes are used."""

from __future__ import annotations

import torch
from torch import Tensor


class NodeUsage:
    """Counts which nodes win, batch by batch.

    Args:
        num_nodes: number of nodes K.

    Raises:
        ValueError: ``num_nodes`` below 1.

    Example:
        >>> import torch
        >>> nodes = NodeUsage(4)
        >>> nodes.update(torch.tensor([0, 0]))
        >>> nodes.update(torch.tensor([[3, 3], [3, 1]]), mask=torch.tensor([[True, True], [False, False]]))
        >>> nodes.usage, nodes.perplexity, nodes.unused.tolist()
        (0.5, 2.0, [1, 2])
    """

    counts: Tensor
    """How often each node has won, int64 ``[K]`` on the CPU."""

    def __init__(self, num_nodes: int) -> None:
        if num_nodes < 1:
            raise ValueError(f"NodeUsage: num_nodes must be at least 1, got {num_nodes}")
        self.num_nodes = num_nodes
        self.reset()

    def reset(self) -> None:
        """Forgets all samples, for the next epoch."""
        self.counts = torch.zeros(self.num_nodes, dtype=torch.int64)

    def update(self, indices: Tensor, mask: Tensor | None = None) -> None:
        """Adds the winners of a batch.

        Args:
            indices: node of each sample, int64, any shape, values 0 to ``num_nodes - 1``.
            mask: bool, of the same shape: which of them count. Those that do not may hold any value.

        Raises:
            ValueError: a mask of another shape, or a node out of range.
        """
        if mask is not None:
            if mask.shape != indices.shape:
                raise ValueError(
                    f"NodeUsage: mask must have the shape of indices, {list(indices.shape)}, got {list(mask.shape)}"
                )
            indices = indices[mask]
        _check_range("NodeUsage", "indices", indices, self.num_nodes)
        self.counts += indices.flatten().bincount(minlength=self.num_nodes).cpu()

    @property
    def usage(self) -> float:
        """Share of the nodes that won at least one sample; 0 before the first."""
        return (self.counts > 0).sum().item() / self.num_nodes

    @property
    def perplexity(self) -> float:
        """Effective number of nodes in use: exp(-sum_k p_k log p_k) of the nodes' shares p; 0 before the first sample.

        K when all nodes are used alike, 1 when one takes everything.
        """
        total = self.counts.sum()
        if total == 0:
            return 0.0
        return torch.special.entr(self.counts.double() / total).sum().exp().item()

    @property
    def unused(self) -> Tensor:
        """Nodes that won no sample, ascending, int64."""
        return (self.counts == 0).nonzero()[:, 0]


def usage(index: Tensor, num_nodes: int) -> float:
    """Share of the nodes that won at least one sample.

    Args:
        index: node of each sample, integer, any shape, values 0 to ``num_nodes - 1``.
        num_nodes: number of nodes K.

    Raises:
        ValueError: no samples, or a node out of range.
    """
    return _counted("usage", index, num_nodes).usage


def perplexity(index: Tensor, num_nodes: int) -> float:
    """Effective number of nodes in use, as :attr:`NodeUsage.perplexity`.

    Args:
        index: node of each sample, integer, any shape, values 0 to ``num_nodes - 1``.
        num_nodes: number of nodes K.

    Raises:
        ValueError: no samples, or a node out of range.
    """
    return _counted("perplexity", index, num_nodes).perplexity


def _counted(metric: str, index: Tensor, num_nodes: int) -> NodeUsage:
    if index.numel() == 0:
        raise ValueError(f"{metric}: index must hold at least one sample, got shape {list(index.shape)}")
    _check_range(metric, "index", index, num_nodes)
    nodes = NodeUsage(num_nodes)
    nodes.update(index)
    return nodes


def _check_range(metric: str, argument: str, index: Tensor, num_nodes: int) -> None:
    if index.numel() == 0:
        return
    low, high = (int(end) for end in index.aminmax())
    if low < 0 or high >= num_nodes:
        raise ValueError(
            f"{metric}: {argument} must hold values from 0 to {num_nodes - 1}, got {low if low < 0 else high}"
        )
