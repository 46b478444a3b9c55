"""Samples: items and errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from somvae_ext.data import Samples


def test_items_hold_the_fields_that_are_given() -> None:
    x, label, mask = torch.rand(3, 4, 2), torch.tensor([1, 0, 2]), torch.rand(3, 4) > 0.5
    assert list(Samples(x)[0]) == ["x"]
    item = Samples(x, label, mask)[1]
    assert item["x"].equal(x[1])
    assert item["label"].equal(label[1])
    assert item["mask"].equal(mask[1])
    assert len(Samples(x)) == 3


def test_fields_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"label must have shape \[N\] = \[3\], got \[2\]"):
        Samples(torch.rand(3, 4), label=torch.zeros(2))
    with pytest.raises(ValueError, match=r"mask must have shape \[N, T\] = \[3, 4\], got \[3, 5\]"):
        Samples(torch.rand(3, 4, 2), mask=torch.zeros(3, 5))
    for wrong in ({"x": torch.eye(3).to_sparse()}, {"x": torch.eye(3), "label": torch.ones(3).to_sparse()}):
        with pytest.raises(ValueError, match=f"^Samples: {list(wrong)[-1]} must be dense, got a tensor of layout"):
            Samples(**wrong)
    with pytest.raises(ValueError, match="feature_names must name each of the 4 features, got 1 names"):
        Samples(torch.rand(3, 4), feature_names=("a",))
    with pytest.raises(ValueError, match="row_keys must name each of the 3 rows, got 2 Patient"):
        Samples(torch.rand(3, 4), row_keys={"Patient": np.array(["a", "b"], dtype=object)})


def test_frames_can_have_labels_of_their_own() -> None:
    label = torch.tensor([[0, 1], [1, 1], [2, 0]])
    assert Samples(torch.rand(3, 2, 5), label)[2]["label"].equal(label[2])


def test_rows_are_taken_from_every_field() -> None:
    x, label, mask = torch.rand(3, 4, 2), torch.tensor([1, 0, 2]), torch.rand(3, 4) > 0.5
    some = Samples(x, label, mask, ("a", "b")).rows(torch.tensor([2, 0]))
    assert some.feature_names == ("a", "b")
    assert some.x.equal(x[[2, 0]])
    assert some.label is not None
    assert some.label.tolist() == [2, 1]
    assert some.mask is not None
    assert some.mask.equal(mask[[2, 0]])
    assert Samples(x).rows(torch.tensor([1])).label is None


@pytest.mark.parametrize("index", [torch.tensor([2, 0]), torch.tensor([True, False, True])])
def test_rows_keep_their_identifiers(index: torch.Tensor) -> None:
    x, names = torch.rand(3, 4), np.array(["a", "b", "c"], dtype=object)
    samples = Samples(x, row_keys={"Patient": names, "index": np.arange(3)})
    some = dataclasses.replace(samples.rows(index), x=x[index] + 1)
    assert some.row_keys is not None
    assert some.row_keys["Patient"].tolist() == [names[row] for row in torch.arange(3)[index].tolist()]
    assert some.row_keys["index"].tolist() == torch.arange(3)[index].tolist()
    assert list(some[0]) == ["x"]
