"""Builds ``somvae_ext._C``, the CPU kernels and, if an nvcc fits torch, the CUDA kernels.

Metadata other than the version and what depends on torch are in pyproject.toml.

Environment:
    SOMVAE_EXT_CUDA: ``1`` requires CUDA, ``0`` leaves it out; if unset, CUDA is compiled when an nvcc of torch's CUDA
        major version is found. No GPU is needed: build machines have none.
    CUDA_HOME: the preferred toolkit. The nvcc on PATH and those under /usr/local are tried next.
    TORCH_CUDA_ARCH_LIST: the architectures to compile for, as everywhere in torch.
    CXX, MAX_JOBS: the C++ compiler and the number of parallel compilations.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import re
import runpy
import shutil
import site
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from setuptools import setup

ROOT = Path(__file__).resolve().parent
VERSION = runpy.run_path(str(ROOT / "somvae_ext" / "_version.py"))["__version__"]
DEPENDENCIES = ["numpy", "safetensors"]  # and torch
OLDEST_TORCH = (2, 11)
DEFAULT_ARCHS = ("7.5", "8.0", "8.6", "9.0", "10.0", "12.0")  # the newest also as PTX, for future GPUs


def stop(sentence: str) -> NoReturn:
    """Ends the build with one sentence instead of a traceback."""
    raise SystemExit(f"somvae_ext: {sentence}")


def release(version: str) -> tuple[int, int]:
    """Returns the major and minor number of a version: ``(2, 14)`` for ``"2.14.1+cu130"``."""
    major, minor = version.split("+")[0].split(".")[:2]
    return int(major), int(re.match(r"\d+", minor)[0])


def torch_requirement(built_with: str | None = None) -> str:
    """Returns the requirement of torch: a minimum for the sources; for a library, the minor version it was built with.

    torch keeps its C++ interface within a minor version and changes it with the next. ``==2.14.*`` admits ``2.14.0a0``,
    the version of a torch built from source; ``>=2.14.1,<2.15`` would not.
    """
    if built_with is None:
        return "torch>={}.{}".format(*OLDEST_TORCH)
    return "torch=={}.{}.*".format(*release(built_with))


def reach_torch() -> bool:
    """Makes torch importable, if need be from the environment that pip's isolated build hides; returns whether it is.

    That build is a process of the same Python whose path lacks the folders of its environment. They are appended here,
    so only what the build itself lacks is taken from them: torch and what torch imports, never setuptools or ninja.
    """

    def is_importable() -> bool:
        spec = importlib.util.find_spec("torch")
        return spec is not None and spec.origin is not None  # an empty folder named torch has no origin

    if is_importable():
        return True
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if sys.prefix == sys.base_prefix else [])]
    hidden = [folder for folder in folders if folder not in sys.path]
    sys.path += hidden
    importlib.invalidate_caches()
    if is_importable():
        return True
    sys.path[:] = [folder for folder in sys.path if folder not in hidden]
    return False


def require_torch():
    """Returns the torch to build against."""
    if not reach_torch():
        stop(
            "it is compiled against torch, and none is installed: install torch and ninja first, or run "
            "'pip install .' without --no-build-isolation, which fetches them."
        )
    import torch

    if release(torch.__version__) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        stop(f"torch {oldest} or newer is needed, and torch {torch.__version__} is installed.")
    return torch


def find_compiler() -> str:
    """Returns the C++ compiler: CXX, else the first of c++, g++ and clang++ on PATH."""
    chosen = os.environ.get("CXX")
    for command in [chosen] if chosen else ["c++", "g++", "clang++"]:
        if shutil.which(command):
            return command
    if not chosen:
        stop("no C++ compiler was found (c++, g++ or clang++ on PATH): install one, on Debian with 'apt install g++'.")
    if any(map(shutil.which, chosen.split()[:1])):  # torch writes CXX into its build file as one quoted word
        stop(
            f"CXX must be the compiler alone, got {chosen!r}: put its options into CFLAGS, and leave out ccache, which "
            "torch calls by itself where it is installed."
        )
    stop(f"the C++ compiler that CXX names, {chosen!r}, was not found.")


def is_clang(compiler: str) -> bool:
    return "clang" in subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout


def version_in_name(folder: str) -> list[int]:
    """Returns the numbers in a name: ``[13, 0]`` for ``cuda-13.0``, which is newer than ``cuda-9.2``."""
    return [int(number) for number in re.findall(r"\d+", os.path.basename(folder))]


def nvcc_candidates() -> list[str]:
    """Lists every nvcc that can be found, the preferred one first."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    on_path = shutil.which("nvcc")
    installed = ["/usr/local/cuda", *sorted(glob.glob("/usr/local/cuda-*"), key=version_in_name, reverse=True)]
    candidates = [os.path.join(home, "bin", "nvcc") for home in homes if home]
    candidates += [on_path] if on_path else []
    candidates += [os.path.join(home, "bin", "nvcc") for home in installed]
    return list(dict.fromkeys(path for path in candidates if os.access(path, os.X_OK)))


