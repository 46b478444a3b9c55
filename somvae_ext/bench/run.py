"""Runs ``somvae bench``: measures, writes, prints; or compares two files."""

from __future__ import annotations

import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from somvae_ext.bench.claims import conclude
from somvae_ext.bench.compare import ALPHA, LEAST_EFFECT, NOTHING, Compared, Comparison, compare, least_observations
from somvae_ext.bench.files import ResultFile, changed_contestants, differences, header
from somvae_ext.bench.options import COMPARE, Job, check_compare, jobs, picture_path
from somvae_ext.bench.picture import save_picture
from somvae_ext.bench.record import Record
from somvae_ext.bench.rows import Row
from somvae_ext.bench.table import progress_line, table
from somvae_ext.bench.timing import ONE_THREAD_CLOCK
from somvae_ext.extras import MissingLibraryError
from somvae_ext.machine import describe

SLOWER = 1  # exit code of a comparison


def run(options: Namespace, command: str) -> int:
    """Runs what the options of :func:`~somvae_ext.bench.options.add_options` request.

    Args:
        command: the command line, which the files record.

    Returns:
        The exit code: 1 if a comparison found something slower, otherwise 0.

    Raises:
        ValueError: the options or files are wrong; the message is one sentence.
        OSError: a file cannot be read or written, or exists already.
        KeyboardInterrupt: it was interrupted; what was measured is in the files.
    """
    if options.suite == COMPARE:
        return run_compare(options)
    todo = jobs(options)
    print(machine_text(describe(todo[0].plan.device.type)), flush=True)
    start = perf_counter()
    for job in todo:
        run_suite(job, command, start, options)
    return 0


def machine_text(machine: dict[str, Any]) -> str:
    where = machine["gpu"]["name"] if "gpu" in machine else f"{machine['cpu']}, {machine['cores']} cores"
    return f"{where}, torch {machine['torch']}; medians of ours, and how many times as long the others take"


def run_suite(job: Job, command: str, start: float, options: Namespace) -> None:
    """Writes each row as it is measured, then prints the table. Without a row, no file is written."""
    about = header(job.suite, job.plan, command)
    started = perf_counter()
    merged: dict[tuple[object, ...], Row] = {}
    record: Record | None = None
    try:
        for number in range(job.plan.passes):
            for row in job.suite.measure(replace(job.plan, number=number)):
                before = merged.get(row.key) if number else None
                merged[row.key] = before.with_pass(row) if before else row
                record = record or Record(job.path, **about)
                record.contents |= progress(about, started)
                record.put("rows", [row.as_json() for row in job.suite.derived(list(merged.values()))])
                if not (number or options.quiet):
                    say(progress_line(row, perf_counter() - start))
            if job.plan.passes > 1 and not options.quiet:
                say(f"{perf_counter() - start:6.1f} s  {job.suite.name}: pass {number + 1} of {job.plan.passes}")
    except KeyboardInterrupt as interruption:
        show(job, about, job.suite.derived(list(merged.values())))
        kept = f"; {len(merged)} rows are in {job.path}" if merged else ""
        raise type(interruption)(f"interrupted{kept}") from None
    rows = job.suite.derived(list(merged.values()))
    show(job, about, rows)
    if record is None:
        return
    record.contents |= progress(about, started)
    record.write()
    if not job.plan.quick and not job.plan.shape and (made := job.suite.claims(rows)):
        conclude(record, made)
    files = [job.path]
    if not options.no_picture and (drawn := draw(job, about, rows)):
        files.append(drawn)
    print(f"files: {', '.join(map(str, files))}", flush=True)


def progress(about: Mapping[str, Any], started: float) -> dict[str, Any]:
    """The fields of a file that change while the suite runs."""
    load = about["load_average"] | {"after": os.getloadavg()}
    return {"seconds": round(perf_counter() - started, 3), "load_average": load}


def show(job: Job, about: Mapping[str, Any], rows: Sequence[Row]) -> None:
    print(f"\n{job.suite.name}: {job.suite.summary}{clock_text(job.plan.threads)}")
    print(table(rows) if rows else "no rows")
    if missing := about["not_installed"]:
        print(f"not installed, so not measured: {', '.join(missing)}")


