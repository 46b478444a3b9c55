"""Tests of the samples and series that a report shows, against counting and sorting them one by one."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from somvae_ext.report import assign
from somvae_ext.report.sprites import Sprites


@st.composite
def assigned(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Draws nodes and distances of samples, with many equal distances, and the number of nodes."""
    num_nodes = draw(st.integers(1, 6))
    node = draw(st.lists(st.integers(0, num_nodes - 1), max_size=30))
    distance = draw(st.lists(st.integers(-3, 3), min_size=len(node), max_size=len(node)))
    return np.array(node, np.int64), np.array(distance, np.float64), num_nodes


@given(assigned(), st.integers(1, 7))
def test_the_nearest_samples_of_each_node_match_sorting(samples: tuple[np.ndarray, np.ndarray, int], most: int) -> None:
    node, distance, num_nodes = samples
    nearest = assign.nearest_of_each(node, distance, num_nodes, most)
    assert nearest.shape == (num_nodes, most)
    for number, row in enumerate(nearest.tolist()):
        members = sorted((distance[at], at) for at in range(len(node)) if node[at] == number)[:most]
        assert row == [at for _, at in members] + [-1] * (most - len(members))


@given(st.integers(0, 300), st.integers(2, 50))
def test_evenly_spread_numbers_include_both_ends_and_have_nearly_equal_steps(count: int, most: int) -> None:
    numbers = assign.evenly_spread(count, most)
    assert len(numbers) == min(count, most)
    assert np.unique(numbers).tolist() == numbers.tolist()
    if count:
        assert (numbers[0], numbers[-1]) == (0, count - 1)
        assert np.ptp(np.diff(numbers)) <= 1 if len(numbers) > 1 else True


@given(st.lists(st.lists(st.integers(0, 4), max_size=12), max_size=6))
def test_transitions_are_counted_between_successive_frames_of_each_series(series: list[list[int]]) -> None:
    walks = [np.array(walk, np.int64) for walk in series]
    counted = assign.count_transitions(iter(walks), 5, "counted")
    moves = [Counter[int]() for _ in range(5)]
    for walk in series:
        for before, after in itertools.pairwise(walk):
            moves[before][after] += 1
    for node in range(5):
        expected = sorted(moves[node].items(), key=lambda entry: (-entry[1], entry[0]))
        positive = counted.probability[node] > 0
        assert counted.target[node][positive].tolist() == [target for target, _ in expected]
        shares = [count / moves[node].total() for _, count in expected]
        assert counted.probability[node][positive].tolist() == pytest.approx(shares)


def test_a_node_with_many_targets_keeps_the_most_frequent() -> None:
    walk = [0, 11] * 3 + [0, 10] * 2 + [step for target in range(1, 10) for step in (0, target)]
    counted = assign.count_transitions([np.array(walk)], 12, "counted")
    assert counted.target[0].tolist() == [11, 10, 1, 2, 3, 4, 5, 6]
    assert counted.probability[0].tolist() == pytest.approx([3 / 14, 2 / 14, *[1 / 14] * 6])


def test_targets_are_sorted_by_probability_and_ties_by_number() -> None:
    matrix = np.full((2, 20), 0.02)
    matrix[0, [7, 3]] = 0.3, 0.34
    learned = assign.likeliest(iter(matrix), "learned")
    assert learned.target.tolist() == [[3, 7, 0, 1, 2, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6, 7]]
    assert learned.probability[0].tolist() == [0.34, 0.3, *[0.02] * 6]


def test_a_small_map_has_no_more_targets_than_nodes() -> None:
    assert assign.likeliest(np.eye(3), "learned").target.shape == (3, 3)


def test_the_total_number_of_images_is_bounded() -> None:
    assert [assign.images_per_node(nodes) for nodes in (1, 1638, 1639, 4096, 8192, 8193)] == [5, 5, 4, 2, 1, 0]


