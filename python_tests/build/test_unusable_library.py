"""Importing a copy of the package whose compiled library is absent or does not fit the installed torch."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

import children
import pytest
import torch

LIBRARY = f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
RUNNING = torch.__version__.partition("+")[0]
# A library that states what it was built with, runs code when it is loaded, and needs a missing function of torch.
SOURCE = """
#include <cstdlib>
__attribute__((used)) const char built_with[] = "somvae_ext._C was built with torch {version} for CPUs";
__attribute__((constructor)) void loaded() {{ {when_loaded} }}
extern "C" void torch_function_of_another_version();
extern "C" void* PyInit__C() {{ torch_function_of_another_version(); return nullptr; }}
"""
REMEDY = f"install the wheel for torch {'.'.join(RUNNING.split('.')[:2])}, or run 'pip install .' in the source folder"
FALLBACK = f"; the ops fall back to their slow pure-torch references. To mend it, {REMEDY}."


class Package:
    """A copy of the package's Python files, without the library."""

    def __init__(self, root: Path, folder: Path, compiler: str) -> None:
        self.folder = folder
        self.compiler = compiler
        self.compiled = folder / "somvae_ext" / LIBRARY
        self.compiled.parent.mkdir()
        for path in (root / "somvae_ext").iterdir():
            if path.suffix != ".so":
                (self.compiled.parent / path.name).symlink_to(path)

    def compile(self, version: str, when_loaded: str = "") -> None:
        source = SOURCE.format(version=version, when_loaded=when_loaded)
        command = [self.compiler, "-shared", "-fPIC", "-x", "c++", "-", "-o", str(self.compiled)]
        subprocess.run(command, input=source, text=True, check=True)

    def import_it(self, required: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SOMVAE_EXT_")}
        if required is not None:
            environment["SOMVAE_EXT_REQUIRE_NATIVE"] = required
        code = "import somvae_ext; print(somvae_ext.build_info()['native'])"
        return children.run("-c", code, imported=children.TORCH, cwd=self.folder, env=environment)

    def warning(self) -> str:
        """Imports the package, which must succeed with exactly one warning, and returns the warning."""
        done = self.import_it()
        assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
        (line,) = (line for line in done.stderr.splitlines() if "RuntimeWarning: " in line)
        return line.partition("RuntimeWarning: ")[2]


@pytest.fixture
def package(root: Path, tmp_path: Path, setup_py: ModuleType) -> Package:
    return Package(root, tmp_path, setup_py.find_compiler())


def test_the_warning_about_a_library_of_another_torch_names_both_versions_and_the_remedy(package: Package) -> None:
    package.compile("2.13.0")
    assert package.warning() == (
        "somvae_ext: the compiled library, built with torch 2.13.0 for CPUs, cannot be used with torch "
        f"{torch.__version__}{FALLBACK}"
    )


def test_a_library_of_another_torch_is_not_loaded(package: Package) -> None:
    package.compile("2.13.0", when_loaded="abort();")
    assert package.import_it().returncode == 0


def test_the_warning_about_a_library_that_does_not_load_names_both_versions_and_the_reason(package: Package) -> None:
    package.compile(RUNNING)
    assert package.warning() == (
        f"somvae_ext: the compiled library, built with torch {RUNNING} for CPUs, cannot be used with torch "
        f"{torch.__version__} ({package.compiled}: undefined symbol: torch_function_of_another_version){FALLBACK}"
    )


@pytest.mark.parametrize("content", [b"", b"\x7fELF"])
def test_the_warning_about_a_damaged_library_says_what_is_wrong(package: Package, content: bytes) -> None:
    package.compiled.write_bytes(content)
    assert package.warning() == (
        "somvae_ext: the compiled library, built with an unknown torch, cannot be used with torch "
        f"{torch.__version__} ({package.compiled}: file too short){FALLBACK}"
    )


def test_without_a_library_the_warning_says_so(package: Package) -> None:
    assert package.warning() == (
        f"somvae_ext: no compiled library for this Python is in {package.compiled.parent}, and torch "
        f"{torch.__version__} runs without it{FALLBACK}"
    )


def test_a_required_library_of_another_torch_is_an_import_error_that_names_both(package: Package) -> None:
    package.compile("2.13.0")
    assert package.import_it(required="1").stderr.splitlines()[-1] == (
        "ImportError: somvae_ext: the compiled library, built with torch 2.13.0 for CPUs, cannot be used with torch "
        f"{torch.__version__}, and SOMVAE_EXT_REQUIRE_NATIVE=1 asks for it: {REMEDY}."
    )


def test_a_missing_required_library_is_an_import_error(package: Package) -> None:
    assert package.import_it(required="1").stderr.splitlines()[-1].startswith("ImportError: somvae_ext: no compiled ")


@pytest.mark.parametrize("choice", ["", "0"])
def test_a_library_that_is_not_required_is_a_warning(package: Package, choice: str) -> None:
    assert package.import_it(required=choice).stdout == "False\n"


@pytest.mark.parametrize("choice", ["yes", "2", " 1"])
def test_other_values_of_the_environment_variable_are_refused_in_a_sentence(package: Package, choice: str) -> None:
    assert package.import_it(required=choice).stderr.splitlines()[-1] == (
        "ValueError: somvae_ext: SOMVAE_EXT_REQUIRE_NATIVE must be 1 (fail without the compiled library), 0 (warn) or "
        f"unset, and is {choice!r}."
    )
