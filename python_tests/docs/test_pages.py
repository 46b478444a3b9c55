"""The documentation: every block runs as it stands, every picture is drawn by its page, every link leads somewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path

import children
import draw_pictures
import nbclient
import nbformat
import pytest
import run_page
import write_notebooks

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
README, SHELL = ROOT / "README.md", DOCS / "shell.md"
OTHERS = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "csrc/README.md", "packaging/README.md")]
DOCUMENTS = [*PAGES, README, *OTHERS]
WITH_BLOCKS = [page for page in (*PAGES, README) if run_page.blocks_of(page.read_text(encoding="utf-8"))]
# The first two are run, "py" is for parts of files of a clone.
FENCES = {"python", "sh", "py", "console", "text", "cpp", "{toctree}", "{eval-rst}", "{include} ../CONTRIBUTING.md"}
FENCED = re.compile(r"^[ \t]*```.*?^[ \t]*```$", re.DOTALL | re.MULTILINE)
OUTPUT = re.compile(r"^```python\n(?:(?!```).*\n)*```\n\n?```text\n((?:(?!```).*\n)*)```$", re.MULTILINE)
MADE_ON_A_PAGE = re.compile("norms|gpu_check.json")  # files of the op that add-an-op.md adds, and of a run on a GPU


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


def check_pictures(page: Path, folder: Path) -> None:
    for picture in draw_pictures.pictures_of(page):
        assert draw_pictures.written_by(page, picture, folder).stat().st_size > 0


def check_output(page: Path, printed: str) -> None:
    """A text block right after a Python block shows what the block prints."""
    shown = "".join(OUTPUT.findall(page.read_text(encoding="utf-8"))).splitlines()
    assert [line for line in shown if line not in printed.splitlines()] == []


def run_blocks(page: Path, folder: Path) -> str:
    """Runs the blocks of a page and returns what they print. Warnings of the package are errors."""
    result = children.run("-W", "error:somvae_ext", str(DOCS / "run_page.py"), str(page), cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    check_pictures(page, folder)
    check_output(page, result.stdout)
    return result.stdout


@pytest.mark.parametrize(
    "page", [page for page in WITH_BLOCKS if page not in (SHELL, *write_notebooks.PAGES)], ids=name_of
)
def test_blocks_run_and_write_the_pictures_of_the_page(page: Path, folder: Path) -> None:
    run_blocks(page, folder)


def names_in(table: str) -> re.Pattern[str]:
    """Matches the files that a table of shell.md names; E in a name stands for an epoch."""
    names = re.findall(r"`([\w.-]+\.\w+)`", table)
    return re.compile("|".join(re.escape(name).replace(r"\-E", r"\-\d+") for name in names))


def test_page_of_the_shell(folder: Path) -> None:
    """The page draws three kinds of flowers, six standard deviations apart: each has nodes of its own."""
    printed = run_blocks(SHELL, folder)
    assert "300 rows of 3 features" in printed
    assert "45 samples of the test split on 4 x 4 nodes" in printed
    of_model, of_map = SHELL.read_text().partition("## What a run folder holds")[2].split("The folder of a map:")
    for run, table in (("flowers", of_model), ("map", of_map)):
        names = names_in(table)
        files = [path.name for path in (folder / "runs" / run).glob("[!.]*")]
        assert [name for name in files if not names.fullmatch(name)] == []
    purity = re.findall(r"^purity +(\S+)$", printed, re.MULTILINE)[:2]  # of fit and evaluate; then come digits
    assert len(purity) == 2
    assert all(float(value) > 0.9 for value in purity)
    header, *rows = (folder / "nodes.csv").read_text().splitlines()
    assert header == "plant,node,row,column,distance_in_scaled_units,class,cluster"
    assert [row.split(",")[0] for row in rows] == [f"P{row}" for row in range(40)]
    assert [row.split(",")[5] for row in rows].count("a") == 14


@pytest.mark.parametrize("page", write_notebooks.PAGES, ids=name_of)
def test_notebooks_run_and_write_the_pictures_of_their_page(page: Path, folder: Path) -> None:
    """A notebook has the blocks of its page, so that they need not run twice."""
    notebook = nbformat.read(write_notebooks.notebook_of(page), as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    check_pictures(page, folder)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    check_output(page, "".join(output.get("text", "") for output in outputs))


@pytest.mark.parametrize("page", write_notebooks.PAGES, ids=name_of)
def test_notebooks_are_in_step_with_their_pages(page: Path) -> None:
    assert write_notebooks.notebook_of(page).read_text(encoding="utf-8") == write_notebooks.render(page)


def test_every_notebook_has_a_page() -> None:
    assert set(write_notebooks.NOTEBOOKS.iterdir()) == set(map(write_notebooks.notebook_of, write_notebooks.PAGES))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pictures_are_there(page: Path) -> None:
    assert [name for name in draw_pictures.pictures_of(page) if not (draw_pictures.PICTURES / name).is_file()] == []


def test_every_picture_is_shown() -> None:
    shown = {name for page in PAGES for name in draw_pictures.pictures_of(page)}
    assert {path.name for path in draw_pictures.PICTURES.iterdir()} == shown


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_commands_of_make_and_files_exist(page: Path) -> None:
    text, makefile = page.read_text(encoding="utf-8"), (ROOT / "Makefile").read_text()
    fenced = "\n".join(FENCED.findall(text))
    commands = re.findall(r"^[ \t$]*make ([a-z-]+)|&& make ([a-z-]+)", fenced, re.MULTILINE)
    for target in {*re.findall(r"`make ([a-z-]+)", text), *("".join(found) for found in commands)}:
        assert re.search(rf"^([\w-]+ )*{target}( [\w-]+)*:", makefile, re.MULTILINE), target
    folders = "benchmarks|csrc|docs|packaging|python_tests|somvae_ext"
    named = re.findall(rf"`((?:{folders})/[\w./-]*|constraints\.txt)`", text)
    assert [name for name in named if not (ROOT / name).exists() and not MADE_ON_A_PAGE.search(name)] == []


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_fences_are_known_and_blocks_are_run(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    words = re.findall(r"^[ \t]*```(.*)$", text, re.MULTILINE)[::2]  # every second one ends a block
    assert set(words) <= FENCES
    blocks = run_page.blocks_of(text) if page in WITH_BLOCKS else []
    assert [word for word in words if word in ("python", "sh")] == [block.language for block in blocks]


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
