"""The options of ``somvae bench``, for argparse and parsers with its interface, and the jobs that they request."""

from __future__ import annotations

import importlib
import textwrap
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from somvae_ext.bench.compare import LEAST_EFFECT
from somvae_ext.bench.rows import OURS
from somvae_ext.bench.suite import Option, Plan, Suite
from somvae_ext.bench.suites import SUITES
from somvae_ext.bench.timing import check_device
from somvae_ext.extras import needed_by
from somvae_ext.store import check_writable

COMPARE = "compare"
FOLDER = Path("runs/bench")
# Passes over the suite, and repetitions in each; compare.py says why.
PASSES, REPETITIONS = 1, 9
QUICK_PASSES, QUICK_REPETITIONS = 8, 2
MEASURING = (
    "quick",
    "only",
    "ops",
    "peers",
    "data_root",
    "device",
    "threads",
    "repeat",
    "passes",
    "out",
    "json",
    "overwrite",
    "no_picture",
    "quiet",
)


def description() -> str:
    width = max(map(len, [*SUITES, COMPARE]))
    suites = [f"  {suite.name:<{width}}  {suite.summary}" for suite in SUITES.values()]
    parts = [
        f"  {suite.name:<{width}}  {', '.join(suite.parts)}"
        for suite in SUITES.values()
        if suite.parts_option == "only"
    ]
    compared = f"  {COMPARE:<{width}}  two files of one suite: what has become slower, noise taken into account"
    intro = textwrap.fill(
        "Times this project beside other libraries, in turns, and writes JSON, a table and a picture. Libraries that "
        "are not installed are named. Without SUITE all suites run. Times with one thread are CPU time "
        "(time.process_time); with more threads, or when waiting for a disk, they are wall time.",
        100,
    )
    return "\n".join([intro, "", "suites:", *suites, compared, "", "parts of the suites, for --only:", *parts])


def own_options() -> dict[str, Option]:
    """The options of custom shapes, by name; an option means the same in all suites that share it."""
    return {option.name: option for suite in SUITES.values() for option in suite.options}


def add_options(parser: Any) -> None:
    parser.add_argument(
        "suite",
        nargs="?",
        metavar="SUITE",
        choices=[*SUITES, COMPARE],
        help=f"one of {', '.join(SUITES)}, or {COMPARE} (default: all suites)",
    )
    parser.add_argument(
        "files", nargs="*", type=str, metavar="FILE", help=f"for {COMPARE}: the earlier file and the later one"
    )
    group = parser.add_argument_group("what is measured")
    group.add_argument("--quick", action="store_true", help="small sizes; all suites in less than 5 minutes on 2 cores")
    group.add_argument("--only", type=str, nargs="+", metavar="PART", help="parts of SUITE, which are listed above")
    group.add_argument(
        "--ops", type=str, nargs="+", metavar="OP", help=f"for ops: which of {', '.join(SUITES['ops'].parts)}"
    )
    group.add_argument(
        "--peers",
        type=str,
        nargs="*",
        metavar="NAME",
        help="contestants or packages that take part beside ours; without a name, none (default: all)",
    )
    group.add_argument("--data-root", type=str, metavar="DIR", help="folder with MNIST/raw: also measure on its images")
    group = parser.add_argument_group("a custom shape, measured instead of a suite's own sizes")
    for option in own_options().values():
        suites = ", ".join(suite.name for suite in SUITES.values() if option in suite.options)
        metavar = (
            {"metavar": option.name.upper() if len(option.name) > 1 else "NUMBER"} if option.choices is None else {}
        )
        choices = {} if option.choices is None else {"choices": list(option.choices)}
        group.add_argument(option.flag, type=option.kind, help=f"{option.help} ({suites})", **metavar, **choices)
    group = parser.add_argument_group("how")
    group.add_argument("--device", choices=["cpu", "cuda"], help="device to measure on (default: cpu)")
    group.add_argument(
        "--threads",
        type=int,
        nargs="+",
        metavar="NUMBER",
        help="numbers of CPU threads, in turn (default: 1 and torch's number; with --quick 1)",
    )
    group.add_argument(
        "--repeat",
        type=int,
        metavar="NUMBER",
        help=f"repetitions of each contestant in a pass (default: {REPETITIONS}, or {QUICK_REPETITIONS} with --quick)",
    )
    group.add_argument(
        "--passes",
        type=int,
        metavar="NUMBER",
        help=f"passes over the suite, for comparisons on a shared machine (default: {PASSES}, or {QUICK_PASSES} with "
        "--quick)",
    )
    group = parser.add_argument_group("what is written")
    group.add_argument(
        "-o", "--out", type=str, metavar="DIR", help=f"folder for SUITE.json and SUITE.png (default: {FOLDER})"
    )
    group.add_argument("--json", type=str, metavar="FILE", help="file of a single suite; the picture goes beside it")
    group.add_argument("--overwrite", action="store_true", help="replace existing files")
    group.add_argument("--no-picture", action="store_true", help="draw nothing")
    group.add_argument("--quiet", action="store_true", help="print no progress line on stderr for each row")
    group = parser.add_argument_group(COMPARE)
    group.add_argument(
        "--least-effect",
        type=float,
        metavar="SHARE",
        help="differences below this share do not count: the test is whether a difference is larger "
        f"(default: {LEAST_EFFECT})",
    )


