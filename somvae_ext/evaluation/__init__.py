"""How well a map clusters."""

from somvae_ext.evaluation.clustering import NMIAverage, nmi, perplexity, purity, usage

__all__ = ["NMIAverage", "nmi", "perplexity", "purity", "usage"]
