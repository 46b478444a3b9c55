"""Maps and SOM-VAEs with the interface of scikit-learn.

Maps need the extra ``som``. :class:`SOMVAEClusterer` needs the extra ``train`` and is imported on first access.
"""

from typing import TYPE_CHECKING, Any

from somvae_ext.extras import needed_by

with needed_by(__name__):
    from somvae_ext.estimators.map_record import MapRecord
    from somvae_ext.estimators.map_sizes import Estimate, MeasuredSize, SizeComparison, tune_size
    from somvae_ext.estimators.saved_map import SavedMap, fit_in_folder, load_map_state
    from somvae_ext.estimators.som import SOM

if TYPE_CHECKING:
    from somvae_ext.estimators.somvae_clusterer import SOMVAEClusterer as SOMVAEClusterer

__all__ = [
    "SOM",
    "Estimate",
    "MapRecord",
    "MeasuredSize",
    "SavedMap",
    "SizeComparison",
    "fit_in_folder",
    "load_map_state",
    "tune_size",
]


def __getattr__(name: str) -> Any:
    if name != "SOMVAEClusterer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from somvae_ext.estimators.somvae_clusterer import SOMVAEClusterer

    return SOMVAEClusterer


def __dir__() -> list[str]:
    return sorted([*globals(), "SOMVAEClusterer"])
