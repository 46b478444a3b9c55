"""Batches are those of torch's own loader, however they are assembled."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from somvae_ext.data import InterpolatedSeries, Samples
from somvae_ext.training.batches import batches

IMAGES = Samples(torch.rand(23, 1, 4, 4), torch.arange(23) % 3)
DATA = {
    "samples": IMAGES,
    "without labels": Samples(torch.rand(23, 5)),
    "series with padding": Samples(torch.rand(23, 6, 2), torch.arange(23), torch.rand(23, 6) < 0.7),
    "series made on demand": InterpolatedSeries(IMAGES),
}


@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize("kind", DATA)
def test_batches_are_those_that_torch_assembles_item_by_item(kind: str, shuffled: bool) -> None:
    data = DATA[kind]
    order = torch.randperm(23).tolist() if shuffled else None
    items = [data[row] for row in range(23)]  # a list, of which nothing but items can be taken
    ours = batches(data, 5, order)
    assert len(ours) == 5
    for batch, expected in zip(ours, DataLoader(items, batch_size=5, sampler=order), strict=True):  # type: ignore[arg-type]
        assert batch.keys() == expected.keys()
        assert all(batch[name].equal(expected[name]) for name in expected)


@pytest.mark.parametrize("kind", DATA)
def test_the_generator_is_left_as_torchs_own_loader_leaves_it(kind: str) -> None:
    # The order of the next epoch is drawn from it.
    ours, theirs = (torch.Generator().manual_seed(1) for _ in range(2))
    list(batches(DATA[kind], 5, range(7), ours))
    list(DataLoader(DATA[kind], batch_size=5, sampler=range(7), generator=theirs))
    assert ours.get_state().equal(theirs.get_state())


def test_batches_of_samples_own_their_memory() -> None:
    data = Samples(torch.zeros(6, 2))
    for batch in batches(data, 3):
        batch["x"] += 1
    assert (data.x == 0).all()
