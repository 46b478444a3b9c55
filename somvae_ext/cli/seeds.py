"""Checks the seeds that commands take."""

from __future__ import annotations

from somvae_ext.config_checks import Bounds, check_integer

_LARGEST = 2**32 - 1  # as in numpy; leaves room for the seeds derived from it


def check_seed(option: str, seed: int) -> None:
    """Checks the seed of an option.

    Raises:
        ValueError: a seed that is negative or too large; the message names the option.
    """
    check_integer(None, option, seed, Bounds(at_least=0, at_most=_LARGEST))
