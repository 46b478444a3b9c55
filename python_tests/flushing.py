"""The caller's mode of arithmetic with subnormal numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def caller_flushes(flush: bool) -> Iterator[bool]:
    """Sets the mode of this thread, the only one meanwhile; whether it has one is what it yields."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield torch.set_flush_denormal(flush) and flush
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
