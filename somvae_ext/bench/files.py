"""The result files of ``somvae bench``: what is written beside the rows, and how two files are told apart."""

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
    """What a file says beside its rows.

    ``seconds`` is how long the suite took, ``load_average`` that of 1, 5 and 15 minutes before it and after its last
    row, and ``one_thread_clock`` the function of Python's ``time`` that times with one thread on the CPU were taken by.
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
        """
        Raises:
            OSError: it cannot be read.
            ValueError: it is no file of ``somvae bench``.
        """
        try:
            contents = json.loads(path.read_text(encoding="utf-8"))
            if contents["schema"] != SCHEMA:
                raise ValueError
            return cls(path, contents, [Row.from_json(row) for row in contents["rows"]])
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} must be a file that somvae bench has written, with schema {SCHEMA}") from None


def differences(first: ResultFile, second: ResultFile) -> Iterator[str]:
    """A sentence for each thing but the code under test that is not the same in two files."""
    named = {
        "the processor": ("machine", "cpu"),
        "the number of cores": ("machine", "cores"),
        "the threads of torch": ("machine", "threads"),
        "the GPU": ("machine", "gpu", "name"),
        "torch": ("machine", "torch"),
        "Python": ("machine", "python"),
        "the instructions of the compiled library": ("machine", "somvae_ext", "simd"),
        "--quick": ("quick",),
    }
    for what, path in named.items():
        a, b = (value_at(file.contents, path) for file in (first, second))
        if a != b:
            yield f"{what} differs: {a} and {b}"
    peers = [file.contents.get("peers", {}) for file in (first, second)]
    for name in sorted(peers[0].keys() & peers[1].keys()):
        if peers[0][name] != peers[1][name]:
            yield f"{name} differs: {peers[0][name] or 'not installed'} and {peers[1][name] or 'not installed'}"


def changed_contestants(first: ResultFile, second: ResultFile) -> set[str]:
    """Contestants whose package has another version in the second file; what no file names is of torch."""
    packages = first.contents.get("contestants", {}) | second.contents.get("contestants", {})
    versions = [
        {**file.contents.get("peers", {}), "torch": value_at(file.contents, ("machine", "torch"))}
        for file in (first, second)
    ]
    names = {name for file in (first, second) for row in file.rows for name in row.samples}
    of = {name: packages.get(name, "torch") for name in names}
    return {name for name, package in of.items() if versions[0].get(package) != versions[1].get(package)}


def value_at(contents: dict[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = contents
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
