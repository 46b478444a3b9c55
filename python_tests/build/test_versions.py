"""How packaging/versions.py tries, records and tabulates pairs of Python and torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

Record = dict[str, Any]


def record(**changes: Any) -> Record:
    """Returns the record of a pair that passed all of its tests, with changes."""
    return {
        "python": "3.12.1",
        "torch": "2.14.1+cu130",
        "commit": "0123456789abcdef",
        "wheel": "somvae_ext-0.2.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        "compiler": "g++ 14.2",
        "native": True,
        "passed": 700,
        "failed": 0,
        "skipped": 4,
        "seconds": {"prepare": 20, "build": 300, "install": 5, "test": 200},
        "error": None,
    } | changes


def pair(python: str, torch: str, try_out: Callable[[], Record]) -> SimpleNamespace:
    """Returns a stand-in for a pair at commit 0123456789abcdef, with ``try_out`` in place of a real trial."""
    return SimpleNamespace(
        python=python, torch=torch, commit="0123456789abcdef", log="log.txt", try_out=try_out, clean_up=lambda: None
    )


def test_a_pair_is_proven_when_it_is_native_and_all_tests_passed(versions: ModuleType) -> None:
    assert versions.proven(record())


@pytest.mark.parametrize(
    "changes", [{"native": False}, {"failed": 1}, {"passed": 0}, {"error": "the build ended with exit code 1"}]
)
def test_a_pair_that_lacks_anything_is_not_proven(versions: ModuleType, changes: Record) -> None:
    assert not versions.proven(record(**changes))


def test_tests_that_ended_in_errors_count_as_failed(versions: ModuleType, tmp_path: Path) -> None:
    report = tmp_path / "tests.xml"
    suite = '<testsuite name="pytest" errors="2" failures="3" skipped="4" tests="19" time="1.0"></testsuite>'
    report.write_text(f'<?xml version="1.0"?><testsuites name="pytest tests">{suite}</testsuites>')
    assert versions.counts(report) == {"passed": 10, "failed": 5, "skipped": 4}


def test_a_failed_pair_is_recorded_and_the_next_one_tried(versions: ModuleType, tmp_path: Path) -> None:
    failed = record(torch="2.11.0", error="the build ended with exit code 1", native=False)
    pairs = [pair("3.12.1", "2.11.0", lambda: failed), pair("3.12.1", "2.14.1", record)]
    records = versions.try_pairs(pairs, tmp_path / "versions.json", keep=False)
    assert records == [failed, record()]
    assert json.loads((tmp_path / "versions.json").read_text()) == records


def test_a_pair_that_is_proven_on_the_same_commit_is_not_tried_again(versions: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "versions.json"
    file.write_text(json.dumps([record()]))
    tried_again = pair("3.12.1", "2.14.1", lambda: pytest.fail("was tried again"))
    assert versions.try_pairs([tried_again], file, keep=False) == [record()]


@pytest.mark.parametrize("former", [{"commit": "fedcba9876543210"}, {"failed": 1}])
def test_a_pair_of_another_commit_or_that_failed_is_tried_again(
    versions: ModuleType, tmp_path: Path, former: Record
) -> None:
    file = tmp_path / "versions.json"
    file.write_text(json.dumps([record(**former)]))
    assert versions.try_pairs([pair("3.12.1", "2.14.1", record)], file, keep=False) == [record()]


def test_the_table_names_the_platform_and_what_went_wrong(versions: ModuleType) -> None:
    failed = {"python": "3.13.0", "torch": "2.11.0", "commit": "0123456789abcdef", "native": False, "seconds": {}}
    failed["error"] = "the build ended with exit code 1"
    rows = versions.table([record(), failed]).splitlines()[2:]
    assert rows == [
        "| 3.12.1 | 2.14.1+cu130 | native | manylinux_2_28_x86_64 | g++ 14.2 | 700 | 0 | 4 | 012345678 |",
        "| 3.13.0 | 2.11.0 | the build ended with exit code 1 |  |  |  |  |  | 012345678 |",
    ]


@pytest.mark.parametrize("former", [[], [record(passed=1)], [record(passed=1), record(passed=2)]])
def test_only_the_table_of_a_page_is_replaced(versions: ModuleType, tmp_path: Path, former: list[Record]) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n\n" + versions.table(former) + "\nafter\n\nand more\n")
    versions.write_table(page, [record()])
    assert page.read_text() == "before\n\n" + versions.table([record()]) + "\nafter\n\nand more\n"
