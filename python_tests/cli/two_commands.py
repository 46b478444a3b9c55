"""The command ``somvae`` for test_torchrun.py to run under torchrun: it saves its process id and its exit code.

torchrun --nproc-per-node 2 two_commands.py ARGUMENT ...
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from somvae_ext.cli import main

if __name__ == "__main__":
    Path(f"pid_{os.environ['RANK']}").write_text(str(os.getpid()))
    code = main()
    Path(f"exit_{os.environ['RANK']}").write_text(str(code))
    sys.exit(code)
