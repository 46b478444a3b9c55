"""Runs commands as the steps of a check that may be stopped at any moment, and keeps all results up to then.

Every step has its own time limit, and all steps share a budget. A step at its limit is interrupted, as by Ctrl-C, so it
can still write its results; then it is killed with all its children, and only that step is lost. The output of the
steps goes into one log, line by line, and the report is written after each step.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TextIO

LEAST_TIME = 5.0  # seconds that must be left for a step to start
LINES_KEPT = 60  # last lines of the output of a step that did not pass
COUNTS = ("passed", "failures", "errors", "skipped", "ours", "of_others")  # result fields shown in the summary


@dataclass(frozen=True)
class Step:
    """A command, and how its output is used.

    Attributes:
        limit: seconds that it may run.
        grace: seconds that it has, after an interrupt, to write its results.
        result: the file that the command writes, and the function that reads it for the report.
        output_is_result: whether that file is a copy of what the command prints.
        objection: returns what is wrong with the result of a command that passed, or None.
        skip: the reason why it is not run, or None.
        cannot_run: texts that the command prints if its tool does not work on this machine; it then counts as skipped.
        advisory: whether the check as a whole may pass if it fails.
    """

    name: str
    command: Sequence[str]
    limit: float
    grace: float = 10.0
    result: tuple[Path, Callable[[Path], Any]] | None = None
    output_is_result: bool = False
    objection: Callable[[Any], str | None] = lambda result: None
    environment: Mapping[str, str] = field(default_factory=dict)
    skip: str | None = None
    cannot_run: tuple[str, ...] = ()
    advisory: bool = False


class Check:
    """The steps of one call, and the report on them.

    Args:
        folder: where the report ``<name>.json`` and ``<name>.log`` go. An existing report keeps its entries for steps
            that are not run now.
        root: the folder that the commands run in.
        budget: seconds for all steps.
        begin: the start of the budget, by :func:`time.monotonic`.
        about: fields that each step's entry repeats, such as the commit.
    """

    def __init__(
        self, folder: Path, name: str, root: Path, budget: float, begin: float, about: Mapping[str, Any]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.root, self.about = root, dict(about)
        self.path = folder / f"{name}.json"
        self.budget, self.begin = budget, begin
        self.report: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {"steps": {}}
        self.log: TextIO = (folder / f"{name}.log").open("a")
        self.log_lock = threading.Lock()
        self.steps: list[Step] = []

    def run(self, *steps: Step) -> bool:
        """Runs steps side by side; returns whether all of them passed."""
        self.steps += steps
        running = []
        for step in steps:
            left = self.budget - (monotonic() - self.begin) - step.grace
            if step.skip or left < LEAST_TIME:
                self._enter(step, "skipped", 0.0, step.skip or f"the {self.budget:.0f} seconds of the check were spent")
                continue
            print(f"== {step.name}: {' '.join(step.command)}", flush=True)
            if step.result:
                step.result[0].parent.mkdir(parents=True, exist_ok=True)
                step.result[0].unlink(missing_ok=True)
            try:
                running.append(_Running(step, self.root, min(step.limit, left), self._write_log))
            except OSError as error:  # the command does not exist
                self._enter(step, "failed", 0.0, str(error))
        try:
            while sum(process.poll() for process in running):  # any() would poll only up to the first that runs
                sleep(0.05)
        except BaseException:
            for process in running:
                process.interrupt("the check was interrupted")
            while sum(process.poll() for process in running):
                sleep(0.05)
            raise
        finally:
            for process in running:
                self._enter(process.step, *process.outcome(), process.tail)
        return all(self.report["steps"][step.name]["outcome"] == "passed" for step in steps)

    def failed(self) -> list[str]:
        """The steps of this call that failed or were stopped, except advisory ones."""
        outcomes = {step.name: self.report["steps"][step.name]["outcome"] for step in self.steps if not step.advisory}
        return [name for name, outcome in outcomes.items() if outcome in ("failed", "stopped")]

    def summary(self) -> str:
        """A line for each step of this call."""
        lines = []
        for step in self.steps:
            entry = self.report["steps"][step.name]
            result = entry.get("result")
            counts = {name: result[name] for name in COUNTS if isinstance(result, dict) and name in result}
            text = "".join(f", {value} {name}" for name, value in counts.items())
            reason = f" ({entry['reason']})" if "reason" in entry else ""
            lines.append(f"  {step.name:12} {entry['outcome']:8} {entry['seconds']:6.1f} s{text}{reason}")
        return "\n".join(lines)

    def _enter(
        self, step: Step, outcome: str, seconds: float, reason: str | None = None, tail: Sequence[str] = ()
    ) -> None:
        """Writes the outcome of a step into the report, and prints it."""
        entry: dict[str, Any] = {
            "outcome": outcome,
            "seconds": round(seconds, 1),
            "limit": step.limit,
            **({"reason": reason} if reason else {}),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            **self.about,
            "command": " ".join(step.command),
        }
        if step.result and step.result[0].exists():
            path, read = step.result
            try:
                entry["result"] = read(path)
                path.unlink()
                if outcome == "passed" and (objection := step.objection(entry["result"])):
                    entry |= {"outcome": "failed", "reason": objection}
            except Exception as error:  # such as a file that was cut off
                entry["unreadable"] = f"{path.name}: {error!r}"
        outcome, reason = entry["outcome"], entry.get("reason")
        if outcome not in ("passed", "skipped"):
            entry["log"] = list(tail)
        self.report["steps"][step.name] = entry
        temporary = self.path.with_name(f".{self.path.name}.part")
        temporary.write_text(json.dumps(self.report, indent=1) + "\n")
        temporary.replace(self.path)
        for line in list(tail)[-15:]:
            print(f"   {line[:150]}")
        print(f"   {step.name} {outcome} after {seconds:.1f} s{f', {reason}' if reason else ''}", flush=True)

    def _write_log(self, name: str, line: str) -> None:
        with self.log_lock:
            self.log.write(f"{name}: {line}\n")
            self.log.flush()


class _Running:
    """The process of one step, with its limit."""

    def __init__(self, step: Step, root: Path, limit: float, write_log: Callable[[str, str], None]) -> None:
        self.step, self.limit = step, limit
        self.tail: deque[str] = deque(maxlen=LINES_KEPT)
        self.stopped: str | None = None
        self.killed_at: float | None = None  # end of the grace of an interrupted step
        self.cannot_run = False
        self.begin = monotonic()
        self.end: float | None = None
        self.process = subprocess.Popen(
            step.command,
            cwd=root,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **step.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # so that it can be killed with all its children
        )
        self.reader = threading.Thread(target=self._read, args=[write_log], daemon=True)
        self.reader.start()

    def _read(self, write_log: Callable[[str, str], None]) -> None:
        assert self.process.stdout
        with contextlib.ExitStack() as files:
            copy = None
            if self.step.result and self.step.output_is_result:
                copy = files.enter_context(self.step.result[0].open("w"))
            for line in self.process.stdout:
                self.tail.append(line.rstrip())
                self.cannot_run = self.cannot_run or any(text in line for text in self.step.cannot_run)
                write_log(self.step.name, line.rstrip())
                if copy:
                    copy.write(line)
                    copy.flush()

    def poll(self) -> bool:
        """Whether it still runs; enforces its limit."""
        if self.process.poll() is not None:
            if self.end is None:
                self.end = monotonic()
                self._kill()  # processes that it may have left running
                self.reader.join(timeout=5)
            return False
        if self.stopped is None and monotonic() - self.begin > self.limit:
            self.interrupt(f"stopped at its limit of {self.limit:.0f} s")
        elif self.killed_at is not None and monotonic() > self.killed_at:
            self._kill()
        return True

    def interrupt(self, reason: str) -> None:
        """Asks it to end, within its grace."""
        if self.process.poll() is None and self.stopped is None:
            self.stopped = reason
            self.killed_at = monotonic() + self.step.grace
            self.process.send_signal(signal.SIGINT)

    def outcome(self) -> tuple[str, float, str | None]:
        """The outcome (passed, failed, stopped or skipped), the seconds, and the reason."""
        seconds = (self.end or monotonic()) - self.begin
        if self.stopped:
            return "stopped", seconds, self.stopped
        if self.cannot_run:
            return "skipped", seconds, "the tool does not work on this machine or with its driver"
        if self.process.returncode:
            return "failed", seconds, f"exit status {self.process.returncode}"
        return "passed", seconds, None

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
