"""The explorer of a report: however a node is selected, the facts shown about it agree with the run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import browser_runs
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from report_oracle import MOVES, SPLITS, Oracle, Sheet
from report_page import ExplorerPage

import somvae_ext
from somvae_ext import Grid
from somvae_ext.grid import Topology
from somvae_ext.plotting.palettes import DISTANCES, PALE, VALUES
from somvae_ext.report import assign, map_content, model_content
from somvae_ext.report.content import ResultContent
from somvae_ext.report.explorer import Explorer, SeriesPath
from somvae_ext.report.page import render_page

if TYPE_CHECKING:
    from playwright.sync_api import Page

MAPS = ["table-map", "large-map", "hexagonal-map", "series"]
KINDS = [*MAPS, "gumbel-vae"]
DIGITS = 4  # significant digits of numbers on the page
COLOR = 2  # tolerance in steps of 256, because some neighboring colors are equal
MINUS = "\u2212"


def rounded(value: float) -> object:
    """Returns a value to compare with a number on the page: float32, rounded to ``DIGITS`` digits."""
    return pytest.approx(value, rel=0.6 * 10 ** (1 - DIGITS), abs=1e-6)


def percent(share: float) -> str:
    """Formats a fraction as a whole percentage, or with two digits below 10 %."""
    return f"{math.floor(share * 100 + 0.5)} %" if share >= 0.0995 or share == 0 else f"{share * 100:#.2g} %"


def some_nodes(oracle: Oracle) -> list[int]:
    """Returns three corners, the node with the most hits, and the node with the fewest."""
    sheet = oracle.sheet
    nodes = {0, sheet.cols - 1, sheet.nodes - 1, int(oracle.hits.argmax()), int(oracle.hits.argmin())}
    return sorted(nodes)


# ---- selecting a node ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_node_with_the_most_hits_is_selected_first(
    kind: str, open_page: Callable[..., Page], report_of: Callable[[str], Path], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer = ExplorerPage(open_page(report_of(kind)))
    assert explorer.node == oracle_of(kind).hits.argmax()


@pytest.mark.parametrize("kind", KINDS)
def test_a_click_selects_the_node_under_it(
    kind: str, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, oracle = explorer_of(kind), oracle_of(kind)
    for node in some_nodes(oracle):
        explorer.click_at(*oracle.sheet.place(node))
        assert explorer.node == node


@pytest.mark.parametrize("kind", ["table-map", "hexagonal-map"])
def test_a_click_near_the_border_of_a_cell_selects_it(
    kind: str, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, sheet = explorer_of(kind), oracle_of(kind).sheet
    x, y = sheet.place(node := 3 * sheet.cols + 3)
    for angle in (45, 135, 225, 315):
        far = 0.47 if sheet.hexagonal else 0.47 * math.sqrt(2)  # within the cell, almost at its border
        explorer.press("Home", "PageUp")
        explorer.click_at(x + far * math.cos(math.radians(angle)), y + far * math.sin(math.radians(angle)))
        assert explorer.node == node


@pytest.mark.parametrize("kind", MAPS)
def test_arrows_lead_to_the_next_node(
    kind: str, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, sheet = explorer_of(kind), oracle_of(kind).sheet
    node = explorer.press("Home", "PageUp")
    assert node == 0
    for key in [*MOVES, "ArrowRight", "ArrowDown", "ArrowRight", "ArrowUp", "ArrowLeft"]:
        node = sheet.move(node, key)
        assert explorer.press(key) == node


@pytest.mark.parametrize("kind", MAPS)
def test_home_and_end_go_along_the_row_and_the_page_keys_along_the_column(
    kind: str, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, sheet = explorer_of(kind), oracle_of(kind).sheet
    last = sheet.cols - 1
    assert explorer.press("Home", "PageUp", "ArrowDown", "End") == sheet.cols + last
    assert explorer.press("PageDown") == sheet.nodes - 1
    assert explorer.press("Home") == sheet.nodes - sheet.cols
    assert explorer.press("PageUp") == 0


def test_arrows_stop_at_the_border_of_an_open_map(
    explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, sheet = explorer_of("table-map"), oracle_of("table-map").sheet
    assert explorer.press("Home", "PageUp", "ArrowLeft", "ArrowUp") == 0
    assert explorer.press("End", "PageDown", "ArrowRight", "ArrowDown") == sheet.nodes - 1


def test_arrows_wrap_around_a_periodic_map(
    explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, sheet = explorer_of("hexagonal-map"), oracle_of("hexagonal-map").sheet
    assert explorer.press("Home", "PageUp", "ArrowLeft") == sheet.cols - 1
    assert explorer.press("ArrowUp") == sheet.nodes - 1
    assert explorer.press("ArrowRight") == sheet.nodes - sheet.cols
    assert explorer.press("ArrowDown") == 0


def test_no_key_leaves_a_sheet_whose_last_row_is_not_full(explorer_of: Callable[[str], ExplorerPage]) -> None:
    explorer = explorer_of("gumbel-vae")  # 10 categories in 3 rows of 4
    assert explorer.press("Home", "PageUp", "End", "PageDown") == 9
    assert explorer.press("ArrowRight") == 9
    assert explorer.press("End") == 9


def test_a_click_outside_the_cells_selects_nothing(explorer_of: Callable[[str], ExplorerPage]) -> None:
    explorer = explorer_of("gumbel-vae")
    explorer.press("Home", "PageUp")
    explorer.click_at(3, -2)  # the place of a 12th category
    assert explorer.node == 0


@pytest.mark.parametrize("kind", KINDS)
def test_enter_moves_the_focus_to_the_details_and_tab_leaves_the_map(
    kind: str, explorer_of: Callable[[str], ExplorerPage]
) -> None:
    explorer = explorer_of(kind)
    explorer.press("Enter")
    assert explorer.details.evaluate("details => document.activeElement === details")
    explorer.press("Tab")
    assert not explorer.map.evaluate("map => document.activeElement === map")


@pytest.mark.parametrize("kind", MAPS)
def test_screen_readers_announce_the_node(
    kind: str, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, oracle = explorer_of(kind), oracle_of(kind)
    node = explorer.press("Home", "PageUp", "ArrowDown", "ArrowRight")
    what = "training frames" if kind == "series" else "training rows"
    said = [f"Node {node}, row 1, column 1", f"{oracle.hits[node]} {what}"]
    if oracle.classes is not None and oracle.classes[node]:
        said.append(f"class {oracle.main_class(node)}")
    if oracle.cluster is not None:
        said.append(f"cluster {oracle.cluster[node]}")
    assert explorer.announcement == ", ".join(said)


# ---- details of a node -----------------------------------------------------------------------------------------------


@pytest.fixture
def chosen(
    request: pytest.FixtureRequest, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> tuple[ExplorerPage, Oracle, int]:
    """An explorer, the true facts about its run, and the selected node, which has the most or the fewest hits."""
    kind, place = request.param
    explorer, oracle = explorer_of(kind), oracle_of(kind)
    node = int({"most": oracle.hits.argmax, "fewest": oracle.hits.argmin}[place]())
    explorer.click_at(*oracle.sheet.place(node))
    assert explorer.node == node
    return explorer, oracle, node


Chosen = tuple[ExplorerPage, Oracle, int]


def nodes_of(*kinds: str) -> pytest.MarkDecorator:
    choices = [(kind, place) for kind in kinds for place in ("most", "fewest")]
    return pytest.mark.parametrize("chosen", choices, indirect=True, ids=lambda choice: "-".join(choice))


@nodes_of(*KINDS)
def test_the_heading_names_the_node(chosen: Chosen) -> None:
    explorer, oracle, node = chosen
    row, column = divmod(node, oracle.sheet.cols)
    place = "" if oracle.noun == "category" else f", row {row}, column {column}"
    assert explorer.heading == f"{oracle.noun.capitalize()} {node}{place}"


@nodes_of(*KINDS)
def test_the_hits_are_those_of_the_training_data(chosen: Chosen) -> None:
    explorer, oracle, node = chosen
    (count,) = [text for title, text in explorer.facts.items() if title.startswith("training ")]
    assert count == f"{oracle.hits[node]} ({percent(oracle.hits[node] / oracle.hits.sum())} of all)"


@nodes_of("table-map", "large-map")
def test_the_cluster_is_that_of_the_folder(chosen: Chosen) -> None:
    explorer, oracle, node = chosen
    assert oracle.cluster is not None
    assert explorer.facts["cluster"] == str(oracle.cluster[node])


@nodes_of("table-map", "hexagonal-map")
def test_the_distance_to_the_neighbors_is_the_mean_distance_between_codes(chosen: Chosen) -> None:
    explorer, oracle, node = chosen
    assert oracle.u_matrix is not None
    assert float(explorer.facts["mean distance to neighbors"].split()[0]) == rounded(oracle.u_matrix[node])


@nodes_of("table-map", "hexagonal-map", "gumbel-vae")
def test_the_classes_are_those_of_its_training_data(chosen: Chosen) -> None:
    explorer, oracle, node = chosen
    assert oracle.classes is not None
    counted = oracle.classes[node]
    rows = sorted(counted.items(), key=lambda entry: (-entry[1], entry[0]))
    assert explorer.table("classes") == [[name, str(count), percent(count / counted.total())] for name, count in rows]


@nodes_of(*KINDS)
def test_the_nearest_samples_are_listed_with_their_distances_and_classes(chosen: Chosen) -> None:
    explorer, oracle, node = chosen
    found = oracle.found
    nearest = found.nearest(node)
    rows = explorer.table("nearest")
    assert [row[0] for row in rows] == [found.ids[at] for at in nearest]
    assert [float(row[1]) for row in rows] == [rounded(found.measured[at]) for at in nearest]
    if found.label is not None:
        assert [row[2] for row in rows] == [found.label[at] for at in nearest]
    head = explorer.head("nearest")
    assert ("split" in head) == (found.split is not None and rows != [])
    if found.split is not None and rows:
        assert [row[head.index("split")] for row in rows] == [found.split[at] for at in nearest]


@nodes_of("table-map", "large-map", "series")
def test_the_features_of_the_code_are_shown_beside_the_mean_of_the_data(chosen: Chosen) -> None:
    explorer, oracle, node = chosen
    assert oracle.features is not None
    names, codes, mean, deviation = oracle.features
    z = (codes[node] - mean) / deviation
    rows = {name: (value, average, away) for name, value, average, away in explorer.table("profile")}
    assert set(rows) == set(names)
    for at, name in enumerate(names):
        value, average, away = rows[name]
        assert float(value) == pytest.approx(codes[node, at], rel=6e-4, abs=1e-5)
        assert float(average) == pytest.approx(mean[at], rel=6e-4, abs=1e-5)
        assert float(away.replace(MINUS, "-")) == pytest.approx(z[at], abs=0.0052)
    shown = [abs(float(away.replace(MINUS, "-"))) for _, _, away in rows.values()]
    assert shown == sorted(shown, reverse=True)  # the most unusual features come first


def test_long_tables_begin_with_twelve_rows(explorer_of: Callable[[str], ExplorerPage]) -> None:
    explorer = explorer_of("large-map")
    explorer.press("Home", "PageUp")
    assert explorer.details.locator(".profile tbody tr").count() == 12
    explorer.details.get_by_role("button", name="Show all 50").click()
    assert explorer.details.locator(".profile tbody tr").count() == 50


@nodes_of("hexagonal-map", "gumbel-vae")
def test_images_are_shown_and_described(chosen: Chosen) -> None:
    explorer, oracle, node = chosen
    labels = explorer.details.get_by_role("img").evaluate_all("images => images.map(image => image.ariaLabel)")
    what = "row" if oracle.noun == "node" else "sample"
    ids = [f"{what} {oracle.found.ids[at]}" for at in oracle.found.nearest(node)]
    assert labels == [f"Image of {explorer.heading}", *ids]


# ---- from node to node -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAPS)
def test_the_neighbors_are_those_of_the_grid(
    kind: str, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, sheet = explorer_of(kind), oracle_of(kind).sheet
    for keys in (["Home", "PageUp"], ["ArrowDown", "ArrowRight"]):
        node = explorer.press(*keys)
        shown = explorer.details.locator(".neighbors button").all_inner_texts()
        expected = {f"node {near} ({near // sheet.cols}, {near % sheet.cols})" for near in sheet.neighbors(node)}
        assert len(shown) == len(expected)
        assert set(shown) == expected


@pytest.mark.parametrize("kind", MAPS)
def test_a_neighbors_button_leads_to_it(kind: str, explorer_of: Callable[[str], ExplorerPage]) -> None:
    explorer = explorer_of(kind)
    explorer.press("Home", "PageUp")
    button = explorer.details.locator(".neighbors button").last
    text = button.inner_text()
    button.click()
    assert f"node {explorer.node} " in text
    assert explorer.heading.startswith(f"Node {explorer.node},")


def test_categories_have_no_neighbors(explorer_of: Callable[[str], ExplorerPage]) -> None:
    assert explorer_of("gumbel-vae").details.locator(".neighbors").count() == 0


def test_the_model_s_most_likely_transitions_are_listed(
    explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, oracle = explorer_of("series"), oracle_of("series")
    assert oracle.transitions is not None
    node = explorer.press("Home", "PageUp", "ArrowDown", "ArrowRight", "ArrowRight")
    outgoing = oracle.transitions[node]
    likeliest = sorted(range(len(outgoing)), key=lambda target: (-outgoing[target], target))[:8]
    cols = oracle.sheet.cols
    assert explorer.table("transitions") == [
        [f"node {target} ({target // cols}, {target % cols})", percent(outgoing[target])] for target in likeliest
    ]


def test_a_transitions_button_leads_to_its_node(
    explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, oracle = explorer_of("series"), oracle_of("series")
    assert oracle.transitions is not None
    node = explorer.press("Home", "PageUp")
    explorer.details.locator(".transitions button").nth(1).click()
    assert explorer.node == np.argsort(-oracle.transitions[node], kind="stable")[1]


# ---- colors ---------------------------------------------------------------------------------------------------------


def place_on(colormap: str, colors: list[str]) -> np.ndarray:
    """Returns the indices of colors in one of matplotlib's colormaps of 256 colors."""
    known = [to_hex(color) for color in mpl.colormaps[colormap](np.linspace(0, 1, 256))]
    return np.array([known.index(color) for color in colors])


