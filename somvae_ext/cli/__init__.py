"""The command ``somvae``: parse, call, print. Needs the extra ``som`` for maps, ``train`` for models."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from somvae_ext.cli import bench, cluster, evaluate, experiment, export, fit, info, plot, predict, report, sample, tune
from somvae_ext.cli.interruptions import exit_code, raise_signals_as_exceptions
from somvae_ext.cli.options import parse
from somvae_ext.cli.printing import print_library_warnings
from somvae_ext.cli.wording import rephrase_for_command
from somvae_ext.extras import MissingLibraryError, needed_by
from somvae_ext.processes import OtherProcessFailed, is_lost_connection, torchrun_rank

if TYPE_CHECKING:
    from jsonargparse import Namespace

_COMMANDS = {
    "fit": fit,
    "tune": tune,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "sample": sample,
    "cluster": cluster,
    "plot": plot,
    "report": report,
    "experiment": experiment,
    "bench": bench,
    "info": info,
}

_USER_ERROR = 2
_LONGEST_SENTENCE = 2000


class _Outcome(NamedTuple):
    """How a command ended: its exit code, and the sentence to print on stderr, if any."""

    exit_code: int
    sentence: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Under ``torchrun``, only the first process reports that the command was interrupted or that another process has
    ended: a signal may reach one process or all of them.

    Returns:
        The exit code: 0; 1 if ``bench compare`` found something slower; 2 after one sentence on stderr about a mistake
        that the user can correct; 130, 143 or 129 after Ctrl-C, SIGTERM or SIGHUP.
    """
    rank = torchrun_rank()
    try:
        with raise_signals_as_exceptions(only_once=rank is not None):
            outcome = _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt as interruption:
        sentence = (str(interruption) or "interrupted") if rank in (None, 0) else None
        outcome = _Outcome(exit_code(interruption), sentence)
    if outcome.sentence is not None:
        _complain(outcome.sentence)
    _flush(sys.stderr)
    return outcome.exit_code


def _run(argv: Sequence[str]) -> _Outcome:
    """Runs the command, and turns the errors that a user can correct into sentences."""
    options: Namespace | None = None
    try:
        with needed_by("the command line"):
            parsed = parse(argv)
        options = parsed[parsed.command]
        with needed_by(parsed.command), print_library_warnings(vars(options)):
            code = _COMMANDS[parsed.command].run(options) or 0
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a full disk is reported like any other error
    except MissingLibraryError as error:
        return _user_error(str(error))
    except BrokenPipeError:  # the reader of our output, such as head, has closed the pipe
        _flush(sys.stdout)
        return _Outcome(0)
    except OtherProcessFailed as error:
        return _peer_exit_outcome() if is_lost_connection(error) else _Outcome(_USER_ERROR)  # the failed one says why
    except OSError as error:
        _flush(sys.stdout)
        return _user_error(_rephrase(_sentence(error), options))
    except (ValueError, FloatingPointError) as error:
        return _user_error(_rephrase(str(error), options))
    except (RuntimeError, MemoryError) as error:
        if torchrun_rank() is not None and is_lost_connection(error):
            return _peer_exit_outcome()
        if not _is_out_of_memory(error):
            raise
        return _user_error("there is not enough memory for this; choose smaller sizes, numbers or batches")
    return _Outcome(code)


def _rephrase(sentence: str, options: Namespace | None) -> str:
    """Rewords a sentence for the running command; without options it is about the command line and stays as it is."""
    known: dict[str, Any] = {} if options is None else vars(options)
    return rephrase_for_command(sentence, known)


def _user_error(sentence: str) -> _Outcome:
    return _Outcome(_USER_ERROR, sentence)


def _peer_exit_outcome() -> _Outcome:
    """The outcome of a process that was waiting for another process when that one ended."""
    return _Outcome(_USER_ERROR, "another process has ended, so this one ends too" if torchrun_rank() == 0 else None)


def _flush(stream: TextIO | None) -> None:
    """Flushes a stream, or discards its buffer if nobody reads the stream any more.

    Otherwise Python would flush it at exit and, on failure, print an error and change the exit code to 120.
    """
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), stream.fileno())


def _sentence(error: OSError) -> str:
    """Returns the message of an error, without the error number that Python puts before it."""
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def _is_out_of_memory(error: Exception) -> bool:
    # On the CPU torch raises a plain RuntimeError.
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error)


def _complain(sentence: str) -> None:
    if len(sentence) > _LONGEST_SENTENCE:  # it quotes a long value
        half = _LONGEST_SENTENCE // 2
        sentence = f"{sentence[:half]} ... {sentence[-half:]}"
    with contextlib.suppress(OSError, ValueError):  # the terminal may be gone, or the stream closed
        print(f"somvae: {sentence}", file=sys.stderr)
