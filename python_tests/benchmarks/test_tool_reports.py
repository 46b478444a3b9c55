"""Parsing of the output of compute-sanitizer and ncu."""

from __future__ import annotations

from pathlib import Path

import pytest
from tool_reports import kernel_name, not_sanitized, read_ncu, read_sanitizer

SANITIZER = """\
========= COMPUTE-SANITIZER
========= Uninitialized __global__ memory read of size 8 bytes
=========     at void cub::CUDA_130200_SM_900::DeviceRadixSortUpsweepKernel<int>(T1 *)+0x5a0
=========     by thread (0,0,0) in block (0,0,0)
=========     Address 0x7f0000000000
=========     Saved host backtrace up to driver entry point at kernel launch time
=========         Host Frame: main [0x1234] in python3
=========
========= Uninitialized __global__ memory read of size 4 bytes
=========     at void somvae::decide_kernel<float, (int)1>(somvae::Decide<T1>)+0x90
=========     by thread (3,0,0) in block (1,0,0)
=========
every op ran
========= ERROR SUMMARY: 2 errors
"""

RACECHECK = """\
========= COMPUTE-SANITIZER
========= Error: Race reported between Write access at void somvae::som_head_kernel<float>(somvae::Args<T1>)+0xd0
=========     and Read access at void somvae::som_head_kernel<float>(somvae::Args<T1>)+0x1a0 [12 hazards]
=========
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""

NCU = """\
==PROF== Connected to process 1
"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","void somvae::search<float, (int)1, (int)8>(somvae::Search<T1>)","dram__bytes.sum","byte","1,024"
"0","void somvae::search<float, (int)1, (int)8>(somvae::Search<T1>)","gpu__time_duration.sum","ns","5120.5"
"1","void somvae::som_head_kernel<float>(somvae::SomHeadArgs<T1>)","dram__bytes.sum","byte","n/a"
==PROF== Disconnected
"""


def test_reports_on_our_kernels_are_counted_apart(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(SANITIZER)
    found = read_sanitizer(tmp_path / "log")
    assert (found["ours"], found["of_others"]) == (1, 1)
    assert [report[0] for report in found["reports_on_ours"]] == [
        "Uninitialized __global__ memory read of size 4 bytes"
    ]
    assert found["summary"] == "ERROR SUMMARY: 2 errors"


def test_a_clean_run_has_no_reports(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n")
    found = read_sanitizer(tmp_path / "log")
    assert (found["ours"], found["of_others"], found["reports_on_ours"]) == (0, 0, [])
    assert not_sanitized(found) is None


def test_a_race_names_its_kernel_in_the_headline(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(RACECHECK)
    found = read_sanitizer(tmp_path / "log")
    assert (found["ours"], found["of_others"]) == (1, 0)
    assert len(found["reports_on_ours"][0]) == 2


def test_a_log_without_a_summary_is_reported(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("every op ran\n")
    assert not_sanitized(read_sanitizer(tmp_path / "log")) == "compute-sanitizer wrote no summary"


def test_every_kernel_that_was_profiled_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "csv").write_text(NCU)
    assert read_ncu(tmp_path / "csv") == [
        {
            "kernel": "somvae::search<float, (int)1, (int)8>",
            "dram__bytes.sum": {"value": 1024.0, "unit": "byte"},
            "gpu__time_duration.sum": {"value": 5120.5, "unit": "ns"},
        },
        {"kernel": "somvae::som_head_kernel<float>", "dram__bytes.sum": {"value": "n/a", "unit": "byte"}},
    ]


@pytest.mark.parametrize(
    ("signature", "name"),
    [("void f<float, (int)1>(Args<T1>, void (*)(int))", "f<float, (int)1>"), ("g(int)", "g"), ("h", "h")],
)
def test_a_kernel_is_named_without_its_parameters(signature: str, name: str) -> None:
    assert kernel_name(signature) == name
