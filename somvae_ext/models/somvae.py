"""SOM-VAE: an autoencoder whose latent space is quantized by a self-organizing map.

Fortuin et al., "SOM-VAE: Interpretable Discrete Representation Learning on Time Series", ICLR 2019, arXiv 1806.02199.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from somvae_ext import ops
from somvae_ext.config_checks import check_integer
from somvae_ext.models._arguments import draw_codes
from somvae_ext.models.latent_variance import VARIANCE_WITHOUT_WARM_UP, moments, update_running_variance, variance_scale
from somvae_ext.models.networks import FRAMES_AT_ONCE
from somvae_ext.models.notebook import ShownInNotebooks
from somvae_ext.models.reconstruction import reconstruction_error, reconstruction_target
from somvae_ext.models.somvae_config import SOMVAEConfig
from somvae_ext.models.somvae_networks import make_decoder, make_encoder, make_transitions, make_window
from somvae_ext.models.somvae_objectives import neighbor_margin_term, soft_assignment_terms
from somvae_ext.models.somvae_output import SOMVAELosses, SOMVAEOutput, SOMVAETerms
from somvae_ext.nn import SOMQuantizer, previous_in_series
from somvae_ext.nn.full_precision import FullPrecisionBuffers, full_precision_dtype
from somvae_ext.nn.quantizer import MASKED
from somvae_ext.som import find_relabeling

_KMEANS_TRIES = 4


class SOMVAE(ShownInNotebooks, FullPrecisionBuffers):
    """SOM-VAE for static samples ``[N, *input_shape]`` and for series ``[B, T, *input_shape]``.

    Args:
        config: sizes, weights and modes.
        encoder: module from samples or frames ``[N, *input_shape]`` to ``[N, D]``; by default that of
            ``config.network``.
        decoder_q: module that decodes codes, from ``[N, D]`` to ``[N, *input_shape]``; by default that of
            ``config.network``. With reconstruction loss ``"bce"`` it returns logits.
        decoder_e: the same for encodings, with separate weights; only if ``config.gradient`` is ``"som"``.

    Attributes:
        quantizer: the map, a :class:`~somvae_ext.nn.SOMQuantizer`.
        transitions: a :class:`~somvae_ext.nn.TransitionModel` of the kind that the config names, or None if gamma =
            tau = 0, so that a large map without transitions needs no memory for a table.
        window: a :class:`~somvae_ext.nn.CausalWindow`, or None if ``config.window`` is 1.
        decoder_e: None unless ``config.gradient`` is ``"som"``.
        predictor: a decoder of the same kind, from encodings to the next frames; None unless ``config.prediction`` is
            above 0.
        warming_up: whether the loss is that of the warm-up, see :meth:`set_progress`.
        needs_relabeling: whether the nodes are yet to be relabeled, see :meth:`set_progress`.
        latent_variance: scalar buffer in float32 or float64, only if ``config.warm_up_epochs`` is above 0: the running
            variance v of the encodings, see :meth:`update_latent_variance`.

    Raises:
        ValueError: a ``decoder_e`` that would not be used, or networks that do not suit ``config.input_shape``.

    Example:
        >>> import torch
        >>> model = SOMVAE(SOMVAEConfig(input_shape=(1, 8, 8), rows=4, cols=4, latent_dim=8))
        >>> x = torch.rand(5, 1, 8, 8)
        >>> losses = model.loss(model(x), x)
        >>> losses.total.backward()
        >>> model.assign(x).shape
        torch.Size([5])
    """

    name: ClassVar[str] = "somvae"
    config_type: ClassVar[type] = SOMVAEConfig
    batch_fields: ClassVar[tuple[str, ...]] = ("x", "mask")
    unit_interval: ClassVar[bool] = False  # whether samples must lie in [0, 1]
    codes_per_sample: ClassVar[int] = 1  # or per frame
    full_precision_buffers: ClassVar[tuple[str, ...]] = ("latent_variance",)
    latent_variance: Tensor

    def __init__(
        self,
        config: SOMVAEConfig,
        encoder: nn.Module | None = None,
        decoder_q: nn.Module | None = None,
        decoder_e: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if decoder_e is not None and config.gradient != "som":
            raise ValueError(
                f"SOMVAE: decoder_e must be None for gradient {config.gradient!r}, which has no use for it"
            )
        self.config = config
        self.encoder = make_encoder(config) if encoder is None else encoder
        self.window = make_window(config)
        self.decoder_q = make_decoder(config) if decoder_q is None else decoder_q
        self.decoder_e = make_decoder(config) if decoder_e is None and config.gradient == "som" else decoder_e
        self.predictor = make_decoder(config) if config.prediction > 0 else None
        self.quantizer = SOMQuantizer(
            config.grid,
            config.latent_dim,
            border=config.border,
            neighbors_only=config.neighbors_only,
            straight_through=config.gradient == "copy",
            update=config.codebook_update,
            decay=config.decay,
            sigma_initial=config.sigma_initial,
            sigma_final=config.sigma_final,
            sigma_steps=config.sigma_steps,
        )
        has_transitions = config.gamma > 0 or config.tau > 0
        self.transitions = make_transitions(config) if has_transitions else None
        self.warming_up = self.needs_relabeling = False
        if config.warm_up_epochs > 0:
            self.register_buffer(
                "latent_variance", torch.tensor(VARIANCE_WITHOUT_WARM_UP, dtype=full_precision_dtype())
            )

    @property
    def num_clusters(self) -> int:
        """Number of clusters that :meth:`assign` can return: the nodes K."""
        return self.config.grid.num_nodes

    def set_progress(self, step: int, epoch: int) -> None:
        """Sets whether the next losses are those of the warm-up, and whether the nodes are yet to be relabeled.

        The warm-up is the first ``config.warm_up_epochs`` epochs. :func:`~somvae_ext.training.fit` calls this method
        before each step. A model on which it was never called, such as a loaded one, is past its warm-up. A custom
        training loop has a warm-up only if it does all that ``fit`` does:

        - call ``set_progress`` before each step;
        - in the warm-up, neither update an ``"ema"`` codebook nor :meth:`revive` nodes;
        - after the warm-up and before the next step, call :meth:`initialize_codebook`, whatever ``config.init``: it
          also measures the variance of the encodings;
        - from then on, call ``update_latent_variance(latent_moments(output))`` after each step.

        Args:
            step: number of the step, from 1.
            epoch: number of the step's epoch, from 1.

        Raises:
            ValueError: numbers that are not integers of at least 1.
        """
        check_integer("SOMVAE.set_progress", "step", step)
        self.warming_up = check_integer("SOMVAE.set_progress", "epoch", epoch) <= self.config.warm_up_epochs
        self.needs_relabeling = epoch <= self.config.relabel_after

    def encode(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Computes the encodings z_e, ``[..., D]``, of samples or series ``[..., *input_shape]``.

        Args:
            x: as in :meth:`forward`.
            mask: as in :meth:`forward`; the encodings of masked frames have no meaning. If ``config.window`` is above
                1, mask real frames that are not finite: each spoils all encodings whose windows contain it.

        Raises:
            ValueError: as :meth:`forward`.
        """
        leading = self._leading_shape(x)
        z = self._encode_frames(self._without_masked(x, mask).reshape(-1, *self.config.input_shape))
        return self._apply_window(z.reshape(*leading, self.config.latent_dim), mask)

    @torch.no_grad()
    def encode_in_parts(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encodes many samples or long series without a gradient.

        The encoder receives a few hundred frames at once: its hidden layers need far more memory than encodings.
        Arguments, result and errors are those of :meth:`encode`.
        """
        frames = self._without_masked(x, mask).reshape(-1, *self.config.input_shape)
        z = torch.cat([self._encode_frames(part) for part in frames.split(FRAMES_AT_ONCE)])
        return self._apply_window(z.view(*self._leading_shape(x), self.config.latent_dim), mask)

    def decode(self, z: Tensor) -> Tensor:
        """Decodes codes ``[..., D]`` to samples ``[..., *input_shape]``, by the decoder of the codes."""
        x = self._decode("decoder_q", z)
        return x.sigmoid() if self.config.reconstruction == "bce" else x

    def forward(self, x: Tensor, mask: Tensor | None = None) -> SOMVAEOutput:
        """Encodes, quantizes and decodes.

        Args:
            x: static samples ``[N, *input_shape]`` or series ``[B, T, *input_shape]``.
            mask: which frames are real, bool ``[B, T]``, for series of different lengths. Masked frames may hold
                anything, NaN included.

        Raises:
            ValueError: shapes that do not fit, static samples although ``config.window`` is above 1, a mask that is not
                bool, or networks whose output does not fit.
        """
        z_e = self.encode(x, mask)
        z_q, indices, losses = self.quantizer(z_e, mask)
        return SOMVAEOutput(
            reconstruction_q=self._decode("decoder_q", z_q),
            reconstruction_e=None if self.decoder_e is None else self._decode("decoder_e", z_e),
            z_e=z_e,
            z_q=z_q,
            indices=indices,
            commitment=losses.commitment,
            som=losses.som,
        )

    def terms(
        self, output: SOMVAEOutput, x: Tensor, mask: Tensor | None = None, targets: Tensor | None = None
    ) -> SOMVAETerms:
        """Computes the terms of the published code's loss for each sample or frame.

        They are means over all pixels, latent values and slots, where the paper writes sums of squared norms::

            reconstruction_q = mean (x - decoder_q(z_q))^2     moves codes and decoder_q, never the encoder
            reconstruction_e = mean (x - decoder_e(z_e))^2     moves encoder and decoder_e
            commitment, som  = see SOMQuantizer
            transition       = -log P(k_t | k_t-1)             moves the transition logits alone
            smoothness       = mean of P(j | k_t-1) |z_e,t - e_j|^2 over the nodes j
                                                               moves encoder, codes and logits
            hardening        = KL(t | s)                       moves encoder and codes
            soft_som         = see nn.soft_assignment.soft_som_loss
                                                               moves codes alone
            neighbor_margin  = see nn.neighbor_margin          moves the encoder alone
            prediction       = mean (x_t+1 - predictor(z_e,t))^2
                                                               moves encoder and predictor

        The last four terms are zero if their weight is 0; in a warm-up all of them but the prediction are zero, and the
        margin also until nodes have changed places (``relabel_after``). The prediction term is 0 for a frame without a
        successor, because its series ends or the next frame is masked. s is the soft assignment of an encoding to the
        codes by Student's t (:func:`~somvae_ext.nn.soft_assignment.log_soft_assignment`), t the sharper targets
        (:func:`~somvae_ext.nn.soft_assignment.sharpened_assignment`).

        With ``gradient="copy"`` reconstruction_q moves encoder and decoder_q, never the codes. With ``"copy"`` and
        ``"none"`` reconstruction_e is zero. With ``reconstruction="bce"`` both reconstruction terms are binary cross
        entropies, -x log(y) - (1 - x) log(1 - y), computed from logits and so finite for any of them. x is then clamped
        to [0, 1]: noise, or a scaling fitted to other data, moves values slightly outside, where the cross entropy has
        no minimum. Values outside [-0.5, 1.5] are refused as not scaled.

        With ``codebook_update="ema"`` no term moves codes: reconstruction_q moves decoder_q alone (and, with
        ``gradient="copy"``, the encoder), commitment, som, hardening and the margin move the encoder, smoothness the
        encoder and the logits.

        The smoothness is the expectation under P divided by the number of nodes K. A frame without a predecessor (the
        first of its series, or one that follows a masked frame) is its own predecessor. Masked frames are ignored.

        Args:
            output: result of ``forward(x, mask)``.
            x: as in :meth:`forward`.
            mask: as in :meth:`forward`.
            targets: t, ``[..., K]``, only for hardening; :func:`~somvae_ext.training.fit` computes them at the start of
                each epoch for all training samples. By default they are computed from the batch alone, frequencies
                included: such a value, as for validation data, depends on the batch size.

        Raises:
            ValueError: shapes that do not fit; targets without hardening; static samples although gamma, tau or
                prediction is set, which need an order in time; samples or real frames that are not finite; for
                ``"bce"``, samples outside [-0.5, 1.5].
        """
        config = self.config
        leading = self._leading_shape(x)
        if self.transitions is not None and len(leading) == 1:
            raise ValueError(
                f"SOMVAE.loss: x must be series [B, T, ...] because gamma = {config.gamma} and tau = {config.tau} "
                f"weigh transitions, got {list(x.shape)}; give one series as x[None]; for static samples set both to 0"
            )
        if self.predictor is not None and len(leading) == 1:
            raise ValueError(
                f"SOMVAE.loss: x must be series [B, T, ...] because prediction = {config.prediction} weighs that of "
                f"the next frame, got {list(x.shape)}; give one series as x[None]; for static samples set it to 0"
            )
        x = reconstruction_target(config.reconstruction, self._without_masked(x, mask), "SOMVAE.loss: x")
        dims = len(config.input_shape)
        reconstruction_q = reconstruction_error(config.reconstruction, output.reconstruction_q, x, dims)
        reconstruction_e = transition = smoothness = reconstruction_q.new_zeros(leading)
        if output.reconstruction_e is not None:
            reconstruction_e = reconstruction_error(config.reconstruction, output.reconstruction_e, x, dims)
        if self.transitions is not None:
            cur = output.indices
            prev = previous_in_series(cur, mask)
            if mask is not None and prev.numel() > 0:
                # Masked frames are ignored, but the optimizer's momentum would move the table rows that they name. So
                # they repeat the step of a real frame, or name node 0 if there is none.
                real = mask.flatten().long().argmax()
                prev, cur = (torch.where(mask, node, node.flatten()[real].clamp_min(0)) for node in (prev, cur))
            steps = self.transitions.losses(prev, cur, output.z_e, self.quantizer.snapshot())
            transition = -steps.log_prob
            smoothness = steps.expected_distance / self.num_clusters
        terms = SOMVAETerms(
            reconstruction_q,
            reconstruction_e,
            output.commitment,
            output.som,
            transition,
            smoothness,
            *soft_assignment_terms(config, self.quantizer, output, mask, targets, idle=self.warming_up),
            neighbor_margin_term(config, self.quantizer, output, idle=self.warming_up or self.needs_relabeling),
            self._prediction_term(output, x, mask),
        )
        return terms if mask is None else SOMVAETerms(*(torch.where(mask, term, 0) for term in terms))

    def loss(
        self, output: SOMVAEOutput, x: Tensor, mask: Tensor | None = None, targets: Tensor | None = None
    ) -> SOMVAELosses:
        """Computes the published code's loss, the means of :meth:`terms` over the real frames, and their weighted sum::

            total = reconstruction_q + reconstruction_e + alpha * commitment + beta * som
                    + gamma * transition + tau * smoothness    (gamma^2 with square_gamma)
                    + hardening * KL(t | s) + soft_som * soft SOM loss
                    + neighbor_margin * margin    (in the epochs after ``relabel_after``)
                    + prediction * prediction

        With ``codebook_update="ema"`` and no beta, commitment and som weigh alpha / 2 each.

        In the warm-up (:meth:`set_progress`) the total consists of reconstruction_e and prediction alone: codes, their
        decoder and transitions receive no gradient. With ``config.warm_up_epochs`` above 0, alpha and neighbor_margin
        are multiplied after the warm-up by::

            0.05^2 / max(0.05^2, v)

        where v is ``latent_variance``, without a gradient. Commitment and margin grow with the square of the encodings,
        whose standard deviation is about 0.05 without a warm-up and 1.8 after one: weights of order 1 would then
        outweigh the reconstruction, and all encodings would collapse. The factor is never above 1, so that the weights
        do not grow without bound while encodings shrink.

        The prediction is averaged over the steps from a frame to the next. If no frame, or no step, is left, the losses
        are zero. Arguments and errors are those of :meth:`terms`.
        """
        config = self.config
        terms = self.terms(output, x, mask, targets)
        count = max(1, output.indices.numel()) if mask is None else mask.sum().clamp_min(1)
        means = SOMVAETerms(*(term.sum() / count for term in terms))
        if self.predictor is not None:
            means = means._replace(prediction=terms.prediction.sum() / self._count_steps(output, mask))
        if self.warming_up:
            # Not the full sum with weights of 0: steps on zero gradients would count for Adam's averages.
            total = means.reconstruction_e.clone()
            if self.predictor is not None:
                total = total + config.prediction * means.prediction
            return SOMVAELosses(total, *means)
        scale = variance_scale(self.latent_variance) if config.warm_up_epochs > 0 else 1.0
        som_scale = scale if config.codebook_update == "ema" else 1.0  # beta is not scaled: it moves codes alone
        total = means.reconstruction_q + means.reconstruction_e
        total = total + config.commitment_weight * scale * means.commitment
        total = total + config.som_weight * som_scale * means.som
        total = total + config.transition_weight * means.transition + config.tau * means.smoothness
        total = total + config.hardening * means.hardening + config.soft_som * means.soft_som
        total = total + config.neighbor_margin * scale * means.neighbor_margin + config.prediction * means.prediction
        return SOMVAELosses(total, *means)

    @torch.no_grad()
    def latent_moments(self, output: SOMVAEOutput) -> Tensor:
        """Computes number, sums and sums of squares of a batch's encodings, for :meth:`update_latent_variance`.

        Moments of several batches or processes are combined by adding them.

        Args:
            output: result of ``forward(x, mask)``. Masked encodings and those that are not finite are ignored.

        Returns:
            float64 ``[1 + 2D]``: the number n, the D sums and the D sums of squares.
        """
        return moments(output.z_e, output.indices != MASKED)

    @torch.no_grad()
    def update_latent_variance(self, moments: Tensor) -> None:
        """Updates ``latent_variance`` with the variance of a batch's encodings, in place::

            s^2 = 1/D * sum over the features d of 1/(n - 1) * sum_i (z_id - mean_i z_id)^2
            v  <- 0.99 v + 0.01 s^2

        :meth:`initialize_codebook` sets v to the s^2 of its samples. v stays unchanged if the batch has fewer than two
        encodings or the buffer cannot hold s^2. A model whose config has no warm-up ignores the call.

        Args:
            moments: :meth:`latent_moments` of the batch, float64 ``[1 + 2D]``; if several processes share the batch,
                the sum of theirs.

        Raises:
            ValueError: moments of another shape.
        """
        expected = [1 + 2 * self.config.latent_dim]
        if list(moments.shape) != expected:
            raise ValueError(
                f"SOMVAE.update_latent_variance: moments must have shape [1 + 2D] = {expected}, "
                f"got {list(moments.shape)}"
            )
        if self.config.warm_up_epochs > 0:
            update_running_variance(self.latent_variance, moments)

    @torch.no_grad()
    def assign(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Finds the node of each sample or frame, int64 ``[N]`` or ``[B, T]``. Masked frames get an arbitrary node."""
        return self.quantizer.assign(self.encode(x, mask))

    @torch.no_grad()
    def reconstruct(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Reconstructs samples from their winners' codes, in the shape of ``x``."""
        return self.decode(self.quantizer.lookup(self.assign(x, mask)))

    @torch.no_grad()
    def predict_next(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predicts the frame that follows each frame of series, in the shape of ``x``.

        Args:
            x: as in :meth:`forward`.
            mask: as in :meth:`forward`; the predictions from masked frames have no meaning.

        Raises:
            ValueError: a model without a predictor, or shapes that do not fit.
        """
        if self.predictor is None:
            raise ValueError("SOMVAE.predict_next: the config's prediction must be above 0, got 0")
        following = self._decode("predictor", self.encode(x, mask))
        return following.sigmoid() if self.config.reconstruction == "bce" else following

    @torch.no_grad()
    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws nodes uniformly, with replacement, and decodes them: ``[num_samples, *input_shape]``.

        Args:
            num_samples: number of samples, at least 1.
            generator: random generator, on the CPU; torch's global one by default.

        Raises:
            ValueError: ``num_samples`` below 1.
        """
        nodes = draw_codes("SOMVAE.sample", (num_samples,), self.num_clusters, generator)
        return self.decode(self.quantizer.lookup(nodes.to(self.quantizer.codebook.device)))

    @torch.no_grad()
    def decoded_map(self) -> Tensor:
        """Decodes the code of each node, ``[R, C, *input_shape]``."""
        return self.decode(self.quantizer.codebook.view(self.config.rows, self.config.cols, -1))

    @torch.no_grad()
    def initialize_codebook(self, x: Tensor, mask: Tensor | None = None, *, seed: int = 0) -> None:
        """Initializes the codebook from the first samples, before its first step.

        With ``config.init = "kmeans"`` the codes become the k-means centers of the samples' encodings, laid out on the
        map (:meth:`~somvae_ext.nn.SOMQuantizer.initialize_kmeans`), with ``"som"`` those of a batch SOM of the
        encodings (:meth:`~somvae_ext.nn.SOMQuantizer.initialize_som`). With ``"normal"`` they stay as they are.

        With ``config.warm_up_epochs`` above 0, call this method after the warm-up. It also sets ``latent_variance`` to
        the variance of the encodings, and copies the weights of the encodings' decoder to the decoder of the codes,
        which is still untrained, if their names and shapes agree. The clusters then depend on this initialization, so
        the best of four k-means runs is kept.

        Args:
            x: as in :meth:`forward`; at least one sample or real frame whose encoding is finite, and for k-means K of
                them. The others are ignored.
            mask: as in :meth:`forward`.
            seed: seed of k-means.

        Raises:
            ValueError: shapes that do not fit, or too few such samples.
        """
        if self.config.init == "normal" and self.config.warm_up_epochs == 0:
            return
        z = self.encode_in_parts(x, mask)
        if self.config.init == "kmeans":
            tries = _KMEANS_TRIES if self.config.warm_up_epochs > 0 else 1
            self.quantizer.initialize_kmeans(z, seed=seed, mask=mask, num_tries=tries)
        elif self.config.init == "som":
            self.quantizer.initialize_som(z, mask=mask)
        if self.config.warm_up_epochs > 0:
            update_running_variance(self.latent_variance, moments(z, mask), rate=1.0)
            learned = cast(nn.Module, self.decoder_e).state_dict()
            if _shapes(learned) == _shapes(self.decoder_q.state_dict()):
                self.decoder_q.load_state_dict(learned)

    @torch.no_grad()
    def revive(
        self, unused: Tensor, x: Tensor, generator: torch.Generator | None = None, *, mask: Tensor | None = None
    ) -> list[tuple[nn.Parameter, Tensor]]:
        """Replaces the codes of unused nodes by finite encodings of random samples.

        Transitions stay as they are: nothing is known about those of the new codes.

        Args:
            unused: nodes to replace, int64 ``[U]``, each once.
            x: samples to draw from, as in :meth:`forward`.
            generator: random generator, on the CPU; torch's global one by default.
            mask: as in :meth:`forward`.

        Returns:
            The overwritten parameters, as (parameter, its rows): a training loop resets the optimizer's state of these
            rows. With ``codebook_update="ema"`` the list is empty.

        Raises:
            ValueError: shapes that do not fit, a node out of range, no sample to draw from, or a neighborhood that is
                still narrowing.
        """
        rows = self.quantizer.revive(unused, self.encode_in_parts(x, mask), generator=generator, mask=mask)
        codebook = self.quantizer.codebook
        return [(codebook, rows)] if isinstance(codebook, nn.Parameter) else []

    @torch.no_grad()
    def find_relabeling(self, x: Tensor, mask: Tensor | None = None, *, seed: int = 0) -> Tensor:
        """Finds an order of the nodes that makes as many second best nodes as possible neighbors of the best ones.

        Args:
            x: samples whose best and second best nodes are counted, as in :meth:`forward`; those whose encodings are
                not finite are ignored.
            mask: as in :meth:`forward`.
            seed: seed of the search, see :func:`~somvae_ext.som.find_relabeling`.

        Returns:
            The order for :meth:`relabel`, int64 ``[K]`` on the CPU.

        Raises:
            ValueError: shapes that do not fit.
            ModuleNotFoundError: scipy is missing, which the extra ``som`` installs.
        """
        nodes, codebook = self.num_clusters, self.quantizer.codebook.detach()
        if nodes == 1:
            return torch.zeros(1, dtype=torch.int64)
        best = ops.bmu(self.quantizer.valid_rows(self.encode_in_parts(x, mask), mask), codebook, k=2).index
        pairs = (best[:, 0] * nodes + best[:, 1]).bincount(minlength=nodes * nodes).view(nodes, nodes)
        return find_relabeling(pairs, self.quantizer.grid, seed=seed)

    @torch.no_grad()
    def relabel(self, order: Tensor) -> list[tuple[nn.Parameter, int]]:
        """Permutes the nodes: node v becomes what node ``order[v]`` was.

        Clusters change only their numbers; reconstructions and the transitions between clusters stay as they are.

        Args:
            order: int64 ``[K]``, a permutation, such as :meth:`find_relabeling` returns.

        Returns:
            The permuted parameters, each with the number of its first axes that were permuted: a training loop permutes
            the optimizer's state likewise.

        Raises:
            ValueError: ``order`` is not a permutation of the nodes, or the transitions are ``"local"``, whose table
                holds near nodes alone.
        """
        if self.transitions is not None and self.config.transitions == "local":
            raise ValueError("SOMVAE.relabel: transitions must be 'dense', got 'local', which have near nodes alone")
        codebook = self.quantizer.codebook
        order = order.to(codebook.device)
        self.quantizer.relabel(order)
        self.needs_relabeling = False
        rearranged = [(codebook, 1)] if isinstance(codebook, nn.Parameter) else []
        if self.transitions is not None:
            logits = self.transitions.logits
            logits.copy_(logits[order][:, order])
            rearranged.append((logits, 2))
        return rearranged

    def parameter_groups(self, learning_rate: float, transition_rate_factor: float = 100.0) -> list[dict[str, Any]]:
        """Returns parameter groups for an optimizer, in which the transition logits learn at a multiple of the rate.

        The published code takes one Adam step on the whole loss and then one on the transition loss, at 100 times the
        rate for the logits. Here one step per batch does both: the logits see the whole loss, in which the transition
        loss outweighs the smoothness, which is divided by K, and Adam makes the weight of either irrelevant.

        Returns:
            Groups with ``params``, ``lr`` and ``rows``, which says whether their gradients are sparse rows, for
            :class:`~somvae_ext.optim.RowAdam`, or dense, for :class:`torch.optim.Adam`;
            :func:`~somvae_ext.optim.build_adam_optimizers` builds both. A single optimizer for all parameters needs
            ``SOMVAEConfig(transition_updates="dense")``, because torch's optimizers accept only one kind of gradient.
        """
        if self.transitions is None:
            return [{"params": list(self.parameters()), "lr": learning_rate, "rows": False}]
        table = list(self.transitions.parameters())
        in_table = {id(parameter) for parameter in table}
        return [
            {
                "params": [parameter for parameter in self.parameters() if id(parameter) not in in_table],
                "lr": learning_rate,
                "rows": False,
            },
            {"params": table, "lr": learning_rate * transition_rate_factor, "rows": self.transitions.sparse_grad},
        ]

    def _prediction_term(self, output: SOMVAEOutput, x: Tensor, mask: Tensor | None) -> Tensor:
        """Prediction error of the next frame for each frame ``[B, T]``; 0 for a frame without a successor."""
        errors = torch.zeros_like(output.commitment)
        if self.predictor is None or errors.shape[1] < 2:
            return errors
        config, following = self.config, x[:, 1:]
        expected = self._decode("predictor", output.z_e[:, :-1])
        error = reconstruction_error(config.reconstruction, expected, following, len(config.input_shape))
        if mask is not None:
            error = torch.where(mask[:, :-1] & mask[:, 1:], error, 0)
        return functional.pad(error, (0, 1))

    @staticmethod
    def _count_steps(output: SOMVAEOutput, mask: Tensor | None) -> Tensor | int:
        """Number of frames with a successor, at least 1."""
        if mask is None:
            batch, length = output.indices.shape
            return max(1, batch * (length - 1))
        return (mask[:, :-1] & mask[:, 1:]).sum().clamp_min(1)

    def _decode(self, name: str, z: Tensor) -> Tensor:
        leading, shape = z.shape[:-1], self.config.input_shape
        x: Tensor = self.get_submodule(name)(z.reshape(-1, z.shape[-1]))
        self._check_network(name, x, math.prod(leading), shape)
        return x.view(*leading, *shape)

    def _encode_frames(self, x: Tensor) -> Tensor:
        """Encodes samples or frames ``[N, *input_shape]`` one by one, ``[N, D]``."""
        z: Tensor = self.encoder(x)
        self._check_network("encoder", z, x.shape[0], [self.config.latent_dim])
        return z

    def _apply_window(self, z: Tensor, mask: Tensor | None) -> Tensor:
        """Lets encodings see earlier frames if ``config.window`` is above 1."""
        return z if self.window is None else self.window(z, mask)

    def _leading_shape(self, x: Tensor) -> torch.Size:
        """The shape of x without that of a sample, [N] or [B, T]."""
        shape = self.config.input_shape
        leading = x.shape[: max(0, x.dim() - len(shape))]
        if len(leading) not in (1, 2) or x.shape[len(leading) :] != shape:
            sizes = ", ".join(str(size) for size in shape)
            raise ValueError(f"SOMVAE: x must have shape [N, {sizes}] or [B, T, {sizes}], got {list(x.shape)}")
        if self.window is not None and len(leading) == 1:
            raise ValueError(
                f"SOMVAE: x must be series [B, T, ...] because encodings see a window of {self.config.window} frames, "
                f"got {list(x.shape)}; give one series as x[None]"
            )
        return leading

    def _without_masked(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Sets masked frames of x to zeros: a NaN there would reach the weights through 0 * NaN."""
        leading = self._leading_shape(x)
        if mask is None:
            return x
        if mask.dtype != torch.bool or len(leading) != 2 or mask.shape != leading:
            expected = f"[B, T] = {list(leading)}" if len(leading) == 2 else "[B, T] for x of shape [B, T, ...]"
            raise ValueError(
                f"SOMVAE: mask must be of dtype bool and shape {expected}, got {mask.dtype} and {list(mask.shape)}"
            )
        return torch.where(mask.view(*leading, *(1 for _ in self.config.input_shape)), x, 0)

    @staticmethod
    def _check_network(name: str, result: Tensor, rows: int, shape: Sequence[int]) -> None:
        if result.shape != (rows, *shape):
            raise ValueError(f"SOMVAE: {name} must give shape {[rows, *shape]}, got {list(result.shape)}")


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: values.shape for name, values in state.items()}
