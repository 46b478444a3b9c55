"""Checks of the ops' arguments for the pure-torch path; the compiled path makes the same ones in C++.

Every error is a ValueError that reads "<op>: <argument> must <expectation>, got <what came>".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_floating(op: str, **tensors: Tensor) -> None:
    """All tensors are of one supported floating dtype and on one device; the first one sets the expectation."""
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
    """The shape is ``symbols``, such as ``"N D"``; ``sizes`` holds the sizes known so far and learns new ones."""
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
    """An int64 index whose values lie in [0, size)."""
    check_dtype(op, name, index, torch.int64)
    if reads_values(index):  # elsewhere torch's own lookup refuses
        check_index_range(op, name, index, size)


def check_index_range(op: str, name: str, index: Tensor, size: int) -> None:
    if index.numel() == 0:
        return
    low, high = (int(bound) for bound in torch.aminmax(index))
    if low < 0 or high >= size:
        wrong = low if low < 0 else high
        raise ValueError(f"{op}: {name} must hold values from 0 to {size - 1}, got {wrong}")


def check_magnitude(op: str, name: str, tensor: Tensor, limit: float, because: str) -> None:
    """Finite values of at most ``limit`` in magnitude; NaN and infinities pass. Reads the values."""
    largest = finite_beyond(tensor, limit)
    if largest:
        raise ValueError(
            f"{op}: {name} must hold values of at most {limit:.6g} in magnitude, {because}, got {largest:.6g}"
        )


def largest_value_to_square(dtype: torch.dtype, features: int, rows: int = 1) -> float:
    """Values up to this have squared distances over ``features`` features, ``rows`` of which ``dtype`` can add up."""
    # The difference of two values may be twice as large as either; another 2 for the rounding of the sum.
    return math.sqrt(torch.finfo(dtype).max / 8 / max(1, features) / max(1, rows))


def finite_beyond(values: Tensor, limit: float) -> float:
    """The largest magnitude of the finite values if it exceeds ``limit``, else 0. Reads the values."""
    if values.numel() == 0:
        return 0.0
    magnitude = values.detach().abs().double()
    largest = magnitude.masked_fill(~magnitude.isfinite(), 0).max().item()
    return largest if largest > limit else 0.0


def reads_values(tensor: Tensor) -> bool:
    """Whether a check may look at values: elsewhere it would wait for the device, or a graph has none."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def full_precision(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 are computed in float32."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def autocast(tensor: Tensor) -> Tensor:
    """What the compiled ops do under autocast: inputs of lower precision are cast up."""
    device = tensor.device.type
    enabled = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return full_precision(tensor) if enabled else tensor


def name_of(dtype: torch.dtype) -> str:
    """``float32`` and so on, as messages spell it."""
    return str(dtype).removeprefix("torch.")
