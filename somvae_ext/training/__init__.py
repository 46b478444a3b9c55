"""One training loop for all models, and their evaluation.

The package needs the extra ``train``.
"""

from somvae_ext.extras import needed_by

with needed_by(__name__):
    from somvae_ext.training.assessment import Encodings, clustering_metrics, encode, evaluate
    from somvae_ext.training.augmentation import AffineAugmentation
    from somvae_ext.training.loop import fit
    from somvae_ext.training.run_record import RunRecord
    from somvae_ext.training.state import ITERATIONS
    from somvae_ext.training.trainable import Trainable
    from somvae_ext.training.training_config import TrainingConfig

__all__ = [
    "ITERATIONS",
    "AffineAugmentation",
    "Encodings",
    "RunRecord",
    "Trainable",
    "TrainingConfig",
    "clustering_metrics",
    "encode",
    "evaluate",
    "fit",
]
