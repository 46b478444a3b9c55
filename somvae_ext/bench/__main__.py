"""``python -m somvae_ext.bench``: ``somvae bench`` with torch and numpy; training also needs scikit-learn and tqdm."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from somvae_ext.bench.options import add_options, description
from somvae_ext.bench.run import run
from somvae_ext.extras import MissingLibraryError

PROGRAM = "python -m somvae_ext.bench"
USER_ERROR, INTERRUPTED = 2, 130


class _Parser(argparse.ArgumentParser):
    """Reports an error in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"{PROGRAM}: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmarks or the comparison.

    Returns:
        The exit code: 0; 1 if a comparison found something slower; 2 after a user error, told in a sentence;
        130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if argv is None else argv
    parser = _Parser(
        prog=PROGRAM,
        description=description(),
        epilog=f"example:\n  {PROGRAM} bmu -N 100000 -K 4096 -D 64 --dtype bfloat16",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_options(parser)
    options = parser.parse_args(arguments)
    try:
        return run(options, f"{PROGRAM} {shlex.join(arguments)}")
    except KeyboardInterrupt as interruption:
        print(f"{PROGRAM}: {interruption or 'interrupted'}", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, MissingLibraryError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