def clock_text(threads: Sequence[int | None]) -> str:
    """Says that times with one thread are CPU time and not wall time; empty without such times."""
    if 1 not in threads:
        return ""
    return f"; {'with 1 thread ' if len(threads) > 1 else ''}ms are CPU time ({ONE_THREAD_CLOCK.__name__})"


def draw(job: Job, about: Mapping[str, Any], rows: Sequence[Row]) -> Path | None:
    """Draws the picture beside the file, or says that matplotlib is missing."""
    machine, commit = about["machine"], about["machine"]["commit"]
    where = machine["gpu"]["name"] if "gpu" in machine else machine["cpu"]
    title = f"somvae bench {job.suite.name}: {where}" + (f", commit {commit}" if commit else "")
    try:
        return save_picture(picture_path(job.path), rows, title)
    except MissingLibraryError as error:
        say(f"no picture: {error}")
        return None


def say(text: str) -> None:
    """Prints to stderr, which may be closed."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


# --- Comparing -------------------------------------------------------------------------------------------------------


def run_compare(options: Namespace) -> int:
    check_compare(options)
    if len(options.files) != 2:
        raise ValueError(f"compare takes two files, the earlier one and the later one, got {len(options.files)}")
    least_effect = LEAST_EFFECT if options.least_effect is None else options.least_effect
    if not 0 <= least_effect < 10:
        raise ValueError(f"--least-effect must be a share from 0, such as 0.1 for 10 %, got {least_effect}")
    first, second = (ResultFile.read(Path(path)) for path in options.files)
    changed = changed_contestants(first, second)
    compared = compare(first.rows, second.rows, least_effect, changed)
    if not compared.rows:
        raise ValueError(f"{first.path} and {second.path} have no row in common")
    for sentence in differences(first, second):
        say(f"somvae bench: {sentence}")
    print(comparison_text(compared, least_effect), flush=True)
    if not any(row.enough for row in compared.rows):
        raise ValueError("the files have too few repetitions for a comparison")
    return SLOWER if compared.slower else 0


def comparison_text(compared: Comparison, least_effect: float) -> str:
    """A line for each row, the geometric mean, the number of rows with each verdict, and why some are unknown."""
    names = [row.label for row in compared.rows]
    width = max(map(len, names))
    lines = [f"{'':{width}}  time of the second file over that of the first, and its interval"]
    lines += [f"{row.label:<{width}}  {figures(row)}" for row in compared.rows]
    mean, low, high = compared.mean
    counts = {verdict: len(compared.with_verdict(verdict)) for verdict in ("slower", "faster", "same", "unknown")}
    lines += [
        f"{'geometric mean':<{width}}  {mean:.3f}  ({low:.3f} to {high:.3f})  {compared.overall}",
        f"{counts['slower']} slower, {counts['faster']} faster, {counts['same']} the same: a difference counts if it "
        f"is more than {least_effect:.3g} of the time, by a test that errs in less than {ALPHA:.0%} of comparisons of "
        f"{compared.corrected_for} rows",
    ]
    unjudged = sum(not row.enough for row in compared.rows)
    if unjudged:
        least = least_observations(max(1, compared.corrected_for))
        lines.append(
            f"{unjudged} unknown: a row needs at least {least} passes, or as many repetitions in a single pass "
            "(--passes, --repeat)"
        )
    if disputed := counts["unknown"] - unjudged:
        lines.append(
            f"{disputed} unknown: the other contestants changed, each in another way, and the time is within their "
            "range, so the machine's drift cannot be told from a difference"
        )
    if raw := sum(row.beside == NOTHING for row in compared.rows):
        lines.append(
            f"{raw} by raw times, as no other contestant of the same version took turns with ours in both files: they "
            "include the machine's drift"
        )
    for which, missing in (("first", compared.only_in_first), ("second", compared.only_in_second)):
        if missing:
            lines.append(f"{len(missing)} only in the {which} file: {'; '.join(missing)}")
    return "\n".join(lines)


def figures(row: Compared) -> str:
    interval = "" if row.high == float("inf") else f"  ({row.low:.3f} to {row.high:.3f})"
    return f"{row.ratio:.3f}{interval}  {row.verdict}"
