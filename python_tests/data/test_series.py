"""Interpolated series: the published recipe, frame by frame."""

from __future__ import annotations

import pytest
import torch

from somvae_ext.data import InterpolatedSeries, Samples

# Images of one value each, far apart compared with the noise: class c has c + 0.0, c + 0.1, ...
LABEL = torch.arange(3).repeat_interleave(4)
IMAGES = Samples((LABEL + torch.arange(4).repeat(3) / 10)[:, None, None].expand(12, 2, 2).float(), LABEL)
NOISE = 6 * 0.01  # six standard deviations: of some 10,000 draws none lies beyond


def test_nine_frames_of_the_start_a_ramp_of_eleven_and_twelve_of_the_end() -> None:
    x = InterpolatedSeries(IMAGES, num_series=60).x
    assert x.shape == (60, 32, 2, 2)
    start, end = x[:, :9].mean(dim=1, keepdim=True), x[:, 20:].mean(dim=1, keepdim=True)
    assert ((x[:, :9] - start).abs() < NOISE).all()
    assert ((x[:, 20:] - end).abs() < NOISE).all()
    for step in range(11):  # its ends are the images themselves
        assert ((x[:, 9 + step] - torch.lerp(start[:, 0], end[:, 0], step / 10)).abs() < NOISE).all()


def test_the_end_image_is_of_the_next_class_and_after_the_last_comes_the_first() -> None:
    x = InterpolatedSeries(IMAGES, num_series=200).x
    first, last = x[:, 0].mean(dim=(1, 2)), x[:, -1].mean(dim=(1, 2))
    start, end = (first + 0.05).floor(), (last + 0.05).floor()
    assert end.equal((start + 1) % 3)
    # Not always the same image of that class.
    assert len((last[start == 0] * 10).round().unique()) == 4


def test_every_image_starts_one_series_by_default() -> None:
    x = InterpolatedSeries(IMAGES).x
    starts = (x[:, :9].mean(dim=(1, 2, 3)) * 10).round().sort().values
    assert starts.equal((IMAGES.x[:, 0, 0] * 10).round().sort().values)


def test_noise_has_a_standard_deviation_of_one_hundredth() -> None:
    x = InterpolatedSeries(Samples(torch.zeros(3, 10, 10), torch.arange(3)), num_series=30).x
    # 96,000 draws know their standard deviation to 0.23 %.
    assert x.std().item() == pytest.approx(0.01, rel=0.01)


def test_the_seed_draws_the_series() -> None:
    assert InterpolatedSeries(IMAGES, seed=1).x.equal(InterpolatedSeries(IMAGES, seed=1).x)
    assert not InterpolatedSeries(IMAGES, seed=1).x.equal(InterpolatedSeries(IMAGES, seed=2).x)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match="images must have labels, got none"):
        InterpolatedSeries(Samples(torch.rand(3, 2)))
    with pytest.raises(ValueError, match="each class from 0 up, got none of class 1"):
        InterpolatedSeries(Samples(torch.rand(2, 2), torch.tensor([0, 2])))
    with pytest.raises(ValueError, match="num_series must be at least 1, got 0"):
        InterpolatedSeries(IMAGES, num_series=0)
