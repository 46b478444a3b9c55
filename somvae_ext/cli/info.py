"""``somvae info``: show what a folder holds, or what this installation can do."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import TYPE_CHECKING, Any

from somvae_ext._native import build_info
from somvae_ext._version import __version__
from somvae_ext.cli.printing import print_table
from somvae_ext.extras import LIBRARIES
from somvae_ext.report.result_info import describe_folder

if TYPE_CHECKING:
    from jsonargparse import Namespace


def run(options: Namespace) -> None:
    if options.run is None:
        print_table(_installation())
        return
    from somvae_ext.store import ResultFolder

    print_table(describe_folder(ResultFolder.open(options.run)))


def _installation() -> dict[str, str]:
    rows = {"somvae_ext": __version__, "python": platform.python_version()}
    for distribution in ("torch", "numpy", *sorted(library.distribution for library in LIBRARIES.values())):
        try:
            rows[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            rows[distribution] = "not installed"
    build = build_info()
    rows["compiled library"] = "in use" if build.pop("native") else "absent: the ops run on slow torch references"
    rows |= {name.replace("_", " "): _readable(value) for name, value in build.items()}
    return rows


def _readable(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value) or "-"
    return "-" if value is None else str(value)
