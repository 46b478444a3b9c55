"""Runs the blocks of a page of this documentation, in their order, in the working folder.

    python ../docs/run_page.py ../docs/tutorials/colors.md

Blocks fenced by ```python share one namespace, as the cells of a notebook do; those fenced by ```sh run in a shell that
stops at the first command that fails. Other blocks (```console, ```text) are to be read only.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

FENCE = re.compile(r"^```(python|sh)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    language: str
    code: str
    line: int  # of the page, where the code begins


def blocks_of(text: str) -> list[Block]:
    return [Block(found[1], found[2], text.count("\n", 0, found.start(2)) + 1) for found in FENCE.finditer(text)]


def run(page: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page.read_text(encoding="utf-8")):
        print(f"-- {page.name}, line {block.line}", flush=True)
        if block.language == "sh":
            subprocess.run(["sh", "-e", "-c", block.code], check=True)
        else:  # behind as many empty lines as precede the block, so that a traceback names lines of the page
            exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), namespace)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
