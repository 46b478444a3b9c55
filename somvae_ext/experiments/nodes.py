"""Figures of series on the nodes of a map or of a clustering, for networks and k-means alike."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from somvae_ext import evaluation
from somvae_ext.experiments.protocol import Column, Outcome, Task
from somvae_ext.grid import Grid
from somvae_ext.models import SOMVAE
from somvae_ext.nn import TransitionModel
from somvae_ext.training import encode

FORECASTS = (
    Column("transition_nll", "learned transitions"),
    Column("counted_nll", "counted"),
    Column("persistence_nll", "last state"),
)
"""Log-losses of forecasts of the next node, in tables."""

_SERIES_AT_ONCE = 1000
_SHUFFLE_SEED = 0  # of the noise that nodes are compared with


@dataclasses.dataclass(frozen=True)
class Nodes:
    """The node of each frame of the training series and of the held-out series.

    Args:
        grid: grid of the nodes; if they are no map, a layout of their numbers.
        train: nodes of the training series, int64 ``[B, T]``.
        train_mask: which frames of the training series are real, bool ``[B, T]``.
        held_out: nodes of the held-out series, int64 ``[B', T]``.
        mask: which frames of the held-out series are real, bool ``[B', T]``.
        learned: the learned transitions, or None.
        is_map: whether the nodes have neighbors.
    """

    grid: Grid
    train: Tensor
    train_mask: Tensor
    held_out: Tensor
    mask: Tensor
    learned: TransitionModel | None = None
    is_map: bool = True

    @classmethod
    def from_model(cls, model: SOMVAE, task: Task) -> Nodes:
        """The nodes that a model assigns."""
        train, train_mask = _assign(model, task.splits.train)
        held_out, mask = _assign(model, task.held_out_data)
        learned = None if model.transitions is None else copy.deepcopy(model.transitions).cpu()
        return cls(model.quantizer.grid, train, train_mask, held_out, mask, learned)

    @property
    def visits(self) -> Tensor:
        """How many training frames each node won, int64 ``[K]``."""
        return torch.bincount(self.train[self.train_mask], minlength=self.grid.num_nodes)

    @functools.cached_property
    def counted(self) -> TransitionModel:
        """The chain counted on the training series, with pseudocounts that add up to one step in each row."""
        nodes = self.grid.num_nodes
        return TransitionModel(nodes).fit_counts(self.train, self.train_mask, pseudocount=1 / nodes)

    @property
    def matrix(self) -> Tensor:
        """The transition matrix ``[K, K]``: the learned one, or else the counted one."""
        return (self.counted if self.learned is None else self.learned).matrix().detach().double()

    def forecast_figures(self) -> dict[str, float]:
        """Log-losses of forecasts of the next node of the held-out series, in nats per step."""
        nodes = self.grid.num_nodes
        persistence = evaluation.persistence_nll(self.train, self.held_out, nodes, self.train_mask, self.mask)
        counted = self.counted.negative_log_likelihood(self.held_out, self.mask).item()
        return {"counted_nll": counted, "persistence_nll": persistence}

    def shown(self) -> dict[str, NDArray[Any]]:
        """Arrays for the pictures of how series move."""
        middle = len(self.held_out) // 2
        return {
            "rows": np.array(self.grid.rows),
            "cols": np.array(self.grid.cols),
            "is_map": np.array(self.is_map),
            "matrix": self.matrix.float().numpy(),
            "visits": self.visits.numpy(),
            "trajectory": self.held_out[middle][self.mask[middle]].numpy(),
            "held_out": np.where(self.mask, self.held_out, -1).astype(np.int32),
        }


def _assign(model: SOMVAE, series: Any) -> tuple[Tensor, Tensor]:
    """The node of each frame, int64 ``[B, T]``, and which frames are real."""
    parts = []
    for rows in torch.arange(len(series)).split(_SERIES_AT_ONCE):  # encodings take far more memory than nodes
        encodings = encode(model, series, rows=rows)
        assert encodings.indices is not None
        parts.append((encodings.indices, encodings.is_real))
    indices, masks = zip(*parts, strict=True)
    return torch.cat(indices), torch.cat(masks)


Measure = Callable[[Nodes, Task], Outcome]
"""Computes figures and arrays to draw from the nodes of a method; picklable, so a function of a module."""


def measure_lobes(nodes: Nodes, task: Task) -> Outcome:
    """How the nodes of the Lorenz system, and the two macro-states of the chain on them, agree with its lobes.

    Nodes are compared with noise: the same numbers of frames in each node, drawn at random.
    """
    label, index = task.held_out_data.label.flatten(), nodes.held_out.flatten()
    visited = nodes.visits > 0
    is_divisible = visited.sum() >= 2  # false for a map that has collapsed
    states = evaluation.macro_states(nodes.matrix, nodes.visits, 2) if is_divisible else visited.long() - 1
    # A node that won no training frame has no state; its frames count as wrong.
    state = states[index]
    has_state = state >= 0
    accuracy = evaluation.clustering_accuracy(label[has_state], state[has_state], num_clusters=2)
    accuracy *= has_state.double().mean().item()
    shuffled = label[torch.randperm(len(label), generator=torch.Generator().manual_seed(_SHUFFLE_SEED))]
    num_nodes = nodes.grid.num_nodes
    figures = {
        "macro_accuracy": accuracy,
        "noise_purity": evaluation.purity(shuffled, index),
        **cluster_figures(label, index, num_nodes),
        **nodes.forecast_figures(),
    }
    shown = {
        **nodes.shown(),
        "states": states.numpy(),
        "purity": evaluation.node_purity(label, index, num_nodes).numpy(),
        "noise": evaluation.node_purity(shuffled, index, num_nodes).numpy(),
    }
    return Outcome(figures, shown)


def measure_animals(nodes: Nodes, task: Task) -> Outcome:
    """How far nodes tell animals apart, and forecasts of the next node."""
    label = task.held_out_data.label[:, None].expand(nodes.held_out.shape)
    figures = cluster_figures(label[nodes.mask], nodes.held_out[nodes.mask], nodes.grid.num_nodes)
    return Outcome(figures | nodes.forecast_figures(), nodes.shown())


def measure_scores(nodes: Nodes, task: Task) -> Outcome:
    """NMI of the nodes with each label of the task, over the frames where it is known, and forecasts."""
    figures = nodes.forecast_figures()
    for name, label in task.labels.items():
        label = label if label.dim() == 2 else label[:, None].expand(nodes.held_out.shape)
        known = nodes.mask & (label >= 0)
        if known.any():
            figures[f"nmi_{name}"] = evaluation.nmi(label[known], nodes.held_out[known], average="arithmetic")
    usage = evaluation.used_node_share(nodes.held_out[nodes.mask], nodes.grid.num_nodes)
    return Outcome(figures | {"usage": usage}, nodes.shown())


def cluster_figures(label: Tensor, index: Tensor | NDArray[np.integer], num_nodes: int) -> dict[str, float]:
    """Agreement of the nodes ``[N]`` with the classes ``[N]``, and how many nodes are in use."""
    return {
        "purity": evaluation.purity(label, index),
        "nmi_arithmetic": evaluation.nmi(label, index, average="arithmetic"),
        "nmi_geometric": evaluation.nmi(label, index, average="geometric"),
        "usage": evaluation.used_node_share(index, num_nodes),
    }
