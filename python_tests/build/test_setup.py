"""What setup.py chooses: nvcc, architectures and sources; and its errors."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

# The architectures that nvcc 13.0 compiles for.
NVCC_13 = {"7.5", "8.0", "8.6", "8.7", "8.8", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1"}


def write_nvcc(folder: Path, version: str, archs: tuple[str, ...] = ("75", "90")) -> str:
    """Writes a stand-in for nvcc to ``folder/bin`` that answers setup.py's calls as nvcc does."""
    script = folder / "bin" / "nvcc"
    script.parent.mkdir(parents=True)
    lines = " ".join(f"compute_{arch}" for arch in archs)
    script.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        f'  --version) echo "Cuda compilation tools, release {version}, V{version}.88" ;;\n'
        f"  --list-gpu-arch) printf '%s\\n' {lines} ;;\n"
        f"  --dryrun) echo '#$ TOP={folder}/bin/..' >&2 ;;\n"
        "esac\n"
    )
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.14.1", (2, 14)), ("2.11.0+cu130", (2, 11)), ("2.12.0a0+git1234", (2, 12)), ("13.0", (13, 0))],
)
def test_a_version_is_compared_by_its_first_two_numbers(
    setup_py: ModuleType, version: str, expected: tuple[int, int]
) -> None:
    assert setup_py.release(version) == expected


def test_default_architectures_are_those_that_nvcc_knows_and_ptx_of_the_newest(setup_py: ModuleType) -> None:
    assert setup_py.arch_list(None, {"9.0", "7.5", "5.2"}) == "7.5;9.0+PTX"


def test_an_empty_list_of_architectures_means_the_defaults(setup_py: ModuleType) -> None:
    assert setup_py.arch_list("", {"9.0", "7.5", "5.2"}) == "7.5;9.0+PTX"


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        ("9.0", "9.0"),
        ("9.0+PTX 8.0", "8.0;9.0+PTX"),
        ("12.0;9.0a;8.6;8.6", "8.6;9.0a;12.0"),
        ("Hopper", "9.0+PTX"),
        ("Ampere;Turing", "7.5+PTX;8.0;8.6+PTX"),
    ],
)
def test_architectures_are_requested_in_every_form_that_torch_reads(
    setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch, requested: str, expected: str
) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", requested)
    assert setup_py.arch_list(requested, NVCC_13) == expected


@pytest.mark.parametrize(
    ("requested", "sentence"),
    [
        ("6.1;7.0", "'6.1;7.0' asks for 6.1, 7.0, for which nvcc cannot compile"),
        ("Volta 8.0", "'Volta 8.0' asks for 7.0, for which nvcc cannot compile"),
        ("sm_90", "'sm_90' (Unknown CUDA arch (sm_90) or GPU not supported)"),
        ("9.0+PTX+PTX", "'9.0+PTX+PTX' (Unknown CUDA arch (9.0+PTX+PTX) or GPU not supported)"),
        ("8.0,9.0", "'8.0,9.0' (Unknown CUDA arch (8.0,9.0) or GPU not supported)"),
        (" ", "' ' (Unknown CUDA arch () or GPU not supported)"),
    ],
)
def test_unknown_architectures_are_refused_with_a_list_of_the_known_ones(
    setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch, requested: str, sentence: str
) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", requested)
    with pytest.raises(SystemExit) as ended:
        setup_py.arch_list(requested, NVCC_13)
    assert str(ended.value).endswith(
        f"TORCH_CUDA_ARCH_LIST={sentence}: name some that this nvcc knows, 7.5, 8.0, 8.6, 8.7, 8.8, 8.9, 9.0, 10.0, "
        "10.3, 11.0, 12.0, 12.1, as in '7.5;12.1+PTX'."
    )


def test_the_native_architecture_of_a_machine_without_a_gpu_is_refused_in_a_sentence(
    setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "native")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SystemExit, match=r"'native' asks for this machine's GPUs, and torch finds none: name some "):
        setup_py.arch_list("native", NVCC_13)


def test_an_nvcc_that_knows_no_default_architecture_is_refused(setup_py: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"^somvae_ext: nvcc knows none of .* TORCH_CUDA_ARCH_LIST\.$"):
        setup_py.arch_list(None, {"3.5"})


def test_nvcc_is_asked_for_its_version_and_architectures(setup_py: ModuleType, tmp_path: Path) -> None:
    nvcc = write_nvcc(tmp_path, "13.0", ("75", "90", "100", "121"))
    assert setup_py.nvcc_version(nvcc) == "13.0"
    assert setup_py.known_archs(nvcc) == {"7.5", "9.0", "10.0", "12.1"}


def test_a_wrapper_script_leads_to_the_toolkit_behind_it(setup_py: ModuleType, tmp_path: Path) -> None:
    nvcc = write_nvcc(tmp_path / "cuda", "13.0")
    wrapper = tmp_path / "elsewhere" / "bin" / "nvcc"
    wrapper.parent.mkdir(parents=True)
    wrapper.write_text(f'#!/bin/sh\nexec {nvcc} "$@"\n')
    wrapper.chmod(0o755)
    assert setup_py.toolkit_of(str(wrapper)) == str(tmp_path / "cuda")


def test_the_first_nvcc_of_torchs_major_version_is_chosen(setup_py: ModuleType, tmp_path: Path) -> None:
    older, fitting, newer = (write_nvcc(tmp_path / version, version) for version in ("12.8", "13.0", "13.2"))
    assert setup_py.choose_nvcc("13.1", [older, fitting, newer], requested=None) == fitting


