"""The training data that the nodes of a completed result won."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from somvae_ext.store.result_folder import ResultFolder

_FILE, _HITS, _LABELS = "nodes", "hits", "labels"


@dataclasses.dataclass(frozen=True)
class NodeHits:
    """Counts of the training data of each node, code or cluster: ``nodes.safetensors`` of a result folder.

    Args:
        hits: number of samples, or frames of series, that each node won, int64 ``[K]``.
        labels: rows (node, class, count), int64 ``[M, 3]``, for counts above 0; None if the data had no labels.
    """

    hits: NDArray[np.int64]
    labels: NDArray[np.int64] | None = None

    @classmethod
    def count(cls, node: NDArray[np.int64], num_nodes: int, class_number: NDArray[np.int64] | None = None) -> Self:
        """Counts samples per node, and per node and class.

        Args:
            node: node of each sample, ``[N]``.
            num_nodes: K.
            class_number: class of each sample, ``[N]``.
        """
        hits = np.bincount(node, minlength=num_nodes).astype(np.int64)
        if class_number is None:
            return cls(hits)
        pairs, count = np.unique(np.stack([node, class_number], axis=1), axis=0, return_counts=True)
        return cls(hits, np.column_stack([pairs, count]).astype(np.int64))

    def save(self, folder: ResultFolder) -> None:
        """Writes the counts into the folder of a completed training."""
        arrays = {_HITS: torch.as_tensor(self.hits)}
        if self.labels is not None:
            arrays[_LABELS] = torch.as_tensor(self.labels)
        folder.save_file(_FILE, arrays)

    @staticmethod
    def is_in(folder: ResultFolder) -> bool:
        """Whether a folder holds such counts, as that of a completed training does."""
        return f"{_FILE}.safetensors" in folder.files

    @classmethod
    def load(cls, folder: ResultFolder, num_nodes: int) -> Self:
        """Loads the counts of a folder.

        Args:
            folder: the folder of a completed training.
            num_nodes: K.

        Raises:
            FileNotFoundError: the folder holds none.
            ValueError: the file is damaged, or does not fit the nodes.
        """
        arrays = folder.load_file(_FILE)
        path = folder.path / f"{_FILE}.safetensors"
        hits, labels = arrays.get(_HITS), arrays.get(_LABELS)
        if hits is None or hits.dtype != torch.int64 or hits.shape != (num_nodes,) or (hits < 0).any():
            raise ValueError(f"{path} must hold the hits of each of the {num_nodes} nodes, got others")
        if labels is None:
            return cls(hits.numpy())
        is_table = labels.dtype == torch.int64 and labels.dim() == 2 and labels.shape[1] == 3
        if not is_table or (labels[:, [0, 2]] < 0).any() or (labels[:, 0] >= num_nodes).any():
            raise ValueError(f"{path} must hold nodes and classes of the {num_nodes} nodes, got others")
        return cls(hits.numpy(), labels.numpy())

    def classes(self, names: Sequence[str] | None = None) -> NodeClasses | None:
        """Returns the classes of the nodes, or None if the data had no labels.

        Args:
            names: names of the classes 0, 1, ...; by default their numbers.

        Raises:
            ValueError: a class without a name.
        """
        if self.labels is None:
            return None
        node, number, count = self.labels.T
        numbers, column = np.unique(number, return_inverse=True)
        if names is not None and numbers.size and not 0 <= numbers[0] <= numbers[-1] < len(names):
            raise ValueError(f"the classes of nodes must be among the {len(names)} that have names, got {numbers[-1]}")
        counts = np.zeros((len(self.hits), len(numbers)), dtype=np.int64)
        counts[node, column] = count
        return NodeClasses(tuple(str(value) if names is None else names[value] for value in numbers.tolist()), counts)


@dataclasses.dataclass(frozen=True)
class NodeClasses:
    """How many training samples of each class each node won.

    Args:
        names: names of the C classes that occur.
        counts: number of samples, int64 ``[K, C]``.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share of each class among the labeled samples of each node, ``[K, C]``; NaN if it has none."""
        with np.errstate(invalid="ignore"):
            shares: NDArray[np.float64] = self.counts / self.counts.sum(axis=1, keepdims=True)
        return shares

    @property
    def majority(self) -> list[str | None]:
        """The most frequent class of each node, the first one if tied; None if it has won no labeled sample."""
        total, best = self.counts.sum(axis=1).tolist(), self.counts.argmax(axis=1).tolist()
        return [self.names[number] if count else None for number, count in zip(best, total, strict=True)]
