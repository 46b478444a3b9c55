"""Without something that the build needs, the user sees a one-sentence error from pip, setup.py and make.

In these tests, a build that finds torch stops at the next thing that it looks for, the compiler.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import children
import pytest

NO_TORCH = (
    "somvae_ext: it is compiled against torch, and none is installed: install torch and ninja first, or run "
    "'pip install .' without --no-build-isolation, which fetches them."
)
NO_COMPILER = "somvae_ext: the C++ compiler that CXX names, 'absent++', was not found."


@pytest.fixture(scope="module")
def checkout(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that the build reads. Building in the repository would leave files behind."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(root / name, copy)
    for folder in ("build_backend", "somvae_ext", "csrc"):
        shutil.copytree(root / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    return copy


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheels of the installed setuptools and ninja, which pip needs to build without a network.

    The wheel of ninja lacks the program, which is on PATH.
    """
    folder = tmp_path_factory.mktemp("wheels")
    for name in ("ninja", "setuptools"):
        installed = importlib.metadata.distribution(name)
        with zipfile.ZipFile(folder / f"{name}-{installed.version}-py3-none-any.whl", "w") as wheel:
            for file in installed.files or []:
                if file.suffix != ".pyc" and ".." not in file.parts:
                    wheel.write(file.locate(), str(file))
    return folder


@pytest.fixture(scope="module")
def pip_without_torch(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A pip command that installs, without a network, into an environment with only setuptools and ninja."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    install = [*pip, "install", "--no-index", "--find-links", str(wheels)]
    run([*install, "ninja", "setuptools"], environment).check_returncode()
    return install


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    # Without the caller's settings, pip looks for packages only where a test says.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment = {**inherited, "PIP_CONFIG_FILE": os.devnull, **environment}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def sentences(output: str) -> list[str]:
    """Returns this package's lines of the output, without pip's indentation."""
    return [line.strip() for line in output.splitlines() if line.strip().startswith("somvae_ext:")]


def test_pip_builds_against_the_torch_of_its_environment(checkout: Path, wheels: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(wheels), "--target", str(tmp_path)]
    result = run([*pip, "."], checkout, CXX="absent++")
    assert sentences(result.stdout + result.stderr) == [NO_COMPILER]


def test_pip_fetches_a_torch_to_build_against_where_there_is_none(checkout: Path, pip_without_torch: list[str]) -> None:
    result = run([*pip_without_torch, "."], checkout)
    assert result.returncode != 0
    assert "No matching distribution found for torch>=2.11" in result.stderr


def test_pip_install_without_isolation_says_that_torch_is_needed(checkout: Path, pip_without_torch: list[str]) -> None:
    result = run([*pip_without_torch, "--no-build-isolation", "."], checkout)
    assert result.returncode != 0
    assert sentences(result.stdout + result.stderr) == [NO_TORCH]
    assert "Traceback" not in result.stdout + result.stderr


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["setup.py", "build_ext"]
    return children.run(*command, imported=children.TORCH, cwd=folder, env={**os.environ, **environment})


def test_build_without_ninja_fails_with_one_sentence(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "c++").write_text("#!/bin/sh\n")
    (tmp_path / "c++").chmod(0o755)
    result = build(checkout, PATH=str(tmp_path), CXX="", SOMVAE_EXT_CUDA="0")
    assert result.returncode != 0
    assert sentences(result.stderr) == ["somvae_ext: ninja compiles it and was not found: run 'pip install ninja'."]


def test_build_without_a_compiler_fails_with_one_sentence(checkout: Path, tmp_path: Path) -> None:
    result = build(checkout, PATH=str(tmp_path), CXX="")
    assert result.returncode != 0
    assert result.stderr == (
        "somvae_ext: no C++ compiler was found (c++, g++ or clang++ on PATH): install one, on Debian with "
        "'apt install g++'.\n"
    )


def test_build_with_a_compiler_that_is_not_there_names_it(checkout: Path) -> None:
    result = build(checkout, CXX="absent++")
    assert result.returncode != 0
    assert result.stderr == f"{NO_COMPILER}\n"


def make_prerequisites(root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the checks with which ``make demo`` and ``make test`` begin in a fresh clone."""
    return run(["make", "--no-print-directory", "prerequisites"], root, **environment)


def write_python(folder: Path, fails_on: str) -> str:
    """Writes a stand-in for Python that fails if the program that it is given contains ``fails_on``."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\ncase "$2" in *{fails_on}*) exit 1 ;; esac\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_make_finds_all_prerequisites_here(root: Path) -> None:
    assert make_prerequisites(root, PYTHON=sys.executable).stderr == ""


@pytest.mark.parametrize(
    ("fails_on", "sentence"),
    [
        (
            "version_info",
            "Python 3.11 or newer is needed and '{python}' is older; name another with 'make PYTHON=...'.",
        ),
        ("ensurepip", "{python} lacks the venv module; on Debian 'apt install python3-venv' brings it."),
        ("sysconfig", "{python} lacks its headers (Python.h); on Debian 'apt install python3-dev' brings them."),
    ],
)
def test_make_says_what_python_lacks(root: Path, tmp_path: Path, fails_on: str, sentence: str) -> None:
    python = write_python(tmp_path, fails_on)
    result = make_prerequisites(root, PYTHON=python)
    assert result.returncode != 0
    assert sentences(result.stderr) == ["somvae_ext: " + sentence.format(python=python)]


def test_make_says_that_there_is_no_python(root: Path) -> None:
    result = make_prerequisites(root, PYTHON="absent-python")
    assert sentences(result.stderr) == [
        "somvae_ext: Python 3.11 or newer is needed and 'absent-python' was not found; name yours with "
        "'make PYTHON=...'."
    ]


def test_make_says_that_there_is_no_compiler(root: Path) -> None:
    result = make_prerequisites(root, PYTHON=sys.executable, CXX="absent++")
    assert sentences(result.stderr) == [
        "somvae_ext: a C++ compiler is needed and none was found (CXX, c++, g++, clang++); on Debian 'apt install g++' "
        "brings one."
    ]
