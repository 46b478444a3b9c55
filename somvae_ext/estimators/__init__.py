"""Maps with scikit-learn's interface. Needs scikit-learn, which the extra ``train`` brings."""

from somvae_ext.estimators.saved_map import SavedMap, load_som
from somvae_ext.estimators.som import SOM

__all__ = ["SOM", "SavedMap", "load_som"]
