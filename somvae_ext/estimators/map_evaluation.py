"""Quality of a trained map on data: fit, order, usage of nodes, and agreement of nodes with classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from somvae_ext import evaluation
from somvae_ext.estimators.saved_map import SavedMap, Winners
from somvae_ext.grid import Grid


def assign_rows(saved: SavedMap, blocks: Any) -> Winners:
    """Finds the winners of all rows and, on maps of two nodes or more, their second best nodes in the same search.

    Args:
        saved: the map.
        blocks: blocks of unscaled rows, see :meth:`SavedMap.assign`.
    """
    parts = list(saved.assign(blocks, with_second=saved.grid.num_nodes > 1))
    second = [part.second for part in parts if part.second is not None]
    return Winners(
        np.concatenate([part.node for part in parts]),
        np.concatenate([part.distance for part in parts]),
        np.concatenate(second) if second else None,
    )


def measure_map(grid: Grid, winners: Winners, label: NDArray[Any] | None) -> dict[str, Any]:
    """Computes the metrics that ``somvae evaluate`` prints.

    Args:
        grid: the map's grid.
        winners: winners of all rows, ``[N]``; without the second best nodes there are no topographic errors.
        label: class of each row, ``[N]``, or None.
    """
    count = len(winners.node)
    figures: dict[str, Any] = {"samples": count}
    figures["quantization_error"] = float(winners.distance.sum(dtype=np.float64)) / count
    if winners.second is not None:
        best, second = torch.from_numpy(winners.node), torch.from_numpy(winners.second)
        for connectivity in grid.connectivities:
            misplaced = int((~grid.are_neighbors(best, second, connectivity)).sum())
            figures[f"topographic_error_{connectivity}"] = misplaced / count
    return figures | measure_nodes(grid.num_nodes, winners.node, label)


def measure_nodes(num_nodes: int, node: NDArray[np.int64], label: NDArray[Any] | None) -> dict[str, float]:
    """Computes the metrics that need no search: the share of nodes in use and, with labels, purity and NMI.

    Args:
        num_nodes: number of nodes K.
        node: node of each row, ``[N]``.
        label: class of each row, ``[N]``, or None.
    """
    figures = {"usage": evaluation.used_node_share(node, num_nodes=num_nodes)}
    if label is not None:
        figures["purity"] = evaluation.purity(label, node)
        for average in ("arithmetic", "geometric"):
            figures[f"nmi_{average}"] = evaluation.nmi(label, node, average=average)
    return figures