def nvcc_version(nvcc: str) -> str | None:
    """Returns the version of an nvcc, such as ``"13.0"``, or None if it does not run."""
    try:
        output = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    except OSError:
        return None
    version = re.search(r"release (\d+\.\d+)", output)
    return version[1] if version else None


def toolkit_of(nvcc: str) -> str:
    """Returns the toolkit's root. The nvcc on PATH may be a wrapper script or a link, so nvcc itself is asked."""
    dry_run = subprocess.run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull], capture_output=True, text=True)
    top = re.search(r"^#\$ TOP=(.+)$", dry_run.stderr, re.MULTILINE)
    return os.path.realpath(top[1]) if top else os.path.dirname(os.path.dirname(os.path.realpath(nvcc)))


def known_archs(nvcc: str) -> set[str]:
    """Returns the architectures that nvcc can compile for, as in TORCH_CUDA_ARCH_LIST: ``{"9.0", "12.0", ...}``."""
    output = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True).stdout
    return {f"{number[:-1]}.{number[-1]}" for number in re.findall(r"compute_(\d+)", output)}


def arch_list(requested: str | None, known: set[str]) -> str:
    """Returns the architectures to compile for, as numbers: ``"8.0;9.0+PTX"``.

    Args:
        requested: TORCH_CUDA_ARCH_LIST in any form that torch reads: ``"8.0 9.0a+PTX"``, ``"Hopper"``, ``"native"``.
            None or empty means the defaults that nvcc knows, the newest also as PTX.
        known: the architectures that nvcc knows.
    """
    if not requested:
        defaults = [arch for arch in DEFAULT_ARCHS if arch in known]
        if not defaults:
            names = ", ".join(DEFAULT_ARCHS)
            stop(f"nvcc knows none of the architectures {names}: name yours in TORCH_CUDA_ARCH_LIST.")
        return ";".join(defaults) + "+PTX"

    from torch.utils.cpp_extension import _get_cuda_arch_flags

    oldest_first = sorted(known, key=release)
    remedy = (
        f"name some that this nvcc knows, {', '.join(oldest_first)}, as in '{oldest_first[0]};{oldest_first[-1]}+PTX'."
    )
    os.environ["TORCH_CUDA_ARCH_LIST"] = requested  # where torch's own parser reads it
    try:
        flags = _get_cuda_arch_flags()
    except ValueError as error:
        stop(f"torch cannot read TORCH_CUDA_ARCH_LIST={requested!r} ({error}): {remedy}")
    except IndexError:  # raised by torch for 'native'
        stop(f"TORCH_CUDA_ARCH_LIST={requested!r} asks for this machine's GPUs, and torch finds none: {remedy}")
    codes = re.findall(r"arch=compute_(\d+)(\d)([af]?),code=(sm|compute)", " ".join(flags))
    archs = sorted({(int(major), int(minor), suffix) for major, minor, suffix, _ in codes})
    unknown = [f"{major}.{minor}{suffix}" for major, minor, suffix in archs if f"{major}.{minor}" not in known]
    if unknown:
        stop(
            f"TORCH_CUDA_ARCH_LIST={requested!r} asks for {', '.join(unknown)}, for which nvcc cannot compile: {remedy}"
        )
    ptx = {(int(major), int(minor), suffix) for major, minor, suffix, code in codes if code == "compute"}
    return ";".join("{}.{}{}".format(*arch) + "+PTX" * (arch in ptx) for arch in archs)


def choose_nvcc(torch_cuda: str | None, candidates: Iterable[str], requested: str | None) -> str | None:
    """Chooses the nvcc to use; returns None for a CPU-only build.

    Args:
        torch_cuda: the CUDA version that torch was built with, None for a CPU-only torch.
        candidates: paths of nvccs, the preferred one first.
        requested: the value of SOMVAE_EXT_CUDA.
    """
    if requested not in (None, "", "0", "1"):
        stop(f"SOMVAE_EXT_CUDA must be 0 (no CUDA), 1 (CUDA or nothing) or unset, and is {requested!r}.")
    if requested == "0":
        return None
    if torch_cuda is None:
        reason = "the installed torch is a build without CUDA"
    else:
        versions = {nvcc: nvcc_version(nvcc) for nvcc in candidates}
        for nvcc, version in versions.items():
            if version and release(version)[0] == release(torch_cuda)[0]:
                return nvcc
        needed = f"torch was built with CUDA {torch_cuda}, which needs an nvcc {release(torch_cuda)[0]}.x"
        others = ", ".join(f"{nvcc} of CUDA {version}" for nvcc, version in versions.items()) or "no nvcc"
        reason = f"{needed}, and {others} was found"
    if requested == "1":
        stop(f"SOMVAE_EXT_CUDA=1 asks for CUDA, but {reason}.")
    print(f"somvae_ext: building for the CPU only, because {reason}.")
    return None


