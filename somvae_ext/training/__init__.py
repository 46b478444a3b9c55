"""One training loop for all models, the folder that keeps what a run produced, and its evaluation.

Needs the extra ``train``.
"""

from somvae_ext.training.assessment import Encodings, clustering_metrics, encode, evaluate
from somvae_ext.training.augmentation import AffineAugmentation
from somvae_ext.training.loop import fit
from somvae_ext.training.run_folder import RunFolder
from somvae_ext.training.saved_model import load_model
from somvae_ext.training.trainable import Trainable
from somvae_ext.training.training_config import TrainingConfig

__all__ = [
    "AffineAugmentation",
    "Encodings",
    "RunFolder",
    "Trainable",
    "TrainingConfig",
    "clustering_metrics",
    "encode",
    "evaluate",
    "fit",
    "load_model",
]
