"""Measured figures appear only in text that is rendered from the result files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import page
import pytest

from somvae_ext.bench.files import SCHEMA
from somvae_ext.bench.rows import Row
from somvae_ext.recipes import PRESETS, Preset

RESULTS = sorted(path for path in page.RESULTS.glob("*.json") if path.stem != "gpu_check")
MADE_OF_FILES = {"docs/benchmarks.md", "docs/results.md"}
PROSE = [
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
    *("csrc/README.md", "benchmarks/results/README.md", "packaging/README.md"),
    *sorted(str(path.relative_to(page.ROOT)) for path in (page.ROOT / "docs").rglob("*.md")),
]
UNIT = r"(?:ms|s|(?:milli|micro)?seconds?|minutes?|hours?|[KMG]i?B|[GT]FLOP/s|nats|times)\b|x\b(?! [\dA-Z])|%"
FIGURE = re.compile(
    rf"(?<![\w.-])\d[\d,.]*\s?(?:{UNIT})|\+-|±|(?<![\w.])0?\.\d+(?![\d.]*\d)|factor of \d[\d.]*|(?<![\w.])\d\.\d to \d"
)
COMPUTED = {
    "32 MiB": "the memory of a batch of pruned search, a constant",
    "48 KiB": "a limit of a GPU's shared memory",
    "24 MiB": "the workspace, a constant of the search, and the memory of a float32 batch of pruned search",
    "7 GB": "the size of the installed packages",
    "70 %": "the share of steps in which a map narrows, for single samples, a constant of the recipes",
    "50 %": "the same for series",
    "2.3 nats": "the logarithm of ten, the capacity of ten categories",
    "from 0.5 to 0.05": "the learning rates of an example, chosen in its code",
    "half the side of the map to 0.7": "the widths of the neighborhood in the same example",
}


def without_computed(text: str) -> str:
    """Removes the figures and phrases of ``COMPUTED``."""
    for phrase in COMPUTED:
        text = re.sub(rf"(?<![\w.,]){re.escape(phrase)}(?!\w|\.\d)", " ", text)
    return text


def prose(text: str) -> str:
    """Removes code and the parts that are rendered from result files."""
    for span in ("```.*?```", f"{re.escape(page.BEGIN)}.*?{re.escape(page.END)}", "`[^`]*`"):
        text = re.sub(span, " ", text, flags=re.DOTALL)
    return text


@pytest.mark.parametrize(
    "sentence",
    [
        *("in 17 ms", "3.3x faster", "1.3 times faiss", "takes 40 % more", "NMI .594", "2.5 +- .1", "273 MiB"),
        *("52 GFLOP/s", "purity of .8", "17 milliseconds", "1.0 to 1.9 tiles", "a factor of 2.9"),
    ],
)
def test_a_measured_figure_is_recognized(sentence: str) -> None:
    assert FIGURE.search(prose(sentence))


@pytest.mark.parametrize("sentence", ["8 x 8 nodes", "N x 5 x D", "version 0.1.0", "`0.25 s`", "64 features"])
def test_a_size_is_no_measured_figure(sentence: str) -> None:
    assert not FIGURE.search(prose(sentence))


@pytest.mark.parametrize("sentence", ["17 GB", "1.7 GB", "12.3 nats", "0.5", "from 0.5 to 0.051", "a map to 0.7"])
def test_a_figure_that_resembles_a_computed_one_is_recognized(sentence: str) -> None:
    assert FIGURE.search(without_computed(sentence))


@pytest.mark.parametrize("name", [name for name in PROSE if name not in MADE_OF_FILES])
def test_prose_states_no_figure_that_was_measured(name: str) -> None:
    text = prose((page.ROOT / name).read_text(encoding="utf-8"))
    assert FIGURE.findall(without_computed(text)) == []


@pytest.mark.parametrize("presets", PRESETS.values(), ids=PRESETS.keys())
def test_presets_state_no_figure_in_the_help(presets: dict[str, Preset]) -> None:
    assert [preset.purpose for preset in presets.values() if FIGURE.search(preset.purpose)] == []


def test_the_page_is_what_the_files_render_to() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.render_page()


@pytest.mark.parametrize("path", page.PARTS, ids=lambda path: str(path.relative_to(page.ROOT)))
def test_a_part_of_a_page_is_what_the_files_render_to(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == page.with_figures(path)


def test_every_page_of_kernels_shows_shares() -> None:
    assert {family.page for family in page.FAMILIES} == set((page.ROOT / "docs" / "kernels").glob("*.md"))


def test_the_pages_of_kernels_show_every_op_with_a_share() -> None:
    rows = page.ResultFile.read(page.RESULTS / "ops.json").rows
    shown = {case for family in page.FAMILIES if family.suite == "ops" for case in family.cases}
    own_suites = {"bmu, forward", "bmu_index"}  # bmu.json and pruned.json have more of these
    assert {row.case for row in rows if row.share_of_ceiling() is not None} == shown | own_suites


def test_every_file_of_results_is_on_the_page() -> None:
    assert {path.stem for path in RESULTS} <= {section.file for section in page.SECTIONS}


def test_all_files_were_measured_on_one_clean_commit_with_one_torch() -> None:
    machines = [json.loads(path.read_text(encoding="utf-8"))["machine"] for path in RESULTS]
    assert len({(machine["commit"], machine["torch"]) for machine in machines}) <= 1
    assert all(re.fullmatch("[0-9a-f]{7,}", machine["commit"]) for machine in machines)  # a changed tree: -dirty


def test_a_file_holds_the_command_that_wrote_it() -> None:
    commands = {path.stem: json.loads(path.read_text(encoding="utf-8"))["command"] for path in RESULTS}
    assert [name for name, command in commands.items() if f"--json benchmarks/results/{name}.json" not in command] == []


def test_a_row_that_no_file_has_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ops.json").write_text(json.dumps({"schema": SCHEMA, "rows": []}))
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    with pytest.raises(LookupError, match=r"ops.json has 0 rows of nothing with .* not one"):
        page.one_row("ops", "nothing", 1)


def row_with_share(share: float) -> Row:
    samples = {"somvae_ext": [1.0], "copy": [share]}
    return Row("ops", "gather", {"N": 1}, samples=samples, work=1.0, ceilings={"copy": 1.0})


@pytest.mark.parametrize(("shares", "shown"), [([0.5, 0.25, 2.0], [0.25, 2.0]), ([0.5], [0.5])])
def test_the_extreme_shares_of_a_case_are_shown(shares: list[float], shown: list[float]) -> None:
    rows = page.lowest_and_highest([row_with_share(share) for share in shares], "gather")
    assert [row.share_of_ceiling() for row in rows] == shown


def test_a_case_without_shares_is_an_error() -> None:
    with pytest.raises(LookupError, match="no row of scatter has a share"):
        page.lowest_and_highest([row_with_share(0.5)], "scatter")


def test_the_fastest_of_several_formulas_stands_for_them() -> None:
    samples = {"somvae_ext": [1.0], "torch, whole": [3.0], "torch, blocks": [2.0], "faiss": [1.5]}
    row = Row("bmu", "headline", {"N": 1}, samples=samples)
    assert page.fastest(row, "torch") == "torch, blocks"


def test_columns_without_figures_are_left_out(tmp_path: Path) -> None:
    made = page.table(["case", "a", "b"], [["first", "", "2"], ["second", "", ""]])
    assert made == "| case | b |\n| --- | --: |\n| first | 2 |\n| second |  |"