def native_files(*suffixes: str) -> list[str]:
    """Lists the library's files with these suffixes, relative to this file; those of csrc/simt are for tests only."""
    paths = [path for suffix in suffixes for path in glob.glob(f"csrc/**/*.{suffix}", recursive=True)]
    return sorted(path for path in paths if not path.startswith("csrc/simt/"))


def native_library() -> dict[str, Any]:
    """Returns the arguments of setup(): the extension ``somvae_ext._C``, the command that builds it, and metadata."""
    torch = require_torch()
    compiler = find_compiler()
    os.environ["CXX"] = compiler  # what torch's build command calls
    nvcc = choose_nvcc(torch.version.cuda, nvcc_candidates(), os.environ.get("SOMVAE_EXT_CUDA"))
    macros: list[tuple[str, str | None]] = []
    if nvcc:
        # torch would guess both variables: the toolkit from the folder above nvcc, which is wrong for a wrapper, and
        # the architectures from the GPUs of this machine, which may have none.
        os.environ["CUDA_HOME"] = toolkit_of(nvcc)
        archs = arch_list(os.environ.get("TORCH_CUDA_ARCH_LIST"), known_archs(nvcc))
        os.environ["TORCH_CUDA_ARCH_LIST"] = archs
        macros = [
            ("SOMVAE_EXT_WITH_CUDA", None),
            ("SOMVAE_EXT_CUDA_ARCHS", f'"{archs}"'),
            ("SOMVAE_EXT_CUDA_VERSION", f'"{nvcc_version(nvcc)}"'),
        ]
        print(f"somvae_ext: building with {nvcc} for {archs}.")

    from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension, is_ninja_available

    if not is_ninja_available():  # torch would compile one file after the other, all of them each time
        stop("ninja compiles it and was not found: run 'pip install ninja'.")

    class BuildLibrary(BuildExtension):
        def finalize_options(self) -> None:
            super().finalize_options()
            # An editable install would otherwise compile in a temporary folder, and so everything each time.
            self.build_temp = f"build/{sys.implementation.cache_tag}"

    # Contraction is the compilers' own default, and in GCC the only way to a fused multiply-add of two vectors. The
    # search's first pass allows for either; code that must not be fused says so (csrc/bmu/exact_scores_cpu_kernel.h).
    # at::parallel_for runs on OpenMP threads. Their runtime is torch's own, already loaded, hence no link flag; clang's
    # differs from torch's and is linked.
    cxx = ["-std=c++20", "-O3", "-g0", "-fvisibility=hidden", "-ffp-contract=fast", "-fopenmp"]
    cxx += ["-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-unused-parameter", "-Wno-psabi"]
    # No flag may contain "arch": torch would then leave its own -gencode flags out.
    cuda = ["-std=c++20", "-O3", "-lineinfo"]
    cuda += ["-Xcompiler=-fvisibility=hidden,-Wall"]
    extension = (CUDAExtension if nvcc else CppExtension)(
        "somvae_ext._C",
        native_files("cpp", "cu") if nvcc else native_files("cpp"),
        depends=[*native_files("h", "cuh"), "setup.py"],
        # torch adds its own headers, including the copy of pybind11 that its tensor casters are written for. The
        # package pybind11 is not used: its version may not fit these casters.
        include_dirs=[str(ROOT / "csrc")],
        define_macros=macros,
        extra_compile_args={"cxx": cxx, "nvcc": cuda} if nvcc else {"cxx": cxx},
        extra_link_args=["-fopenmp"] if is_clang(compiler) else [],
    )
    return {
        "ext_modules": [extension],
        "cmdclass": {"build_ext": BuildLibrary},
        "install_requires": [*DEPENDENCIES, torch_requirement(torch.__version__)],
        **wheel_name(torch.__version__, torch.version.cuda if nvcc else None, from_sdist=(ROOT / "PKG-INFO").exists()),
    }


def wheel_name(torch_version: str, torch_cuda: str | None, from_sdist: bool) -> dict[str, Any]:
    """Returns arguments of setup() that give all wheels of a version different file names.

    A local version, like those of torch and its extensions, says what a wheel was built with: ``+torch2.14.cpu``,
    ``+torch2.14.cu130``. pip tries one version after the other until one requires the torch that is asked for; a
    requirement without a local version means all of them, and each can be asked for by its name. With build tags, all
    wheels would have one version, of which pip looks at a single wheel. A wheel made from an sdist, however, must have
    the sdist's version (PEP 643; pip refuses another), so it has this name as its build tag.
    """
    variant = f"cu{torch_cuda.replace('.', '')}" if torch_cuda else "cpu"
    label = "torch{}.{}.{}".format(*release(torch_version), variant)
    if from_sdist:
        return {"version": VERSION, "options": {"bdist_wheel": {"build_number": f"0{label}"}}}  # starts with a digit
    return {"version": f"{VERSION}+{label}"}


if __name__ == "__main__":
    if "sdist" in sys.argv:  # needs no torch, and requires no particular one
        setup(version=VERSION, install_requires=[*DEPENDENCIES, torch_requirement()])
    else:
        setup(**native_library())
