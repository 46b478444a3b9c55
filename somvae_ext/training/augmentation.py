"""Random affine transforms of training images: a new one for each sample in each step."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from somvae_ext.config_checks import Bounds, check_fields

AUGMENTATION_BOUNDS = {
    "max_shift": Bounds(at_least=0),
    "max_rotation": Bounds(at_least=0, at_most=180),
    "max_scale": Bounds(at_least=0, below=1),
    "max_shear": Bounds(at_least=0),
}
"""Bounds of the fields of :class:`AffineAugmentation`, and of the same fields of a training's config."""

_LARGEST_THETA = 1e6


@dataclasses.dataclass(frozen=True)
class AffineAugmentation:
    r"""Shifts, rotates, scales and shears images at random.

    A point of an image has coordinates (x, y) in pixels, x to the right and y down from the image's center. The content
    at (x, y) moves to

    .. math:: (x', y')^T = R K S (x, y)^T + (t_x, t_y)^T,

    that is, it is scaled, then sheared, rotated and shifted:

    .. math::
        S = \begin{pmatrix} s_x & 0 \\ 0 & s_y \end{pmatrix}, \quad
        K = \begin{pmatrix} 1 & k \\ 0 & 1 \end{pmatrix}, \quad
        R = \begin{pmatrix} \cos a & -\sin a \\ \sin a & \cos a \end{pmatrix}.

    All coordinates are in pixels, so that a rotation keeps angles in images that are not square, too. The six numbers
    are independent and uniform, each within the bound of its field:

    =================== =======================================================================================
    ``s_x``, ``s_y``    from 1 - ``max_scale`` to 1 + ``max_scale``
    ``k``               from -``max_shear`` to ``max_shear``: pixels to the right per pixel down
    ``a``               from -``max_rotation`` to ``max_rotation`` degrees, a positive one clockwise as displayed
    ``t_x``, ``t_y``    from -``max_shift`` to ``max_shift`` pixels
    =================== =======================================================================================

    Values between pixels are interpolated bilinearly, and those outside the image are 0.

    Args:
        max_shift: largest shift along each axis, in pixels.
        max_rotation: largest rotation, in degrees, at most 180.
        max_scale: largest relative change of the size, below 1.
        max_shear: largest shear factor.

    Raises:
        ValueError: a bound that is negative, too large or not a finite number.
    """

    max_shift: float = 0.0
    max_rotation: float = 0.0
    max_scale: float = 0.0
    max_shear: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, may_be_empty=(), **AUGMENTATION_BOUNDS)

    @property
    def first_nonzero_bound(self) -> str | None:
        """The name of the first bound that is not 0; None if images stay as they are."""
        return next((name for name in AUGMENTATION_BOUNDS if getattr(self, name) > 0), None)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Transforms each image by its own random transform; the images of a series share one.

        Args:
            x: images ``[N, C, H, W]`` or series of images ``[N, T, C, H, W]``, of any floating dtype and device.

        Returns:
            Images of the same shape, dtype and device; x itself if all bounds are 0. They are computed in x's dtype,
            but at least in float32. NaN and infinities spread within their own frame and channel only.

        Raises:
            ValueError: x has another number of axes.
        """
        if x.dim() not in (4, 5):
            raise ValueError(
                f"AffineAugmentation: x must have shape [N, C, H, W] or [N, T, C, H, W], got {list(x.shape)}"
            )
        if self == AffineAugmentation():
            return x
        return warp(x, self.draw(len(x)))

    def draw(self, num_transforms: int) -> Tensor:
        """Draws transforms from torch's global CPU generator, whatever the device of the images is.

        Returns:
            The inverse transforms ``[num_transforms, 2, 3]``, float64 on the CPU, as :func:`warp` takes them: they map
            an output pixel to the point of the image that its value comes from.
        """
        # Draw all six even if some bounds are 0, so that one bound does not change what is drawn for another.
        unit = 2 * torch.rand(num_transforms, 6, dtype=torch.float64) - 1
        scale = 1 + self.max_scale * unit[:, :2]
        shear = self.max_shear * unit[:, 2]
        angle = math.radians(self.max_rotation) * unit[:, 3]
        shift = self.max_shift * unit[:, 4:]

        # (R K S)^-1 = S^-1 K^-1 R^-1, where K^-1 has -k for k, and R^-1 is R transposed.
        cos, sin = angle.cos(), angle.sin()
        first_row = torch.stack([cos + shear * sin, sin - shear * cos], dim=1)
        second_row = torch.stack([-sin, cos], dim=1)
        linear = torch.stack([first_row, second_row], dim=1) / scale[:, :, None]
        return torch.cat([linear, -linear @ shift[:, :, None]], dim=2)


def warp(x: Tensor, inverse: Tensor) -> Tensor:
    """Applies affine transforms to images, with bilinear interpolation and zeros outside.

    Args:
        x: ``[N, ..., H, W]``, of any floating dtype and device.
        inverse: ``[N, 2, 3]``, float64: the value of the output at (x, y) is that of the image at
            ``inverse @ (x, y, 1)``, in pixels from the image's center.

    Returns:
        A tensor of x's shape, dtype and device.
    """
    height, width = x.shape[-2:]
    # affine_grid's coordinates run from -1 to 1 over an image of any size: their unit is half a side.
    half = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    units = torch.cat([half, half.new_ones(1)])
    dtype = torch.promote_types(x.dtype, torch.float32)
    # Unclamped, float32 might overflow to NaN; where it is clamped, all but the center comes from outside anyway.
    theta = (inverse * units / half[:, None]).clamp(-_LARGEST_THETA, _LARGEST_THETA).to(dtype).to(x.device)
    # Frames become channels, because they share the transform of their sample.
    images = x.flatten(1, -3).to(dtype)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved.to(x.dtype).view_as(x)


def augmentation_for(augmentation: AffineAugmentation, model: object) -> AffineAugmentation | None:
    """Returns the augmentation for the samples of a model; None if all its bounds are 0.

    Raises:
        ValueError: a bound is not 0 although the model has no ``config.input_shape`` (C, H, W); the message names the
            field.
    """
    name = augmentation.first_nonzero_bound
    if name is None:
        return None
    shape = getattr(getattr(model, "config", None), "input_shape", None)
    if shape is None or len(shape) != 3:
        actual = "one without" if shape is None else f"{tuple(shape)}"
        raise ValueError(
            f"fit: {name} needs images, that is, a model whose config.input_shape is (C, H, W), got {actual}; set "
            f"{name} to 0"
        )
    return augmentation
