"""Draws the pictures of this documentation anew: runs each page that shows some, and keeps the files that it names.

    python docs/draw_pictures.py              all pages
    python docs/draw_pictures.py colors maps  some pages, by their names

The picture ``pictures/colors-u_matrix.png`` of the page ``colors.md`` is the file ``u_matrix.png`` that its blocks
write, wherever in the working folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PICTURES = DOCS / "pictures"


def pictures_of(page: Path) -> list[str]:
    """The names of the pictures that a page shows."""
    return re.findall(r"\]\((?:\.\./)?pictures/([\w.-]+)\)", page.read_text(encoding="utf-8"))


def written_by(page: Path, picture: str, folder: Path) -> Path:
    """The file in a working folder that is this picture."""
    name = picture.removeprefix(f"{page.stem}-")
    found = sorted(folder.rglob(name))
    if len(found) != 1:
        raise SystemExit(f"{page.relative_to(DOCS)} shows {picture}, and its blocks wrote {len(found)} files '{name}'")
    return found[0]


def draw(page: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": str(DOCS.parent)}
        subprocess.run([sys.executable, DOCS / "run_page.py", page], cwd=folder, env=environment, check=True)
        for picture in pictures_of(page):
            shutil.copyfile(written_by(page, picture, Path(folder)), PICTURES / picture)


def main() -> None:
    pages = {page.stem: page for page in sorted(DOCS.rglob("*.md")) if pictures_of(page)}
    names = sys.argv[1:] or list(pages)
    if unknown := [name for name in names if name not in pages]:
        raise SystemExit(f"no page that shows pictures is named {', '.join(unknown)}")
    for name in names:
        draw(pages[name])


if __name__ == "__main__":
    main()
