"""Interpolated series: both recipes, frame by frame."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils.data import DataLoader

from somvae_ext.data import InterpolatedSeries, Samples

# Images of one value each, whose differences are large compared with the noise: class c has c + 0.0, c + 0.1, ...
LABEL = torch.arange(3).repeat_interleave(4)
IMAGES = Samples((LABEL + torch.arange(4).repeat(3) / 10)[:, None, None].expand(12, 2, 2).float(), LABEL)
NOISE = 6 * 0.01  # six standard deviations, which some 10,000 draws do not exceed


def test_nine_frames_of_the_start_a_ramp_of_eleven_and_twelve_of_the_end() -> None:
    x = InterpolatedSeries(IMAGES, num_series=60).x
    assert x.shape == (60, 32, 2, 2)
    start, end = x[:, :9].mean(dim=1, keepdim=True), x[:, 20:].mean(dim=1, keepdim=True)
    assert ((x[:, :9] - start).abs() < NOISE).all()
    assert ((x[:, 20:] - end).abs() < NOISE).all()
    for step in range(11):  # the ends of the ramp are the images themselves
        assert ((x[:, 9 + step] - torch.lerp(start[:, 0], end[:, 0], step / 10)).abs() < NOISE).all()


def test_the_end_image_is_of_the_next_class_and_after_the_last_comes_the_first() -> None:
    x = InterpolatedSeries(IMAGES, num_series=200).x
    first, last = x[:, 0].mean(dim=(1, 2)), x[:, -1].mean(dim=(1, 2))
    start, end = (first + 0.05).floor(), (last + 0.05).floor()
    assert end.equal((start + 1) % 3)
    # The image of that class is not always the same one.
    assert len((last[start == 0] * 10).round().unique()) == 4


def test_every_image_starts_one_series_by_default() -> None:
    x = InterpolatedSeries(IMAGES).x
    starts = (x[:, :9].mean(dim=(1, 2, 3)) * 10).round().sort().values
    assert starts.equal((IMAGES.x[:, 0, 0] * 10).round().sort().values)


def test_the_original_images_can_be_recovered() -> None:
    series = InterpolatedSeries(IMAGES, num_series=2)
    assert series.images is IMAGES
    # All twelve, although two series cannot contain that many.
    assert len(series.images) == 12


def test_noise_has_a_standard_deviation_of_one_hundredth() -> None:
    x = InterpolatedSeries(Samples(torch.zeros(3, 10, 10), torch.arange(3)), num_series=30).x
    # The standard deviation of 96,000 draws has a standard error of 0.23 %.
    assert x.std().item() == pytest.approx(0.01, rel=0.01)


def test_the_seed_draws_the_series() -> None:
    assert InterpolatedSeries(IMAGES, seed=1).x.equal(InterpolatedSeries(IMAGES, seed=1).x)
    assert not InterpolatedSeries(IMAGES, seed=1).x.equal(InterpolatedSeries(IMAGES, seed=2).x)


def test_the_paper_turns_one_image_into_four_others_in_64_frames() -> None:
    series = InterpolatedSeries(IMAGES, recipe="paper", num_series=60)
    x = series.x
    assert x.shape == (60, 64, 2, 2)
    for turn in range(4):
        ramp = x[:, 16 * turn : 16 * turn + 16]
        for step in range(16):
            assert ((ramp[:, step] - torch.lerp(ramp[:, 0], ramp[:, 15], step / 15)).abs() < 2 * NOISE).all()
        if turn:  # a turn starts where the one before ended
            assert ((ramp[:, 0] - x[:, 16 * turn - 1]).abs() < 2 * NOISE).all()
    images = (x[:, [0, 15, 31, 47, 63]].mean(dim=(2, 3)) + 0.05).floor()
    assert images[:, 1:].equal((images[:, :-1] + 1) % 3)


@pytest.mark.parametrize(("recipe", "ramp"), [("published", slice(9, 20)), ("paper", slice(0, 16))])
def test_a_frame_has_the_class_of_the_image_that_weighs_more(recipe: str, ramp: slice) -> None:
    series = InterpolatedSeries(IMAGES, recipe=recipe, num_series=20)  # type: ignore[arg-type]
    frames, label = series.x[:, ramp].mean(dim=(2, 3)), series.label[:, ramp]
    start, end = frames[:, :1], frames[:, -1:]  # the first and the last frame are the images of the ramp
    weight = (frames - start) / (end - start)
    decided = (weight - 0.5).abs() > 0.03  # the noise changes a weight by about .01
    assert label.dtype == torch.int64
    expected = torch.where(weight > 0.5, label[:, -1:], label[:, :1])
    assert label[decided].equal(expected[decided])
    assert label[:, -1].equal((label[:, 0] + 1) % 3)


def test_a_frame_half_way_has_the_class_of_the_later_image() -> None:
    label = InterpolatedSeries(IMAGES, num_series=20).label
    assert (label[:, :14] == label[:, :1]).all()
    assert (label[:, 14:] == (label[:, :1] + 1) % 3).all()  # frame 14 is the mean of both images


def test_items_are_computed_on_access_and_reproducible() -> None:
    series = InterpolatedSeries(IMAGES, num_series=7)
    assert len(series) == 7
    item = series[4]
    assert list(item) == ["x", "label"]
    assert item["x"].equal(series[4]["x"])
    assert item["x"].equal(series.x[4])
    assert item["label"].equal(series.label[4])
    assert not item["x"].equal(series[5]["x"])


def test_a_loader_makes_batches_of_series() -> None:
    batch = next(iter(DataLoader(InterpolatedSeries(IMAGES), batch_size=5)))
    assert {name: list(values.shape) for name, values in batch.items()} == {"x": [5, 32, 2, 2], "label": [5, 32]}


def test_the_images_stay_as_they_are() -> None:
    before = IMAGES.x.clone()
    _ = InterpolatedSeries(IMAGES).x
    assert IMAGES.x.equal(before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool], ids=str)
def test_images_that_cannot_be_interpolated_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=f"^InterpolatedSeries: images must be floating point, got {dtype}; scale"):
        InterpolatedSeries(Samples(torch.ones(3, 2).to(dtype), torch.arange(3)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32], ids=str)
def test_labels_of_any_integer_dtype_make_the_same_series(dtype: torch.dtype) -> None:
    x, label = torch.rand(6, 2), torch.arange(6) % 3
    expected, got = InterpolatedSeries(Samples(x, label)), InterpolatedSeries(Samples(x, label.to(dtype)))
    assert got.x.equal(expected.x)
    assert got.label.dtype == torch.int64
    assert got.label.equal(expected.label)
    with pytest.raises(ValueError, match=r"images must have integer labels, got torch\.float32"):
        InterpolatedSeries(Samples(x, label.float()))


@pytest.mark.parametrize("wrong", [True, 2.5, "x", math.nan, -1])
@pytest.mark.parametrize("name", ["num_series", "seed"])
def test_options_that_are_no_integers_are_refused(name: str, wrong: object) -> None:
    with pytest.raises(ValueError, match=rf"^InterpolatedSeries: {name} must be an integer .*, got {wrong!r}"):
        InterpolatedSeries(IMAGES, **{name: wrong})  # type: ignore[arg-type]


def test_images_without_valid_labels_and_invalid_options_are_refused() -> None:
    with pytest.raises(ValueError, match="images must have labels, got none"):
        InterpolatedSeries(Samples(torch.rand(3, 2)))
    with pytest.raises(ValueError, match="each class from 0 up, got none of class 1"):
        InterpolatedSeries(Samples(torch.rand(2, 2), torch.tensor([0, 2])))
    with pytest.raises(ValueError, match="num_series must be an integer of at least 1, got 0"):
        InterpolatedSeries(IMAGES, num_series=0)
    with pytest.raises(ValueError, match="recipe must be 'published' or 'paper', got 'papr'"):
        InterpolatedSeries(IMAGES, recipe="papr")  # type: ignore[arg-type]
