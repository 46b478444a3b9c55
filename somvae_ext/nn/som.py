"""A self-organizing map as a module, trained by its own rule and not by gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from somvae_ext import ops
from somvae_ext.grid import Grid, Topology

Distance = Callable[[Tensor, Tensor], Tensor]
Neighborhood = Callable[[Tensor, float], Tensor]

# Rows are taken in blocks whose temporaries have at most so many elements (64 MiB of float32).
_BLOCK_ELEMENTS = 1 << 24


def gaussian(distance: Tensor, sigma: float) -> Tensor:
    """exp(-d^2 / (2 sigma^2)): the usual Gaussian neighbourhood (Kohonen 1990)."""
    return torch.exp(-distance.square() / (2 * sigma**2))


def fastsom_gaussian(distance: Tensor, sigma: float) -> Tensor:
    """exp(-d^2 / sigma^2), without the 2: the form of the PyPI library fastsom, narrower by a factor of sqrt(2)."""
    return torch.exp(-distance.square() / sigma**2)


_NEIGHBORHOODS: dict[str, Neighborhood] = {"gaussian": gaussian, "fastsom_gaussian": fastsom_gaussian}


class SOM(nn.Module):
    """A self-organizing map (Kohonen 1990) with interchangeable distance and neighbourhood.

    ``forward`` finds the winners, :meth:`update` pulls the codes towards a batch. Functions of one's own are written
    on tensors that are expanded already, so that they never deal with the batch::

        def manhattan(x, codebook):          # [N, 1, D] and [1, K, D] -> [N, K]
            return (x - codebook).abs().sum(dim=-1)

        def bubble(grid_distance, sigma):    # [U, K] from U winners to all nodes -> [U, K]
            return (grid_distance <= sigma).to(grid_distance)

    Args:
        rows: rows of the map R.
        cols: columns of the map C; K = R * C.
        dim: size of a code D.
        topology: ``"rectangular"`` or ``"hexagonal"``.
        periodic: whether the map wraps around.
        distance: ``"euclidean"``, or a function as above; any monotonic function of a distance finds the same winners.
        neighborhood: ``"gaussian"`` (exp(-d^2 / (2 sigma^2))), ``"fastsom_gaussian"`` (without the 2), or a function
            as above, of distances on the grid and of sigma, one element at a time.

    Attributes:
        codebook: buffer ``[K, D]``, nodes in row-major order; at first uniform in [0, 1).
        grid: the map's :class:`~somvae_ext.Grid`.

    Raises:
        ValueError: an unknown name, ``dim`` below 1, or what :class:`~somvae_ext.Grid` refuses.

    Example:
        >>> import torch
        >>> som = SOM(5, 7, dim=3)
        >>> colors = torch.rand(100, 3)
        >>> for step in range(20):
        ...     winners = som.update(colors, alpha=0.5, sigma=3.0 - 0.1 * step)
        >>> som(colors).shape  # row and column of each color
        torch.Size([100, 2])
    """

    codebook: Tensor

    def __init__(
        self,
        rows: int,
        cols: int,
        dim: int,
        *,
        topology: Topology = "rectangular",
        periodic: bool = False,
        distance: Literal["euclidean"] | Distance = "euclidean",
        neighborhood: Literal["gaussian", "fastsom_gaussian"] | Neighborhood = "gaussian",
    ) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"SOM: dim must be at least 1, got {dim}")
        if isinstance(distance, str) and distance != "euclidean":
            raise ValueError(f"SOM: distance must be 'euclidean' or a function, got {distance!r}")
        if isinstance(neighborhood, str) and neighborhood not in _NEIGHBORHOODS:
            names = ", ".join(repr(name) for name in _NEIGHBORHOODS)
            raise ValueError(f"SOM: neighborhood must be one of {names} or a function, got {neighborhood!r}")
        self.grid = Grid(rows, cols, topology, periodic)
        self.dim = dim
        self.distance = distance
        self.neighborhood = neighborhood
        self.register_buffer("codebook", torch.empty(self.grid.num_nodes, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws a new codebook."""
        nn.init.uniform_(self.codebook)

    def forward(self, x: Tensor) -> Tensor:
        """Row and column of each sample's best matching unit.

        Args:
            x: ``[N, D]``, of the codebook's dtype and on its device.

        Returns:
            int64 ``[N, 2]``. Equal distances go to the first node in row-major order; a row with a NaN goes to node 0.

        Raises:
            ValueError: shape, dtype or device do not fit, or a distance function that does not give ``[N, K]``.
        """
        return torch.stack(self.grid.row_col(self._winners(x)), dim=1)

    @torch.no_grad()
    def update(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """One step of the training rule, W_v += alpha * mean_b theta(u_b, v) * (x_b - W_v), in place.

        theta(u_b, v) is the neighbourhood of the winner u_b of sample b, at node v. The samples of one winner are
        summed first, so that the step costs O(N * D + U * K * D) for U distinct winners, whatever the batch's size, and
        holds no ``[N, K]``.

        Args:
            x: a batch ``[N, D]``; N = 0 changes nothing.
            alpha: learning rate, at least 0; up to 1 a Gaussian neighbourhood never overshoots.
            sigma: width of the neighbourhood in units of the grid, above 0.

        Returns:
            The winners before the step, as :meth:`forward` gives them.

        Raises:
            ValueError: as :meth:`forward`; a sample that is not finite; ``alpha`` or ``sigma`` out of range; a
                neighbourhood function that does not give ``[U, K]``.
        """
        if not (math.isfinite(alpha) and alpha >= 0):
            raise ValueError(f"SOM.update: alpha must be a finite number of at least 0, got {alpha}")
        if not (math.isfinite(sigma) and sigma > 0):
            raise ValueError(f"SOM.update: sigma must be a finite number above 0, got {sigma}")
        index = self._winners(x)
        broken = (~x.isfinite().all(dim=1)).nonzero()
        if len(broken):
            raise ValueError(f"SOM.update: x must hold finite values only, got NaN or infinity in row {int(broken[0])}")
        if len(x):
            self._pull(x, index, alpha, sigma)
        return torch.stack(self.grid.row_col(index), dim=1)

    def extra_repr(self) -> str:
        names = {name: getattr(self, name) for name in ("distance", "neighborhood")}
        shown = ", ".join(f"{k}={v!r}" if isinstance(v, str) else f"{k}={_name(v)}" for k, v in names.items())
        return f"{self.grid}, dim={self.dim}, {shown}"

    def _pull(self, x: Tensor, index: Tensor, alpha: float, sigma: float) -> None:
        neighborhood = self.neighborhood
        theta_of = _NEIGHBORHOODS[neighborhood] if isinstance(neighborhood, str) else neighborhood
        total, count = ops.segment_sum(x, index, self.grid.num_nodes)
        winners = count.nonzero()[:, 0]
        nodes = torch.arange(self.grid.num_nodes, device=x.device)
        pull, weight = torch.zeros_like(self.codebook), torch.zeros_like(self.codebook[:, :1])
        for block in winners.split(max(1, _BLOCK_ELEMENTS // self.grid.num_nodes)):
            theta = theta_of(self.grid.distance(block[:, None], nodes), sigma).to(self.codebook)
            if theta.shape != (len(block), self.grid.num_nodes):
                raise ValueError(
                    f"SOM: neighborhood must give [U, K] = {[len(block), self.grid.num_nodes]}, got {list(theta.shape)}"
                )
            pull += theta.T @ total[block].to(theta)
            weight += theta.T @ count[block, None].to(theta)
        self.codebook += alpha / len(x) * (pull - weight * self.codebook)

    def _winners(self, x: Tensor) -> Tensor:
        """int64 ``[N]``."""
        if x.dim() != 2 or x.shape[1] != self.dim:
            raise ValueError(f"SOM: x must have shape [N, D] with D = {self.dim}, got {list(x.shape)}")
        if isinstance(self.distance, str):
            return ops.bmu(x.detach(), self.codebook).index
        block = max(1, _BLOCK_ELEMENTS // self.codebook.numel())
        return torch.cat([self._nearest(rows, self.distance) for rows in x.detach().split(block)])

    def _nearest(self, x: Tensor, distance: Distance) -> Tensor:
        distances = distance(x[:, None], self.codebook[None])
        if distances.shape != (len(x), self.grid.num_nodes):
            raise ValueError(
                f"SOM: distance must give [N, K] = {[len(x), self.grid.num_nodes]}, got {list(distances.shape)}"
            )
        # argmin takes a NaN for the smallest value.
        return distances.masked_fill(distances.isnan(), torch.inf).argmin(dim=1)


def _name(function: object) -> str:
    return getattr(function, "__name__", type(function).__name__)
