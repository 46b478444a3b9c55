"""Series built from still images."""

from __future__ import annotations

import torch

from somvae_ext.data.samples import Samples

# The published recipe (github.com/ratschlab/SOM-VAE, 32 frames): so many of the start image, the ramp, the end image.
_START_FRAMES, _RAMP_FRAMES, _END_FRAMES = 9, 11, 12
_NOISE_STD = 0.01


def interpolated_series(images: Samples, *, num_series: int | None = None, seed: int = 0) -> Samples:
    """Series in which one image turns into another of the next class, as in the published SOM-VAE code.

    32 frames: 9 of the start image, a linear ramp of 11 whose ends are the two images, 12 of the end image; to all of
    them normal noise of standard deviation 0.01 is added, so values can lie a little outside the images' range. The end
    image is drawn from class (class of the start image + 1) mod number of classes.

    Args:
        images: labelled images, ``x`` ``[N, ...]`` and ``label`` 0 to C - 1, each class present.
        num_series: how many series; start images are taken in a random order and again from its beginning when they
            run out. By default one per image.
        seed: draws images and noise.

    Returns:
        ``x`` ``[num_series, 32, ...]`` of the images' dtype, without labels.

    Raises:
        ValueError: images without labels, a class without images, or ``num_series`` below 1.

    Example:
        >>> images = Samples(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0]))
        >>> interpolated_series(images).x.shape
        torch.Size([4, 32, 1, 8, 8])
    """
    if images.label is None:
        raise ValueError("interpolated_series: images must have labels, got none")
    members = [(images.label == label).nonzero()[:, 0] for label in range(int(images.label.max()) + 1)]
    for label, rows in enumerate(members):
        if len(rows) == 0:
            raise ValueError(f"interpolated_series: images must hold each class from 0 up, got none of class {label}")
    num_series = len(images) if num_series is None else num_series
    if num_series < 1:
        raise ValueError(f"interpolated_series: num_series must be at least 1, got {num_series}")

    generator = torch.Generator().manual_seed(seed)
    start = torch.randperm(len(images), generator=generator)[torch.arange(num_series) % len(images)]
    pick = torch.rand(num_series, generator=generator)
    end = start.clone()
    for label, rows in enumerate(members):
        follows = images.label[start] == (label - 1) % len(members)
        end[follows] = rows[(pick[follows] * len(rows)).long()]

    ramp = torch.linspace(0, 1, _RAMP_FRAMES, dtype=images.x.dtype)
    weight = torch.cat([torch.zeros(_START_FRAMES), ramp, torch.ones(_END_FRAMES)]).to(images.x.dtype)
    weight = weight.view(1, -1, *(1 for _ in images.x.shape[1:]))
    x = torch.lerp(images.x[start][:, None], images.x[end][:, None], weight)
    return Samples(x + _NOISE_STD * torch.randn(x.shape, generator=generator, dtype=x.dtype))
