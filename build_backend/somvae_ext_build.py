"""The PEP 517 backend: that of setuptools, which requires torch only if there is none to compile against.

The library must be built against the torch that it will run with, but front ends build in an isolated environment. That
of pip only hides the packages of the environment that it installs into; setup.py finds torch there (`reach_torch`), so
nothing is downloaded and the wheel fits. Those of `build` and uv are separate environments. In these, or if pip's
environment has no torch yet, torch is a requirement of the build, which constraints may narrow, and the wheel requires
the version that was installed.
"""

from __future__ import annotations

import runpy
from typing import Any

from setuptools.build_meta import *  # noqa: F403  # all other hooks


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    setup_py = runpy.run_path("setup.py")
    return [] if setup_py["reach_torch"]() else [setup_py["torch_requirement"]()]


get_requires_for_build_editable = get_requires_for_build_wheel


def get_requires_for_build_sdist(config_settings: Any = None) -> list[str]:
    return []
