"""Tests that clusters in a result folder are loaded unchanged and that invalid contents are refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from somvae_ext.store import KeptClusters, ResultFolder

WHOLE: dict[str, Any] = {
    "cluster": torch.tensor([0, 1, -1, 0]),
    "clusterer": "DBSCAN",
    "parameters": {"eps": 0.5},
    "criterion": None,
    "candidates": (),
}


@pytest.fixture
def folder(tmp_path: Path) -> ResultFolder:
    folder = ResultFolder.create(tmp_path / "run", "map")
    folder.save_checkpoint(1, {"codebook": torch.ones(4, 2)}, {}, {})
    return folder


def test_a_folder_without_clusters_has_none(folder: ResultFolder) -> None:
    assert KeptClusters.load(folder, 4) is None


def test_clusters_are_loaded_unchanged(folder: ResultFolder) -> None:
    parameters = {"n_clusters": 2, "linkage": "ward", "memory": None, "levels": [1, 2.5, (True,)], "by name": {"a": 1}}
    candidates = ((2, 0.5, 0.25), (3, -0.5, math.nan))
    KeptClusters(np.array([0, 1, -1, 0]), "KMeans", parameters, "silhouette", candidates).save(folder)
    kept = KeptClusters.load(ResultFolder.open(folder.path), 4)
    assert kept is not None
    assert kept.cluster.tolist() == [0, 1, -1, 0]
    assert kept.cluster.dtype == np.int64
    assert (kept.clusterer, kept.parameters, kept.criterion) == ("KMeans", parameters, "silhouette")
    assert kept.num_clusters == 2
    assert [str(candidate) for candidate in kept.candidates] == [str(candidate) for candidate in candidates]


def test_later_clusters_replace_earlier_ones(folder: ResultFolder) -> None:
    for cluster in ([0, 1, 0, 1], [0, 0, 0, 0]):
        KeptClusters(np.array(cluster), "KMeans", {}).save(folder)
    kept = KeptClusters.load(ResultFolder.open(folder.path), 4)
    assert kept is not None
    assert kept.cluster.tolist() == [0, 0, 0, 0]


def test_a_later_checkpoint_discards_the_clusters(folder: ResultFolder) -> None:
    KeptClusters(np.array([0, 1, 0, 1]), "KMeans", {}).save(folder)
    folder.save_checkpoint(2, {"codebook": torch.zeros(4, 2)}, {}, {})
    assert KeptClusters.load(ResultFolder.open(folder.path), 4) is None


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([1], "must hold cluster, clusterer, parameters, criterion, candidates, got others"),
        ({"cluster": torch.zeros(4)}, r"must hold cluster, clusterer, .*, got \['cluster'\]"),
        (WHOLE | {"more": 1}, "must hold cluster, clusterer, parameters, criterion, candidates, got "),
        (WHOLE | {"cluster": [0, 1, 0, 1]}, "a cluster, int64, for each of the 4 nodes, got no tensor"),
        (WHOLE | {"cluster": torch.zeros(4)}, r"for each of the 4 nodes, got torch.float32 of shape \[4\]"),
        (WHOLE | {"cluster": torch.zeros(5).long()}, r"for each of the 4 nodes, got torch.int64 of shape \[5\]"),
        (WHOLE | {"cluster": torch.tensor([0, 2, 0, 2])}, r"numbered 0, 1, ..., and -1 for none, got \[0, 2\]"),
        (WHOLE | {"cluster": torch.tensor([0, -2, 0, 0])}, r"numbered 0, 1, ..., and -1 for none, got \[-2, 0\]"),
        (WHOLE | {"cluster": torch.full((4,), -1)}, r"numbered 0, 1, ..., and -1 for none, got \[\]"),
        (WHOLE | {"clusterer": 3}, "the name of a clusterer, its parameters and a criterion, got values of other"),
        (WHOLE | {"parameters": [1]}, "the name of a clusterer, its parameters and a criterion, got values of other"),
        (WHOLE | {"criterion": 1.5}, "the name of a clusterer, its parameters and a criterion, got values of other"),
        (WHOLE | {"candidates": None}, "a number and two scores of each candidate, got others"),
        (WHOLE | {"candidates": ((2, 0.5),)}, "a number and two scores of each candidate, got others"),
        (WHOLE | {"candidates": ((2, "a", 0.5),)}, "a number and two scores of each candidate, got others"),
    ],
)
def test_invalid_contents_are_refused(folder: ResultFolder, tree: Any, message: str) -> None:
    folder.save_tree("clusters", tree)
    with pytest.raises(ValueError, match=r"run/clusters\.safetensors must hold .*") as caught:
        KeptClusters.load(folder, 4)
    assert caught.match(message)


def test_a_damaged_file_is_refused(folder: ResultFolder) -> None:
    KeptClusters(np.array([0, 1, 0, 1]), "KMeans", {}).save(folder)
    path = folder.path / "clusters.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"clusters\.safetensors is damaged: it has \d+ bytes"):
        KeptClusters.load(folder, 4)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"clusters\.safetensors is missing"):
        KeptClusters.load(folder, 4)
