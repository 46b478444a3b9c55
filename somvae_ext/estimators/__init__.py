"""Maps and SOM-VAEs with scikit-learn's interface.

Maps need scikit-learn alone; :class:`SOMVAEClusterer` needs the extra ``train`` and is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

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
    try:
        from somvae_ext.estimators.somvae_clusterer import SOMVAEClusterer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"SOMVAEClusterer needs {error.name}, which is not installed; run: pip install 'somvae_ext[train]'",
            name=error.name,
        ) from error
    return SOMVAEClusterer


def __dir__() -> list[str]:
    return sorted([*globals(), "SOMVAEClusterer"])
