"""How a model is trained."""

from __future__ import annotations

import dataclasses

from somvae_ext.config_checks import Bounds, check_fields
from somvae_ext.training.augmentation import AUGMENTATION_BOUNDS, AffineAugmentation


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained: Adam with a learning rate that falls in steps.

    Parameters whose gradients are rows of a table learn by :class:`~somvae_ext.optim.RowAdam`, at the same rates.

    Args:
        epochs: passes over the training data; named like the option of ``somvae fit`` and the key in ``manifest.json``,
            without the ``num_`` of the functions of ``somvae_ext.som``.
        batch_size: samples, or series, per step and process.
        learning_rate: Adam's rate at the start.
        transition_rate_factor: the transition logits learn at this multiple of the rate.
        decay_factor: the rates are multiplied by this every ``decay_steps`` steps; 1 keeps them constant.
        decay_steps: see ``decay_factor``.
        max_grad_norm: longer gradients, all of a step taken as one vector, are scaled to this norm; 0 leaves them.
        revive: before each epoch but the first, move the nodes that won nothing in the one before to encodings of
            random training samples, and forget what the optimizer knew about them. Nodes of an ordered map wait until
            its neighbourhood is narrow, and all nodes until a warm-up is over. Not part of the published recipe.
        max_shift, max_rotation, max_scale, max_shear: bounds of the random transforms of training images, in pixels, in
            degrees (at most 180), relative (below 1), and as a factor; see
            :class:`~somvae_ext.training.augmentation.AffineAugmentation`. The model sees the transformed image and its
            loss the clean one. 0 everywhere leaves images as they are. Not part of the published recipe.
        augmented_target: let the loss have the transformed image, too: the model is to reconstruct what it sees.
        seed: order of the samples, and whatever the model draws.

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
