"""Logits of a transition model: a full table, or one that holds only the nodes near each node."""

from __future__ import annotations

import dataclasses
import functools
from typing import Protocol

import torch
from torch import Tensor

from somvae_ext import ops
from somvae_ext.config_checks import Bounds, check_integer
from somvae_ext.grid import Grid
from somvae_ext.ops._local_transition import local_probabilities
from somvae_ext.ops._transition import TransitionLosses

_CHUNK = 4096  # windows that are expanded at a time


class TransitionTable(Protocol):
    """Turns rows of logits into the probabilities P(j | i); ``prev`` and ``cur`` are int64 ``[N]``."""

    @property
    def num_nodes(self) -> int: ...

    def uniform(self) -> Tensor:
        """Logits under which all nodes are equally likely, one row per node."""
        ...

    def losses(
        self, logits: Tensor, prev: Tensor, cur: Tensor, z: Tensor, codebook: Tensor, sparse_grad: bool
    ) -> TransitionLosses:
        """Log-probability and expected distance of each step, ``[N]``."""
        ...

    def log_prob(self, logits: Tensor, prev: Tensor, cur: Tensor, sparse_grad: bool) -> Tensor:
        """Log-probability of each step, ``[N]``."""
        ...

    def expected_distance(self, logits: Tensor, prev: Tensor, z: Tensor, codebook: Tensor, sparse_grad: bool) -> Tensor:
        """Expected distance of each step, ``[N]``."""
        ...

    def probabilities(self, logits: Tensor, nodes: Tensor) -> Tensor:
        """P(j | i) for all j, ``[N, K]``, from the rows of logits ``[N, ...]`` of ``nodes``."""
        ...

    def logits_from_steps(self, prev: Tensor, cur: Tensor, pseudocount: float) -> Tensor:
        """Maximum-likelihood logits, float64, of the counted steps, with ``pseudocount`` added to each count."""
        ...


@dataclasses.dataclass(frozen=True)
class DenseTable:
    """P(j | i) = softmax_j(logits[i]), ``[K, K]``."""

    num_nodes: int

    def uniform(self) -> Tensor:
        return torch.zeros(self.num_nodes, self.num_nodes)

    def losses(
        self, logits: Tensor, prev: Tensor, cur: Tensor, z: Tensor, codebook: Tensor, sparse_grad: bool
    ) -> TransitionLosses:
        return ops.transition_losses(logits, prev, cur, z, codebook, sparse_grad=sparse_grad)

    def log_prob(self, logits: Tensor, prev: Tensor, cur: Tensor, sparse_grad: bool) -> Tensor:
        return ops.transition_log_prob(logits, prev, cur, sparse_grad=sparse_grad)

    def expected_distance(self, logits: Tensor, prev: Tensor, z: Tensor, codebook: Tensor, sparse_grad: bool) -> Tensor:
        return ops.expected_distance(logits, prev, z, codebook, sparse_grad=sparse_grad)

    def probabilities(self, logits: Tensor, nodes: Tensor) -> Tensor:
        return logits.softmax(dim=1)

    def logits_from_steps(self, prev: Tensor, cur: Tensor, pseudocount: float) -> Tensor:
        size = self.num_nodes
        step, times = torch.unique(prev * size + cur, return_counts=True)
        # In place from here on: a large table should exist only once.
        counts = torch.full((size * size,), pseudocount, dtype=torch.float64, device=prev.device)
        counts = counts.index_add_(0, step, times.double()).view(size, size)
        counts[counts.sum(dim=1) == 0] = 1
        return counts.div_(counts.sum(dim=1, keepdim=True)).log_()


