"""Series built from still images."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from somvae_ext.config_checks import Bounds, check_integer
from somvae_ext.data.samples import Samples

Recipe = Literal["published", "paper"]

_NOISE_STD = 0.01
# Seeds of torch's generators are 64-bit integers; these are drawn below 2**63 - 1, which randint's bound must fit.
_SEEDS = 2**63 - 1


def _positions(recipe: Recipe) -> Tensor:
    """Returns the position of each frame among the images: 0 is the first image, 1 the second, 1.5 half way on."""
    if recipe == "published":  # github.com/ratschlab/SOM-VAE: 9 of the start image, a ramp of 11, 12 of the end image
        return torch.cat([torch.zeros(9), torch.linspace(0, 1, 11), torch.ones(12)])
    return torch.cat([torch.linspace(turn, turn + 1, 16) for turn in range(4)])


class InterpolatedSeries(Dataset[dict[str, Tensor]]):
    """Series in which images turn into each other, as a torch data set that makes each series on access.

    ``recipe="published"`` follows the published SOM-VAE code: 32 frames, of which 9 are the start image, 11 a linear
    ramp whose ends are the two images, and 12 the end image. ``recipe="paper"`` follows Fortuin et al. 2019: 64 frames
    in which one image turns into four others, one after the other. The paper leaves the details open; here these are
    four linear ramps of 16 frames, each with its two images at the ends.

    In both, each image is followed by one of the next class, (class + 1) mod number of classes, drawn at random. Normal
    noise of standard deviation 0.01 is added to every frame, so values can lie a little outside the images' range. A
    series is the same at each access, because its noise has its own seed.

    A frame's label is the class of the image that has the larger weight in it, and half way that of the later one.

    Args:
        images: labeled images, ``x`` ``[N, ...]`` and ``label`` 0 to C - 1, each class present.
        recipe: see above.
        num_series: number of series, by default one per image; start images are taken in a random order, which is
            repeated when they run out.
        seed: draws images and noise.

    Items are dicts with ``x`` ``[T, ...]`` of the images' dtype and ``label`` int64 ``[T]``. The still images are
    available as :attr:`images`, because models are scored on them, too: the published code scores these, not frames.

    Raises:
        ValueError: images that are not floating point, without labels or with labels that are no integers, a class
            without images, ``num_series`` below 1, a negative seed, or an unknown recipe.

    Example:
        >>> import torch
        >>> images = Samples(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0]))
        >>> series = InterpolatedSeries(images)
        >>> len(series), series[0]["x"].shape
        (4, torch.Size([32, 1, 8, 8]))
    """

    mask: None = None
    """All series are of one length, so none needs a mask."""
    feature_names: None = None
    """Pixels have no names."""
    row_keys: None = None
    """Generated series have no source, only a number."""

    def __init__(
        self, images: Samples, *, recipe: Recipe = "published", num_series: int | None = None, seed: int = 0
    ) -> None:
        if recipe not in ("published", "paper"):
            raise ValueError(f"InterpolatedSeries: recipe must be 'published' or 'paper', got {recipe!r}")
        if images.label is None:
            raise ValueError("InterpolatedSeries: images must have labels, got none")
        if not images.x.is_floating_point():
            raise ValueError(
                f"InterpolatedSeries: images must be floating point, got {images.x.dtype}; scale them to [0, 1]"
            )
        if images.label.is_floating_point():
            raise ValueError(f"InterpolatedSeries: images must have integer labels, got {images.label.dtype}")
        label = images.label.long()
        members = [(label == number).nonzero()[:, 0] for number in range(int(label.max()) + 1)]
        for number, rows in enumerate(members):
            if len(rows) == 0:
                raise ValueError(
                    f"InterpolatedSeries: images must hold each class from 0 up, got none of class {number}"
                )
        num_series = check_integer(
            "InterpolatedSeries", "num_series", len(images) if num_series is None else num_series
        )
        seed = check_integer("InterpolatedSeries", "seed", seed, Bounds(at_least=0, at_most=2**63 - 1))

        generator = torch.Generator().manual_seed(seed)
        self._images = images
        self._position = _positions(recipe)
        image_rows = [torch.randperm(len(images), generator=generator)[torch.arange(num_series) % len(images)]]
        for _ in range(int(self._position[-1])):
            image_rows.append(_next_image(label[image_rows[-1]], members, generator))
        self._image_rows = torch.stack(image_rows, dim=1)  # [num_series, images of a series]
        self._noise_seed = torch.randint(_SEEDS, (num_series,), generator=generator).tolist()
        self.label = label[self._image_rows][:, (self._position + 0.5).long()]
        """Class of each frame, int64 ``[num_series, T]``."""

    def __len__(self) -> int:
        return len(self._image_rows)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        images = self._images.x[self._image_rows[row]]
        before = self._position.long().clamp(max=len(images) - 2)
        weight = (self._position - before).to(images.dtype).view(-1, *(1 for _ in images.shape[1:]))
        x = torch.lerp(images[before], images[before + 1], weight)
        generator = torch.Generator().manual_seed(self._noise_seed[row])
        x += _NOISE_STD * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return {"x": x, "label": self.label[row]}

    @property
    def images(self) -> Samples:
        """The still images that the series are made of, as given; some may be in no series."""
        return self._images

    @property
    def x(self) -> Tensor:
        """All series at once, ``[num_series, T, ...]``, made at each access in T times the memory of the images."""
        return torch.stack([self[row]["x"] for row in range(len(self))])


def _next_image(label: Tensor, members: list[Tensor], generator: torch.Generator) -> Tensor:
    """Draws a random image of the class after each class in ``label``; ``members`` lists the images of each class."""
    pick = torch.rand(len(label), generator=generator, dtype=torch.float64)
    chosen = torch.empty_like(label)
    for follower, rows in enumerate(members):
        mask = label == (follower - 1) % len(members)
        chosen[mask] = rows[(pick[mask] * len(rows)).long()]
    return chosen
