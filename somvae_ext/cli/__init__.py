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
    """How a command ended: the exit code, and what is to be said about it on stderr."""

    exit_code: int
    sentence: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Of several processes that ``torchrun`` has started the first alone says that the command was interrupted, or that
    another process has ended; a signal may reach one of them or all.

    Returns:
        Its exit code: 0, or 1 if ``bench compare`` found something slower; 2 after one sentence on stderr about what
        a user can mend; 130, 143 or 129 after Ctrl-C, SIGTERM or SIGHUP.
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
    """Runs the command, and translates all errors that a user can mend."""
    options: Namespace | None = None
    try:
        with needed_by("the command line"):
            parsed = parse(argv)
        options = parsed[parsed.command]
        with needed_by(parsed.command):
            code = _COMMANDS[parsed.command].run(options) or 0
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a full disk is an error like any other
    except MissingLibraryError as error:
        return _user_error(str(error))
    except BrokenPipeError:  # whoever read our output, such as head, has had enough of it
        _flush(sys.stdout)
        return _Outcome(0)
    except OtherProcessFailed as error:
        return _peer_exit_outcome() if is_lost_connection(error) else _Outcome(_USER_ERROR)  # the other one says why
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
    """The sentence in the words of the command that runs; one about the command line itself is in these already."""
    known: dict[str, Any] = {} if options is None else vars(options)
    return rephrase_for_command(sentence, known)


def _user_error(sentence: str) -> _Outcome:
    return _Outcome(_USER_ERROR, sentence)


def _peer_exit_outcome() -> _Outcome:
    """That of a process which waited for another one that has ended."""
    return _Outcome(_USER_ERROR, "another process has ended, so this one ends too" if torchrun_rank() == 0 else None)


def _flush(stream: TextIO | None) -> None:
    """Writes what a stream holds back, or drops it where nobody reads it any more.

    Python does so as it ends, and where it cannot, complains and changes the exit code to 120.
    """
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def _sentence(error: OSError) -> str:
    """What happened, without the number that Python puts before it."""
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def _is_out_of_memory(error: Exception) -> bool:
    # On the CPU torch raises a plain RuntimeError.
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error)


def _complain(sentence: str) -> None:
    if len(sentence) > _LONGEST_SENTENCE:  # it shows a value that is
        half = _LONGEST_SENTENCE // 2
        sentence = f"{sentence[:half]} ... {sentence[-half:]}"
    with contextlib.suppress(OSError, ValueError):  # the terminal may be gone, or the stream closed
        print(f"somvae: {sentence}", file=sys.stderr)
