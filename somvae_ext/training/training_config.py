"""The configuration of a training."""

from __future__ import annotations

import dataclasses

from somvae_ext.config_checks import Bounds, check_fields
from somvae_ext.training.augmentation import AUGMENTATION_BOUNDS, AffineAugmentation


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Configuration of a training: Adam with a learning rate that decays in steps.

    Parameters whose gradients are rows of a table are trained by :class:`~somvae_ext.optim.RowAdam`, at the same rates.

    Args:
        epochs: passes over the training data; named like the option of ``somvae fit`` and the key in ``manifest.json``,
            without the ``num_`` of the functions of ``somvae_ext.som``.
        batch_size: number of samples or series per step and process.
        learning_rate: Adam's initial learning rate.
        transition_rate_factor: factor of the learning rate for the transition logits.
        decay_factor: factor by which the rates are multiplied every ``decay_steps`` steps; 1 keeps them constant.
        decay_steps: see ``decay_factor``.
        max_grad_norm: norm to which longer gradients are scaled, all gradients of a step as one vector; 0: no clipping.
        revive: whether to move, before each epoch but the first, the nodes that won nothing in the previous epoch to
            encodings of random training samples, and to reset the optimizer's state of them. Nodes of an ordered map
            are not moved before its neighborhood is narrow, and no nodes before a warm-up is over. Not part of the
            published recipe.
        max_shift, max_rotation, max_scale, max_shear: bounds of the random transforms of training images, in pixels, in
            degrees (at most 180), relative (below 1), and as a factor; see
            :class:`~somvae_ext.training.augmentation.AffineAugmentation`. The model sees the transformed image, and its
            loss the clean one. With 0 for all, images stay as they are. Not part of the published recipe.
        augmented_target: whether the loss receives the transformed image, too, so that the model is to reconstruct what
            it sees.
        seed: seed of the order of the samples and of the model's random draws.

    The defaults are the published recipe of SOM-VAE (Fortuin et al. 2019 and github.com/ratschlab/SOM-VAE).

    Raises:
        ValueError: a number that is not positive, a decay factor above 1, a negative norm, bound or seed, a bound that
            is too large, or a value of another type than the field's.
    """

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 5e-4
    transition_rate_factor: float = 100.0
    decay_factor: float = 0.9
    decay_steps: int = 500
    max_grad_norm: float = 0.0
    revive: bool = False
    max_shift: float = 0.0
    max_rotation: float = 0.0
    max_scale: float = 0.0
    max_shear: float = 0.0
    augmented_target: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(
            self,
            may_be_empty=(),
            learning_rate=Bounds(above=0),
            transition_rate_factor=Bounds(above=0),
            decay_factor=Bounds(above=0, at_most=1),
            seed=Bounds(at_least=0, at_most=2**63 - 1),
            **AUGMENTATION_BOUNDS,
        )
        if self.augmented_target and self.augmentation.first_nonzero_bound is None:
            raise ValueError(
                "TrainingConfig: augmented_target must be False where images are left as they are, got True and "
                f"{', '.join(AUGMENTATION_BOUNDS)} of 0"
            )

    @property
    def augmentation(self) -> AffineAugmentation:
        """The random transforms of training images."""
        return AffineAugmentation(**{name: getattr(self, name) for name in AUGMENTATION_BOUNDS})
