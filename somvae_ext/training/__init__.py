"""One training loop for all models, the folder that keeps what a run produced, and its evaluation.

Needs the extra ``train``.
"""

from somvae_ext.training.assessment import Encodings, clustering_metrics, encode, evaluate
from somvae_ext.training.loop import Trainable, TrainingConfig, fit
from somvae_ext.training.run_folder import RunFolder
from somvae_ext.training.saved_model import load_model

__all__ = [
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
