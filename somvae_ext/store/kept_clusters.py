"""Clusters of the nodes of a result, kept in its folder."""

from __future__ import annotations

import dataclasses
from typing import Any, NoReturn, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from somvae_ext.store.result_folder import ResultFolder

_NAME = "clusters"


@dataclasses.dataclass(frozen=True, eq=False)
class KeptClusters:
    """Clusters of the nodes of a map, or of the codes of a model, and how they were found.

    They are kept in ``clusters.safetensors`` of the :class:`ResultFolder`. A later checkpoint of the same training
    discards them.

    Args:
        cluster: cluster of each node, int64 ``[K]``, 0, 1, ..., or -1 for none.
        clusterer: the class of scikit-learn that found them.
        parameters: chosen parameters of that class: text, numbers, None, and lists, tuples and dicts of these.
        criterion: what the number of clusters was chosen by, such as ``"silhouette"``; None if it was given.
        candidates: the numbers of clusters that were compared, ascending: (number, silhouette, Davies-Bouldin index).
    """

    cluster: NDArray[np.int64]
    clusterer: str
    parameters: dict[str, Any]
    criterion: str | None = None
    candidates: tuple[tuple[int, float, float], ...] = ()

    @property
    def num_clusters(self) -> int:
        """How many clusters there are."""
        return int(self.cluster.max()) + 1

    def save(self, folder: ResultFolder) -> None:
        """Writes the clusters into a folder, in place of those that it has.

        Raises:
            TypeError: parameters of another type.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        candidates = tuple(tuple(candidate) for candidate in self.candidates)  # plain tuples, also of named ones
        folder.save_tree(_NAME, fields | {"cluster": torch.from_numpy(self.cluster), "candidates": candidates})

    @classmethod
    def load(cls, folder: ResultFolder, num_nodes: int) -> Self | None:
        """Loads the clusters of a folder; returns None if it has none.

        Args:
            folder: the folder of a result.
            num_nodes: number of nodes or codes of the result.

        Raises:
            FileNotFoundError: the file is gone.
            ValueError: it is damaged, or does not hold clusters of so many nodes.
        """
        file = f"{_NAME}.safetensors"
        if file not in folder.files:
            return None
        fields = folder.load_tree(_NAME)

        def refuse(expected: str, got: str) -> NoReturn:
            raise ValueError(f"{folder.path / file} must hold {expected}, got {got}")

        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(fields, dict) or fields.keys() != set(names):
            refuse(f"{', '.join(names)}", str(sorted(map(str, fields))) if isinstance(fields, dict) else "others")
        cluster = fields["cluster"]
        if not isinstance(cluster, Tensor) or cluster.dtype != torch.int64 or cluster.shape != (num_nodes,):
            what = f"{cluster.dtype} of shape {list(cluster.shape)}" if isinstance(cluster, Tensor) else "no tensor"
            refuse(f"a cluster, int64, for each of the {num_nodes} nodes", what)
        used = cluster.unique()
        used = used[used != -1]
        if len(used) == 0 or not used.equal(torch.arange(len(used))):
            refuse("clusters numbered 0, 1, ..., and -1 for none", str(used.tolist()[:10]))
        clusterer, parameters, criterion = fields["clusterer"], fields["parameters"], fields["criterion"]
        if not (
            isinstance(clusterer, str) and isinstance(parameters, dict) and isinstance(criterion, (str, type(None)))
        ):
            refuse("the name of a clusterer, its parameters and a criterion", "values of other types")
        candidates = fields["candidates"]
        if not (isinstance(candidates, tuple) and all(map(_is_candidate, candidates))):
            refuse("a number and two scores of each candidate", "others")
        return cls(**fields | {"cluster": cluster.numpy()})


def _is_candidate(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and [type(number) for number in value] == [int, float, float]
