"""The README's Python blocks and its shell examples run as they stand, each in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import children
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SHELL_BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


USES = ["ops", "colors", "digits", "search", "train", "clusterer", "relatives", "rows", "graph", "codes", "benchmark"]


def test_readme_shows_every_use() -> None:
    assert len(BLOCKS) == len(USES)


@pytest.mark.parametrize("block", BLOCKS, ids=USES)
def test_block_runs_without_warnings_from_the_package(block: str, tmp_path: Path) -> None:
    result = children.run("-W", "error:somvae_ext", "-c", block, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


class Run(NamedTuple):
    """The output of the shell example and the folder in which it ran."""

    printed: str
    folder: Path


@pytest.fixture(scope="module")
def shell_example(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the one shell example that trains, in a fresh shell."""
    (example,) = [block for block in SHELL_BLOCKS if "somvae fit" in block]
    folder = tmp_path_factory.mktemp("shell")
    command = folder / "bin" / "somvae"
    command.parent.mkdir()
    stand_ins = children.stand_ins(folder)
    command.write_text(f'#!/bin/sh\nexec "{stand_ins[children.STAND_IN]}" -m somvae_ext "$@"\n')
    command.chmod(0o755)
    environment = {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    environment |= stand_ins
    result = subprocess.run(["sh", "-e", "-c", example], cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return Run(result.stdout, folder)


def test_a_model_from_the_shell_runs_as_shown(shell_example: Run) -> None:
    printed = shell_example.printed
    assert "45 samples of the test split on 4 x 4 nodes" in printed
    # Three kinds of flowers, six standard deviations apart: a working map separates them.
    purity = re.findall(r"^purity +(\S+)$", printed, re.MULTILINE)
    assert len(purity) == 2  # printed by fit and by evaluate
    assert all(float(value) > 0.9 for value in purity)


def test_a_map_from_the_shell_runs_as_shown(shell_example: Run) -> None:
    printed, folder = shell_example
    assert re.search(r"^300 rows of 3 features on \d+ x \d+ nodes$", printed, re.MULTILINE)
    header, *rows = (folder / "nodes.csv").read_text().splitlines()
    assert header == "plant,node,row,column,distance_in_scaled_units,class,cluster"
    assert [row.split(",")[0] for row in rows] == [f"P{row}" for row in range(40)]
    assert [row.split(",")[5] for row in rows].count("a") == 14
    codes = (folder / "codes.csv").read_text().splitlines()
    assert codes[0] == "node,row,column,hits,class,cluster,length,width,height"
    pictures = {path.stem for path in (folder / "runs" / "map").glob("*.png")}
    assert pictures == {"hits", "u_matrix", "component_planes", "labels", "rgb", "clusters", "curves"}


def test_commands_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z-]+)\b", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"the README names 'make {target}'"


def test_named_files_exist() -> None:
    named = re.findall(r"`((?:benchmarks|csrc|python_tests|somvae_ext)/[\w./]*|constraints\.txt)`", README)
    assert [name for name in named if not (ROOT / name).exists()] == []
