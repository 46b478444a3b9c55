"""Whether the caller's thread flushes subnormal numbers to zero."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def caller_flushes(flush: bool) -> Iterator[bool]:
    """Uses one thread and sets whether it flushes subnormals to zero; yields whether it does, as not all CPUs can."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield torch.set_flush_denormal(flush) and flush
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
