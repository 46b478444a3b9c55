"""Which extra of this package installs a library, and the error that names the extra if the library is missing.

torch, numpy and safetensors are always installed. Every other library is imported where it is needed, inside
:func:`needed_by`, and is listed here with the smallest extra that installs it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple


class Library(NamedTuple):
    """The distribution that a module comes in, and the smallest extra of ours that requires it."""

    distribution: str
    extra: str


LIBRARIES = {
    "PIL": Library("pillow", "plot"),
    "bokeh": Library("bokeh", "report"),
    "jinja2": Library("jinja2", "report"),
    "joblib": Library("joblib", "experiments"),
    "jsonargparse": Library("jsonargparse", "som"),
    "lightning_fabric": Library("lightning-fabric", "train"),
    "markupsafe": Library("markupsafe", "report"),
    "matplotlib": Library("matplotlib", "plot"),
    "minisom": Library("minisom", "experiments"),
    "narwhals": Library("narwhals", "som"),
    "pyarrow": Library("pyarrow", "som"),
    "pyts": Library("pyts", "experiments"),
    "scipy": Library("scipy", "som"),
    "sklearn": Library("scikit-learn", "som"),
    "threadpoolctl": Library("threadpoolctl", "experiments"),
    "torchvision": Library("torchvision", "mnist"),
    "tqdm": Library("tqdm", "som"),
    "yaml": Library("pyyaml", "som"),
}
"""Libraries by the name of their module. A test checks them against ``[project.optional-dependencies]``."""


class MissingLibraryError(ModuleNotFoundError):
    """Raised if a library that an extra installs is missing; ``name`` is its module."""


@contextlib.contextmanager
def needed_by(what: str) -> Iterator[None]:
    """Names the extra to install if an import in this context, or in a function that it decorates, finds no library.

    In nested contexts the innermost one raises the error.

    Args:
        what: the subject of the message "<what> needs <library>, ...".

    Raises:
        MissingLibraryError: in place of Python's ModuleNotFoundError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = LIBRARIES.get(error.name or "")  # a missing submodule is not listed: it means a wrong version
        if library is None or isinstance(error, MissingLibraryError):
            raise
        raise MissingLibraryError(
            f"{what} needs {library.distribution}, which is not installed; run: "
            f"pip install 'somvae_ext[{library.extra}]'",
            name=error.name,
        ) from error
