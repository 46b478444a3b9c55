"""Facts about the nodes of a result as columns of a table: their position, class and cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from somvae_ext.grid import Grid
from somvae_ext.store.kept_clusters import KeptClusters
from somvae_ext.store.nodes import NodeClasses, NodeHits
from somvae_ext.store.result_folder import ResultFolder


class NodeFacts(NamedTuple):
    """What is known about the nodes, codes or categories of a result.

    Args:
        noun: what one of them is called: ``"node"``, ``"code"`` or ``"category"``.
        grid: the grid that they lie on, if any.
        hits: number of training samples or frames that each has won, int64 ``[K]``; None if unknown.
        classes: classes of these samples, if they had labels.
        cluster: cluster of each node, int64 ``[K]``, -1 for none; None if there are no clusters.
    """

    noun: str
    grid: Grid | None = None
    hits: NDArray[np.int64] | None = None
    classes: NodeClasses | None = None
    cluster: NDArray[np.int64] | None = None

    @classmethod
    def from_folder(
        cls,
        folder: ResultFolder,
        noun: str,
        num_nodes: int,
        grid: Grid | None,
        class_names: Sequence[str] | None,
        *,
        with_clusters: bool = True,
    ) -> Self:
        """Loads the facts that the folder of a completed result holds.

        Raises:
            ValueError: a file of the folder is damaged.
        """
        kept = KeptClusters.load(folder, num_nodes) if with_clusters else None
        cluster = None if kept is None else kept.cluster
        if not NodeHits.is_in(folder):
            return cls(noun, grid, cluster=cluster)
        nodes = NodeHits.load(folder, num_nodes)
        return cls(noun, grid, nodes.hits, nodes.classes(class_names), cluster)

    def place(self, node: NDArray[np.int64]) -> dict[str, Any]:
        """Returns columns ``[N]`` with the nodes themselves and their rows and columns on the map."""
        columns = {self.noun: node}
        if self.grid is not None:
            columns |= {"row": node // self.grid.cols, "column": node % self.grid.cols}
        return columns

    def meaning(self, node: NDArray[np.int64]) -> dict[str, Any]:
        """Returns columns ``[N]`` with the classes (text) and clusters (integers) of nodes, as far as these are known.

        A node without a class has None; one without a cluster is masked.
        """
        columns: dict[str, Any] = {}
        if self.classes is not None:
            columns["class"] = np.array(self.classes.majority, dtype=object)[node]
        if self.cluster is not None:
            columns["cluster"] = np.ma.masked_less(self.cluster, 0)[node]
        return columns

    def class_shares(self, node: NDArray[np.int64]) -> dict[str, Any]:
        """Returns ``share_of_CLASS`` among the labeled training samples of each node; NaN if it has won none.

        Raises:
            ValueError: there are no classes.
        """
        if self.classes is None:
            raise ValueError(
                "--probabilities is for results that know classes or categories, but this one was trained without "
                "labels"
            )
        shares = self.classes.shares
        return {f"share_of_{name}": shares[node, number] for number, name in enumerate(self.classes.names)}
