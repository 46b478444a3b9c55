"""Result folders of maps and models: written step by step, so that nothing is lost, and checked when they are read."""

from somvae_ext.store._atomic_file import atomic_file, save_figure
from somvae_ext.store.manifest import is_result
from somvae_ext.store.place import check_writable
from somvae_ext.store.result_folder import METRICS, ResultFolder

__all__ = ["METRICS", "ResultFolder", "atomic_file", "check_writable", "is_result", "save_figure"]
