"""What pytest, compute-sanitizer and ncu write, as rows for a result file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

MOST_FAILURES = 40  # that are told in full
OUR_NAMESPACE = "somvae"


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def read_junit(path: Path) -> dict[str, Any]:
    """Counts and failures of a run of pytest."""
    suite = next(ElementTree.parse(path).iter("testsuite"))
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    counts["passed"] = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    failures = [
        {"test": f"{case.get('classname')}.{case.get('name')}", "kind": kind, "message": (found.text or "")[-2000:]}
        for case in suite.iter("testcase")
        for kind in ("failure", "error")
        for found in case.iter(kind)
    ]
    slowest = sorted(suite.iter("testcase"), key=lambda case: -float(case.get("time", 0)))[:5]
    return {
        **counts,
        "seconds": float(suite.get("time", 0)),
        "failed": failures[:MOST_FAILURES],
        "slowest": {f"{case.get('classname')}.{case.get('name')}": float(case.get("time", 0)) for case in slowest},
    }


def no_test_ran(result: dict[str, Any]) -> str | None:
    """The objection to a run of tests that pytest takes for a success."""
    return "no test ran" if result["tests"] == result["skipped"] else None


def read_sanitizer(path: Path) -> dict[str, Any]:
    """What compute-sanitizer reported, apart for our kernels and for those of others, such as torch's and CUB's.

    A report is a headline and the lines after it that are indented further; the kernel is named by a line "at ...".
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
    found = [report for report in reports if any(line.startswith("at ") for line in report)]
    ours = [report for report in found if any(line.startswith("at ") and OUR_NAMESPACE in line for line in report)]
    summary = [report[0] for report in reports if "SUMMARY" in report[0]]
    return {
        "ours": len(ours),
        "of_others": len(found) - len(ours),
        "first_of_ours": ours[0][:12] if ours else None,
        "summary": summary[-1] if summary else None,
    }


def read_ncu(path: Path) -> list[dict[str, Any]]:
    """One row for each kernel that ncu profiled, with its metrics as numbers and their units."""
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.startswith('"')]
    rows: dict[str, dict[str, Any]] = {}
    for entry in csv.DictReader(lines):
        row = rows.setdefault(entry["ID"], {"kernel": kernel_name(entry["Kernel Name"])})
        number = entry["Metric Value"].replace(",", "")
        try:
            row[entry["Metric Name"]] = {"value": float(number), "unit": entry["Metric Unit"]}
        except ValueError:
            row[entry["Metric Name"]] = {"value": number, "unit": entry["Metric Unit"]}
    return list(rows.values())


def kernel_name(signature: str) -> str:
    """Name and template arguments, without the parameters: ``f<float, (int)1>`` of ``void f<float, (int)1>(Args)``."""
    depth = 0
    for place in range(len(signature) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(signature[place], 0)
        if signature[place] == "(" and depth == 0:
            return signature[:place].removeprefix("void ").strip()
    return signature
