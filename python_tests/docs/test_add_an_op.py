"""The worked example of docs/add-an-op.md: its kernels pass their tests, built by the page's own commands."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "add-an-op.md").read_text(encoding="utf-8")


def blocks_of_files() -> dict[str, str]:
    """Joins the blocks that follow the bold name of a file, under that name."""
    files: dict[str, str] = {}
    name = ""
    for bold, code in re.findall(r"^\*\*`([\w./]+)`\*\*|^```(?:cpp|py)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        name = bold or name
        if code:
            files[name] = files.get(name, "") + code
    return files


FILES = blocks_of_files()
PYTHON = [name for name in FILES if name.endswith(".py")]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the sources of the kernels, with the example's files and its declarations in ops.h."""
    for folder in ("csrc", "python_tests/simt"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for name, code in FILES.items():
        path = tmp_path / name
        if name == "csrc/ops.h":
            before, brace, after = path.read_text().rpartition("}  // namespace somvae")
            code = before + code + brace + after
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    return tmp_path


def run(folder: Path, command: str) -> str:
    result = subprocess.run(["sh", "-ec", command], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_kernels_pass_their_test_on_the_cpu_and_on_the_simulator(clone: Path) -> None:
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (commands,) = [block for block in blocks if "$ g++" in block]
    printed = run(clone, re.sub(r"^\$ ", "", commands, flags=re.MULTILINE))
    groups = re.findall(r"^(.+), squared_norms, \w+: [1-9]\d* checks, 0 failed$", printed, re.MULTILINE)
    assert groups == ["cpu"] * 4 + ["cuda on simt"] * 4, printed  # a group for each dtype
    launched = re.findall(r"^launched: (\w+)", printed, re.MULTILINE)
    assert set(launched) == {"squared_norms_kernel", "squared_norms_backward_kernel"}


def test_the_op_compiles(clone: Path) -> None:
    includes = " ".join(f"-isystem '{path}'" for path in cpp_extension.include_paths())
    run(clone, f"g++ -std=c++20 -fsyntax-only -Wall -Wextra -Werror -Icsrc {includes} csrc/norms/squared_norms.cpp")


@pytest.mark.parametrize("name", PYTHON)
def test_python_files_compile(name: str) -> None:
    compile(FILES[name], name, "exec")


def test_the_reference_adds_up_squares() -> None:
    namespace: dict[str, Any] = {}
    exec(FILES["somvae_ext/ops/_squared_norms.py"], namespace)
    x = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(namespace["squared_norms_reference"](x), (x @ x.T).diagonal())
