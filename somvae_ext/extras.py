"""Which extra of this package brings a library, and the sentence that says so where the library is missing.

torch, numpy and safetensors are always installed. Every other library is imported by what needs it, inside
:func:`needed_by`, and is listed here with the smallest extra that brings it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple


class Library(NamedTuple):
    """What a module is installed by: its distribution, and the smallest extra of ours that requires that."""

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
"""By the name of the module; it and ``[project.optional-dependencies]`` say the same, which a test checks."""


class MissingLibraryError(ModuleNotFoundError):
    """A library that an extra brings is not installed; ``name`` is its module."""


@contextlib.contextmanager
def needed_by(what: str) -> Iterator[None]:
    """Names the extra, where an import in this context, or in a function that it decorates, finds no library.

    Of nested contexts the innermost speaks.

    Args:
        what: subject of the sentence, which says that it needs the library.

    Raises:
        MissingLibraryError: in place of Python's ModuleNotFoundError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = LIBRARIES.get(error.name or "")  # a submodule that is missing is another matter: the wrong version
        if library is None or isinstance(error, MissingLibraryError):
            raise
        raise MissingLibraryError(
            f"{what} needs {library.distribution}, which is not installed; run: "
            f"pip install 'somvae_ext[{library.extra}]'",
            name=error.name,
        ) from error