@dataclasses.dataclass(frozen=True)
class LocalTable:
    """A logit for each node within ``radius`` on the grid, and one for the remainder, ``[K, W + 1]``.

    See :func:`~somvae_ext.ops.local_transition_losses`.
    """

    grid: Grid
    radius: int

    @property
    def num_nodes(self) -> int:
        return self.grid.num_nodes

    @functools.cached_property
    def _num_outside(self) -> Tensor:
        """Number of nodes outside each node's window, int64 ``[K]``."""
        chunks = torch.arange(self.num_nodes, device="cpu").split(_CHUNK)
        num_near = torch.cat([(self.grid.window_nodes(self.radius, nodes) >= 0).sum(dim=1) for nodes in chunks])
        return self.num_nodes - num_near

    def uniform(self) -> Tensor:
        logits = torch.zeros(self.num_nodes, len(self.grid.window(self.radius).mirror) + 1)
        logits[:, -1] = self._num_outside.clamp_min(1).log()
        return logits

    def losses(
        self, logits: Tensor, prev: Tensor, cur: Tensor, z: Tensor, codebook: Tensor, sparse_grad: bool
    ) -> TransitionLosses:
        return ops.local_transition_losses(
            logits, prev, cur, z, codebook, self.grid, self.radius, sparse_grad=sparse_grad
        )

    def log_prob(self, logits: Tensor, prev: Tensor, cur: Tensor, sparse_grad: bool) -> Tensor:
        no_features = logits.new_empty(len(prev), 0), logits.new_empty(self.num_nodes, 0)  # no features, no distances
        return self.losses(logits, prev, cur, *no_features, sparse_grad).log_prob

    def expected_distance(self, logits: Tensor, prev: Tensor, z: Tensor, codebook: Tensor, sparse_grad: bool) -> Tensor:
        # cur = prev: the log-probability, which is not used, costs one lookup, and its gradient is zero.
        return self.losses(logits, prev, prev, z, codebook, sparse_grad).expected_distance

    def probabilities(self, logits: Tensor, nodes: Tensor) -> Tensor:
        return local_probabilities(logits, nodes, self.grid, self.radius)

    def logits_from_steps(self, prev: Tensor, cur: Tensor, pseudocount: float) -> Tensor:
        size, outside = self.num_nodes, self._num_outside.to(prev.device)
        step, times = torch.unique(prev * size + cur, return_counts=True)
        prev, cur = step // size, step % size
        slots = len(self.grid.window(self.radius).mirror)
        chunks = zip(prev.split(_CHUNK), cur.split(_CHUNK), strict=True)
        place = prev * (slots + 1) + torch.cat([self._slot(*steps) for steps in chunks])
        counts = torch.bincount(place, times.double(), minlength=size * (slots + 1)).view(size, slots + 1)
        total = counts.sum(dim=1) + size * pseudocount
        added_count = torch.full_like(total, pseudocount).masked_fill(total == 0, 1.0)
        counts[:, :-1] += added_count[:, None]
        counts[:, -1] += added_count * outside
        logits = (counts / torch.where(total > 0, total, size)[:, None]).log()
        logits[outside == 0, -1] = 0  # ignored
        return logits

    def _slot(self, prev: Tensor, cur: Tensor) -> Tensor:
        """The slot of ``cur`` in the window of ``prev``, or that of the remainder if ``cur`` is outside."""
        is_cur = self.grid.window_nodes(self.radius, prev) == cur[:, None]
        return torch.where(is_cur.any(dim=1), is_cur.int().argmax(dim=1), is_cur.shape[1])


def make_table(nodes: int | Grid, kind: str, radius: int | None) -> TransitionTable:
    """Creates the table of a :class:`~somvae_ext.nn.TransitionModel`, which documents the arguments."""
    if kind not in ("dense", "local"):
        raise ValueError(f"TransitionModel: kind must be 'dense' or 'local', got {kind!r}")
    if kind == "dense":
        if radius is not None:
            raise ValueError(f"TransitionModel: radius must be None for kind 'dense', got {radius!r}")
        return DenseTable(
            nodes.num_nodes if isinstance(nodes, Grid) else check_integer("TransitionModel", "nodes", nodes)
        )
    if not isinstance(nodes, Grid):
        raise ValueError(f"TransitionModel: nodes must be a Grid for kind 'local', got {nodes!r}")
    if radius is None:
        raise ValueError("TransitionModel: radius must be given for kind 'local', got None")
    return LocalTable(nodes, check_integer("TransitionModel", "radius", radius, Bounds(at_least=0)))
