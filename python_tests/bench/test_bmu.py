"""The benchmark of the search: its problems and contestants, and the notes on contestants of lower precision."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from somvae_ext.bench import bmu
from somvae_ext.bench.bmu_contestants import ON_CPU, Contestant, Search
from somvae_ext.bench.bmu_problems import Problem, problems
from somvae_ext.bench.record import Record
from somvae_ext.bench.rows import OURS, Row
from somvae_ext.bench.suite import Plan
from somvae_ext.bench.table import table

CPU = torch.device("cpu")
CPU_HEADLINE = Problem("headline", 16384, 4096, 64)


def in_bfloat16(z: Tensor, codebook: Tensor, k: int) -> Search:
    return lambda: (torch.cdist(z.bfloat16().float(), codebook.bfloat16().float()).argmin(dim=1),)


def breaks(z: Tensor, codebook: Tensor, k: int) -> Search:
    raise ValueError("no such size")


def measured(problem: Problem, contestants: dict[str, Contestant]) -> Row:
    plan = Plan(CPU, [None], repetitions=1, parts=[], quick=True)
    (row,) = bmu.measure_problem(problem, contestants, plan, None)
    return row


def test_a_contestant_of_lower_precision_is_timed_and_marked() -> None:
    contestants = {OURS: ON_CPU[OURS], "bfloat16": Contestant(in_bfloat16), "exact": ON_CPU["torch cdist"]}
    row = measured(Problem("headline", 500, 200, 8), contestants)
    assert "rows have winners that rounding does not explain" in row.notes["bfloat16"]
    assert list(row.notes) == ["bfloat16"]
    assert row.others == ["bfloat16", "exact"]
    least = bmu.least_speedup(row)
    assert least is not None
    assert least[1] == "exact"  # claims ignore a contestant of lower precision
    assert "~" in table([row])


def test_a_contestant_that_fails_costs_only_its_row() -> None:
    row = measured(Problem("headline", 20, 30, 4), {OURS: ON_CPU[OURS], "broken": Contestant(breaks)})
    assert row.notes == {"broken": "failed: no such size"}
    assert row.samples.keys() == {OURS, "mm float32"}
    assert "broken: failed: no such size (headline N=20 K=30 D=4)" in table([row])


def test_codes_of_a_trained_map_lie_near_their_grid_neighbors() -> None:
    z, codebook = Problem("maps", 2000, 144, 16, data="sheet").tensors(CPU)
    side_by_side = (codebook.view(12, 12, 16).diff(dim=1)).norm(dim=2).mean()
    apart = torch.cdist(codebook, codebook).mean()
    assert z.shape == (2000, 16)
    assert side_by_side < 0.4 * apart


@pytest.mark.parametrize("part", ["headline", "maps", "D", "K", "dtype"])
def test_problems_for_a_gpu_are_so_large_that_launches_do_not_count(part: str) -> None:
    """Exempt are the CPU's headline and problems whose number of rows is capped to fit into memory."""
    sizes = [size for size in problems(part, 38, torch.device("cuda"), has_images=False) if size != CPU_HEADLINE]
    assert sizes
    for size in sizes:
        assert size.n * size.codes * max(size.dim, 64) * 2 >= 2**38 or size.n == 1 << 22


def test_problems_for_the_cpu_take_no_longer_than_the_headline() -> None:
    for part in ("headline", "maps", "D", "K"):
        assert all(size.work <= 2**33 for size in problems(part, 33, CPU, has_images=False))
    assert problems("headline", 33, CPU, has_images=False) == [CPU_HEADLINE]


def test_a_result_file_is_complete_after_every_row(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.json"
    record = Record(path, machine={}, results=[])
    assert json.loads(path.read_text()) == {"machine": {}, "results": []}
    record.add("results", {"row": 1})
    record.put("claims", [])
    assert json.loads(path.read_text()) == {"machine": {}, "results": [{"row": 1}], "claims": []}
    assert list(path.parent.iterdir()) == [path]


def test_make_bench_writes_no_file_that_is_tracked() -> None:
    makefile = (Path(__file__).resolve().parents[2] / "Makefile").read_text()
    (target,) = [line for line in makefile.splitlines() if "somvae bench" in line]
    assert target.split("--out ")[1].startswith("build/")
