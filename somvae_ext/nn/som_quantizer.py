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

# Defaults of update="ema". The widths are those of which maps of real images had the fewest topographic errors.
DEFAULT_DECAY = 0.99
DEFAULT_SIGMA_FINAL = 0.7
DEFAULT_SIGMA_STEPS = 2000

# At first each code has won a tenth of an encoding, itself: the first batches outweigh that, and place the map.
_FIRST_COUNT = 0.1
# A code moves where the map around it has won at least this share of what an average node has. The share is relative,
# because the average falls with the size of the map.
_LEAST_SHARE = 1e-3
# Smaller weights are lost in float64 beside a node's own weight of 1. As zeros they cost nothing: a narrow
# neighbourhood is a band along each axis.
_NEGLIGIBLE_WEIGHT = 2.0**-53
_WIDTH = Bounds(above=0)


@exportable
class QuantizerLosses(NamedTuple):
    """Losses of each encoding, in the shape of ``indices``; 0 where it is masked."""

    commitment: Tensor
    som: Tensor


@exportable
class QuantizerOutput(NamedTuple):
    """Result of :class:`SOMQuantizer` for encodings ``[..., D]`` (or ``[N, D, *spatial]``, channel first).

    ``quantized`` are the winners' codes in the shape of the encodings, ``indices`` int64 ``[...]`` (or
    ``[N, *spatial]``) their nodes, ``losses`` what pulls codes and encodings together. Where an encoding is masked they
    are 0, -1 and 0.
    """

    quantized: Tensor
    indices: Tensor
    losses: QuantizerLosses


