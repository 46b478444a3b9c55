"""Names, requirements and contents of wheels and sdists. Nothing is compiled, so the wheels here lack the library."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from types import ModuleType

import children
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename
from packaging.version import Version

import somvae_ext

MINOR = ".".join(torch.__version__.split(".")[:2])
# Files that a working tree may contain and an sdist must not.
LEFTOVERS = (
    ".venv/lib/python/site.py",
    "benchmarks/results/ops.json",
    "build/cpython/csrc/bindings.o",
    "csrc/bmu/bmu.o.d",
    "demo/report.html",
    "python_tests/__pycache__/cases.pyc",
    "python_tests/browser/node_modules/axe-core/axe.js",
    "runs/manifest.json",
    "somvae_ext/_C.cpython-311-x86_64-linux-gnu.so",
)


@pytest.fixture(scope="module")
def checkout(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the files that working in it leaves behind."""
    copy = tmp_path_factory.mktemp("repository") / "somvae_ext"
    folders = (".ci", "build_backend", "csrc", "somvae_ext", "packaging", "python_tests", "benchmarks")
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "node_modules", "results")
    for folder in folders:
        shutil.copytree(root / folder, copy / folder, ignore=ignored)
    for file in root.iterdir():
        if file.is_file() and file.name != ".git":
            shutil.copy(file, copy)
    for name in LEFTOVERS:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).touch()
    return copy


