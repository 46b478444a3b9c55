"""The documentation: every block runs as it stands, every picture is drawn by its page, every link leads somewhere."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import children
import draw_pictures
import pytest
import run_page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md"))
WITH_BLOCKS = [page for page in PAGES if run_page.blocks_of(page.read_text(encoding="utf-8"))]
DOCUMENTS = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "csrc/README.md"))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder from which the package can be imported and the command is on PATH."""
    command = tmp_path / "bin" / "somvae"
    command.parent.mkdir()
    stand_ins = children.stand_ins(tmp_path)
    for name, arguments in (("somvae", "-m somvae_ext "), ("python", ""), ("torchrun", "-m torch.distributed.run ")):
        path = command.parent / name
        path.write_text(f'#!/bin/sh\nexec "{stand_ins[children.STAND_IN]}" {arguments}"$@"\n')
        path.chmod(0o755)
    for variable, value in stand_ins.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    work = tmp_path / "work"
    work.mkdir()
    return work


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name_of)
def test_blocks_run_and_write_the_pictures_of_the_page(page: Path, folder: Path) -> None:
    result = children.run(str(DOCS / "run_page.py"), str(page), cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    for picture in draw_pictures.pictures_of(page):
        assert draw_pictures.written_by(page, picture, folder).stat().st_size > 0


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pictures_are_there(page: Path) -> None:
    assert [name for name in draw_pictures.pictures_of(page) if not (draw_pictures.PICTURES / name).is_file()] == []


def test_every_picture_is_shown() -> None:
    shown = {name for page in PAGES for name in draw_pictures.pictures_of(page)}
    assert {path.name for path in draw_pictures.PICTURES.iterdir()} == shown


def anchors_of(page: Path) -> set[str]:
    """As GitHub and Sphinx make them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub("```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []
