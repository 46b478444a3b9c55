"""The result files of ``somvae bench``: their header, and the differences between two of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from somvae_ext.bench.rows import Row
from somvae_ext.bench.suite import Plan, Suite
from somvae_ext.bench.timing import ONE_THREAD_CLOCK
from somvae_ext.machine import describe

SCHEMA = 2


def header(suite: Suite, plan: Plan, command: str) -> dict[str, Any]:
    """The contents of a file besides its rows.

    ``seconds`` is the duration of the suite, ``load_average`` the load over 1, 5 and 15 minutes before the suite and
    after its last row, and ``one_thread_clock`` the function of Python's ``time`` that timed one thread on the CPU.
    """
    machine = describe(plan.device.type)
    peers = dict(suite.peers(plan.device))
    return {
        "schema": SCHEMA,
        "suite": suite.name,
        "command": command,
        "machine": machine,
        "one_thread_clock": ONE_THREAD_CLOCK.__name__ if plan.device.type == "cpu" else None,
        "seconds": 0.0,
        "load_average": {"before": os.getloadavg(), "after": None},
        "quick": plan.quick,
        "passes": plan.passes,
        "repetitions": plan.repetitions,
        "peers": peers,
        "contestants": dict(suite.contestants(plan.device)),
        "not_installed": [name for name, version in peers.items() if version is None],
        "remarks": dict(suite.remarks),
        "rows": [],
        "claims": [],
    }


@dataclass(frozen=True)
class ResultFile:
    path: Path
    contents: dict[str, Any]
    rows: list[Row]

    @classmethod
    def read(cls, path: Path) -> ResultFile:
        """Reads a file.

        Raises:
            OSError: it cannot be read.
            ValueError: it was not written by ``somvae bench``.
        """
        try:
            contents = json.loads(path.read_text(encoding="utf-8"))
            if contents["schema"] != SCHEMA:
                raise ValueError
            return cls(path, contents, [Row.from_json(row) for row in contents["rows"]])
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} must be a file that somvae bench has written, with schema {SCHEMA}") from None


def differences(first: ResultFile, second: ResultFile) -> Iterator[str]:
    """Yields a sentence for each difference between two files other than the code under test."""
    fields = {
        "the processor": ("machine", "cpu"),
        "the number of cores": ("machine", "cores"),
        "the threads of torch": ("machine", "threads"),
        "the GPU": ("machine", "gpu", "name"),
        "torch": ("machine", "torch"),
        "Python": ("machine", "python"),
        "the instructions of the compiled library": ("machine", "somvae_ext", "simd"),
        "--quick": ("quick",),
    }
    for label, path in fields.items():
        a, b = (value_at(file.contents, path) for file in (first, second))
        if a != b:
            yield f"{label} differs: {a} and {b}"
    peers = [file.contents.get("peers", {}) for file in (first, second)]
    for name in sorted(peers[0].keys() & peers[1].keys()):
        if peers[0][name] != peers[1][name]:
            yield f"{name} differs: {peers[0][name] or 'not installed'} and {peers[1][name] or 'not installed'}"


def changed_contestants(first: ResultFile, second: ResultFile) -> set[str]:
    """Contestants whose package has another version in the second file; torch is the package if no file names one."""
    packages = first.contents.get("contestants", {}) | second.contents.get("contestants", {})
    versions = [
        {**file.contents.get("peers", {}), "torch": value_at(file.contents, ("machine", "torch"))}
        for file in (first, second)
    ]
    names = {name for file in (first, second) for row in file.rows for name in row.samples}
    package_of = {name: packages.get(name, "torch") for name in names}
    return {name for name, package in package_of.items() if versions[0].get(package) != versions[1].get(package)}


def value_at(contents: dict[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = contents
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
