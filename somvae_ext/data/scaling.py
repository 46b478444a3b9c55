"""The linear map of values to [0, 1], kept with a model so that new data are treated like its training data."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from somvae_ext.data.samples import Samples


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Maps ``minimum`` to 0 and ``maximum`` to 1: x -> (x - minimum) / (maximum - minimum).

    Without arguments it leaves all values as they are. Values of other data than those that it was fitted to may land
    outside [0, 1]; they are not clipped, because that would hide them. A feature with equal ends is only shifted.

    Args:
        minimum: one value for each feature (the last axis), or a single one for all values.
        maximum: the same.

    Raises:
        ValueError: ends that differ in number, that are not finite, or a maximum below its minimum.

    Example:
        >>> import torch
        >>> Scaling((0.0, 10.0), (4.0, 20.0)).apply(torch.tensor([[1.0, 20.0]]))
        tensor([[0.2500, 1.0000]])
    """

    minimum: tuple[float, ...] = (0.0,)
    maximum: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if len(self.minimum) != len(self.maximum) or not self.minimum:
            raise ValueError(
                "Scaling: minimum and maximum must hold the same number of values, at least one, got "
                f"{len(self.minimum)} and {len(self.maximum)}"
            )
        for low, high in zip(self.minimum, self.maximum, strict=True):
            if not float("-inf") < low <= high < float("inf"):
                raise ValueError(f"Scaling: minimum must be finite and at most maximum, got {low} and {high}")

    @classmethod
    def fit(cls, samples: Samples, *, per_feature: bool) -> Scaling:
        """The smallest and the largest value that ``samples`` hold, padding left out.

        Args:
            samples: the training data, ``x`` ``[..., F]``.
            per_feature: for each feature (tables), rather than for all values together (images).
        """
        x = samples.x if samples.mask is None else samples.x[samples.mask]
        values = x.reshape(-1, x.shape[-1]) if per_feature else x.reshape(-1, 1)
        low, high = values.aminmax(dim=0)
        return cls(tuple(low.tolist()), tuple(high.tolist()))

    @classmethod
    def for_training_data(cls, samples: Samples, *, tabular: bool) -> Scaling:
        """The scaling that brings training data to [0, 1].

        Features of a table are scaled one by one; images as a whole, those of bytes by 255, and those that are in [0,
        1] already not at all.
        """
        x = samples.x
        if x.dtype == torch.uint8:
            return cls((0.0,), (255.0,))
        return cls.fit(samples, per_feature=tabular) if tabular or x.amin() < 0 or x.amax() > 1 else cls()

    def apply(self, x: Tensor) -> Tensor:
        """The scaled values, of the shape and dtype of ``x``, or float32 for bytes.

        Bytes (uint8) are values from 0 to 255. Where nothing was done to the training data, as their images were in
        [0, 1] already, bytes are divided by 255, as torchvision does.

        Raises:
            ValueError: the last axis of ``x`` has not as many features as the scaling.
        """
        if len(self.minimum) not in (1, x.shape[-1]):
            raise ValueError(
                f"Scaling: x must have {len(self.minimum)} features like the data that the scaling was fitted to, "
                f"got {x.shape[-1]}"
            )
        if x.dtype == torch.uint8:
            scaling = Scaling((0.0,), (255.0,)) if self == Scaling() else self
            return scaling.apply(x.to(torch.float32))
        # In float64: the difference of two large ends may overflow float32.
        low = torch.tensor(self.minimum, dtype=torch.float64, device=x.device)
        width = torch.tensor(self.maximum, dtype=torch.float64, device=x.device) - low
        return ((x - low) / torch.where(width > 0, width, 1.0)).to(x.dtype)

    def apply_to(self, samples: Samples) -> Samples:
        """Samples with their values scaled, in float32."""
        return dataclasses.replace(samples, x=self.apply(samples.x).float())

    def undo(self, x: Tensor) -> Tensor:
        """Scaled values ``[..., F]`` in the units of the data, in the dtype of ``x``.

        A feature whose ends are equal has that one value.
        """
        low = torch.tensor(self.minimum, dtype=torch.float64, device=x.device)
        high = torch.tensor(self.maximum, dtype=torch.float64, device=x.device)
        return (low + x * (high - low)).to(x.dtype)

    def to_dict(self) -> dict[str, list[float]]:
        """What JSON can hold; :meth:`from_dict` reads it."""
        return {"minimum": list(self.minimum), "maximum": list(self.maximum)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Scaling:
        """The scaling that :meth:`to_dict` wrote down."""
        return cls(tuple(values["minimum"]), tuple(values["maximum"]))
