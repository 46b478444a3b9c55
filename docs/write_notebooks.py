"""Writes the notebooks of tutorials, in docs/notebooks: ``python docs/write_notebooks.py``.

A notebook has the text and the code of its page and no output, so that a change of the page is a small change of both.
The tests compare it with the page and run it.
"""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import nbformat

DOCS = Path(__file__).resolve().parent
NOTEBOOKS = DOCS / "notebooks"
PAGES = [DOCS / "tutorials" / f"{name}.md" for name in ("colors", "own-model", "large-maps")]


def notebook_of(page: Path) -> Path:
    return NOTEBOOKS / f"{page.stem}.ipynb"


def render(page: Path) -> str:
    """The notebook of a page, as text."""
    text = page.read_text(encoding="utf-8")
    link = re.escape(f"[notebook](../notebooks/{page.stem}.ipynb)")
    to_page = f"This notebook is also a\n[page](../tutorials/{page.name})"
    text, count = re.subn(rf"This page is also a\s{link}", to_page, text)
    if count != 1:
        raise ValueError(f"{page.name} must link to its notebook once by 'This page is also a', got {count} such links")
    # Links to pages beside this one; all others begin with "../", which leads out of either folder.
    text = re.sub(r"\]\((?=[\w-]+\.md)", "](../tutorials/", text)
    notebook = jupytext.reads(text, fmt="md")
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # jupytext draws them at random
    return nbformat.writes(notebook, version=4) + "\n"


def main() -> None:
    NOTEBOOKS.mkdir(exist_ok=True)
    for page in PAGES:
        notebook_of(page).write_text(render(page), encoding="utf-8")
        print(notebook_of(page).relative_to(DOCS.parent))


if __name__ == "__main__":
    main()
