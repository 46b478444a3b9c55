"""The command ``somvae``: parse, call, print. Needs the extras ``train`` and ``plot``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

from somvae_ext.cli import evaluate, fit, info, plot, predict, sample, som
from somvae_ext.cli.interruptions import as_interruptions, exit_code
from somvae_ext.cli.options import parse
from somvae_ext.processes import OtherProcessFailed

_USER_ERROR = 2
_LONGEST_SENTENCE = 2000

# The extra that brings a module; distributions are named like the modules but for scikit-learn.
_EXTRA_OF_MODULE = {
    "jsonargparse": "train",
    "lightning": "train",
    "sklearn": "train",
    "torchvision": "train",
    "tqdm": "train",
    "scipy": "train",
    "matplotlib": "plot",
    "pandas": "table",
    "pyarrow": "table",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        Its exit code: 0, 2 after one sentence on stderr about what a user can mend, or 130, 143 or 129 after Ctrl-C,
        SIGTERM or SIGHUP.
    """
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
        commands = {
            "fit": fit,
            "evaluate": evaluate,
            "predict": predict,
            "sample": sample,
            "plot": plot,
            "som": som,
            "info": info,
        }
        with as_interruptions():
            commands[options.command].run(options[options.command])
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in _EXTRA_OF_MODULE:
            raise
        return _complain(f"{module} is not installed; run: pip install 'somvae_ext[{_EXTRA_OF_MODULE[module]}]'")
    except BrokenPipeError:  # whoever read our output, such as head, has had enough of it
        sys.stderr.close()
        return 0
    except OtherProcessFailed:  # which says why
        return _USER_ERROR
    except OSError as error:
        return _complain(_sentence(error))
    except (ValueError, FloatingPointError) as error:
        return _complain(str(error))
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        return _complain("there is not enough memory for this; choose smaller sizes, numbers or batches")
    except KeyboardInterrupt as interruption:
        _complain(str(interruption) or "interrupted")
        return exit_code(interruption)
    return 0


def _sentence(error: OSError) -> str:
    """What happened, without the number that Python puts before it."""
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def _is_out_of_memory(error: Exception) -> bool:
    # On the CPU torch raises a plain RuntimeError.
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error)


def _complain(sentence: str) -> int:
    if len(sentence) > _LONGEST_SENTENCE:  # it shows a value that is
        half = _LONGEST_SENTENCE // 2
        sentence = f"{sentence[:half]} ... {sentence[-half:]}"
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(f"somvae: {sentence}", file=sys.stderr)
    return _USER_ERROR
