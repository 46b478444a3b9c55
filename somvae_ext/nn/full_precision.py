"""Buffers that a cast to 16 bits leaves in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn


def full_precision_dtype() -> torch.dtype:
    """torch's default dtype, but at least float32."""
    return torch.promote_types(torch.get_default_dtype(), torch.float32)


class FullPrecisionBuffers(nn.Module):
    """A module whose running statistics are in float32, or in float64 if the module is.

    In 16 bits a running average stops moving once a batch changes it by less than half of its last bit. Therefore
    ``.bfloat16()``, ``.half()`` and ``.to(dtype)`` leave these buffers in float32, and so does
    ``.load_state_dict(..., assign=True)`` with a 16-bit state.
    """

    full_precision_buffers: ClassVar[tuple[str, ...]] = ()
    """Names of the buffers; a module may lack some of them."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        buffers_before = {name: self._buffers[name] for name in self.full_precision_buffers if name in self._buffers}
        super()._apply(fn, recurse)
        for name, before in buffers_before.items():
            after = self._buffers[name]
            if before is not None and after is not None and after.dtype.itemsize < 4:
                # Start from the values before the cast, which rounded them.
                self._buffers[name] = before.to(after.device, torch.float32)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        for name in self.full_precision_buffers:
            buffer = self._buffers.get(name)
            if buffer is not None and buffer.dtype.itemsize < 4:
                self._buffers[name] = buffer.float()
