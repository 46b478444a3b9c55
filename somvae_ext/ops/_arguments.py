"""Checks of the ops' arguments for the pure-torch path; the compiled path makes the same ones in C++.

Every error is a ValueError that reads "<op>: <argument> must <expectation>, got <what came>".
"""

from __future__ import annotations

import torch
from torch import Tensor

FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_floating(op: str, **tensors: Tensor) -> None:
    """All tensors are of one supported floating dtype and on one device; the first one sets the expectation."""
    first_name, first = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATING:
            raise ValueError(
                f"{op}: {name} must be of dtype float32, float64, float16 or bfloat16, got {_dtype(tensor)}"
            )
        if tensor.dtype != first.dtype:
            raise ValueError(
                f"{op}: {name} must have the dtype of {first_name}, {_dtype(first)}, got {_dtype(tensor)}; "
                "cast one of them"
            )
        check_device(op, name, tensor, first_name, first)


def check_dtype(op: str, name: str, tensor: Tensor, *expected: torch.dtype) -> None:
    if tensor.dtype not in expected:
        *others, last = (str(dtype).removeprefix("torch.") for dtype in expected)
        names = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"{op}: {name} must be of dtype {names}, got {_dtype(tensor)}")


def check_device(op: str, name: str, tensor: Tensor, first_name: str, first: Tensor) -> None:
    if tensor.device != first.device:
        raise ValueError(f"{op}: {name} must be on the device of {first_name}, {first.device}, got {tensor.device}")


def check_shape(op: str, name: str, tensor: Tensor, symbols: str, sizes: dict[str, int]) -> None:
    """The shape is ``symbols``, such as ``"N D"``; ``sizes`` holds the sizes known so far and learns new ones."""
    letters = symbols.split()
    known = {letter: sizes[letter] for letter in letters if letter in sizes}
    fits = tensor.dim() == len(letters)
    if fits:
        for letter, size in zip(letters, tensor.shape, strict=True):
            fits = fits and sizes.setdefault(letter, size) == size
    if not fits:
        given = ", ".join(f"{letter} = {size}" for letter, size in known.items())
        expected = f"[{', '.join(letters)}]" + (f" with {given}" if given else "")
        raise ValueError(f"{op}: {name} must have shape {expected}, got {list(tensor.shape)}")


def check_index(op: str, name: str, index: Tensor, size: int) -> None:
    """An int64 index whose values lie in [0, size)."""
    check_dtype(op, name, index, torch.int64)
    # Elsewhere the check would wait for the device or has no values to look at, and torch's own lookup refuses.
    if index.device.type == "cpu" and not torch.compiler.is_compiling():
        check_index_range(op, name, index, size)


def check_index_range(op: str, name: str, index: Tensor, size: int) -> None:
    if index.numel() == 0:
        return
    low, high = (int(bound) for bound in torch.aminmax(index))
    if low < 0 or high >= size:
        wrong = low if low < 0 else high
        raise ValueError(f"{op}: {name} must hold values from 0 to {size - 1}, got {wrong}")


def full_precision(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 are computed in float32."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def autocast(tensor: Tensor) -> Tensor:
    """What the compiled ops do under autocast: inputs of lower precision are cast up."""
    device = tensor.device.type
    enabled = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return full_precision(tensor) if enabled else tensor


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
