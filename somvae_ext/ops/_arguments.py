"""Argument checks for the pure-torch path of the ops; the compiled path makes the same checks in C++.

Types are checked here for both paths. Every error reads "<op>: <argument> must <expectation>, got <actual value>"; it
is a TypeError for a wrong type and otherwise a ValueError.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from somvae_ext.grid import Grid

FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_tensors(op: str, **tensors: Tensor) -> None:
    """Checks that arguments are tensors. Torch's own error would print all values of an array or a list."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise TypeError(f"{op}: {name} must be a torch tensor, got {kind}; torch.as_tensor makes one of an array")


def check_grid(op: str, grid: Grid) -> None:
    if not isinstance(grid, Grid):
        raise TypeError(f"{op}: grid must be a somvae_ext.Grid, got {type(grid).__name__}; Grid(rows, cols) makes one")


def check_floating(op: str, **tensors: Tensor) -> None:
    """Checks that all tensors share a supported floating dtype and a device; the first one sets the expectation."""
    first_name, first = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATING:
            raise ValueError(
                f"{op}: {name} must be of dtype float32, float64, float16 or bfloat16, got {name_of(tensor.dtype)}"
            )
        if tensor.dtype != first.dtype:
            raise ValueError(
                f"{op}: {name} must have the dtype of {first_name}, {name_of(first.dtype)}, "
                f"got {name_of(tensor.dtype)}; cast one of them"
            )
        check_device(op, name, tensor, first_name, first)


def check_dtype(op: str, name: str, tensor: Tensor, *expected: torch.dtype) -> None:
    if tensor.dtype not in expected:
        *others, last = (name_of(dtype) for dtype in expected)
        names = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"{op}: {name} must be of dtype {names}, got {name_of(tensor.dtype)}")


def check_device(op: str, name: str, tensor: Tensor, first_name: str, first: Tensor) -> None:
    if tensor.device != first.device:
        raise ValueError(f"{op}: {name} must be on the device of {first_name}, {first.device}, got {tensor.device}")


def check_shape(op: str, name: str, tensor: Tensor, symbols: str, sizes: dict[str, int]) -> None:
    """Checks that the shape is ``symbols``, such as ``"N D"``, given the known ``sizes``, and adds new ones to them."""
    letters = symbols.split()
    known = {letter: sizes[letter] for letter in letters if letter in sizes}
    fits = tensor.dim() == len(letters)
    if fits:
        for letter, size in zip(letters, tensor.shape, strict=True):
            fits = fits and sizes.setdefault(letter, size) == size
    if not fits:
        known_sizes = ", ".join(f"{letter} = {size}" for letter, size in known.items())
        expected = f"[{', '.join(letters)}]" + (f" with {known_sizes}" if known_sizes else "")
        raise ValueError(f"{op}: {name} must have shape {expected}, got {list(tensor.shape)}")


def check_index(op: str, name: str, index: Tensor, size: int) -> None:
    """Checks that ``index`` is int64 and that its values lie in [0, size)."""
    check_dtype(op, name, index, torch.int64)
    if reads_values(index):  # otherwise torch's own lookup raises
        check_index_range(op, name, index, size)


def check_index_range(op: str, name: str, index: Tensor, size: int) -> None:
    if index.numel() == 0:
        return
    low, high = (int(bound) for bound in torch.aminmax(index))
    if low < 0 or high >= size:
        wrong = low if low < 0 else high
        raise ValueError(f"{op}: {name} must hold values from 0 to {size - 1}, got {wrong}")


def check_magnitude(op: str, name: str, tensor: Tensor, limit: float, because: str) -> None:
    """Checks that finite values are at most ``limit`` in magnitude; NaN and infinities pass. Reads the values."""
    largest = finite_beyond(tensor, limit)
    if largest:
        raise ValueError(
            f"{op}: {name} must hold values of at most {limit:.6g} in magnitude, {because}, got {largest:.6g}"
        )


def largest_value_to_square(dtype: torch.dtype, features: int, rows: int = 1) -> float:
    """Largest magnitude at which ``dtype`` can hold a sum of ``rows`` squared distances over ``features`` features."""
    # The square of a difference may be four times that of either value; another factor of 2 covers the sum's rounding.
    return math.sqrt(torch.finfo(dtype).max / 8 / max(1, features) / max(1, rows))


def finite_beyond(values: Tensor, limit: float) -> float:
    """The largest magnitude of the finite values if it exceeds ``limit``, else 0. Reads the values."""
    if values.numel() == 0:
        return 0.0
    magnitude = values.detach().abs().double()
    largest = magnitude.masked_fill(~magnitude.isfinite(), 0).max().item()
    return largest if largest > limit else 0.0


def reads_values(tensor: Tensor) -> bool:
    """Whether a check may read values: on a GPU it would wait for the device, and a compiled graph has no values."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def full_precision(tensor: Tensor) -> Tensor:
    """Casts float16 and bfloat16 to float32."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def autocast(tensor: Tensor) -> Tensor:
    """Casts float16 and bfloat16 to float32 if autocast is enabled, as the compiled ops do."""
    device = tensor.device.type
    enabled = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return full_precision(tensor) if enabled else tensor


def name_of(dtype: torch.dtype) -> str:
    """The dtype as messages spell it, such as ``float32``."""
    return str(dtype).removeprefix("torch.")
