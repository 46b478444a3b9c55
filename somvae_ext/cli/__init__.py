"""The command ``somvae``: parse, call, print. Needs the extras ``train`` and ``plot``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from somvae_ext.cli import evaluate, fit, info, plot, predict, sample, som
from somvae_ext.cli.options import parse

_USER_ERROR = 2
_INTERRUPTED = 130  # what a shell gives for a process that Ctrl-C ended

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
    """Runs the command and returns its exit code: 0, or 2 after one sentence on stderr about what a user can mend."""
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
        commands[options.command].run(options[options.command])
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in _EXTRA_OF_MODULE:
            raise
        return _complain(f"{module} is not installed; run: pip install 'somvae_ext[{_EXTRA_OF_MODULE[module]}]'")
    except BrokenPipeError:  # whoever read our output, such as head, has had enough of it
        sys.stderr.close()
        return 0
    except (ValueError, OSError, FloatingPointError) as error:
        return _complain(str(error))
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        return _complain("there is not enough memory for this; choose smaller sizes, numbers or batches")
    except KeyboardInterrupt as interrupt:
        _complain(str(interrupt) or "interrupted")
        return _INTERRUPTED
    return 0


def _is_out_of_memory(error: Exception) -> bool:
    # On the CPU torch raises a plain RuntimeError.
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error)


def _complain(sentence: str) -> int:
    print(f"somvae: {sentence}", file=sys.stderr)
    return _USER_ERROR