@pytest.fixture(scope="module")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist that the build backend makes without torch."""
    folder = tmp_path_factory.mktemp("sdist")
    code = (
        "import sys; sys.modules['torch'] = None; sys.path.insert(0, 'build_backend'); import somvae_ext_build; "
        f"somvae_ext_build.build_sdist({str(folder)!r})"
    )
    made = children.run("-c", code, imported=children.TORCH, cwd=checkout)
    assert made.returncode == 0, made.stdout + made.stderr
    return next(folder.iterdir())


@pytest.fixture(scope="module")
def unpacked(sdist: Path) -> Path:
    with tarfile.open(sdist) as files:
        files.extractall(sdist.parent, filter="data")
    return sdist.with_name(sdist.name.removesuffix(".tar.gz"))


def make_wheel(source: Path, folder: Path) -> Path:
    """Builds a wheel of these sources without the library; setup.py chooses its name."""
    command = ["setup.py", "--quiet", "build_py", "bdist_wheel", "--skip-build", "--dist-dir", str(folder)]
    environment = {**os.environ, "SOMVAE_EXT_CUDA": "0"}
    made = children.run(*command, imported=children.TORCH, cwd=source, env=environment)
    assert made.returncode == 0, made.stdout + made.stderr
    return next(folder.iterdir())


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wheel(checkout, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def wheel_from_sdist(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wheel(unpacked, tmp_path_factory.mktemp("wheel-from-sdist"))


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(files.read(name).decode())


def requirements(metadata: Message) -> set[str]:
    """Returns the requirements of an installation without extras."""
    return {value for value in metadata.get_all("Requires-Dist", []) if "extra ==" not in value}


# ---- versions --------------------------------------------------------------------------------------------------------


def test_the_version_is_stated_in_one_file(root: Path) -> None:
    files = ["setup.py", "pyproject.toml", "CMakeLists.txt", "Makefile", "README.md"]
    paths = [*(root / file for file in files), *(root / "somvae_ext").rglob("*.py"), *(root / "csrc").rglob("*.cpp")]
    stated = re.compile(rf"(?<![\d.]){re.escape(somvae_ext.__version__)}(?![\d.])")
    stating = [str(path.relative_to(root)) for path in paths if stated.search(path.read_text())]
    assert stating == ["somvae_ext/_version.py"]


def test_a_wheel_has_the_version_of_the_package_and_names_its_torch(wheel: Path) -> None:
    assert metadata(wheel)["Version"] == f"{somvae_ext.__version__}+torch{MINOR}.cpu"


def test_an_sdist_has_the_version_of_the_package(sdist: Path) -> None:
    assert sdist.name == f"somvae_ext-{somvae_ext.__version__}.tar.gz"


def test_a_wheel_from_an_sdist_has_its_version(wheel_from_sdist: Path) -> None:
    """PEP 643 and pip require it."""
    assert metadata(wheel_from_sdist)["Version"] == somvae_ext.__version__


def test_a_wheel_from_an_sdist_names_its_torch_in_the_build_tag(wheel_from_sdist: Path) -> None:
    assert parse_wheel_filename(wheel_from_sdist.name)[2] == (0, f"torch{MINOR}.cpu")


@pytest.mark.parametrize("from_sdist", [False, True])
def test_no_two_wheels_of_a_version_have_the_same_name(setup_py: ModuleType, from_sdist: bool) -> None:
    built_with = [("2.13.0", None), ("2.14.1", None), ("2.14.1", "13.0"), ("2.14.1", "13.2")]
    names = [str(setup_py.wheel_name(*torch_and_cuda, from_sdist)) for torch_and_cuda in built_with]
    assert len(set(names)) == len(names)


def test_pip_prefers_the_local_version_with_the_newest_torch_and_then_cuda(setup_py: ModuleType) -> None:
    built_with = [("2.9.1", "13.0"), ("2.14.1", None), ("2.14.1", "13.0"), ("2.14.1", "13.2")]
    versions = [Version(setup_py.wheel_name(*torch_and_cuda, False)["version"]) for torch_and_cuda in built_with]
    assert versions == sorted(versions)


# ---- requirements ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", ["wheel", "wheel_from_sdist"])
def test_a_wheel_requires_the_minor_version_of_the_torch_it_was_built_with(
    request: pytest.FixtureRequest, made: str
) -> None:
    required = requirements(metadata(request.getfixturevalue(made)))
    assert required == {"numpy", "safetensors", f"torch=={MINOR}.*"}


def test_an_sdist_requires_any_torch_that_is_not_too_old(unpacked: Path) -> None:
    required = requirements(Parser().parsestr((unpacked / "PKG-INFO").read_text()))
    assert required == {"numpy", "safetensors", "torch>=2.11"}


@pytest.mark.parametrize(
    ("built_with", "runs", "fits"),
    [
        ("2.14.1+cu130", "2.14.0", True),
        ("2.14.1", "2.14.2+cpu", True),
        ("2.14.0a0+git1234", "2.14.0a0+git1234", True),
        ("2.14.1", "2.13.0", False),
        ("2.14.1", "2.15.0", False),
        ("2.1.0", "2.14.1", False),
    ],
)
def test_a_library_fits_the_torch_of_its_minor_version(
    setup_py: ModuleType, built_with: str, runs: str, fits: bool
) -> None:
    requirement = Requirement(setup_py.torch_requirement(built_with))
    assert requirement.specifier.contains(runs, prereleases=True) is fits


def stub_wheel(folder: Path, name: str, version: str) -> None:
    """Writes an empty wheel."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def install_beside(wheel: Path, torch_version: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs pip on a wheel when this version of torch is the only one available; nothing is installed."""
    for name, version in (("torch", f"{MINOR}.9"), ("torch", "2.11.9"), ("numpy", "2.0"), ("safetensors", "1.0")):
        stub_wheel(folder, name, version)
    (folder / "constraints.txt").write_text(f"torch=={torch_version}\n")
    options = ["--dry-run", "--ignore-installed", "--no-index", "--find-links", folder]
    command = [sys.executable, "-m", "pip", "install", *options, "--constraint", folder / "constraints.txt", wheel]
    unconfigured = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment = unconfigured | {"PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("made", ["wheel", "wheel_from_sdist"])
def test_pip_installs_a_wheel_beside_the_torch_it_was_built_with(
    request: pytest.FixtureRequest, tmp_path: Path, made: str
) -> None:
    outcome = install_beside(request.getfixturevalue(made), f"{MINOR}.9", tmp_path)
    assert f"torch-{MINOR}.9" in outcome.stdout, outcome.stderr


@pytest.mark.parametrize("made", ["wheel", "wheel_from_sdist"])
def test_pip_refuses_a_wheel_beside_another_torch(request: pytest.FixtureRequest, tmp_path: Path, made: str) -> None:
    outcome = install_beside(request.getfixturevalue(made), "2.11.9", tmp_path)
    assert outcome.returncode == 1
    assert f"depends on torch=={MINOR}.*" in outcome.stdout + outcome.stderr


# ---- the torch to build against --------------------------------------------------------------------------------------


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Imitates pip's isolated build: the environment's packages are in the folder returned, but not on sys.path."""
    (tmp_path / "environment").mkdir()
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "prefix", "/venv")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "build-requirements")])
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(tmp_path / "environment")])
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(tmp_path / "user"))
    return tmp_path / "environment"


def test_torch_of_the_environment_around_an_isolated_build_is_found(setup_py: ModuleType, isolated: Path) -> None:
    (isolated / "torch").mkdir()
    (isolated / "torch" / "__init__.py").touch()
    assert setup_py.reach_torch() is True


def test_build_requirements_come_before_packages_of_the_environment(setup_py: ModuleType, isolated: Path) -> None:
    (isolated / "torch.py").touch()
    requirements = list(sys.path)
    setup_py.reach_torch()
    assert sys.path == [*requirements, str(isolated)]


@pytest.mark.parametrize("in_virtual_environment", [False, True])
def test_torch_of_the_user_is_found_except_in_virtual_environments(
    setup_py: ModuleType, isolated: Path, monkeypatch: pytest.MonkeyPatch, in_virtual_environment: bool
) -> None:
    (isolated.parent / "user").mkdir()
    (isolated.parent / "user" / "torch.py").touch()
    monkeypatch.setattr(sys, "prefix", "/venv" if in_virtual_environment else sys.base_prefix)
    assert setup_py.reach_torch() is not in_virtual_environment


def test_an_empty_folder_named_torch_is_not_taken_for_torch(setup_py: ModuleType, isolated: Path) -> None:
    (isolated / "torch").mkdir()
    assert setup_py.reach_torch() is False


def test_an_environment_without_torch_is_left_out_of_the_build(setup_py: ModuleType, isolated: Path) -> None:
    before = list(sys.path)
    setup_py.reach_torch()
    assert sys.path == before


# ---- files -----------------------------------------------------------------------------------------------------------


def test_an_sdist_holds_what_builds_and_tests_the_kernels(root: Path, unpacked: Path) -> None:
    suffixes = (".cpp", ".cu", ".cuh", ".h", ".py", ".txt")
    folders = (".ci", "build_backend", "csrc", "packaging", "python_tests", "somvae_ext")
    expected = {
        str(path.relative_to(root))
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.suffix in suffixes and not {"node_modules", "__pycache__"} & set(path.parts)
    }
    expected |= {"CMakeLists.txt", "LICENSE", "Makefile", "constraints.txt", "pyproject.toml", "setup.py"}
    assert {name for name in expected if not (unpacked / name).is_file()} == set()


@pytest.mark.parametrize("leftover", LEFTOVERS)
def test_an_sdist_contains_no_leftover_files(unpacked: Path, leftover: str) -> None:
    assert not (unpacked / leftover).exists()


def test_a_wheel_holds_the_package_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        folders = {name.split("/")[0] for name in files.namelist()}
    assert folders == {"somvae_ext", f"{wheel.name.split('-cp')[0]}.dist-info"}
