"""A Markov chain over the nodes of a map."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from somvae_ext import ops
from somvae_ext.grid import Grid
from somvae_ext.nn.transition_table import make_table

Kind = Literal["dense", "local"]

# Probability of a restart in a chain with steps of probability zero, see TransitionModel.stationary_distribution. It is
# far below any probability that float64 counts give, and so far above the smallest normal number that its products do
# not underflow.
_RESTART = 1e-280


def previous_in_series(indices: Tensor, mask: Tensor | None = None) -> Tensor:
    """Returns the node of the previous frame in the series, for each frame of some series.

    Args:
        indices: nodes, int64 ``[B, T]``.
        mask: which frames are real, bool ``[B, T]``; all by default.

    Returns:
        int64 ``[B, T]``. A frame without a predecessor (the first of its series, or one that follows a masked frame)
        is its own predecessor, as in the published SOM-VAE code; series are never joined.

    Raises:
        ValueError: ``indices`` are not int64 ``[B, T]``, or the mask is not bool of their shape.

    Example:
        >>> previous_in_series(torch.tensor([[3, 1, 2], [5, 5, 4]])).tolist()
        [[3, 3, 1], [5, 5, 5]]
    """
    _check_series("previous_in_series", indices, mask)
    previous = torch.cat([indices[:, :1], indices[:, :-1]], dim=1)
    if mask is None:
        return previous
    follows = torch.cat([torch.zeros_like(mask[:, :1]), mask[:, :-1]], dim=1)
    return torch.where(follows, previous, indices)


class TransitionModel(nn.Module):
    """First-order transition probabilities between nodes, learned with the map (Fortuin et al. 2019, section 2.3).

    ``"dense"``: P(j | i) = softmax_j(logits[i]), K x K numbers. ``"local"``, for maps too large for that: a logit for
    each node in the window of radius r around i and one for all nodes outside, which are equally likely:
    K ((2r + 1)^2 + 1) numbers on rectangles, see :func:`~somvae_ext.ops.local_transition_losses`. Initially all nodes
    are equally likely.

    All results but nodes are float32, or float64 if the logits are: log-probabilities, distances, rows of the matrix
    and the stationary distribution have one dtype and can be multiplied by each other.

    Args:
        nodes: number of nodes K, or the map's grid.
        kind: ``"dense"`` or ``"local"``.
        radius: radius of the windows for ``"local"``, which needs the grid.
        sparse_grad: whether the logits' gradient is a sparse tensor of rows, see
            :func:`~somvae_ext.ops.transition_losses`.

    Attributes:
        logits: parameter with one row per source node: ``[K, K]``, one column per target node, or ``[K, W + 1]``, the
            slots of :meth:`Grid.window <somvae_ext.Grid.window>` and the remainder.

    Raises:
        ValueError: ``nodes`` below 1, an unknown ``kind``, ``"local"`` without a grid or a radius of at least 0, or
            ``"dense"`` with a radius.

    Example:
        >>> import torch
        >>> transitions = TransitionModel(4)
        >>> transitions.log_prob(torch.tensor([0]), torch.tensor([3])).exp().item()
        0.25
        >>> TransitionModel(Grid(256, 256), kind="local", radius=8).logits.shape
        torch.Size([65536, 290])
    """

    logits: nn.Parameter

    def __init__(
        self, nodes: int | Grid, *, kind: Kind = "dense", radius: int | None = None, sparse_grad: bool = False
    ) -> None:
        super().__init__()
        self.table = make_table(nodes, kind, radius)
        self.num_nodes = self.table.num_nodes
        self.sparse_grad = sparse_grad
        self.logits = nn.Parameter(self.table.uniform())

    def losses(self, prev: Tensor, cur: Tensor, z: Tensor, codebook: Tensor) -> ops.TransitionLosses:
        """Computes :meth:`log_prob` and :meth:`expected_distance` in one pass, with one gradient of the logits.

        Raises:
            ValueError: shapes that do not fit, a wrong dtype, or an index out of range (on the CPU).
        """
        _check_same_shape("losses", prev, cur)
        _check_leading_shape("losses", prev, z)
        rows = z.reshape(-1, z.shape[-1])
        both = self.table.losses(self.logits, prev.reshape(-1), cur.reshape(-1), rows, codebook, self.sparse_grad)
        return ops.TransitionLosses(*(loss.view(prev.shape) for loss in both))

    def log_prob(self, prev: Tensor, cur: Tensor) -> Tensor:
        """Computes the log-probability of each step ``prev -> cur``.

        Args:
            prev: nodes at t - 1, int64 ``[...]``.
            cur: nodes at t, int64, same shape.

        Returns:
            ``[...]``, differentiable in the logits.

        Raises:
            ValueError: shapes that differ, a wrong dtype, or an index out of range (on the CPU).
        """
        _check_same_shape("log_prob", prev, cur)
        return self.table.log_prob(self.logits, prev.reshape(-1), cur.reshape(-1), self.sparse_grad).view(prev.shape)

    def expected_distance(self, prev: Tensor, z: Tensor, codebook: Tensor) -> Tensor:
        """Computes the expected squared distance to the codes one step after ``prev``.

        This is ``sum_j P(j | prev) |z - e_j|^2``.

        Args:
            prev: nodes at t - 1, int64 ``[...]``.
            z: encodings at t, ``[..., D]``.
            codebook: ``[K, D]``.

        Returns:
            ``[...]``, differentiable in the logits, ``z`` and ``codebook``.

        Raises:
            ValueError: shapes that do not fit, a wrong dtype, or an index out of range (on the CPU).
        """
        _check_leading_shape("expected_distance", prev, z)
        rows = z.reshape(-1, z.shape[-1])
        expected = self.table.expected_distance(self.logits, prev.reshape(-1), rows, codebook, self.sparse_grad)
        return expected.view(prev.shape)

    def negative_log_likelihood(self, indices: Tensor, mask: Tensor | None = None) -> Tensor:
        """Computes the mean of -log P(k_t | k_t-1) over the steps between real frames.

        Unlike the transition loss of SOM-VAE, which counts a first frame as a step from its node to itself, this skips
        first frames, so that it can be compared with a maximum-likelihood estimate on held-out series.

        Args:
            indices: nodes, int64 ``[B, T]``.
            mask: which frames are real, bool ``[B, T]``; a step needs two real frames in a row. All by default.

        Returns:
            A scalar in nats, differentiable in the logits.

        Raises:
            ValueError: shapes or dtypes that do not fit, an index out of range, or no step at all.
        """
        prev, cur = _steps("TransitionModel.negative_log_likelihood", indices, mask)
        if len(cur) == 0:
            raise ValueError(
                "TransitionModel.negative_log_likelihood: indices must hold at least one step, that is two real frames "
                f"in a row, got none in {list(indices.shape)}"
            )
        return -self.log_prob(prev, cur).mean()

    @torch.no_grad()
    def fit_counts(self, indices: Tensor, mask: Tensor | None = None, *, pseudocount: float) -> TransitionModel:
        """Sets the logits to the logarithms of P(j | i) = (n_ij + a) / (n_i + K a), where n counts steps.

        With ``"local"``, steps to nodes outside the window are counted together and distributed evenly.

        Args:
            indices: nodes, int64 ``[B, T]``. First frames are not steps; series are never joined.
            mask: which frames are real, bool ``[B, T]``; all by default.
            pseudocount: a, added to each count. 0 gives the maximum-likelihood estimate: steps that never happened
                are impossible (their logits are minus infinity, and held-out series that make one have an infinite
                negative log-likelihood). Above 0 it gives the posterior mean under a symmetric Dirichlet prior. A row
                without counts is uniform in any case.

        Returns:
            The model itself.

        Raises:
            ValueError: shapes or dtypes that do not fit, an index out of range, or a pseudocount that is negative or
                not finite.
        """
        if not (math.isfinite(pseudocount) and pseudocount >= 0):
            raise ValueError(
                f"TransitionModel.fit_counts: pseudocount must be a finite number of at least 0, got {pseudocount}"
            )
        prev, cur = _steps("TransitionModel.fit_counts", indices, mask)
        self._check_range("fit_counts", "indices", indices if mask is None else indices[mask])
        self.logits.copy_(self.table.logits_from_steps(prev, cur, pseudocount))
        return self

    def rows(self, nodes: Tensor) -> Tensor:
        """Returns P(j | i) for all j, ``[..., K]``, of the nodes i = ``nodes``, int64 ``[...]``. Differentiable.

        Raises:
            ValueError: a dtype other than int64, or a node out of range.
        """
        self._check_nodes("rows", "nodes", nodes)
        return self._rows(nodes)

    def matrix(self) -> Tensor:
        """Returns the transition matrix P, ``[K, K]``, whose rows sum to one. Differentiable.

        The whole matrix must fit in memory, whatever the kind.
        """
        return self.rows(torch.arange(self.num_nodes, device=self.logits.device))

    @torch.no_grad()
    def stationary_distribution(self) -> Tensor:
        """Computes the share of time that the chain spends in each node in the long run: p with p P = p.

        p is unique if every node can be reached from every other, as with any finite logits (short of underflow). If
        steps of probability zero cut the chain into parts that it cannot leave, p depends on the start, and the result
        is that of a start at a uniformly random node; nodes that the chain leaves forever have 0.

        The computation is in float64, by the elimination of Grassmann, Taksar and Heyman (1985), which never subtracts:
        each entry is accurate even if the chain hardly ever leaves a node. It takes O(K^3) operations on a K x K
        matrix, whatever the kind.

        Returns:
            ``[K]``, sums to one; rounded to the dtype of :meth:`matrix`.
        """
        chain = self._rows(torch.arange(self.num_nodes, device=self.logits.device), torch.float64)
        reducible = bool((chain == 0).any())
        if reducible:
            # With a vanishing probability of a restart at a uniformly random node, the stationary distribution is
            # unique, and its limit is the documented result.
            chain = chain + _RESTART / self.num_nodes
        for n in range(self.num_nodes - 1, 0, -1):
            # Observe the chain only while it is in nodes below n: detours through n become direct steps.
            chain[:n, n] /= chain[n, :n].sum()
            chain[:n, :n].addr_(chain[:n, n], chain[n, :n])
        share = torch.zeros_like(chain[0])
        share[0] = 1
        for n in range(1, self.num_nodes):
            share[n] = share[:n] @ chain[:n, n]
            share[: n + 1] /= share[: n + 1].sum()
        if reducible:  # nodes that only restarts reach
            share = share.masked_fill(share < math.sqrt(_RESTART), 0)
        return (share / share.sum()).to(self._dtype)

    @torch.no_grad()
    def sample_paths(self, start: Tensor | int, num_steps: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws paths through the map.

        Each step allocates the transition rows of the paths' nodes, ``[..., K]``.

        Args:
            start: first node of each path, int64 ``[...]``, or one number.
            num_steps: number of steps, at least 0.
            generator: random generator, on the CPU wherever the model is, so that paths do not depend on the device;
                torch's global one by default.

        Returns:
            int64 ``[..., 1 + num_steps]`` on the model's device, the start first.

        Raises:
            ValueError: a start out of range or of another dtype, or a negative number of steps.
        """
        device = self.logits.device
        node = torch.as_tensor(start, device=device)
        self._check_nodes("sample_paths", "start", node)
        if num_steps < 0:
            raise ValueError(f"TransitionModel.sample_paths: num_steps must be at least 0, got {num_steps}")
        draws = torch.rand((*node.shape, num_steps), dtype=torch.float64, generator=generator).to(device)
        path = [node]
        for t in range(num_steps):
            row = self._rows(path[-1], torch.float64).cumsum(dim=-1)
            # Take the first node whose cumulative probability exceeds the draw: never one of probability zero. The last
            # sum is one up to rounding, so the draw is scaled by it.
            target = draws[..., t, None] * row[..., -1:]
            path.append(torch.searchsorted(row, target, right=True).squeeze(-1).clamp_max(self.num_nodes - 1))
        return torch.stack(path, dim=-1)

    def extra_repr(self) -> str:
        return ", ".join([str(self.table)] + ["sparse_grad=True"] * self.sparse_grad)

    @property
    def _dtype(self) -> torch.dtype:
        """The dtype in which the ops compute and return their results."""
        return torch.promote_types(self.logits.dtype, torch.float32)

    def _rows(self, nodes: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        flat = nodes.reshape(-1)
        # F.embedding, not logits[nodes], whose gradient the CPU adds up in the order of its threads.
        rows = F.embedding(flat, self.logits).to(self._dtype if dtype is None else dtype)
        return self.table.probabilities(rows, flat).view(*nodes.shape, self.num_nodes)

    def _check_nodes(self, method: str, name: str, nodes: Tensor) -> None:
        if nodes.dtype != torch.int64:
            raise ValueError(f"TransitionModel.{method}: {name} must be of dtype int64, got {nodes.dtype}")
        self._check_range(method, name, nodes)

    def _check_range(self, method: str, name: str, nodes: Tensor) -> None:
        if nodes.numel() == 0:
            return
        low, high = (int(bound) for bound in torch.aminmax(nodes))
        if low < 0 or high >= self.num_nodes:
            raise ValueError(
                f"TransitionModel.{method}: {name} must hold nodes from 0 to {self.num_nodes - 1}, "
                f"got {low if low < 0 else high}"
            )


def _check_same_shape(method: str, prev: Tensor, cur: Tensor) -> None:
    if prev.shape != cur.shape:
        raise ValueError(
            f"TransitionModel.{method}: cur must have the shape of prev, {list(prev.shape)}, got {list(cur.shape)}"
        )


def _check_leading_shape(method: str, prev: Tensor, z: Tensor) -> None:
    if prev.shape != z.shape[:-1]:
        raise ValueError(
            f"TransitionModel.{method}: prev must have the leading shape of z, {list(z.shape[:-1])}, "
            f"got {list(prev.shape)}"
        )


def _steps(method: str, indices: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The nodes before and after each step between two real frames, ``[number of steps]`` each."""
    _check_series(method, indices, mask)
    prev, cur = indices[:, :-1], indices[:, 1:]
    if mask is None:
        return prev.reshape(-1), cur.reshape(-1)
    real = mask[:, :-1] & mask[:, 1:]
    return prev[real], cur[real]


def _check_series(method: str, indices: Tensor, mask: Tensor | None) -> None:
    if indices.dtype != torch.int64 or indices.dim() != 2:
        raise ValueError(
            f"{method}: indices must be of dtype int64 and shape [B, T], got {indices.dtype} and {list(indices.shape)}"
        )
    if mask is not None and (mask.dtype != torch.bool or mask.shape != indices.shape):
        raise ValueError(
            f"{method}: mask must be of dtype bool and the shape of indices, {list(indices.shape)}, "
            f"got {mask.dtype} and {list(mask.shape)}"
        )
