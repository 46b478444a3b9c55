"""Vector quantization with a codebook that lies on a map."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from somvae_ext import ops
from somvae_ext.config_checks import Bounds, check_integer, check_number
from somvae_ext.exportable import exportable
from somvae_ext.grid import Grid
from somvae_ext.nn.quantizer import CodebookUpdate, Quantizer
from somvae_ext.ops import Border
from somvae_ext.som import arrange_on_grid, som_codes
from somvae_ext.som.neighborhoods import axis_weights

# Defaults of update="ema". With these widths, maps of real images had the fewest topographic errors.
DEFAULT_DECAY = 0.99
DEFAULT_SIGMA_FINAL = 0.7
DEFAULT_SIGMA_STEPS = 2000

# Initially each code counts as having won a tenth of an encoding equal to itself. The first batches outweigh this and
# place the map.
_FIRST_COUNT = 0.1
# A code moves if the smoothed count of its node exceeds this share of the mean count. The share is relative because the
# mean falls with the size of the map.
_LEAST_SHARE = 1e-3
# Smaller weights are lost in float64 beside a node's own weight of 1. As zeros they cost nothing: a narrow
# neighborhood becomes a band along each axis.
_NEGLIGIBLE_WEIGHT = 2.0**-53
_WIDTH = Bounds(above=0)


@exportable
class QuantizerLosses(NamedTuple):
    """Losses of each encoding, in the shape of ``indices``; 0 for masked encodings."""

    commitment: Tensor
    som: Tensor


@exportable
class QuantizerOutput(NamedTuple):
    """Result of :class:`SOMQuantizer` for encodings ``[..., D]`` (or ``[N, D, *spatial]``, channel first).

    ``quantized`` holds the winners' codes in the shape of the encodings, ``indices`` their nodes, int64 ``[...]`` (or
    ``[N, *spatial]``), and ``losses`` the terms that pull codes and encodings together. For a masked encoding they are
    0, -1 and 0.
    """

    quantized: Tensor
    indices: Tensor
    losses: QuantizerLosses


class SOMQuantizer(Quantizer):
    """Replaces encodings by the nearest codes of a map and computes the losses that pull the two together.

    **Codes that learn by gradients**, ``update="gradient"``. For an encoding z with winner w (Fortuin et al. 2019,
    arXiv 1806.02199; the paper writes sums, the published code takes means, and the published loss weights hold for
    means only)::

        commitment = 1/D * |z - e_w|^2
        som        = 1/(D * M) * (|sg[z] - e_w|^2 + sum over neighbors j of w of |sg[z] - e_j|^2)

    ``commitment`` has no stop-gradient: it moves encoding and winner. ``som`` moves codes only (sg is stop-gradient),
    the winner included. ``border`` determines M:

    - ``"zero"``, as in the published code: M = 1 + S, the number of slots (S = 4, or 6 on hexagons). A neighbor missing
      at the border is a code of zeros: it counts in the value and has no gradient.
    - ``"mask"``: M is the number of slots that exist at this winner, itself included; a missing neighbor adds nothing.

    With ``neighbors_only`` the first summand is omitted, as in the paper's equation, and M is smaller by one.

    ``quantized`` is a plain gather: its gradient reaches the codebook alone. One op computes codes and losses,
    :func:`~somvae_ext.ops.som_head`.

    **An ordered map**, ``update="ema"``. The codes follow a batch SOM (Kohonen 2013) of the encodings, updated while
    the network trains. They are a buffer without a gradient: exponential moving averages of the encodings that the
    nodes win, smoothed over the grid by a Gaussian neighborhood h whose width shrinks. After t updates::

        sigma_t = sigma_initial * (sigma_final / sigma_initial)^min(1, t / sigma_steps)
        h(u, v) = exp(-d(u, v)^2 / (2 sigma_t^2)),    d the distance on the grid

        commitment = 1/D * |z - sg[e_w]|^2
        som        = 1/D * |z - sg[m_w]|^2,    m_w = sum_v h(w, v) e_v / sum_v h(w, v)

    Both losses move encodings only: toward the winner, and toward the mean of the map around it. From a batch in which
    node u wins n_u encodings with sum S_u, the codes are updated by::

        N_u <- decay * N_u + (1 - decay) * n_u
        m_u <- decay * m_u + (1 - decay) * S_u
        e_u <- sum_v h(u, v) m_v / sum_v h(u, v) N_v,    if the denominator is above 1/1000 of the mean of N

    The averages themselves are not smoothed, which lets sigma shrink. The forward pass never moves a code. An update
    takes two calls after it, before or after the backward pass; processes that train together add up their statistics
    between the two. ``update_codebook`` also increments t, so that the forward pass and the update of a step use the
    same sigma::

        statistics = quantizer.statistics(z, output.indices)
        quantizer.update_codebook(*statistics)

    ``sigma_final`` trades the order of the map against the purity of its clusters: at 0.7 the map has few topographic
    errors; at 0.5 and below the clusters are somewhat purer and the map is less ordered.

    With ``straight_through`` the gradient of ``quantized`` reaches the encodings alone, as if nothing had been
    quantized (Bengio et al. 2013; van den Oord et al. 2017, section 3.2): it is z + sg[e_w - z].

    Args:
        grid: the map's grid, K = ``grid.num_nodes``.
        dim: size D of a code.
        border: ``"zero"`` or ``"mask"``, for ``update="gradient"``.
        neighbors_only: whether the SOM loss omits the winner, for ``update="gradient"``.
        straight_through: whether the gradient of ``quantized`` goes to the encodings instead of the codes.
        channel_first: whether encodings are ``[N, D, *spatial]``, as convolutions return them, instead of ``[..., D]``.
        update: ``"gradient"`` or ``"ema"``. The options below are for ``"ema"``.
        decay: share of the averages that an update keeps, from 0 to below 1; by default 0.99.
        sigma_initial: initial width of the neighborhood, in units of the grid; by default the map's longer side, but at
            least ``sigma_final``. Half of it, the usual start for a map of fixed rows, gives less pure nodes, because
            the encodings still spread at the beginning of training.
        sigma_final: final width, above 0; by default 0.7.
        sigma_steps: number of updates until the final width; by default 2000. Good choices are 70 % of all updates for
            single samples and half of them for series.

    Attributes:
        codebook: ``[K, D]``, nodes in row-major order, a parameter or, with ``"ema"``, a buffer; initially normal with
            standard deviation 0.05, truncated at 0.1.
        ema_counts: for ``"ema"``, buffer ``[K]``, the N_u; initially 0.1.
        ema_sums: for ``"ema"``, buffer ``[K, D]``, the m_u; initially 0.1 times the codes.
        num_updates: for ``"ema"``, buffer, int64: t.

    Raises:
        ValueError: ``dim`` below 1, an unknown ``border`` or ``update``, a number out of range, or an option that the
            chosen ``update`` does not use.

    Example:
        >>> import torch
        >>> quantizer = SOMQuantizer(Grid(4, 4), dim=8)
        >>> output = quantizer(torch.randn(2, 5, 8))
        >>> output.quantized.shape, output.indices.shape, output.losses.som.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 5]), torch.Size([2, 5]))
        >>> image = SOMQuantizer(Grid(4, 4), dim=8, channel_first=True)(torch.randn(2, 8, 7, 7))
        >>> image.quantized.shape, image.indices.shape
        (torch.Size([2, 8, 7, 7]), torch.Size([2, 7, 7]))

        An ordered map follows the encodings of each step:

        >>> ordered = SOMQuantizer(Grid(4, 4), dim=8, update="ema", sigma_steps=100)
        >>> z = torch.randn(32, 8)
        >>> ordered.update_codebook(*ordered.statistics(z, ordered(z).indices))
        >>> round(ordered.sigma, 3)
        3.931
    """

    num_updates: Tensor

    def __init__(
        self,
        grid: Grid,
        dim: int,
        *,
        border: Border = "zero",
        neighbors_only: bool = False,
        straight_through: bool = False,
        channel_first: bool = False,
        update: CodebookUpdate = "gradient",
        decay: float | None = None,
        sigma_initial: float | None = None,
        sigma_final: float | None = None,
        sigma_steps: int | None = None,
    ) -> None:
        ema_options = {
            "decay": decay,
            "sigma_initial": sigma_initial,
            "sigma_final": sigma_final,
            "sigma_steps": sigma_steps,
        }
        super().__init__(
            grid.num_nodes,
            dim,
            update=update,
            decay=DEFAULT_DECAY if decay is None else decay,
            channel_first=channel_first,
        )
        if border not in ("zero", "mask"):
            raise ValueError(f"SOMQuantizer: border must be 'zero' or 'mask', got {border!r}")
        if update == "ema" and border != "zero":
            raise ValueError(f"SOMQuantizer: update must be 'gradient' for border to mean anything, got {border!r}")
        if update == "ema" and neighbors_only:
            raise ValueError("SOMQuantizer: update must be 'gradient' for neighbors_only to mean anything, got True")
        if update == "gradient":
            for name, value in ema_options.items():
                if value is not None:
                    raise ValueError(f"SOMQuantizer: update must be 'ema' for {name} to mean anything, got {value!r}")
        self.grid = grid
        self.border: Border = border
        self.neighbors_only = neighbors_only
        self.straight_through = straight_through
        self.sigma_initial, self.sigma_final = self.check_widths("SOMQuantizer", grid, sigma_initial, sigma_final)
        self.sigma_steps = check_integer(
            "SOMQuantizer", "sigma_steps", DEFAULT_SIGMA_STEPS if sigma_steps is None else sigma_steps
        )
        if update == "ema":
            self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))
        self.reset_parameters()

    @staticmethod
    def check_widths(
        owner: str, grid: Grid, sigma_initial: float | None, sigma_final: float | None
    ) -> tuple[float, float]:
        """Returns the initial and the final width of the neighborhood, with the defaults in place of None.

        Raises:
            ValueError: a width that is not a finite number above 0, or an initial width below the final one.
        """
        final = check_number(owner, "sigma_final", DEFAULT_SIGMA_FINAL if sigma_final is None else sigma_final, _WIDTH)
        longer_side = max(grid.rows, grid.cols)
        first = check_number(
            owner, "sigma_initial", max(longer_side, final) if sigma_initial is None else sigma_initial, _WIDTH
        )
        if first < final:
            raise ValueError(f"{owner}: sigma_initial must be at least sigma_final, {final}, got {first}")
        return first, final

    @property
    def sigma(self) -> float:
        """Width of the neighborhood in the next step. On CUDA this waits for the device.

        Raises:
            ValueError: the codes learn by gradients and have no neighborhood.
        """
        if self.update != "ema":
            raise ValueError(f"SOMQuantizer.sigma: update must be 'ema' for a neighborhood, got {self.update!r}")
        return self._sigma().item()

    @property
    def is_neighborhood_narrowing(self) -> bool:
        """Whether sigma is still above ``sigma_final``. On CUDA this waits for the device."""
        can_narrow = self.update == "ema" and self.sigma_initial > self.sigma_final
        return can_narrow and int(self.num_updates) < self.sigma_steps

    def reset_parameters(self) -> None:
        """Draws a new codebook and restarts the averages and the narrowing of sigma."""
        super().reset_parameters()
        if self.update == "ema":
            self.num_updates.zero_()
            self._restart_averages()

    def forward(self, z: Tensor, mask: Tensor | None = None) -> QuantizerOutput:
        """Quantizes encodings.

        Args:
            z: ``[..., D]``, or ``[N, D, *spatial]`` with ``channel_first``; in the codebook's dtype (any lower
                precision under autocast) and on its device. An encoding with a NaN has index 0 and NaN losses.
            mask: which encodings are real, bool ``[...]`` or ``[N, *spatial]``; all by default. Masked encodings may
                hold anything; they neither receive nor contribute gradients.

        Raises:
            ValueError: a size other than D, a dtype or device other than the codebook's, or a mask that does not fit.
        """
        z = self._move_channels_last(z)
        rows = self._zero_masked_rows(z, mask)
        quantize = self._quantize_by_averages if self.update == "ema" else self._quantize_by_gradient
        quantized, index, *losses = quantize(rows)
        quantized, indices, losses = self._shape_results(z, mask, quantized, index, *losses)
        return QuantizerOutput(quantized, indices, QuantizerLosses(*losses))

    def _quantize_by_gradient(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Codes, nodes, commitment and SOM loss of encodings ``[M, D]``, if the codes are a parameter."""
        codebook = self.snapshot()
        head = ops.som_head(rows, codebook, self.grid, border=self.border, straight_through=self.straight_through)
        slots: Tensor | int = self.grid.num_slots
        if self.border == "mask":
            slots = self.grid.degree(rows.device)[head.index]
        som = head.som
        if self.neighbors_only:
            winner_difference = (rows.detach() - F.embedding(head.index, codebook)).to(som.dtype)
            som = som - winner_difference.square().sum(dim=1)
            slots = torch.as_tensor(slots).clamp_min(1)  # a map of one node has no neighbors
        else:
            slots = slots + 1
        return head.quantized, head.index, head.commitment / self.dim, som / (self.dim * slots)

    def _quantize_by_averages(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Codes, nodes, commitment and SOM loss of encodings ``[M, D]``, if the codes are moving averages."""
        index = ops.bmu(rows.detach(), self.codebook).index
        # The gathered codes are copies, so that the codebook may move before the backward pass. A compiled graph may
        # repeat the gather in the backward pass, unless it gathers from a snapshot.
        codebook = self.snapshot() if torch.compiler.is_compiling() else self.codebook
        codes = F.embedding(index, codebook)
        local_means = F.embedding(index, self._local_means())
        wide = torch.promote_types(rows.dtype, torch.float32)
        commitment, som = ((rows.to(wide) - target.to(wide)).square().sum(dim=1) for target in (codes, local_means))
        if self.straight_through:
            # The difference is zero, so that the value is exactly the code; z + (code - z) would round.
            codes = codes + (rows - rows.detach())
        return codes, index, commitment / self.dim, som / self.dim

    @torch.no_grad()
    def update_codebook(self, counts: Tensor, sums: Tensor) -> None:
        """Updates the averages with these statistics, moves the codes to the smoothed averages and narrows sigma.

        Averages and codes are changed in place.

        Args:
            counts: number of encodings that each node won, ``[K]``.
            sums: their sums, ``[K, D]``. A node whose sum is not finite, or overflows, counts as having won nothing.

        Raises:
            ValueError: statistics of another shape, or a codebook that learns by gradients.
        """
        counts, sums = self._check_statistics(counts, sums)
        averages = self.ema_counts, self.ema_sums
        ops.som_ema_update(
            self.codebook, *averages, counts, sums, self._weights(), decay=self.decay, least_share=_LEAST_SHARE
        )
        self.num_updates += 1

    @torch.no_grad()
    def initialize_kmeans(self, z: Tensor, *, seed: int = 0, mask: Tensor | None = None, num_tries: int = 1) -> None:
        """Sets the codebook to k-means centers of encodings, laid out on the map.

        See :func:`~somvae_ext.som.kmeans_centers` and :func:`~somvae_ext.som.arrange_on_grid`. With ``update="ema"``
        the averages restart from the new codes. Set a small ``sigma_initial`` then: a wide neighborhood soon leaves
        nothing of the start but the orientation of the map.

        Args:
            z: encodings as in :meth:`forward`, at least K real and finite ones; the others are ignored.
            seed: seed of the k-means++ initialization.
            mask: as in :meth:`forward`.
            num_tries: number of k-means runs, of which the best is kept.

        Raises:
            ValueError: fewer than K real and finite encodings, or a shape that does not fit.
            ModuleNotFoundError: scipy is missing, which the extra ``som`` installs.
        """
        self._set_codebook(arrange_on_grid(self._kmeans_centers(z, seed, mask, num_tries), self.grid))

    @torch.no_grad()
    def initialize_som(self, z: Tensor, *, mask: Tensor | None = None) -> None:
        """Sets the codebook to that of a batch SOM of encodings, which is ordered, unlike k-means centers on a map.

        See :func:`~somvae_ext.som.som_codes`. With ``update="ema"`` the averages restart from the new codes, as with
        :meth:`initialize_kmeans`.

        Args:
            z: encodings as in :meth:`forward`, at least one real and finite; the others are ignored.
            mask: as in :meth:`forward`.

        Raises:
            ValueError: no real and finite encoding, or a shape that does not fit.
        """
        rows = self.valid_rows(z, mask)
        if len(rows) == 0:
            raise ValueError(
                "SOMQuantizer.initialize_som: z must hold at least one encoding that is finite and not masked, got "
                f"none among {z.numel() // self.dim}"
            )
        self._set_codebook(som_codes(rows if rows.dtype == torch.float64 else rows.float(), self.grid))

    @torch.no_grad()
    def revive(
        self,
        unused: Tensor,
        z: Tensor,
        *,
        generator: torch.Generator | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Replaces unused codes by encodings, drawn at random from those that are real and finite.

        With ``update="ema"`` the new codes count as average nodes from then on, and the neighborhood draws them toward
        their neighbors on the grid, the less the smaller ``sigma_final`` is. See :meth:`Quantizer.revive` for
        arguments, result and errors.

        Raises:
            ValueError: also while sigma narrows, because a wide neighborhood would draw the codes back at once.
        """
        if self.is_neighborhood_narrowing:
            raise ValueError(
                f"SOMQuantizer.revive: sigma must have reached sigma_final = {self.sigma_final}, because a wide "
                f"neighborhood draws moved codes back at once, got {self.sigma:.3g} after {int(self.num_updates)} of "
                f"{self.sigma_steps} updates"
            )
        rows = super().revive(unused, z, generator=generator, mask=mask)
        if self.update == "ema" and len(rows) > 0:
            share = self._total_average() / self.num_codes
            self.ema_counts[rows] = share[0].expand(len(rows))
            self.ema_sums[rows] = share * self.codebook[rows].to(self.ema_sums)
        return rows

    @torch.no_grad()
    def relabel(self, order: Tensor) -> None:
        """Permutes the codes on the map: node v gets the code and the averages of node ``order[v]``.

        Args:
            order: int64 ``[K]``, a permutation, see :func:`~somvae_ext.som.find_relabeling`.

        Raises:
            ValueError: ``order`` is not an int64 permutation of the K nodes.
        """
        order = order.to(self.codebook.device)
        identity = torch.arange(self.num_codes, device=order.device)
        if order.dtype != torch.int64 or order.shape != identity.shape or not order.sort().values.equal(identity):
            raise ValueError(
                f"SOMQuantizer.relabel: order must be an int64 permutation of the {self.num_codes} nodes, got "
                f"{order.dtype} of {list(order.shape)}"
            )
        for values in (self.codebook, *([self.ema_counts, self.ema_sums] if self.update == "ema" else [])):
            values.copy_(values[order])

    def extra_repr(self) -> str:
        options = [f"{self.grid}", f"dim={self.dim}"]
        if self.update == "ema":
            options += [f"update='ema', decay={self.decay}, sigma_initial={self.sigma_initial}"]
            options += [f"sigma_final={self.sigma_final}, sigma_steps={self.sigma_steps}"]
        else:
            options += [f"border={self.border!r}"] + ["neighbors_only=True"] * self.neighbors_only
        options += ["straight_through=True"] * self.straight_through + ["channel_first=True"] * self.channel_first
        return ", ".join(options)

    def _sigma(self) -> Tensor:
        """Width of the neighborhood, float64, without waiting for the device; exactly ``sigma_final`` at the end."""
        remaining_share = (1 - self.num_updates.double() / self.sigma_steps).clamp(min=0)
        return self.sigma_final * (self.sigma_initial / self.sigma_final) ** remaining_share

    def _weights(self) -> ops.AxisWeights:
        weights = axis_weights(
            self.grid, "gaussian", self._sigma(), self.codebook.device, negligible=_NEGLIGIBLE_WEIGHT
        )
        assert weights is not None
        return weights

    def _local_means(self) -> Tensor:
        """Mean of the map around each node, sum_v h(u, v) e_v / sum_v h(u, v), ``[K, D]``."""
        codes = self.codebook if self.codebook.dtype == torch.float64 else self.codebook.float()
        return ops.som_update(self.codebook, codes, self._ones(), self._weights())

    def _ones(self) -> Tensor:
        return torch.ones_like(self.ema_counts)

    def _set_codebook(self, codes: Tensor) -> None:
        self.codebook.copy_(codes)
        if self.update == "ema":
            self._restart_averages()

    def _restart_averages(self) -> None:
        self.ema_counts.fill_(_FIRST_COUNT)
        self.ema_sums.copy_(_FIRST_COUNT * self.codebook.to(self.ema_sums))