@dataclass(frozen=True)
class Job:
    """A suite to run, and where its rows go."""

    suite: Suite
    plan: Plan
    path: Path


def check_compare(options: Namespace) -> None:
    """Refuses options that a comparison of files does not use.

    Raises:
        ValueError: an option for measuring is set.
    """
    for name in (*MEASURING, *own_options()):
        if getattr(options, name) not in (None, False):
            raise ValueError(f"{flag_of(name)} is for measuring, and somvae bench {COMPARE} measures nothing")


def flag_of(name: str) -> str:
    own = own_options().get(name)
    return own.flag if own else f"--{name.replace('_', '-')}"


def jobs(options: Namespace) -> list[Job]:
    """The jobs that the options request, all checked before any of them runs.

    Raises:
        ValueError: an option is wrong or has no effect.
        MissingLibraryError: a suite needs a library that is not installed.
        FileExistsError: a file exists, and ``--overwrite`` is not set.
    """
    if options.files:
        raise ValueError(f"unexpected argument {options.files[0]!r}: files are for somvae bench {COMPARE}")
    if options.least_effect is not None:
        raise ValueError(f"--least-effect is for somvae bench {COMPARE}")
    for name in ("passes", "repeat", "threads"):
        values = getattr(options, name)
        for value in values if isinstance(values, list) else [] if values is None else [values]:
            if value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}")
    chosen = list(SUITES.values()) if options.suite is None else [SUITES[options.suite]]
    for suite in chosen:
        with needed_by(f"the suite {suite.name}"):
            for module in suite.requires:
                importlib.import_module(module)
    shape = own_shape(options, chosen)
    if options.json is not None and (options.suite is None or options.out is not None):
        raise ValueError("--json is for one suite, and in place of --out")
    device = check_device(options.device or "cpu")
    if device.type == "cuda" and options.threads is not None:
        raise ValueError("--threads is for --device cpu: on a GPU it changes nothing")
    check_peers(chosen, options, device)
    folder = FOLDER if options.out is None else Path(options.out)
    result = []
    for suite in chosen:
        if device.type == "cuda" and suite.name == "pruned" and options.suite is None:
            continue
        plan = plan_of(suite, options, device, shape)
        result.append(Job(suite, plan, folder / f"{suite.name}.json" if options.json is None else Path(options.json)))
    for job in result:
        check_destination(job.path, picture=not options.no_picture, may_replace=options.overwrite)
    return result


