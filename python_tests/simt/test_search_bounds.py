"""Every bound of the CUDA search is needed: without it, the search's test finds a wrong winner.

For each bound, a test removes it from a copy of the sources, compiles the copy for csrc/simt, and links it with objects
of test_simt's programs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from simt_programs import BUILD, ROOT

pytestmark = pytest.mark.slow

# Each bound, with the file in csrc/bmu, the text to replace there, and the replacement that removes the bound.
DEFECTS = {
    "the margin of approximate scores": (
        "tensor_core_search_kernel.cuh",
        "return 4 * *norms < INFINITY ? ",
        "return 4 * *norms < INFINITY ? 0 * ",
    ),
    "the low halves of float32": ("tensor_core_operands_kernel.cuh", "lo |= uint32_t(", "lo |= 0 & uint32_t("),
    "the limit of the second best": (
        "tensor_core_search_kernel.cuh",
        "limits.limit[row] = best.smallest[k - 1]",
        "limits.limit[row] = best.smallest[0]",
    ),
    "the limit of float32 scores": (
        "rescore_kernel.cuh",
        "score[j] <= limit",
        "score[j] * 1.000001f < limit",
    ),
    "the proof of rows that are certain": (
        "difference_search_kernel.cuh",
        "const bool certain = limit < INFINITY && key_score(slots[k]) > limit",
        "const bool certain = limit < INFINITY",
    ),
    "the rows with too many candidates": (
        "decide_kernel.cuh",
        "const bool too_many = count > kMostCandidates;",
        "const bool too_many = false;\n    count = min(count, kMostCandidates);",
    ),
    "float64": (
        "decide_kernel.cuh",
        "score = add_square(score, double(features.feature[e]) - double(code.feature[e]));",
        "score = add_square(float(score), float(features.feature[e] - code.feature[e]));",
    ),
    "sums that are never fused": (
        "score_tiles.cuh",
        "return __dadd_rn(sum, __dmul_rn(t, t));",
        "return fma(t, t, sum);",
    ),
    "the piece of a row's last block": (
        "exact_search_kernel.cuh",
        "ranges.begin(block) / ranges.code_tiles < row_tile",
        "0",
    ),
}


def compiled(sources: Path, folder: Path) -> Path:
    """Compiles the search's test with these sources in place of csrc, and returns the program."""
    compiler = os.environ.get("CXX", "c++")
    library, program = folder / "search.o", folder / "search"
    options = ["-std=c++20", "-O2", "-w", "-ffp-contract=off", "-DSOMVAE_SIMT", f"-I{sources}"]
    source = sources / "bmu" / "bmu_cuda.cu"
    subprocess.run([compiler, *options, "-x", "c++", "-c", source, "-o", library], check=True)
    (test,) = BUILD.glob("CMakeFiles/simt_test_bmu.dir/**/test_bmu.cpp.o")
    subprocess.run([compiler, "-o", program, test, library, BUILD / "libsimt_plain.a"], check=True)
    return program


def failures(program: Path) -> int:
    result = subprocess.run([program, "--size", "normal"], capture_output=True, text=True)
    lines = [line for line in result.stdout.splitlines() if line.endswith(" failed")]
    assert lines, result.stderr
    return sum(int(line.split()[-2]) for line in lines)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_bound_that_is_taken_out_is_missed(defect: str, tmp_path: Path) -> None:
    sources = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc", sources)
    name, present, replacement = DEFECTS[defect]
    path = sources / "bmu" / name
    text = path.read_text()
    assert text.count(present) == 1, f"{name} no longer has {present!r}"
    path.write_text(text.replace(present, replacement))
    assert failures(compiled(sources, tmp_path)) > 0


def test_with_all_bounds_no_winner_is_missed(tmp_path: Path) -> None:
    assert failures(compiled(ROOT / "csrc", tmp_path)) == 0
