"""Result folders of maps and models: written step by step, so that nothing is lost, and checked when they are read."""

from somvae_ext.store.atomic_file import atomic_file
from somvae_ext.store.manifest import is_result
from somvae_ext.store.result_folder import ResultFolder

__all__ = ["ResultFolder", "atomic_file", "is_result"]