def check_number_colors(explorer: ExplorerPage, values: np.ndarray) -> None:
    """Checks the colors of numeric ``values[K]``, which are NaN for nodes without a value."""
    low, high = explorer.legend
    assert float(low) == rounded(np.nanmin(values))
    assert float(high) == rounded(np.nanmax(values))
    expected = (values - np.nanmin(values)) / np.ptp(values[~np.isnan(values)]) * 255
    colors = np.array(explorer.colors)
    assert set(colors[np.isnan(values)].tolist()) <= {to_hex(PALE)}
    present = ~np.isnan(values)
    assert place_on(VALUES, colors[present].tolist()) == pytest.approx(expected[present], abs=COLOR)


@pytest.mark.parametrize("kind", KINDS)
def test_hits_are_colored_from_the_fewest_to_the_most(
    kind: str, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer = explorer_of(kind)
    explorer.color_by("hits")
    hits = oracle_of(kind).hits.astype(float)
    hits[hits == 0] = np.nan
    check_number_colors(explorer, hits)


@pytest.mark.parametrize("kind", ["table-map", "hexagonal-map"])
def test_the_u_matrix_is_colored_by_the_distances_to_the_neighbors(
    kind: str, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, u_matrix = explorer_of(kind), oracle_of(kind).u_matrix
    assert u_matrix is not None
    explorer.color_by("U-matrix")
    low, high = explorer.legend
    assert (float(low), float(high)) == (rounded(u_matrix.min()), rounded(u_matrix.max()))
    expected = (u_matrix - u_matrix.min()) / np.ptp(u_matrix) * 255
    assert place_on(DISTANCES, explorer.colors) == pytest.approx(expected, abs=COLOR)


@pytest.mark.parametrize(("kind", "feature"), [("table-map", 6), ("large-map", 17), ("series", 2)])
def test_a_feature_is_colored_by_the_codes_values(
    kind: str, feature: int, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, features = explorer_of(kind), oracle_of(kind).features
    assert features is not None
    explorer.color_by(features[0][feature])
    check_number_colors(explorer, features[1][:, feature].astype(np.float32))
    assert features[0][feature] in explorer.root.locator(".meaning").inner_text()


@pytest.mark.parametrize("kind", ["table-map", "hexagonal-map", "gumbel-vae"])
def test_class_colors_are_paler_where_a_node_has_several_classes(
    kind: str, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, oracle = explorer_of(kind), oracle_of(kind)
    assert oracle.classes is not None
    explorer.color_by("class")
    main = [oracle.main_class(node) for node in range(oracle.sheet.nodes)]
    names = sorted({name for name in main if name is not None})
    assert [name for name in explorer.legend if "other" not in name] == names[:7] or len(names) > 7
    pure: dict[str, set[str]] = {name: set() for name in names}
    for node, (name, color) in enumerate(zip(main, explorer.colors, strict=True)):
        if name is None:
            assert color == to_hex(PALE)
        elif len(oracle.classes[node]) == 1:
            pure[name].add(color)
        else:
            assert color not in pure[name]
    assert all(len(colors) <= 1 for colors in pure.values())


@pytest.mark.parametrize("kind", ["table-map", "large-map"])
def test_clusters_have_one_color_each(
    kind: str, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, cluster = explorer_of(kind), oracle_of(kind).cluster
    assert cluster is not None
    explorer.color_by("cluster")
    numbers = sorted(set(cluster.tolist()))
    assert explorer.legend == [str(number) for number in numbers]
    pairs = set(zip(cluster.tolist(), explorer.colors, strict=True))
    assert len(pairs) == len(numbers) == len({color for _, color in pairs})


@pytest.mark.parametrize("kind", ["hexagonal-map", "gumbel-vae"])
def test_images_fill_the_rows_of_the_sheet(
    kind: str, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, sheet = explorer_of(kind), oracle_of(kind).sheet
    explorer.color_by("hits")
    assert explorer.source("strips")["url"] == []
    explorer.color_by("images")
    assert len(explorer.wait_for_images()) == sheet.rows
    strips = explorer.source("strips")
    for row in range(sheet.rows):
        first = row * sheet.cols
        x, y = sheet.place(first)
        spacing = sheet.period[1] / sheet.rows
        corner = strips["x"][row], strips["y"][row]
        assert corner == pytest.approx((x - 0.5, y + spacing / 2))
        assert strips["w"][row] == min(sheet.cols, sheet.nodes - first)
    assert explorer.colors == ["#ffffff"] * sheet.nodes


def test_an_image_on_the_sheet_is_that_of_its_node(
    explorer_of: Callable[[str], ExplorerPage], run_of: Callable[[str], Path]
) -> None:
    explorer = explorer_of("hexagonal-map")
    explorer.color_by("images")
    urls = explorer.wait_for_images()
    # Compares the means of the four quarters of each cell of a strip.
    script = """async (url) => {
        const image = new Image();
        image.src = url;
        await image.decode();
        const canvas = new OffscreenCanvas(image.width, image.height);
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        return [image.width, image.height, Array.from(context.getImageData(0, 0, image.width, image.height).data)];
    }"""
    width, height, values = explorer.page.evaluate(script, urls[3])
    pixels = np.array(values, np.float64).reshape(height, 10, width // 10, 4)
    drawn = pixels[..., 0] * (pixels[..., 3] > 0)
    saved = somvae_ext.load(run_of("hexagonal-map"))
    codes = saved.codebook[30:40].reshape(10, 8, 8)
    for column in range(10):
        cell = drawn[:, column]
        inside = cell[:, np.flatnonzero(pixels[height // 2, column, :, 3])]
        quarters = [part.mean() for half in np.array_split(inside, 2) for part in np.array_split(half, 2, axis=1)]
        expected = [part.mean() for half in np.split(codes[column], 2) for part in np.split(half, 2, axis=1)]
        assert np.corrcoef(quarters, expected)[0, 1] > 0.95


# ---- search ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "at"), [("table-map", 77), ("large-map", 8191), ("hexagonal-map", 5), ("series", 40),
                                          ("gumbel-vae", 269)])  # fmt: skip
def test_a_sample_is_found_by_its_id(
    kind: str, at: int, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, oracle = explorer_of(kind), oracle_of(kind)
    found = oracle.found
    said = explorer.search(found.ids[at])
    assert explorer.node == found.node[at]
    assert f" {found.ids[at]} is in {oracle.noun} {found.node[at]}, " in said
    measure = "probability" if found.likelier else "distance"
    assert float(said.partition(f"{measure} ")[2].split(",")[0].rstrip(".")) == rounded(found.measured[at])
    if found.label is not None:
        assert f", class {found.label[at]}" in said
    if found.split is not None:
        assert said.endswith(f", split {found.split[at]}.")


@pytest.mark.parametrize("row", range(3))
def test_an_id_that_contains_html_is_shown_as_text(
    row: int, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, found = explorer_of("table-map"), oracle_of("table-map").found
    assert any(letter in found.ids[row] for letter in "<'")
    assert f"Row {found.ids[row]} is in node {found.node[row]}" in explorer.search(found.ids[row])
    assert explorer.root.locator(".search-result img, .search-result script").count() == 0
    assert explorer.node == found.node[row]


def test_a_part_of_an_id_lists_the_matches_to_choose_from(
    explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, found = explorer_of("table-map"), oracle_of("table-map").found
    said = explorer.search("p-123")
    expected = [name for name in found.ids if "P-123" in name]
    assert f"No row is called “p-123”; {len(expected)} contain it" in said
    assert explorer.matches.all_inner_texts() == expected
    explorer.matches.nth(4).click()
    assert explorer.node == found.node[found.ids.index(expected[4])]
    assert f"Row {expected[4]} is in node" in explorer.search_result


def test_only_the_first_of_many_matches_are_listed(explorer_of: Callable[[str], ExplorerPage]) -> None:
    explorer = explorer_of("table-map")
    assert "; 297 contain it, the first 20 of them" in explorer.search("P-1")
    assert explorer.matches.count() == 20


def test_an_unknown_id_changes_nothing(explorer_of: Callable[[str], ExplorerPage]) -> None:
    explorer = explorer_of("table-map")
    node = explorer.press("Home", "PageUp")
    assert explorer.search("<i>nobody</i>") == "No row is called “<i>nobody</i>”."
    assert explorer.node == node


def test_an_empty_search_says_what_to_type(explorer_of: Callable[[str], ExplorerPage]) -> None:
    assert explorer_of("table-map").search("  ") == f"Enter the {browser_runs.ID} of a row."


# ---- series ----------------------------------------------------------------------------------------------------------


def choose_series(explorer: ExplorerPage, name: str) -> None:
    explorer.root.get_by_role("combobox", name="Series").select_option(label=name)


def test_series_are_named_after_their_files_and_splits(
    explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    options = explorer_of("series").root.get_by_role("combobox", name="Series").locator("option")
    walks = oracle_of("series").walks
    assert walks is not None
    assert options.all_inner_texts() == ["none", *walks]


@pytest.mark.parametrize("number", [0, 4])
def test_each_frame_of_a_series_selects_the_node_that_the_model_assigns(
    number: int, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, oracle = explorer_of("series"), oracle_of("series")
    assert oracle.walks is not None
    name, walk = list(oracle.walks.items())[number]
    choose_series(explorer, name)
    slider = explorer.root.get_by_role("slider", name="Frame")
    assert explorer.node == walk[0]
    for frame in range(1, len(walk)):
        slider.press("ArrowRight")
        assert explorer.node == walk[frame]
    said = explorer.root.locator(".series output").inner_text()
    assert said.startswith(f"frame {len(walk) - 1} (of 0 to {len(walk) - 1}): node {walk[-1]};")
    slider.press("Home")
    assert explorer.node == walk[0]


def test_a_series_is_drawn_from_node_to_node(
    explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, oracle = explorer_of("series"), oracle_of("series")
    assert oracle.walks is not None
    name = list(oracle.walks)[2]
    choose_series(explorer, name)
    walk = oracle.walks[name].tolist()
    path = explorer.source("path")
    lines = list(zip(path["x0"], path["y0"], path["x1"], path["y1"], strict=True))
    moves = [(a, b) for a, b in itertools.pairwise(walk) if a != b]
    assert lines == [(*oracle.sheet.place(a), *oracle.sheet.place(b)) for a, b in moves]
    stops = explorer.source("stops")
    assert (stops["x"][0], stops["y"][0]) == oracle.sheet.place(walk[0])
    assert (stops["x"][1], stops["y"][1]) == oracle.sheet.place(walk[-1])


def test_without_a_series_nothing_is_drawn(explorer_of: Callable[[str], ExplorerPage]) -> None:
    explorer = explorer_of("series")
    explorer.root.get_by_role("combobox", name="Series").select_option(index=1)
    explorer.root.get_by_role("combobox", name="Series").select_option(label="none")
    assert explorer.source("path")["x0"] == []
    assert explorer.source("stops")["x"] == []
    assert explorer.root.get_by_role("slider", name="Frame").is_disabled()
    assert explorer.root.locator(".series output").inner_text() == ""


# ---- zoom ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_zooming_keeps_the_selected_node_visible_and_the_cells_square(
    kind: str, explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, sheet = explorer_of(kind), oracle_of(kind).sheet
    explorer.root.get_by_role("button", name="Whole map").click()
    whole = explorer.ranges
    node = explorer.press("End", "PageDown")
    for _ in range(3):
        explorer.root.get_by_role("button", name="Zoom in").click()
    left, right, bottom, top = explorer.ranges
    x, y = sheet.place(node)
    assert left <= x <= right
    assert bottom <= y <= top
    assert right - left == pytest.approx(max((whole[1] - whole[0]) * 0.6**3, 3.0))  # a node and its neighbors
    assert (right - left) / (top - bottom) == pytest.approx((whole[1] - whole[0]) / (whole[3] - whole[2]))
    for _ in range(4):
        explorer.root.get_by_role("button", name="Zoom out").click()
    assert explorer.ranges == pytest.approx(whole)


def test_selecting_a_node_outside_the_view_moves_the_view_there(explorer_of: Callable[[str], ExplorerPage]) -> None:
    explorer = explorer_of("large-map")
    explorer.press("Home", "PageUp")
    for _ in range(4):
        explorer.root.get_by_role("button", name="Zoom in").click()
    explorer.press("End", "PageDown")
    left, right, bottom, top = explorer.ranges
    assert left <= 63 <= right
    assert bottom <= -63 <= top
    explorer.root.get_by_role("button", name="Whole map").click()
    assert explorer.ranges == pytest.approx((-0.6, 63.6, -63.6, 0.6))


def test_a_click_on_a_zoomed_map_selects_the_node_under_it(
    explorer_of: Callable[[str], ExplorerPage], oracle_of: Callable[[str], Oracle]
) -> None:
    explorer, sheet = explorer_of("hexagonal-map"), oracle_of("hexagonal-map").sheet
    explorer.press("End", "PageDown")
    explorer.root.get_by_role("button", name="Zoom in").click()
    explorer.click_at(*sheet.place(67))
    explorer.root.get_by_role("button", name="Whole map").click()
    assert explorer.node == 67


# ---- ids that are not unique -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """The report on a map of 90 visits by 30 patients, of which 63 can be searched, and the node of each visit."""
    folder = tmp_path_factory.mktemp("visits")
    values = np.random.default_rng(0).normal(size=(90, 2))
    lines = [f"patient {row % 30},{x!r},{y!r}" for row, (x, y) in enumerate(values.tolist())]
    (folder / "visits.csv").write_text("\n".join(["patient,x,y", *lines]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assign, "MOST_IDS", 63)
        patch.setattr(map_content, "pictures_of", lambda figures: [])
        options = ["--model", "som", "--size", "3x4", "--epochs", 2, "--id-column", "patient"]
        browser_runs.command("report", browser_runs.fit(folder / "run", folder / "visits.csv", *options))
    saved = somvae_ext.load(folder / "run")
    return folder / "run/report.html", next(saved.assign([values])).node


def test_all_samples_of_an_id_are_listed_with_their_nodes(
    visits: tuple[Path, np.ndarray], open_page: Callable[..., Page]
) -> None:
    explorer = ExplorerPage(open_page(visits[0]))
    assert "3 rows are called “patient 0”" in explorer.search("patient 0")
    nodes = [explorer.matches.nth(at).inner_text().split()[1].rstrip(",") for at in range(3)]
    assert nodes == [str(node) for node in visits[1][[0, 30, 60]]]
    explorer.matches.nth(1).click()
    assert explorer.node == visits[1][30]


def test_a_failed_search_says_how_many_samples_can_be_searched(
    visits: tuple[Path, np.ndarray], open_page: Callable[..., Page]
) -> None:
    explorer = ExplorerPage(open_page(visits[0]))
    ids = explorer.page.evaluate("JSON.parse(document.getElementById('run-1-data').textContent).samples.ids.length")
    assert ids < 90
    assert f"No row is called “nobody” among the {ids} of 90 rows that can be found here." in explorer.search("nobody")


def test_samples_with_the_same_id_are_distinguished_by_their_splits(
    open_page: Callable[..., Page], tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    lines = [f"patient {row % 3},{x!r}" for row, x in enumerate(generator.normal(size=60).tolist())]
    (tmp_path / "visits.csv").write_text("\n".join(["patient,x", *lines]))
    options = ["--model", "vqvae", "--num-codes", 4, "--epochs", 1, "--id-column", "patient"]
    run = browser_runs.fit(tmp_path / "run", tmp_path / "visits.csv", *options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_content, "pictures_of", lambda figures: [])
        browser_runs.command("report", run)
    explorer = ExplorerPage(open_page(run / "report.html"))
    assert "20 samples are called “patient 1”" in explorer.search("patient 1")
    shown = explorer.matches.all_inner_texts()
    splits = [text.partition("(")[2].rstrip(")") for text in shown]
    assert splits == sorted(splits, key=SPLITS.index)
    assert set(splits) == set(SPLITS)
    explorer.matches.last.click()
    assert f"is in code {explorer.node}, " in explorer.search_result
    assert explorer.search_result.endswith(f", split {splits[-1]}.")


# ---- paths of series -------------------------------------------------------------------------------------------------


def test_on_a_periodic_map_a_series_takes_the_shortest_way(open_page: Callable[..., Page], tmp_path: Path) -> None:
    """The page of a made-up explorer, whose series cross the edges of its map."""
    sheet = Sheet(4, 6, 24, hexagonal=True, periodic=True)
    node = np.random.default_rng(0).integers(24, size=60)
    path = made_up_page(tmp_path, grid=Grid(4, 6, "hexagonal", True), paths=[SeriesPath("series 0", node)])
    explorer = ExplorerPage(open_page(path))
    explorer.root.get_by_role("combobox", name="Series").select_option(label="series 0")
    lines = explorer.source("path")
    drawn = list(zip(lines["x0"], lines["y0"], lines["x1"], lines["y1"], strict=True))
    for before, after in itertools.pairwise(node.tolist()):
        if before == after:
            continue
        x, y, to_x, to_y = drawn.pop(0)
        assert (x, y) == pytest.approx(sheet.place(before))
        assert math.hypot(to_x - x, to_y - y) == pytest.approx(math.hypot(*sheet.offset(before, after)))
        period_x, period_y = sheet.period
        at_x, at_y = sheet.place(after)
        assert ((to_x - at_x) / period_x, (to_y - at_y) / period_y) == pytest.approx(
            (round((to_x - at_x) / period_x), round((to_y - at_y) / period_y)), abs=1e-6
        )
        if (to_x, to_y) != pytest.approx((at_x, at_y)):  # then the same line is drawn on the other side, too
            assert drawn.pop(0)[2:] == pytest.approx((at_x, at_y))
    assert drawn == []


def test_of_two_equally_short_paths_a_series_takes_the_one_that_crosses_no_edge(
    open_page: Callable[..., Page], tmp_path: Path
) -> None:
    path = made_up_page(tmp_path, grid=Grid(4, 6, periodic=True), paths=[SeriesPath("series 0", np.array([0, 3, 15]))])
    explorer = ExplorerPage(open_page(path))
    explorer.root.get_by_role("combobox", name="Series").select_option(label="series 0")
    drawn = explorer.source("path")
    assert (drawn["x0"], drawn["x1"], drawn["y0"], drawn["y1"]) == ([0, 3], [3, 3], [0, 0], [0, -2])


# ---- shapes of maps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(("rows", "cols"), [(1, 20), (20, 1), (2, 20), (30, 3)])
def test_the_cells_of_a_thin_map_are_square(
    rows: int, cols: int, width: int, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    explorer = ExplorerPage(open_page(made_up_page(tmp_path, grid=Grid(rows, cols)), width=width))
    inner_width, inner_height = explorer.inner_size
    left, right, bottom, top = explorer.ranges
    assert inner_width / (right - left) == pytest.approx(inner_height / (top - bottom), rel=0.02, abs=0.7)
    assert inner_height / (top - bottom) > 5  # pixels


@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
def test_rows_and_columns_are_numbered_at_every_zoom(
    topology: Topology, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    explorer = ExplorerPage(open_page(made_up_page(tmp_path, grid=Grid(40, 60, topology))))
    explorer.press("End", "PageDown")
    for _ in range(10):
        left, right, bottom, top = explorer.ranges
        columns, rows = explorer.ticks
        assert 2 <= sum(left <= place <= right for place in columns) <= 12
        assert 2 <= sum(bottom <= place <= top for place in rows) <= 12
        explorer.root.get_by_role("button", name="Zoom in").click()


def made_up_page(folder: Path, *, grid: Grid, **fields: Any) -> Path:
    """Writes the page of an explorer without a run."""
    explorer = Explorer(noun="node", grid=grid, num_nodes=grid.num_nodes, **fields)
    path = folder / "page.html"
    path.write_text(render_page([ResultContent("run", "A map.", {}, {}, {}, {}, explorer=explorer)]), encoding="utf-8")
    return path
