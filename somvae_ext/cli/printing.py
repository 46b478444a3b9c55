"""Prints tables to standard output, of names and values or of numbers in columns, and warnings to stderr."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from somvae_ext.cli.wording import is_about_parameters, rephrase_for_command
from somvae_ext.processes import torchrun_rank
from somvae_ext.report.metrics import EvaluationContext, measured_metrics


def print_table(rows: dict[str, str]) -> None:
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")


def print_metrics(evaluation: Mapping[str, Any], context: EvaluationContext) -> None:
    """Prints the metrics of an evaluation that belong in a summary, one per line."""
    shown = [item for item in measured_metrics(evaluation, context) if item.metric.in_summary]
    width = max((len(item.metric.title) for item in shown), default=0)
    for item in shown:
        print(f"{item.metric.title:<{width}}  {item.describe()}")


def print_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints numbers in columns under their names."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def print_description(description: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """Prints how the data were read, before the training, with advice in the words of the command.

    Notes, one sentence per line, are printed as warnings. A closed pipe does not stop the training.
    """
    with contextlib.suppress(BrokenPipeError):
        print_table(
            {title: rephrase_for_command(text, options) for title, text in description.items() if title != "note"}
        )
        print(flush=True)
    for note in description.get("note", "").splitlines():
        print_warning(note, options)


def print_warning(sentence: str, options: Mapping[str, Any]) -> None:
    """Prints a warning to stderr, in the words of the command, which goes on."""
    with contextlib.suppress(OSError, ValueError):  # nobody reads stderr any more
        print(f"somvae: {rephrase_for_command(sentence, options)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def print_library_warnings(options: Mapping[str, Any]) -> Iterator[None]:
    """Prints the library's warnings about parameters in the words of the command; others as Python prints them.

    Under ``torchrun`` only the first process prints them.
    """
    with warnings.catch_warnings():
        show = warnings.showwarning

        def print_or_show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not is_about_parameters(str(message)):
                show(message, category, filename, lineno, file, line)
            elif torchrun_rank() in (None, 0):
                print_warning(str(message), options)

        warnings.showwarning = print_or_show
        yield
