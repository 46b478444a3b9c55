"""Tests of the explorer data sent to the browser: bit-identical numbers, and the most varying of many features."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from somvae_ext import Grid
from somvae_ext.report import explorer as explorer_module
from somvae_ext.report.explorer import AssignedSamples, Explorer, Features, SeriesPath, Transitions, pack
from somvae_ext.report.explorer_plot import AXIS_ROOM, sheet_plot
from somvae_ext.report.page import _script_json, _sheet_width
from somvae_ext.store import NodeClasses


def unpack(fields: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(fields["data"]), f"<{fields['dtype']}").reshape(fields["shape"])


@given(st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=3, max_size=3), max_size=5))
def test_packed_numbers_are_recovered(rows: list[list[int]]) -> None:
    values = np.array(rows, np.int64).reshape(-1, 3)
    assert unpack(pack(values, "i4")).tolist() == values.tolist()
    fortran = np.asfortranarray(values.astype(np.float64))
    assert unpack(pack(fortran, "f4")).tolist() == values.astype(np.float32).tolist()


texts = st.text() | st.sampled_from(["</script>", "<!--", "]]>", "&lt;", "\u2028", "</SCRIPT x>"])


@given(st.recursive(texts | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(texts, inner)))
def test_no_text_can_end_its_script_element(values: Any) -> None:
    text = str(_script_json(values))
    assert not set("<>&") & set(text)
    assert text.isascii()
    assert json.loads(text) == values


def test_numbers_that_json_cannot_represent_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        _script_json([float("nan")])


# ---- features --------------------------------------------------------------------------------------------------------


def choose(codes: np.ndarray, deviation: np.ndarray) -> Features:
    names = [f"feature {number}" for number in range(codes.shape[1])]
    return Features.choose(names, codes, (np.arange(codes.shape[1], dtype=np.float64), deviation))


def test_few_features_are_all_shown() -> None:
    codes = np.random.default_rng(0).normal(size=(6, 4))
    features = choose(codes, np.ones(4))
    assert features.names == ("feature 0", "feature 1", "feature 2", "feature 3")
    assert features.codes.tolist() == codes.astype(np.float32).tolist()
    assert features.total == 4


def test_the_features_shown_vary_most_between_codes_relative_to_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer_module, "_MOST_FEATURE_VALUES", 3 * 6 + 5)  # three features of six nodes, not four
    codes = np.random.default_rng(0).normal(size=(6, 7))
    deviation = np.array([1, 0.1, 5, 0, 1, 0.2, 9])
    spread = [codes[:, at].std() / deviation[at] if deviation[at] else 0 for at in range(7)]
    chosen = sorted(sorted(range(7), key=lambda at: -spread[at])[:3])
    features = choose(codes, deviation)
    assert features.names == tuple(f"feature {at}" for at in chosen)
    assert features.codes.tolist() == codes[:, chosen].astype(np.float32).tolist()
    assert features.mean.tolist() == chosen
    assert features.deviation.tolist() == deviation[chosen].tolist()
    assert features.total == 7


def test_without_the_data_features_have_no_mean_and_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer_module, "_MOST_FEATURE_VALUES", 2 * 6)
    codes = np.random.default_rng(0).normal(size=(6, 3)) * [3, 1, 2]
    features = Features.choose(["a", "b", "c"], codes, None)
    assert features.names == ("a", "c")
    assert (features.mean, features.deviation) == (None, None)
    assert features.codes.tolist() == codes[:, [0, 2]].astype(np.float32).tolist()


def test_at_least_one_feature_of_a_huge_map_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer_module, "_MOST_FEATURE_VALUES", 2)
    assert len(choose(np.eye(6), np.ones(6)).names) == 1


# ---- the whole explorer ----------------------------------------------------------------------------------------------


def whole(grid: Grid, num_nodes: int, *, is_map: bool) -> Explorer:
    generator = np.random.default_rng(0)
    counts = generator.integers(3, size=(num_nodes, 2))
    node = generator.integers(num_nodes, size=9)
    return Explorer(
        noun="node" if is_map else "category",
        grid=grid,
        num_nodes=num_nodes,
        is_map=is_map,
        hits=counts.sum(axis=1),
        classes=NodeClasses(("a", "b"), counts),
        features=choose(generator.normal(size=(num_nodes, 3)), np.ones(3)),
        samples=AssignedSamples(
            "row", "index", 9, list("abcdefghi"), node, generator.random(9), list("yxyxyxyxx"), np.zeros((num_nodes, 2))
        ),
        transitions=Transitions("told", np.zeros((num_nodes, 1)), np.ones((num_nodes, 1))),
        paths=[SeriesPath("first", node)],
    )


@pytest.mark.parametrize(
    "grid", [Grid(3, 4), Grid(4, 3, "hexagonal"), Grid(4, 5, "hexagonal", periodic=True), Grid(1, 1)]
)
def test_the_browser_gets_the_contents_of_the_explorer(grid: Grid) -> None:
    explorer = whole(grid, grid.num_nodes, is_map=True)
    fields = json.loads(str(_script_json(explorer.to_json())))
    assert (fields["rows"], fields["cols"], fields["nodes"]) == (grid.rows, grid.cols, grid.num_nodes)
    assert unpack(fields["neighbors"]).tolist() == grid.neighbors(connectivity=grid.connectivities[-1]).tolist()
    assert explorer.classes is not None
    counts = np.zeros_like(explorer.classes.counts)
    for node, number, count in unpack(fields["classes"]["counts"]):
        counts[node, number] = count
    assert counts.tolist() == explorer.classes.counts.tolist()
    assert explorer.features is not None
    assert unpack(fields["features"]["codes"]).T.tolist() == explorer.features.codes.tolist()
    labels = fields["samples"]["labels"]
    assert [labels["names"][number] for number in unpack(labels["number"])] == list("yxyxyxyxx")
    assert unpack(fields["paths"][0]["node"]).tolist() == explorer.paths[0].node.tolist()
    assert fields["u_matrix"] is None


def test_codes_without_a_grid_have_no_neighbors() -> None:
    explorer = whole(Grid(3, 4), 10, is_map=False)
    assert explorer.to_json()["neighbors"] is None
    assert (explorer.nouns, explorer.title) == ("categories", "Categories")


@pytest.mark.parametrize(("grid", "nodes"), [(Grid(3, 4), 10), (Grid(4, 3, "hexagonal"), 12), (Grid(1, 1), 1)])
def test_the_sheet_covers_the_cells_of_all_nodes(grid: Grid, nodes: int) -> None:
    plot = json.loads(json.dumps(sheet_plot(whole(grid, nodes, is_map=nodes == grid.num_nodes))))
    text = json.dumps(plot)
    for name in ("nodes", "strips", "path", "stops", "cursor", "sheet", "pan"):
        assert f'"name": "{name}"' in text
    x, y = grid.coordinates().numpy()[:nodes].T
    root = plot["doc"]["roots"][0]["attributes"]
    left, right, bottom, top = (
        root[name]["attributes"][end] for name in ("x_range", "y_range") for end in ("start", "end")
    )
    assert left < x.min() - 0.49
    assert right > x.max() + 0.49
    assert bottom < -y.max() - 0.49
    assert top > 0.49


def test_a_tall_map_is_drawn_narrower_to_fit_on_a_screen() -> None:
    assert _sheet_width(Grid(10, 10)) == 680 + AXIS_ROOM
    assert _sheet_width(Grid(5, 50)) == 680 + AXIS_ROOM
    assert _sheet_width(Grid(100, 10)) == 68 + AXIS_ROOM
