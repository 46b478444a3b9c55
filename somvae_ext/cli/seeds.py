"""Seeds that the commands take."""

from __future__ import annotations

_LARGEST = 2**32 - 1  # as in numpy: leaves room for what is derived from it


def check_seed(option: str, seed: int) -> None:
    """
    Raises:
        ValueError: a seed that is negative or too large; the message names the option.
    """
    if not 0 <= seed <= _LARGEST:
        raise ValueError(f"{option} must be an integer from 0 to {_LARGEST}, got {seed}")
