"""A causal convolution over the encodings of a series."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from somvae_ext.config_checks import Bounds, check_integer


class CausalWindow(nn.Module):
    """Adds information from earlier frames to the encoding of each frame, by a causal convolution over time.

    With the encodings f of single frames, the window W, and r = 1 for a real frame, 0 for a missing one::

        z_t = f_t + V relu(sum over k = 0 .. W - 1 of A_k [f_t-k; r_t-k])

    Masked frames and frames before the first are missing: their f and r are zeros, and r tells them from encodings of
    zero. The convolution has D output channels. V starts at zero, so that a new layer returns the encodings of single
    frames.

    No frame sees a later one, so that encodings do not change while a series grows.

    Args:
        dim: size D of an encoding.
        window: number of frames W that an encoding sees, its own and those before it, at least 2.

    Raises:
        ValueError: a size below 1, or a window below 2.

    Example:
        >>> import torch
        >>> CausalWindow(dim=3, window=4)(torch.rand(2, 5, 3)).shape
        torch.Size([2, 5, 3])
    """

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        self.dim = check_integer("CausalWindow", "dim", dim)
        self.window = check_integer("CausalWindow", "window", window, Bounds(at_least=2))
        # The channel r carries a bias per lag.
        self.convolution = nn.Conv1d(self.dim + 1, self.dim, self.window, bias=False)
        self.projection = nn.Linear(self.dim, self.dim, bias=False)
        nn.init.zeros_(self.projection.weight)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Computes encodings that see the frames before them, ``[B, T, D]``.

        Args:
            z: encodings of single frames, ``[B, T, D]``.
            mask: which frames are real, bool ``[B, T]``. The result for a masked frame has no meaning.

        Raises:
            ValueError: shapes that do not fit, or a mask that is not bool.
        """
        if z.dim() != 3 or z.shape[2] != self.dim:
            raise ValueError(f"CausalWindow: z must have shape [B, T, D = {self.dim}], got {list(z.shape)}")
        if mask is not None and (mask.dtype != torch.bool or mask.shape != z.shape[:2]):
            raise ValueError(
                f"CausalWindow: mask must be of dtype bool and shape [B, T] = {list(z.shape[:2])}, got {mask.dtype} "
                f"and {list(mask.shape)}"
            )
        is_real = torch.ones_like(z[..., :1]) if mask is None else mask[..., None].to(z.dtype)
        frames = torch.cat([z if mask is None else torch.where(mask[..., None], z, 0), is_real], dim=2)
        history = functional.pad(frames.transpose(1, 2), (self.window - 1, 0))
        hidden: Tensor = self.convolution(history).relu()
        result: Tensor = z + self.projection(hidden.transpose(1, 2))
        return result