def plan_of(suite: Suite, options: Namespace, device: torch.device, shape: dict[str, Any]) -> Plan:
    root = None if options.data_root is None else Path(options.data_root)
    if root is not None and not root.is_dir():
        raise ValueError(f"--data-root must be a folder that exists, got {root}")
    if root is not None and options.suite is not None and (shape or not suite.reads_images):
        purpose = (
            "a suite's own sizes, and a custom shape is drawn at random"
            if suite.reads_images
            else f"images, and {suite.name} has none"
        )
        raise ValueError(f"--data-root is for {purpose}")
    threads = options.threads or sorted({1} | (set() if options.quick else {torch.get_num_threads()}))
    return Plan(
        device=device,
        threads=[None] if device.type == "cuda" else threads,
        repetitions=options.repeat or (QUICK_REPETITIONS if options.quick else REPETITIONS),
        passes=options.passes or (QUICK_PASSES if options.quick else PASSES),
        parts=chosen_parts(suite, options, device),
        quick=options.quick,
        shape=shape,
        peers=None if options.peers is None else frozenset(options.peers),
        data_root=root,
    )


def chosen_parts(suite: Suite, options: Namespace, device: torch.device) -> Sequence[str]:
    """The parts of a suite to measure: those that were requested, or its default parts.

    Raises:
        ValueError: the suite does not have this part or this option.
    """
    for option, owners in (("ops", "ops"), ("only", "a suite that has parts, and ops has --ops")):
        if getattr(options, option) is not None and (suite.parts_option != option or options.suite is None):
            raise ValueError(f"--{option} is for {owners}, got {options.suite or 'all suites'}")
    requested = getattr(options, suite.parts_option)
    for name in requested or ():
        if name not in suite.parts:
            raise ValueError(f"--{suite.parts_option} must be of {', '.join(suite.parts)}, got {name!r}")
    if requested is not None:
        return [part for part in suite.parts if part in requested]
    if suite.default_parts is None:
        return list(suite.parts)
    return suite.default_parts(device, options.quick, options.data_root is not None)


def check_peers(suites: Sequence[Suite], options: Namespace, device: torch.device) -> None:
    """Checks the names of ``--peers``.

    Raises:
        ValueError: one of ``--peers`` is known to none of the suites.
    """
    known = {name for suite in suites for name in (*suite.contestants(device), *suite.peers(device))} - {OURS}
    for name in options.peers or ():
        if name not in known:
            scope = suites[0].name if options.suite is not None else "all suites"
            raise ValueError(f"--peers must be of {', '.join(sorted(known)) or 'none'} for {scope}, got {name!r}")


def own_shape(options: Namespace, suites: Sequence[Suite]) -> dict[str, Any]:
    """The custom shape, by the names of its options; empty without one.

    Raises:
        ValueError: an option of a shape is set without a suite, belongs to another suite, or is too small.
    """
    shape = {name: getattr(options, name) for name in own_options() if getattr(options, name) is not None}
    for name, value in shape.items():
        option = own_options()[name]
        if options.suite is None:
            raise ValueError(f"{option.flag} needs a SUITE: somvae bench bmu {option.flag} {value}, say")
        (suite,) = suites
        if option not in suite.options:
            raise ValueError(
                f"{option.flag} is not for {suite.name}, which takes {', '.join(own.flag for own in suite.options)}"
            )
        if option.kind is not str and not (value >= 1 if option.kind is int else value > 0):
            raise ValueError(f"{option.flag} must be {'at least 1' if option.kind is int else 'positive'}, got {value}")
    if shape and options.only is not None:
        raise ValueError("--only is for a suite's own sizes, and a custom shape is one case")
    return shape


def check_destination(path: Path, *, picture: bool, may_replace: bool) -> None:
    """Checks that a result file, and its picture, can be written.

    Raises:
        FileExistsError: a file exists and may not be replaced, or its folder cannot be a folder.
        PermissionError: its folder cannot be written to.
        ValueError: the path is not that of a .json file, or is a folder.
    """
    if path.suffix != ".json":
        raise ValueError(f"--json must be a .json file, got {path}")
    check_writable(path.parent)
    for file in (path, *([picture_path(path)] if picture else [])):
        if file.is_dir():
            raise ValueError(f"{file} must be a file, but it is a folder")
        if file.exists() and not may_replace:
            raise FileExistsError(f"{file} is there already; choose another --out or --json, or set --overwrite")


def picture_path(path: Path) -> Path:
    return path.with_suffix(".png")