class SOMQuantizer(Quantizer):
    """Replaces encodings by the nearest codes of a map, and says what pulls codes and encodings together.

    **Codes that learn by gradients**, ``update="gradient"``: for an encoding z with winner w (Fortuin et al. 2019,
    arXiv 1806.02199, with the means of the published code where the paper writes sums; only with means do the published
    weights have their meaning)::

        commitment = 1/D * |z - e_w|^2
        som        = 1/(D * M) * (|sg[z] - e_w|^2 + sum over neighbours j of w of |sg[z] - e_j|^2)

    ``commitment`` moves encoding and winner: nothing is stopped. ``som`` moves codes only (sg is stop-gradient), and
    the winner is one of them. ``border`` says what M is:

    - ``"zero"``, the published code: M = 1 + S, the number of slots (S = 4, or 6 on hexagons). A neighbour missing at
      the border is a code of zeros: it counts in the value and has no gradient.
    - ``"mask"``: M is the number of slots that exist at this winner, itself included; a missing neighbour adds nothing.

    With ``neighbors_only`` the first summand is left out, as in the paper's equation, and M is smaller by one.

    ``quantized`` is a plain gather: its gradient reaches the codebook alone. All of it is one op,
    :func:`~somvae_ext.ops.som_head`.

    **An ordered map**, ``update="ema"``: a batch SOM (Kohonen 2013) that runs along in the space of the encodings. The
    codes are a buffer without a gradient: exponential moving averages of what the nodes win, smoothed over the grid by
    a Gaussian neighbourhood h whose width falls while the network learns. After t updates::

        sigma_t = sigma_initial * (sigma_final / sigma_initial)^min(1, t / sigma_steps)
        h(u, v) = exp(-d(u, v)^2 / (2 sigma_t^2)),    d the distance on the grid

        commitment = 1/D * |z - sg[e_w]|^2
        som        = 1/D * |z - sg[m_w]|^2,    m_w = sum_v h(w, v) e_v / sum_v h(w, v)

    Both move encodings only: towards the winner, and towards the mean of the map around it. A step of the codes, from a
    batch in which node u wins n_u encodings of sum S_u::

        N_u <- decay * N_u + (1 - decay) * n_u
        m_u <- decay * m_u + (1 - decay) * S_u
        e_u <- sum_v h(u, v) m_v / sum_v h(u, v) N_v,    where the denominator is above 1/1000 of the mean of N

    The averages themselves are not smoothed, which lets sigma shrink. The forward pass never moves a code. That takes
    two steps after it, before or after the backward pass, between which processes that train together add up what they
    have; ``update_codebook`` also counts t, so that forward pass and update of a step have the same sigma::

        statistics = quantizer.statistics(z, output.indices)
        quantizer.update_codebook(*statistics)

    ``sigma_final`` is the dial between order and clusters: at 0.7 the map has few topographic errors; from 0.5 on down
    the clusters are somewhat purer and the map is less ordered.

    With ``straight_through`` the gradient of ``quantized`` reaches the encodings alone, as if nothing had been
    quantized (Bengio et al. 2013; van den Oord et al. 2017, section 3.2): it is z + sg[e_w - z].

    Args:
        grid: the map's grid, K = ``grid.num_nodes``.
        dim: size of a code D.
        border: ``"zero"`` or ``"mask"``, for ``update="gradient"``.
        neighbors_only: whether the SOM loss leaves the winner out, for ``update="gradient"``.
        straight_through: where the gradient of ``quantized`` goes.
        channel_first: encodings are ``[N, D, *spatial]``, as convolutions give them, instead of ``[..., D]``.
        update: ``"gradient"`` or ``"ema"``. The following are for ``"ema"``.
        decay: how much of the averages a batch leaves, from 0 to below 1; by default 0.99.
        sigma_initial: width of the neighbourhood at first, in units of the grid; by default the map's longer side, but
            at least ``sigma_final``. Half of it, with which a map of fixed rows usually begins, gives less pure nodes:
            the encodings of a network that begins to learn still spread.
        sigma_final: its width at the end, above 0; by default 0.7.
        sigma_steps: updates until then; by default 2000. A good choice is 70 % of a training.

    Attributes:
        codebook: ``[K, D]``, nodes in row-major order, a parameter or, with ``"ema"``, a buffer; at first normal with
            standard deviation 0.05, truncated at 0.1.
        ema_counts: for ``"ema"``, buffer ``[K]``, the N_u; at first 0.1.
        ema_sums: for ``"ema"``, buffer ``[K, D]``, the m_u; at first 0.1 times the codes.
        num_updates: for ``"ema"``, buffer, int64: t.

    Raises:
        ValueError: ``dim`` below 1, an unknown ``border`` or ``update``, a number out of range, or an option that has
            no use in this mode.

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
        """The widths of the neighbourhood, with the defaults where there are None.

        Raises:
            ValueError: a width that is not a finite number above 0, or that grows.
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
        """Width of the neighbourhood in the next step. On CUDA this waits for the device.

        Raises:
            ValueError: the codes learn by gradients, and have no neighbourhood.
        """
        if self.update != "ema":
            raise ValueError(f"SOMQuantizer.sigma: update must be 'ema' for a neighbourhood, got {self.update!r}")
        return self._sigma().item()

    @property
    def is_neighborhood_narrowing(self) -> bool:
        """Whether sigma is still above ``sigma_final``. On CUDA this waits for the device."""
        can_narrow = self.update == "ema" and self.sigma_initial > self.sigma_final
        return can_narrow and int(self.num_updates) < self.sigma_steps

    def reset_parameters(self) -> None:
        """Draws a new codebook, and starts averages and narrowing anew."""
        super().reset_parameters()
        if self.update == "ema":
            self.num_updates.zero_()
            self._restart_averages()

    def forward(self, z: Tensor, mask: Tensor | None = None) -> QuantizerOutput:
        """Quantizes encodings.

        Args:
            z: ``[..., D]``, or ``[N, D, *spatial]`` with ``channel_first``; of the codebook's dtype (any lower
                precision under autocast) and on its device. An encoding with a NaN has index 0, and losses NaN.
            mask: which encodings are real, bool ``[...]`` or ``[N, *spatial]``; all by default. The others may hold
                anything, and neither get nor give a gradient.

        Raises:
            ValueError: a size is not D where it must be, dtype or device differ from the codebook's, or a mask that
                does not fit.
        """
        z = self._move_channels_last(z)
        rows = self._zero_masked_rows(z, mask)
        quantize = self._quantize_by_averages if self.update == "ema" else self._quantize_by_gradient
        quantized, index, *losses = quantize(rows)
        quantized, indices, losses = self._shape_results(z, mask, quantized, index, *losses)
        return QuantizerOutput(quantized, indices, QuantizerLosses(*losses))

    def _quantize_by_gradient(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Codes, nodes, commitment and SOM loss of encodings ``[M, D]``, where codes are a parameter."""
        codebook = self.snapshot()
        head = ops.som_head(rows, codebook, self.grid, border=self.border, straight_through=self.straight_through)
        slots: Tensor | int = self.grid.num_slots
        if self.border == "mask":
            slots = self.grid.degree(rows.device)[head.index]
        som = head.som
        if self.neighbors_only:
            winner_loss = (rows.detach() - F.embedding(head.index, codebook)).to(som.dtype)
            som = som - winner_loss.square().sum(dim=1)
            slots = torch.as_tensor(slots).clamp_min(1)  # a map of one node has no neighbours
        else:
            slots = slots + 1
        return head.quantized, head.index, head.commitment / self.dim, som / (self.dim * slots)

    def _quantize_by_averages(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Codes, nodes, commitment and SOM loss of encodings ``[M, D]``, where codes are moving averages."""
        index = ops.bmu(rows.detach(), self.codebook).index
        # The gathered codes are copies, so that the codebook may move before the backward pass. A compiled graph may
        # gather once more in the backward pass, unless it gathers from a snapshot.
        codebook = self.snapshot() if torch.compiler.is_compiling() else self.codebook
        codes = F.embedding(index, codebook)
        local_means = F.embedding(index, self._local_means())
        wide = torch.promote_types(rows.dtype, torch.float32)
        commitment, som = ((rows.to(wide) - target.to(wide)).square().sum(dim=1) for target in (codes, local_means))
        if self.straight_through:
            # The difference is zero, so that the value is the code, bit by bit, as it would not be in z + (code - z).
            codes = codes + (rows - rows.detach())
        return codes, index, commitment / self.dim, som / self.dim

    @torch.no_grad()
    def update_codebook(self, counts: Tensor, sums: Tensor) -> None:
        """Moves the codes to the smoothed averages that these statistics lead to, in place, and narrows sigma.

        Args:
            counts: how many encodings each node won, ``[K]``.
            sums: their sums, ``[K, D]``. A node whose sum is not finite, or overflows, counts as having won nothing.

        Raises:
            ValueError: statistics of another shape, or a codebook that learns by its gradient.
        """
        counts, sums = self._check_statistics(counts, sums)
        averages = self.ema_counts, self.ema_sums
        ops.som_ema_update(
            self.codebook, *averages, counts, sums, self._weights(), decay=self.decay, least_share=_LEAST_SHARE
        )
        self.num_updates += 1

    @torch.no_grad()
    def initialize_kmeans(self, z: Tensor, *, seed: int = 0, mask: Tensor | None = None, num_tries: int = 1) -> None:
        """Sets the codebook to k-means centres of encodings, laid out on the map.

        See :func:`~somvae_ext.som.kmeans_centers` and :func:`~somvae_ext.som.arrange_on_grid`. With ``update="ema"``
        the averages begin anew there. A wide neighbourhood soon leaves nothing of the start but how the map lies: set a
        small ``sigma_initial``.

        Args:
            z: encodings as in :meth:`forward`, at least K real and finite ones; the others are left out.
            seed: of the k-means++ seeding.
            mask: as in :meth:`forward`.
            num_tries: how many times k-means starts; the best is taken.

        Raises:
            ValueError: fewer than K real and finite encodings, or a shape that does not fit.
            ModuleNotFoundError: scipy, which the extra ``som`` brings, is missing.
        """
        self._set_codebook(arrange_on_grid(self._kmeans_centers(z, seed, mask, num_tries), self.grid))

    @torch.no_grad()
    def initialize_som(self, z: Tensor, *, mask: Tensor | None = None) -> None:
        """Sets the codebook to that of a batch SOM of encodings: an ordered map, unlike k-means centres laid out.

        See :func:`~somvae_ext.som.som_codes`. With ``update="ema"`` the averages begin anew there, as with
        :meth:`initialize_kmeans`.

        Args:
            z: encodings as in :meth:`forward`, at least one real and finite; the others are left out.
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
        """Replaces codes that win nothing by encodings, drawn at random from those that are real and finite.

        With ``update="ema"`` they count as average nodes from then on, and the neighbourhood draws them towards their
        neighbours on the grid, the less the smaller ``sigma_final`` is. See :meth:`Quantizer.revive` for arguments,
        result and errors.

        Raises:
            ValueError: also while sigma narrows: a wide neighbourhood would draw them back at once.
        """
        if self.is_neighborhood_narrowing:
            raise ValueError(
                f"SOMQuantizer.revive: sigma must have reached sigma_final = {self.sigma_final}, because a wide "
                f"neighbourhood draws moved codes back at once, got {self.sigma:.3g} after {int(self.num_updates)} of "
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
        """Puts the codes in another order on the map: node v gets what node ``order[v]`` had, its averages too.

        Args:
            order: int64 ``[K]``, a permutation, see :func:`~somvae_ext.som.find_relabeling`.

        Raises:
            ValueError: anything else.
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
        """Width of the neighbourhood, float64, without waiting for the device; exactly ``sigma_final`` at the end."""
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
