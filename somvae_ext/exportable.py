"""Makes the named tuples that modules return part of saved programs."""

from __future__ import annotations

from typing import TypeVar

from torch.utils import _pytree

Tuple = TypeVar("Tuple", bound=tuple)


def exportable(kind: type[Tuple]) -> type[Tuple]:
    """Lets ``torch.export.save`` write a program that returns this named tuple, by its name in this package.

    Whoever loads it imports the subpackage first, such as ``somvae_ext.nn``. torch has no public function for this.
    """
    room = ".".join(kind.__module__.split(".")[:2])
    _pytree._register_namedtuple(kind, serialized_type_name=f"{room}.{kind.__name__}")
    return kind
