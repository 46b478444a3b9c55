"""How well a map's codes fit the data, and how well its grid keeps their order."""

from __future__ import annotations

from torch import Tensor

from somvae_ext import ops
from somvae_ext.grid import Grid


def quantization_error(x: Tensor, codebook: Tensor) -> float:
    """Mean distance of the rows to their best matching units: mean_n min_k |x_n - e_k| (Kohonen 2001, section 2.10).

    The distance is Euclidean, not squared, so that it is in the units of the data. For a SOM-VAE give it encodings.

    Args:
        x: rows ``[N, D]``, floating.
        codebook: codes ``[K, D]``, of the same dtype and device.

    Raises:
        ValueError: no rows, or arguments that :func:`somvae_ext.ops.bmu` refuses.

    Example:
        >>> import torch
        >>> quantization_error(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.zeros(1, 2))
        3.0
    """
    _check_rows("quantization_error", x)
    return ops.bmu(x.detach(), codebook.detach()).distance.double().sqrt().mean().item()


def topographic_error(x: Tensor, codebook: Tensor, grid: Grid) -> float:
    """Share of the rows whose best and second best units are not neighbours on the grid (Kiviluoto 1996).

    0 where the map keeps the order of the data. Units that share a corner only are no neighbours on a rectangular grid.

    Args:
        x: rows ``[N, D]``, floating.
        codebook: codes ``[K, D]`` in the grid's order, of the same dtype and device.
        grid: the map's grid, of K = R * C nodes, at least two.

    Raises:
        ValueError: no rows, a grid of one node or of another size than the codebook, or arguments that
            :func:`somvae_ext.ops.bmu` refuses.

    Example:
        >>> import torch
        >>> codebook = torch.tensor([[0.0], [2.0], [1.0]])  # codes 0 and 1 are grid neighbours, 0 and 2 are not
        >>> topographic_error(torch.tensor([[0.1], [1.9]]), codebook, Grid(1, 3))
        0.5
    """
    _check_rows("topographic_error", x)
    if grid.num_nodes < 2:
        raise ValueError(f"topographic_error: grid must have at least 2 nodes, got {grid.rows} x {grid.cols}")
    if len(codebook) != grid.num_nodes:
        raise ValueError(
            f"topographic_error: codebook must hold a code for each of the grid's {grid.num_nodes} nodes, got "
            f"{len(codebook)}"
        )
    best, second = ops.bmu(x.detach(), codebook.detach(), k=2).index.unbind(dim=1)
    adjacent = (grid.neighbors(x.device)[best] == second[:, None]).any(dim=1)
    return 1 - adjacent.double().mean().item()


def _check_rows(metric: str, x: Tensor) -> None:
    if len(x) == 0:
        raise ValueError(f"{metric}: x must hold at least one row, got shape {list(x.shape)}")
