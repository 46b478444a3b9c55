"""Builds ``somvae_ext._C``, the CPU kernels and, where an nvcc fits torch, the CUDA kernels. Metadata: pyproject.toml.

Environment:
    SOMVAE_EXT_CUDA: ``1`` insists on CUDA, ``0`` leaves it out; unset compiles it when an nvcc of torch's CUDA major
        version is found. A GPU is never asked for: build machines have none.
    CUDA_HOME: the toolkit to prefer. Otherwise the nvcc on PATH and those under /usr/local are tried.
    TORCH_CUDA_ARCH_LIST: the architectures to compile for, as everywhere in torch.
    CXX, MAX_JOBS: the C++ compiler and the number of parallel compilations.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from setuptools import setup

OLDEST_TORCH = (2, 11)
DEFAULT_ARCHS = ("7.5", "8.0", "8.6", "9.0", "10.0", "12.0")  # the newest also as PTX, for GPUs to come


def stop(sentence: str) -> NoReturn:
    """Ends the build with one sentence instead of a traceback."""
    raise SystemExit(f"somvae_ext: {sentence}")


def release(version: str) -> tuple[int, int]:
    """Major and minor number of a version: ``(2, 14)`` of ``"2.14.1+cu130"``."""
    major, minor = version.split("+")[0].split(".")[:2]
    return int(major), int(re.match(r"\d+", minor)[0])


def require_torch():
    """The installed torch, which the library is built against."""
    try:
        import torch
    except ImportError:
        stop(
            "it is built against the torch that you use, and this build finds none: install torch, setuptools and "
            "ninja, then run 'pip install --no-build-isolation .' (a plain 'pip install .' hides torch from the build)."
        )
    if release(torch.__version__) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        stop(f"torch {oldest} or newer is needed, and torch {torch.__version__} is installed.")
    return torch


def find_compiler() -> str:
    """The C++ compiler's command: CXX, else the first of c++, g++ and clang++ on PATH."""
    chosen = os.environ.get("CXX")
    for command in [chosen] if chosen else ["c++", "g++", "clang++"]:
        if shutil.which(shlex.split(command)[0]):
            return command
    if chosen:
        stop(f"the C++ compiler that CXX names, {chosen!r}, was not found.")
    stop("no C++ compiler was found (c++, g++ or clang++ on PATH): install one, on Debian with 'apt install g++'.")


def is_clang(compiler: str) -> bool:
    return "clang" in subprocess.run([*shlex.split(compiler), "--version"], capture_output=True, text=True).stdout


def nvcc_candidates() -> list[str]:
    """Every nvcc in reach, the preferred one first."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    on_path = shutil.which("nvcc")
    installed = ["/usr/local/cuda", *sorted(glob.glob("/usr/local/cuda-*"), reverse=True)]
    candidates = [os.path.join(home, "bin", "nvcc") for home in homes if home]
    candidates += [on_path] if on_path else []
    candidates += [os.path.join(home, "bin", "nvcc") for home in installed]
    return list(dict.fromkeys(path for path in candidates if os.access(path, os.X_OK)))


def nvcc_version(nvcc: str) -> str | None:
    """``"13.0"``, or None if it does not run."""
    try:
        output = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    except OSError:
        return None
    version = re.search(r"release (\d+\.\d+)", output)
    return version[1] if version else None


def toolkit_of(nvcc: str) -> str:
    """The toolkit's root. nvcc on PATH may be a wrapper script or a link, so nvcc itself is asked."""
    dry_run = subprocess.run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull], capture_output=True, text=True)
    top = re.search(r"^#\$ TOP=(.+)$", dry_run.stderr, re.MULTILINE)
    return os.path.realpath(top[1]) if top else os.path.dirname(os.path.dirname(os.path.realpath(nvcc)))


def known_archs(nvcc: str) -> set[str]:
    """Architectures that nvcc can compile for, written as in TORCH_CUDA_ARCH_LIST: ``{"9.0", "12.0", ...}``."""
    output = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True).stdout
    return {f"{number[:-1]}.{number[-1]}" for number in re.findall(r"compute_(\d+)", output)}


