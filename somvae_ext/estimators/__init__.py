"""Maps and SOM-VAEs with scikit-learn's interface.

Maps need scikit-learn alone, SOM-VAEs the extra ``train``.
"""

from typing import TYPE_CHECKING, Any

from somvae_ext.estimators.saved_map import SavedMap, load_som
from somvae_ext.estimators.som import SOM

if TYPE_CHECKING:
    from somvae_ext.estimators.somvae_clusterer import SOMVAEClusterer

__all__ = ["SOM", "SOMVAEClusterer", "SavedMap", "load_som"]


def __getattr__(name: str) -> Any:
    # Not imported before it is asked for: training takes seconds to import, and maps do not need it.
    if name == "SOMVAEClusterer":
        from somvae_ext.estimators.somvae_clusterer import SOMVAEClusterer

        return SOMVAEClusterer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