def test_cuda_home_comes_before_path(setup_py: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_home, on_path = write_nvcc(tmp_path / "home", "13.0"), write_nvcc(tmp_path / "path", "13.0")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path" / "bin"))
    assert setup_py.nvcc_candidates()[:2] == [in_home, on_path]


def test_of_the_installed_toolkits_the_newest_comes_first(
    setup_py: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {version: tmp_path / f"cuda-{version}" for version in ("9.2", "13.0", "12.8", "13.10")}
    for version, folder in folders.items():
        write_nvcc(folder, version)
    monkeypatch.setattr(setup_py.glob, "glob", lambda pattern: [str(folder) for folder in folders.values()])
    monkeypatch.setenv("PATH", "")
    found = [path for path in setup_py.nvcc_candidates() if path.startswith(str(tmp_path))]
    assert [Path(path).parents[1].name for path in found] == ["cuda-13.10", "cuda-13.0", "cuda-12.8", "cuda-9.2"]


def test_cuda_can_be_left_out(setup_py: ModuleType, tmp_path: Path) -> None:
    assert setup_py.choose_nvcc("13.0", [write_nvcc(tmp_path, "13.0")], requested="0") is None


def test_without_a_fitting_nvcc_the_build_is_for_the_cpu_and_says_why(
    setup_py: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nvcc = write_nvcc(tmp_path, "12.8")
    assert setup_py.choose_nvcc("13.0", [nvcc], requested=None) is None
    assert capsys.readouterr().out == (
        "somvae_ext: building for the CPU only, because torch was built with CUDA 13.0, which needs an nvcc 13.x, "
        f"and {nvcc} of CUDA 12.8 was found.\n"
    )


def test_insisting_on_cuda_without_an_nvcc_is_refused(setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMVAE_EXT_CUDA", "1")
    monkeypatch.setattr(setup_py, "nvcc_candidates", list)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(SystemExit) as ended:
        setup_py.native_library()
    assert str(ended.value) == (
        "somvae_ext: SOMVAE_EXT_CUDA=1 asks for CUDA, but torch was built with CUDA 13.0, which needs an nvcc 13.x, "
        "and no nvcc was found."
    )


def test_insisting_on_cuda_with_an_nvcc_of_another_major_version_names_both(
    setup_py: ModuleType, tmp_path: Path
) -> None:
    nvcc = write_nvcc(tmp_path, "12.8")
    with pytest.raises(SystemExit, match=rf"needs an nvcc 13\.x, and {nvcc} of CUDA 12\.8 was found\.$"):
        setup_py.choose_nvcc("13.0", [nvcc], requested="1")


def test_insisting_on_cuda_with_a_cpu_only_torch_is_refused(setup_py: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"but the installed torch is a build without CUDA\.$"):
        setup_py.choose_nvcc(None, [write_nvcc(tmp_path, "13.0")], requested="1")


def test_an_unknown_value_of_the_environment_variable_is_refused(setup_py: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"^somvae_ext: SOMVAE_EXT_CUDA must be 0 .*, 1 .* or unset, and is 'yes'\.$"):
        setup_py.choose_nvcc("13.0", [], requested="yes")


def test_a_torch_that_is_too_old_is_refused(setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    old_torch = SimpleNamespace(__version__="2.10.3+cpu", __spec__=ModuleSpec("torch", None, origin="torch.py"))
    monkeypatch.setitem(sys.modules, "torch", old_torch)
    with pytest.raises(SystemExit) as ended:
        setup_py.require_torch()
    assert str(ended.value) == "somvae_ext: torch 2.11 or newer is needed, and torch 2.10.3+cpu is installed."


def test_cxx_names_the_compiler(setup_py: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my c++").write_text("#!/bin/sh\n")
    (tmp_path / "my c++").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "my c++")
    assert setup_py.find_compiler() == "my c++"


@pytest.mark.parametrize("command", ["my++ -m64", "my++ g++"])
def test_cxx_with_arguments_which_torch_cannot_call_is_refused(
    setup_py: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    (tmp_path / "my++").write_text("#!/bin/sh\n")
    (tmp_path / "my++").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", command)
    with pytest.raises(SystemExit) as ended:
        setup_py.find_compiler()
    assert str(ended.value) == (
        f"somvae_ext: CXX must be the compiler alone, got {command!r}: put its options into CFLAGS, and leave out "
        "ccache, which torch calls by itself where it is installed."
    )


def test_gxx_is_used_where_there_is_no_other_compiler(
    setup_py: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "g++").write_text("#!/bin/sh\n")
    (tmp_path / "g++").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert setup_py.find_compiler() == "g++"


def test_the_pybind11_headers_are_those_of_torch(setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMVAE_EXT_CUDA", "0")
    (extension,) = setup_py.native_library()["ext_modules"]
    folders = [Path(folder) for folder in extension.include_dirs if (Path(folder) / "pybind11" / "pybind11.h").exists()]
    assert folders == [Path(torch.__file__).parent / "include"]


@pytest.mark.parametrize("suffixes", [("cpp",), ("cpp", "cu"), ("h", "cuh")])
def test_every_file_of_the_library_is_found_and_none_of_the_simulator(
    setup_py: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch, suffixes: tuple[str, ...]
) -> None:
    monkeypatch.chdir(root)
    paths = [path.relative_to(root) for path in (root / "csrc").rglob("*") if path.is_file()]
    expected = [str(path) for path in paths if path.suffix[1:] in suffixes and "simt" not in path.parts]
    assert expected
    assert setup_py.native_files(*suffixes) == sorted(expected)