def arch_list(requested: str | None, known: Iterable[str]) -> str:
    """What to compile for: the requested list as it is, else the defaults that nvcc knows, the newest also as PTX."""
    if requested:
        return requested
    archs = [arch for arch in DEFAULT_ARCHS if arch in set(known)]
    if not archs:
        stop(f"nvcc knows none of the architectures {', '.join(DEFAULT_ARCHS)}: name yours in TORCH_CUDA_ARCH_LIST.")
    return ";".join(archs) + "+PTX"


def choose_nvcc(torch_cuda: str | None, candidates: Iterable[str], requested: str | None) -> str | None:
    """The nvcc to use, or None for a CPU-only build.

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
    """The library's files with these suffixes, relative to this file. Those of csrc/simt are for tests only."""
    paths = [path for suffix in suffixes for path in glob.glob(f"csrc/**/*.{suffix}", recursive=True)]
    return sorted(path for path in paths if not path.startswith("csrc/simt/"))


def native_library():
    """The extension ``somvae_ext._C`` and the setuptools command that builds it."""
    torch = require_torch()
    compiler = find_compiler()
    os.environ["CXX"] = compiler  # what torch's build command calls
    nvcc = choose_nvcc(torch.version.cuda, nvcc_candidates(), os.environ.get("SOMVAE_EXT_CUDA"))
    macros: list[tuple[str, str | None]] = []
    if nvcc:
        # torch would guess both: the toolkit from the folder above nvcc, which is wrong for a wrapper, and the
        # architectures from the GPUs of this machine, which may have none.
        os.environ["CUDA_HOME"] = toolkit_of(nvcc)
        archs = arch_list(os.environ.get("TORCH_CUDA_ARCH_LIST"), known_archs(nvcc))
        os.environ["TORCH_CUDA_ARCH_LIST"] = archs
        macros = [
            ("SOMVAE_EXT_WITH_CUDA", None),
            ("SOMVAE_EXT_CUDA_ARCHS", f'"{archs}"'),
            ("SOMVAE_EXT_CUDA_VERSION", f'"{nvcc_version(nvcc)}"'),
        ]
        print(f"somvae_ext: building with {nvcc} for {archs}.")

    from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension

    class BuildLibrary(BuildExtension):
        def finalize_options(self) -> None:
            super().finalize_options()
            # An editable install would compile in a temporary folder, and so everything again each time.
            self.build_temp = f"build/{sys.implementation.cache_tag}"

    # Contraction, the compilers' own default: GCC has no other way to say a fused multiply-add of two vectors. The
    # search's first pass allows for either; what must not be fused says so (csrc/bmu/exact_scores_cpu_kernel.h).
    # OpenMP is how at::parallel_for runs on threads. Its runtime is torch's own, already loaded, hence no link flag;
    # clang's differs from torch's and is linked.
    cxx = ["-std=c++20", "-O3", "-g0", "-fvisibility=hidden", "-ffp-contract=fast", "-fopenmp"]
    cxx += ["-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-unused-parameter", "-Wno-psabi"]
    # No flag may contain "arch": torch would then leave its own -gencode flags out.
    cuda = ["-std=c++20", "-O3", "-lineinfo"]
    cuda += ["-Xcompiler=-fvisibility=hidden,-Wall"]
    extension = (CUDAExtension if nvcc else CppExtension)(
        "somvae_ext._C",
        native_files("cpp", "cu") if nvcc else native_files("cpp"),
        depends=[*native_files("h", "cuh"), "setup.py"],
        include_dirs=[str(Path(__file__).resolve().parent / "csrc")],
        define_macros=macros,
        extra_compile_args={"cxx": cxx, "nvcc": cuda} if nvcc else {"cxx": cxx},
        extra_link_args=["-fopenmp"] if is_clang(compiler) else [],
    )
    return extension, BuildLibrary


if __name__ == "__main__":
    extension, build_command = native_library()
    setup(ext_modules=[extension], cmdclass={"build_ext": build_command})
