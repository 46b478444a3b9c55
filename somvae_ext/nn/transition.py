"""A Markov chain over the nodes of a map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from somvae_ext import ops


class TransitionModel(nn.Module):
    """First-order transition probabilities between nodes, learned with the map (Fortuin et al. 2019, section 2.3).

    P(j | i) = softmax_j(logits[i]); all nodes are equally likely at the start.

    Args:
        num_nodes: number of nodes K.

    Attributes:
        logits: parameter ``[K, K]``, row = from, column = to.

    Raises:
        ValueError: ``num_nodes`` below 1.

    Example:
        >>> import torch
        >>> transitions = TransitionModel(4)
        >>> transitions.log_prob(torch.tensor([0]), torch.tensor([3])).exp().item()
        0.25
    """

    logits: nn.Parameter

    def __init__(self, num_nodes: int) -> None:
        super().__init__()
        if num_nodes < 1:
            raise ValueError(f"TransitionModel: num_nodes must be at least 1, got {num_nodes}")
        self.num_nodes = num_nodes
        self.logits = nn.Parameter(torch.zeros(num_nodes, num_nodes))

    def log_prob(self, prev: Tensor, cur: Tensor) -> Tensor:
        """Log-probability of each step ``prev -> cur``.

        Args:
            prev: nodes at t - 1, int64 ``[...]``.
            cur: nodes at t, int64, same shape.

        Returns:
            ``[...]``, differentiable in the logits.

        Raises:
            ValueError: shapes that differ, a wrong dtype, or an index out of range (on the CPU).
        """
        if prev.shape != cur.shape:
            raise ValueError(
                f"TransitionModel.log_prob: cur must have the shape of prev, {list(prev.shape)}, got {list(cur.shape)}"
            )
        return ops.transition_log_prob(self.logits, prev.reshape(-1), cur.reshape(-1)).view(prev.shape)

    def expected_distance(self, prev: Tensor, z: Tensor, codebook: Tensor) -> Tensor:
        """Squared distance to the codes that is expected one step after ``prev``: sum_j P(j | prev) |z - e_j|^2.

        Args:
            prev: nodes at t - 1, int64 ``[...]``.
            z: encodings at t, ``[..., D]``.
            codebook: ``[K, D]``.

        Returns:
            ``[...]``, differentiable in the logits, ``z`` and ``codebook``.

        Raises:
            ValueError: shapes that do not fit, a wrong dtype, or an index out of range (on the CPU).
        """
        if prev.shape != z.shape[:-1]:
            raise ValueError(
                "TransitionModel.expected_distance: prev must have the leading shape of z, "
                f"{list(z.shape[:-1])}, got {list(prev.shape)}"
            )
        rows = z.reshape(-1, z.shape[-1])
        return ops.expected_distance(self.logits, prev.reshape(-1), rows, codebook).view(prev.shape)

    def matrix(self) -> Tensor:
        """The transition matrix P, ``[K, K]``; each row sums to one. Differentiable."""
        return self.logits.softmax(dim=1)

    def extra_repr(self) -> str:
        return f"num_nodes={self.num_nodes}"
