"""Errors for parameter names of other classes and libraries: they say which parameter to use instead."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")


def hint_parameters(**names: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Decorates an ``__init__`` so that the error for a foreign parameter names the one to use.

    The signature, which scikit-learn's ``get_params`` and ``clone`` read, stays as it is.

    Args:
        names: the parameter to use, by the name that others give it. A note may follow the parameter after a space.

    Example:
        >>> class Map:
        ...     @hint_parameters(width="n_cols")
        ...     def __init__(self, n_cols: int = 10) -> None:
        ...         self.n_cols = n_cols
        >>> Map(width=5)
        Traceback (most recent call last):
        TypeError: Map takes n_cols instead of width
    """

    def decorate(init: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(init)
        def init_with_hints(*args: P.args, **kwargs: P.kwargs) -> None:
            hints = [f"{names[name]} instead of {name}" for name in kwargs if name in names]
            if hints:
                raise TypeError(f"{type(args[0]).__name__} takes {', '.join(hints)}")
            init(*args, **kwargs)

        return init_with_hints

    return decorate
