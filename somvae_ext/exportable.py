"""Lets ``torch.export`` save programs that return our named tuples."""

from __future__ import annotations

from typing import TypeVar

from torch.utils import _pytree

Tuple = TypeVar("Tuple", bound=tuple)


def exportable(kind: type[Tuple]) -> type[Tuple]:
    """Registers a named tuple, so that ``torch.export.save`` can write a program that returns it.

    The file refers to the tuple by its name in its subpackage, such as ``somvae_ext.nn``, which must be imported before
    the program is loaded. torch has no public function for this.
    """
    subpackage = ".".join(kind.__module__.split(".")[:2])
    _pytree._register_namedtuple(kind, serialized_type_name=f"{subpackage}.{kind.__name__}")
    return kind
