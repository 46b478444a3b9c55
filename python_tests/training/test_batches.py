"""Tests that batches are equal to those of torch's DataLoader, however they are assembled."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from somvae_ext.data import InterpolatedSeries, Samples
from somvae_ext.models import VAE, VAEConfig
from somvae_ext.training import TrainingConfig, fit
from somvae_ext.training.batches import CastSamples, batch_loader

IMAGES = Samples(torch.rand(23, 1, 4, 4), torch.arange(23) % 3)
DATA = {
    "samples": IMAGES,
    "without labels": Samples(torch.rand(23, 5)),
    "series with padding": Samples(torch.rand(23, 6, 2), torch.arange(23), torch.rand(23, 6) < 0.7),
    "series made on demand": InterpolatedSeries(IMAGES),
}


@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize("kind", DATA)
def test_batches_match_those_that_torch_assembles_item_by_item(kind: str, shuffled: bool) -> None:
    data = DATA[kind]
    order = torch.randperm(23).tolist() if shuffled else None
    items = [data[row] for row in range(23)]  # a list has no __getitems__
    ours = batch_loader(data, 5, order)
    assert len(ours) == 5
    for batch, expected in zip(ours, DataLoader(items, batch_size=5, sampler=order), strict=True):  # type: ignore[arg-type]
        assert batch.keys() == expected.keys()
        assert all(batch[name].equal(expected[name]) for name in expected)


@pytest.mark.parametrize("kind", DATA)
def test_the_generator_ends_in_the_same_state_as_with_torchs_loader(kind: str) -> None:
    # The generator also draws the order of the next epoch.
    ours, theirs = (torch.Generator().manual_seed(1) for _ in range(2))
    list(batch_loader(DATA[kind], 5, range(7), ours))
    list(DataLoader(DATA[kind], batch_size=5, sampler=range(7), generator=theirs))
    assert ours.get_state().equal(theirs.get_state())


def test_batches_of_samples_own_their_memory() -> None:
    data = Samples(torch.zeros(6, 2))
    for batch in batch_loader(data, 3):
        batch["x"] += 1
    assert (data.x == 0).all()


class Records(Dataset[dict[str, Tensor]]):
    """A custom data set of bytes."""

    x = torch.arange(12, dtype=torch.uint8).view(12, 1) % 2

    def __len__(self) -> int:
        return 12

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"x": self.x[row]}


class ManyRecords(Records):
    """The same data, read one batch at a time, as from a database."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        raise AssertionError("item by item")

    def __getitems__(self, rows: list[int]) -> list[dict[str, Tensor]]:
        self.asked.append(rows)
        return [{"x": self.x[row]} for row in rows]


def model() -> VAE:
    torch.manual_seed(0)
    return VAE(VAEConfig(input_shape=(1,), hidden_sizes=(3,), latent_dim=2))


def test_a_data_set_with_getitems_is_read_one_batch_at_a_time() -> None:
    many = ManyRecords()
    for data in (many, Subset(many, range(12))):
        many.asked.clear()
        ours = list(batch_loader(CastSamples(data, model()), 5))
        assert many.asked == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
        assert torch.cat([batch["x"] for batch in ours]).equal(Records.x.float())


def test_training_does_not_depend_on_getitems() -> None:
    recipe = TrainingConfig(epochs=2, batch_size=5)
    one, many = (fit(model(), data, recipe, accelerator="cpu")[-1]["train"] for data in (Records(), ManyRecords()))
    assert one == many


def test_a_data_set_without_getitems_is_read_item_by_item() -> None:
    fitting = CastSamples(Records(), model())
    assert not hasattr(fitting, "__getitems__")
    assert next(iter(batch_loader(fitting, 12)))["x"].equal(Records.x.float())


def test_sparse_items_are_refused() -> None:
    class Sparse(Records):
        def __getitem__(self, row: int) -> dict[str, Tensor]:
            return {"x": torch.ones(1).to_sparse()}

    with pytest.raises(ValueError, match=r"^VAE: x must be dense, got a tensor of layout sparse_coo; call its"):
        fit(model(), Sparse(), TrainingConfig(epochs=1), accelerator="cpu")
