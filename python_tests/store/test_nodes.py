"""Tests of the hits and classes of a result's nodes: how they are counted, saved, loaded, and refused if damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from somvae_ext.store import NodeHits, ResultFolder


def completed(path: Path) -> ResultFolder:
    folder = ResultFolder.create(path, "map")
    folder.save_config({})
    folder.save_checkpoint(1, {"codebook": torch.zeros(4, 2)}, {}, {})
    return folder


def test_hits_and_classes_are_counted_by_node() -> None:
    rng = np.random.default_rng(0)
    node, number = rng.integers(0, 5, 200), rng.integers(-1, 3, 200)
    nodes = NodeHits.count(node, 6, number)
    assert nodes.hits.tolist() == [int((node == each).sum()) for each in range(6)]
    classes = nodes.classes()
    assert classes is not None
    assert classes.names == ("-1", "0", "1", "2")
    for each in range(6):
        expected = [int(((node == each) & (number == value)).sum()) for value in range(-1, 3)]
        assert classes.counts[each].tolist() == expected
    np.testing.assert_allclose(classes.shares[:5].sum(axis=1), 1)
    assert np.isnan(classes.shares[5]).all()


def test_the_class_of_a_node_is_its_most_frequent_label_and_the_first_of_equals() -> None:
    nodes = NodeHits.count(np.array([0, 0, 0, 1, 1, 3]), 4, np.array([2, 2, 0, 1, 0, 2]))
    classes = nodes.classes(["red", "green", "blue"])
    assert classes is not None
    assert classes.majority == ["blue", "red", None, "blue"]


def test_saved_hits_and_labels_are_loaded_unchanged(tmp_path: Path) -> None:
    folder = completed(tmp_path / "run")
    assert not NodeHits.is_in(folder)
    NodeHits.count(np.array([0, 2, 2]), 4, np.array([1, 0, 1])).save(folder)
    opened = ResultFolder.open(tmp_path / "run")
    assert NodeHits.is_in(opened)
    back = NodeHits.load(opened, 4)
    assert back.hits.tolist() == [1, 0, 2, 0]
    assert back.labels is not None
    assert back.labels.tolist() == [[0, 1, 1], [2, 0, 1], [2, 1, 1]]
    NodeHits.count(np.array([3]), 4).save(opened)
    assert NodeHits.load(opened, 4).classes() is None


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"hits": torch.zeros(3, dtype=torch.int64)},
        {"hits": torch.zeros(4)},
        {"hits": torch.tensor([1, 2, -1, 0])},
        {"hits": torch.zeros(4, dtype=torch.int64), "labels": torch.zeros(2, 2, dtype=torch.int64)},
        {"hits": torch.zeros(4, dtype=torch.int64), "labels": torch.tensor([[4, 0, 1]])},
        {"hits": torch.zeros(4, dtype=torch.int64), "labels": torch.tensor([[0, 0, -1]])},
    ],
)
def test_invalid_hits_and_labels_are_refused(tmp_path: Path, arrays: dict[str, torch.Tensor]) -> None:
    folder = completed(tmp_path / "run")
    folder.save_file("nodes", arrays)
    with pytest.raises(ValueError, match=r"nodes\.safetensors must hold"):
        NodeHits.load(folder, 4)


def test_a_class_without_a_name_is_refused() -> None:
    nodes = NodeHits.count(np.array([0, 1]), 2, np.array([0, 5]))
    with pytest.raises(ValueError, match="among the 3 that have names, got 5"):
        nodes.classes(["a", "b", "c"])
