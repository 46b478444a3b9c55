"""The configuration of a SOM-VAE."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from somvae_ext.config_checks import Bounds, check_fields, check_unused
from somvae_ext.grid import Grid, Topology
from somvae_ext.models.reconstruction import Output, Reconstruction
from somvae_ext.nn.quantizer import CodebookUpdate
from somvae_ext.nn.som_quantizer import SOMQuantizer
from somvae_ext.ops import Border

Network = Literal["dense", "conv", "unpadded-conv", "small-conv", "identity"]
Gradient = Literal["som", "copy", "none"]
Init = Literal["normal", "kmeans", "som"]
Transitions = Literal["dense", "local"]
TransitionUpdates = Literal["auto", "dense", "rows"]

_BETA = 0.9
_TRANSITION_RADIUS = 8
# Number of nodes from which "auto" means "rows".
_ROWS_FROM_NODES = 1024


@dataclasses.dataclass(frozen=True)
class SOMVAEConfig:
    """Configuration of a :class:`SOMVAE`.

    Args:
        input_shape: shape of one sample, or of one frame of a series.
        rows: number of rows R of the map.
        cols: number of columns C of the map.
        topology: ``"rectangular"`` or ``"hexagonal"``.
        periodic: whether the map wraps around.
        latent_dim: size D of an encoding.
        network: encoder and decoders, see :mod:`somvae_ext.models.networks`: ``"dense"``, ``"conv"`` (the published
            convolutional networks), ``"unpadded-conv"`` (convolutions without padding and with fewer channels),
            ``"small-conv"`` (strided convolutions with few channels, for images whose sides are both at least 16), or
            ``"identity"``: encodings are the flattened samples and D is their size, which gives the paper's GB-SOM, a
            map trained by gradients.
        hidden_sizes: widths of the dense encoder's hidden layers; the decoders have them in reverse.
        window: number of frames of a series that an encoding sees, its own and those before it, see
            :class:`~somvae_ext.nn.CausalWindow`. With 1, as published, each frame is encoded alone, and encodings do
            not show how a series moves. Above 1, samples must be series and the network must have weights.
        latent_relu: whether the dense encoder ends with a ReLU, as the published dense variant does.
        output: activation at the end of the decoders: ``"sigmoid"`` for samples in [0, 1], ``"linear"`` for others.
            (Identity decoders have none.)
        codebook_update: how codes learn, see :class:`~somvae_ext.nn.SOMQuantizer`. ``"gradient"``: by the gradient of
            the whole loss, as published; the map is hardly ordered. ``"ema"``: as smoothed moving averages of the
            encodings that their nodes win, a batch SOM in latent space; the map is ordered.
        border: how neighbors missing at the map's border count, for ``"gradient"``.
        neighbors_only: whether the SOM loss moves only the winner's neighbors, as in the paper; the published code also
            moves the winner. For ``"gradient"``.
        decay: for ``"ema"``: share of the averages that a step keeps; by default 0.99.
        sigma_initial: for ``"ema"``: initial width of the neighborhood, in units of the grid; by default the map's
            longer side.
        sigma_final: for ``"ema"``: final width, which trades the order of the map against the purity of its clusters;
            by default 0.7.
        sigma_steps: for ``"ema"``: steps until the final width; by default 2000. Best are 70 % of all steps for single
            samples and half of them for series.
        init: initialization of the codebook: ``"normal"``, as published, ``"kmeans"``, centers of the first encodings,
            or ``"som"``, codes of a batch SOM of them, see :meth:`SOMVAE.initialize_codebook`.
        reconstruction: ``"mse"``, the mean squared error, or ``"bce"``, the mean binary cross entropy between samples
            in [0, 1] and the decoders' sigmoid. Samples slightly outside are clamped, see :meth:`SOMVAE.terms`.
        gradient: what the encoder learns from besides commitment and smoothness. ``"som"``: the reconstruction from
            the encoding, by a second decoder. The paper's ablations have no second decoder: ``"copy"`` copies the
            gradient of the reconstruction from the code to the encoding (straight-through); ``"none"`` has no
            substitute, and collapses.
        alpha: weight of the commitment loss.
        beta: weight of the SOM loss. By default, None, it is 0.9; with ``codebook_update="ema"``, commitment and SOM
            loss then weigh alpha / 2 each.
        gamma: weight of the transition loss. 0 for data without an order in time.
        tau: weight of the smoothness loss. 0 for data without an order in time.
        hardening: weight of the cluster-assignment hardening of SOM-VAE's successors (DEC, Xie et al. 2016; T-DPSOM,
            Manduchi et al. 2021): the divergence of each encoding's soft assignment from a sharper one, see
            :meth:`SOMVAE.terms`. With a warm-up, alpha = beta = 0 and few codes it gives the purest clusters; it
            destroys the order of a map.
        soft_som: weight of the successors' SOM loss, which draws the neighbors of likely nodes toward an encoding; for
            ``codebook_update="gradient"``.
        relabel_after: number of epochs after which the nodes change places, so that as many second best nodes as
            possible are neighbors of the best ones (:meth:`SOMVAE.find_relabeling`); 0: never. Clusters stay the same,
            and the decoded nodes as unordered as before.
        neighbor_margin: weight, in the epochs after ``relabel_after``, of how much nearer a sample's second best node
            is than the neighbors of its best one, see :func:`~somvae_ext.nn.neighbor_margin.neighbor_margin`. Like
            relabeling, it optimizes the topographic error itself.
        prediction: weight of the prediction of the next frame of a series from the encoding of a frame, by a separate
            decoder. Reconstruction alone does not require encodings to show how a series moves, however many frames
            they see. T-DPSOM (Manduchi et al. 2021) predicts the next encoding instead, by an LSTM; its smoothness of
            soft assignments is not implemented, and tau weighs that of SOM-VAE. 0 for data without an order in time.
        transitions: kind of transition table, see :class:`~somvae_ext.nn.TransitionModel`: ``"dense"``, K x K, or
            ``"local"``, the nodes near each node and a remainder, for large maps.
        transition_radius: radius within which nodes are near, for ``"local"``.
        square_gamma: whether to weight the transition loss by gamma^2, as the published code does (it multiplies by
            gamma twice).
        transition_updates: what a step updates in the transition table: ``"dense"``, all of it, as published, or
            ``"rows"``, the rows of the nodes from which the batch's steps start, with sparse gradients and
            :class:`~somvae_ext.optim.RowAdam`, which documents the differences. ``"auto"`` takes rows from 1024 nodes
            on, of which a batch visits few. After the same number of epochs, a table trained by rows may lag behind one
            trained densely, in which a row also moves between its visits.
        warm_up_epochs: number of initial epochs that train only the autoencoder, by the reconstruction from the
            encoding. The codebook is initialized after them, see :meth:`SOMVAE.set_progress`, and from then on alpha
            and neighbor_margin are scaled down by the variance of the encodings, see :meth:`SOMVAE.loss`. With 0, as
            published, there is neither. A warm-up needs ``gradient="som"`` and a network with weights, and other loss
            weights than the published ones: on MNIST with 8 x 8 codes learned by gradients, alpha 1 still drew the
            encodings together until a third of the nodes won nothing, where 0.05 kept all in use. beta is not scaled,
            and 0.9 outweighs the reconstruction; 3e-4 gave the purest clusters.

    The defaults are the published loss on dense networks, with gamma and tau for static data. ``gradient="copy"`` with
    ``beta=0`` has no neighbors: it is a VQ-VAE (van den Oord et al. 2017) whose codebook loss and commitment both weigh
    alpha.

    Raises:
        ValueError: sizes below 1, weights that are negative or not finite, unknown names, options that contradict each
            other, or values that :class:`~somvae_ext.Grid` or :class:`~somvae_ext.nn.SOMQuantizer` refuses.
    """

    input_shape: tuple[int, ...] = (1, 28, 28)
    rows: int = 8
    cols: int = 8
    topology: Topology = "rectangular"
    periodic: bool = False
    latent_dim: int = 64
    network: Network = "dense"
    hidden_sizes: tuple[int, ...] = (256, 128)
    window: int = 1
    latent_relu: bool = False
    output: Output = "sigmoid"
    codebook_update: CodebookUpdate = "gradient"
    border: Border = "zero"
    neighbors_only: bool = False
    decay: float | None = None
    sigma_initial: float | None = None
    sigma_final: float | None = None
    sigma_steps: int | None = None
    init: Init = "normal"
    reconstruction: Reconstruction = "mse"
    gradient: Gradient = "som"
    alpha: float = 1.0
    beta: float | None = None
    gamma: float = 0.0
    tau: float = 0.0
    hardening: float = 0.0
    soft_som: float = 0.0
    relabel_after: int = 0
    neighbor_margin: float = 0.0
    prediction: float = 0.0
    square_gamma: bool = False
    transitions: Transitions = "dense"
    transition_radius: int = _TRANSITION_RADIUS
    transition_updates: TransitionUpdates = "auto"
    warm_up_epochs: int = 0

    def __post_init__(self) -> None:
        check_fields(
            self,
            may_be_empty=("hidden_sizes",),
            decay=Bounds(at_least=0, below=1),
            sigma_initial=Bounds(above=0),
            sigma_final=Bounds(above=0),
            transition_radius=Bounds(at_least=0),
            warm_up_epochs=Bounds(at_least=0),
            relabel_after=Bounds(at_least=0),
        )
        if self.codebook_update == "gradient":
            check_unused(self, "codebook_update must be 'ema'", "decay", "sigma_initial", "sigma_final", "sigma_steps")
        else:
            check_unused(self, "codebook_update must be 'gradient'", "border", "neighbors_only", "soft_som")
            self._check_averages()
        if self.neighbors_only and self.som_weight == 0:
            raise ValueError(
                "SOMVAEConfig: neighbors_only must be False for beta 0, which leaves no SOM loss, got True"
            )
        if self.transitions == "dense" and self.transition_radius != _TRANSITION_RADIUS:
            raise ValueError(
                "SOMVAEConfig: transitions must be 'local' for a transition_radius to mean anything, "
                f"got 'dense' and {self.transition_radius}"
            )
        if self.relabel_after > 0 and self.transitions == "local":
            raise ValueError(
                "SOMVAEConfig: transitions must be 'dense' for relabel_after, because a table of near nodes has no "
                f"place for those that move away, got 'local' and {self.relabel_after}"
            )
        if 0 < self.relabel_after <= self.warm_up_epochs:
            raise ValueError(
                f"SOMVAEConfig: relabel_after must be above warm_up_epochs = {self.warm_up_epochs}, before which there "
                f"are no codes, got {self.relabel_after}"
            )
        if self.latent_relu and self.network != "dense":
            raise ValueError(f"SOMVAEConfig: latent_relu must be False for network {self.network!r}, got True")
        if self.gradient != "som":
            check_unused(self, "gradient must be 'som'", "warm_up_epochs")
        if self.network == "identity":
            check_unused(self, "network must not be 'identity'", "warm_up_epochs", "window", "prediction")
            if self.latent_dim != math.prod(self.input_shape):
                raise ValueError(
                    "SOMVAEConfig: latent_dim must be the size of a sample for network 'identity', "
                    f"{math.prod(self.input_shape)}, got {self.latent_dim}"
                )
            if self.reconstruction == "bce":
                raise ValueError("SOMVAEConfig: reconstruction must be 'mse' for network 'identity', got 'bce'")
        if self.reconstruction == "bce" and self.output == "linear":
            raise ValueError("SOMVAEConfig: output must be 'sigmoid' for reconstruction 'bce', got 'linear'")
        _ = self.grid

    def _check_averages(self) -> None:
        # The layer knows the defaults of the widths.
        SOMQuantizer.check_widths(type(self).__name__, self.grid, self.sigma_initial, self.sigma_final)
        if self.network == "identity" and self.gamma == 0 and self.tau == 0:
            raise ValueError(
                "SOMVAEConfig: network must not be 'identity' for codebook_update 'ema' without transitions, which "
                "leaves nothing that a gradient could train; take nn.SOMQuantizer or estimators.SOM"
            )

    @classmethod
    def published(cls) -> SOMVAEConfig:
        """Returns the published code's setting for series of 28 x 28 images: 5,600,834 trainable parameters.

        github.com/ratschlab/SOM-VAE: convolutional networks, an 8 x 8 map, 64 latent values, alpha 1, beta 0.9,
        gamma 1.8 (which counts squared) and tau 1.4, missing neighbors as zeros. Its dense variant is the same with
        ``network="dense", latent_relu=True``; for static images gamma and tau are 0.
        """
        return cls(network="conv", beta=_BETA, gamma=1.8, tau=1.4, square_gamma=True, transition_updates="dense")

    @classmethod
    def unpadded_conv(cls) -> SOMVAEConfig:
        """Returns the published loss and weights with smaller convolutional networks, 1,291,746 trainable parameters.

        The networks are those of ``"unpadded-conv"``.
        """
        return dataclasses.replace(cls.published(), network="unpadded-conv")

    @property
    def grid(self) -> Grid:
        """The map's grid."""
        return Grid(self.rows, self.cols, self.topology, self.periodic)

    @property
    def updates_transition_rows(self) -> bool:
        """Whether ``transition_updates`` means rows, and not the whole table, on this map."""
        if self.transition_updates == "auto":
            return self.grid.num_nodes >= _ROWS_FROM_NODES
        return self.transition_updates == "rows"

    @property
    def transition_weight(self) -> float:
        """The factor of the transition loss: gamma, or gamma^2 with ``square_gamma``."""
        return self.gamma**2 if self.square_gamma else self.gamma

    @property
    def commitment_weight(self) -> float:
        """The factor of the commitment loss: alpha, or alpha / 2 with ``"ema"`` and no beta."""
        return self.alpha / 2 if self.codebook_update == "ema" and self.beta is None else self.alpha

    @property
    def som_weight(self) -> float:
        """The factor of the SOM loss: beta or, if it is None, 0.9, or alpha / 2 with ``"ema"``."""
        if self.beta is not None:
            return self.beta
        return self.alpha / 2 if self.codebook_update == "ema" else _BETA