def test_evenly_spread_series_are_chosen_from_many() -> None:
    walks = [np.array([number]) for number in range(1000)]
    chosen = assign.choose_paths([f"series {number}" for number in range(1000)], walks)
    assert len(chosen) == 200
    assert (chosen[0].name, chosen[-1].name) == ("series 0", "series 999")
    assert all(path.name == f"series {path.node[0]}" for path in chosen)


def test_long_series_are_chosen_up_to_the_limit_of_the_page_but_at_least_one() -> None:
    long = np.zeros(60_000, np.int64)
    assert [path.name for path in assign.choose_paths(["a", "b", "c"], [long] * 3)] == ["a"]
    assert [path.name for path in assign.choose_paths(["a"], [np.zeros(200_000, np.int64)])] == ["a"]
    assert assign.choose_paths([], []) == []


def test_rows_are_split_by_series_in_the_order_of_the_data() -> None:
    found = assign.split_by_series({"series": ["b", "a", "b", "a", "c"], "frame": [0, 0, 1, 1, 0]})
    assert found is not None
    names, rows = found
    assert names == ["b", "a", "c"]
    assert [row.tolist() for row in rows] == [[0, 2], [1, 3], [4]]


@pytest.mark.parametrize("keys", [{"index": [0, 1]}, {"series": [0, 1]}, {"Patient": ["a"], "frame": [0]}])
def test_rows_that_are_not_frames_have_no_series(keys: dict[str, list[object]]) -> None:
    assert assign.split_by_series(keys) is None


def test_series_without_names_are_named_by_their_numbers() -> None:
    found = assign.split_by_series({"series": [3, 3, 10, 4], "frame": [0, 1, 0, 0]})
    assert found is not None
    assert found[0] == ["series 3", "series 10", "series 4"]


# ---- searchable samples ----------------------------------------------------------------------------------------------


@given(assigned(), st.integers(0, 40), st.sampled_from(["distance", "probability"]))
def test_the_nearest_samples_are_always_searchable(
    samples: tuple[np.ndarray, np.ndarray, int], most: int, measure: str
) -> None:
    node, measured, num_nodes = samples
    number = np.arange(len(node))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assign, "MOST_IDS", most)
        chosen = assign.choose_samples(
            node,
            measured,
            num_nodes,
            {"ward": number * 2, "bed": number},
            what="row",
            measure=measure,
            label=number + 7,
            split=np.where(number % 2, "test", "train"),
        )
    kept = [int(text.split(", ")[1]) for text in chosen.ids]
    assert kept == sorted(set(kept))
    assert len(kept) == len(node) or len(kept) <= max(most, 5 * num_nodes)
    assert (chosen.what, chosen.key, chosen.measure, chosen.total) == ("row", "ward and bed", measure, len(node))
    assert chosen.ids == [f"{row * 2}, {row}" for row in kept]
    assert (chosen.node.tolist(), chosen.distance.tolist()) == (node[kept].tolist(), measured[kept].tolist())
    assert chosen.label == [str(row + 7) for row in kept]
    assert chosen.split == [("train", "test")[row % 2] for row in kept]
    sign = 1 if measure == "distance" else -1
    for at, places in enumerate(chosen.nearest.tolist()):
        members = sorted((sign * measured[row], row) for row in range(len(node)) if node[row] == at)[:5]
        assert [kept[place] if place >= 0 else -1 for place in places] == [row for _, row in members] + [-1] * (
            5 - len(members)
        )


def test_images_show_the_nearest_samples() -> None:
    drawn = []

    def draw(rows: np.ndarray) -> Sprites:
        drawn.append(rows.tolist())
        return Sprites.from_images(np.zeros((len(rows), 1, 2, 2)))

    node, distance, keys = np.array([1, 1, 0]), np.array([2.0, 1.0, 3.0]), {"index": range(3)}
    assert assign.choose_samples(node, distance, 2, keys, what="row", draw=draw).images is not None
    assert drawn == [[2, -1, -1, -1, -1, 1, 0, -1, -1, -1]]
    assert assign.choose_samples(node, distance, 10_000, keys, what="row", draw=draw).images is None
