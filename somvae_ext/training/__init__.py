"""One training loop for all models, and the folder that keeps what a run produced. Needs the extra ``train``."""

from somvae_ext.training.loop import Trainable, TrainingConfig, fit
from somvae_ext.training.run_folder import RunFolder

__all__ = ["RunFolder", "Trainable", "TrainingConfig", "fit"]
