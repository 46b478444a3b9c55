"""Reads the reports of pytest, compute-sanitizer and ncu, as rows of a result file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

MOST_FAILURES = 40  # failures reported with their message
MOST_REPORTS = 20  # reports of a sanitizer on our kernels that are kept whole
OUR_NAMESPACE = "somvae"


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def read_junit(path: Path) -> dict[str, Any]:
    """Counts and failures of a run of pytest."""
    suite = next(ElementTree.parse(path).iter("testsuite"))
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    counts["passed"] = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    failures = [
        {"test": test_name(case), "kind": kind, "message": (element.text or "")[-2000:]}
        for case in suite.iter("testcase")
        for kind in ("failure", "error")
        for element in case.iter(kind)
    ]
    slowest = sorted(suite.iter("testcase"), key=lambda case: -float(case.get("time", 0)))[:5]
    return {
        **counts,
        "seconds": float(suite.get("time", 0)),
        "failed": failures[:MOST_FAILURES],
        "slowest": {test_name(case): float(case.get("time", 0)) for case in slowest},
    }


def test_name(case: ElementTree.Element) -> str:
    return f"{case.get('classname')}.{case.get('name')}"


def no_test_ran(result: dict[str, Any]) -> str | None:
    """The objection to a run in which no test ran, which pytest may report as a success."""
    return "no test ran" if result["tests"] == result["skipped"] else None


def read_sanitizer(path: Path) -> dict[str, Any]:
    """Counts the reports of compute-sanitizer on our kernels and on others, such as torch's and CUB's.

    A report is a headline and the lines after it that are indented further. Some of them name the kernel, after "at ".
    """
    reports: list[list[str]] = []
    for line in path.read_text(errors="replace").splitlines():
        text = line.removeprefix("=========")
        if text == line or not text.strip():
            continue
        indent = len(text) - len(text.lstrip())
        if indent > 1 and reports:
            reports[-1].append(text.strip())
        else:
            reports.append([text.strip()])
    on_kernels = [report for report in reports if any(names_a_kernel(line) for line in report)]
    ours = [report for report in on_kernels if any(names_a_kernel(line) and OUR_NAMESPACE in line for line in report)]
    summaries = [report[0] for report in reports if "SUMMARY" in report[0]]
    return {
        "ours": len(ours),
        "of_others": len(on_kernels) - len(ours),
        "reports_on_ours": ours[:MOST_REPORTS],
        "summary": summaries[-1] if summaries else None,
    }


def names_a_kernel(line: str) -> bool:
    return line.startswith("at ") or (" at " in line and "(" in line)


def not_sanitized(result: dict[str, Any]) -> str | None:
    """The objection to a run that compute-sanitizer did not follow to its end."""
    return "compute-sanitizer wrote no summary" if result["summary"] is None else None


def read_ncu(path: Path) -> list[dict[str, Any]]:
    """One row for each kernel that ncu profiled, with the value and the unit of each metric."""
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.startswith('"')]
    rows: dict[str, dict[str, Any]] = {}
    for entry in csv.DictReader(lines):
        row = rows.setdefault(entry["ID"], {"kernel": kernel_name(entry["Kernel Name"])})
        value = entry["Metric Value"].replace(",", "")
        row[entry["Metric Name"]] = {"value": as_number(value), "unit": entry["Metric Unit"]}
    return list(rows.values())


def as_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def kernel_name(signature: str) -> str:
    """Name and template arguments, without the parameters: ``f<float, (int)1>`` of ``void f<float, (int)1>(Args)``."""
    depth = 0
    for place in range(len(signature) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(signature[place], 0)
        if signature[place] == "(" and depth == 0:
            return signature[:place].removeprefix("void ").strip()
    return signature
