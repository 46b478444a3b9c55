"""Result folders of maps and models: written atomically, so that nothing is lost, and checked when they are read."""

from somvae_ext.store._atomic_file import atomic_file, save_figure
from somvae_ext.store.destination import COMPARISON, REPORT, check_writable
from somvae_ext.store.folder_lock import FolderLock
from somvae_ext.store.kept_clusters import KeptClusters
from somvae_ext.store.manifest import is_result_folder
from somvae_ext.store.node_facts import NodeFacts
from somvae_ext.store.nodes import NodeClasses, NodeHits
from somvae_ext.store.result_folder import METRICS, ResultFolder

__all__ = [
    "COMPARISON",
    "METRICS",
    "REPORT",
    "FolderLock",
    "KeptClusters",
    "NodeClasses",
    "NodeFacts",
    "NodeHits",
    "ResultFolder",
    "atomic_file",
    "check_writable",
    "is_result_folder",
    "save_figure",
]
