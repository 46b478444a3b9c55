"""Rows of the benchmarks: their derived figures, and how they appear in a file, a table and a picture."""

from __future__ import annotations

import dataclasses
import json

import pytest

from somvae_ext.bench.picture import draw
from somvae_ext.bench.rows import OURS, Row
from somvae_ext.bench.table import progress_line, table

ROW = Row(
    suite="bmu",
    case="headline",
    size={"N": 100, "K": 20, "sigma": 4.0},
    threads=1,
    samples={OURS: [0.002, 0.001, 0.003], "torch": [0.004, 0.005, 0.004], "mm float32": [0.001, 0.001, 0.001]},
    work=8e6,
    ceilings={"mm float32": 8e6},
    notes={"faiss": "failed: no such size"},
    extra={"peak_extra_bytes": {OURS: 1 << 20}},
)


def test_a_row_knows_its_rate_its_ceiling_and_the_others() -> None:
    assert ROW.label == "headline N=100 K=20 sigma=4"
    assert ROW.others == ["torch"]
    assert (ROW.seconds(), ROW.speedup("torch")) == (0.002, 2)
    assert ROW.rate() == pytest.approx(4)  # GFLOP/s
    assert ROW.share_of_ceiling() == pytest.approx(0.5)
    assert dataclasses.replace(ROW, work=None).share_of_ceiling() is None


def test_a_row_comes_back_from_its_file() -> None:
    read = Row.from_json(json.loads(json.dumps(ROW.as_json())))
    assert read == ROW
    assert read.key == ROW.key
    with pytest.raises(ValueError, match="a row lacks a field"):
        Row.from_json({"suite": "bmu"})


def test_passes_of_different_lengths_stay_apart() -> None:
    three = ROW.with_pass(dataclasses.replace(ROW, samples={OURS: [0.004], "torch": [0.006]})).with_pass(ROW)
    assert three.passes == 3
    assert three.by_pass(OURS) == [[0.002, 0.001, 0.003], [0.004], [0.002, 0.001, 0.003]]
    assert three.by_pass("torch")[1] == [0.006]
    assert Row.from_json(json.loads(json.dumps(three.as_json()))) == three


def test_repetitions_that_do_not_match_the_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="somvae_ext must have 4 samples, as its repetitions say"):
        dataclasses.replace(ROW, repetitions={OURS: [2, 2]})


def test_times_in_a_file_have_six_digits() -> None:
    row = dataclasses.replace(ROW, samples={OURS: [0.123456789]})
    assert row.as_json()["samples"] == {OURS: [0.123457]}


def test_a_table_has_a_column_for_each_contestant_and_a_note_once() -> None:
    less = dataclasses.replace(
        ROW,
        case="D",
        dtype="bfloat16",
        samples={OURS: [0.001], "cdist": [0.0015]},
        ceilings={},
        notes={"cdist": "less precise"},
    )
    header, first, second, _, *notes = table([ROW, less, less]).splitlines()
    assert header.split() == ["case", "ms", "rate", "of", "ceiling", "MiB", "torch", "cdist"]
    assert first.split()[-6:] == ["2", "4.0", "GFLOP/s", "50%", "1.0", "2.00x"]
    assert second.split()[-1] == "~1.50x"
    assert "bfloat16" in second
    assert notes == [
        "  faiss: failed: no such size (headline N=100 K=20 sigma=4)",
        "  cdist: less precise (D N=100 K=20 sigma=4 bfloat16 and 1 more)",
    ]


def test_a_row_without_times_has_a_line_too() -> None:
    memory = dataclasses.replace(ROW, samples={}, ceilings={}, case="memory")
    assert table([memory]).splitlines()[1].split()[-1] == "1.0"
    assert "memory" in progress_line(memory, 3.0)


def test_progress_names_a_faster_contestant() -> None:
    slower = dataclasses.replace(ROW, samples={OURS: [0.002], "torch": [0.001]})
    assert progress_line(slower, 3.0) == "   3.0 s  bmu: headline N=100 K=20 sigma=4, 1 thread: 2 ms, torch 1 ms"


def test_a_picture_has_a_dot_for_each_contestant_and_a_mark_for_each_ceiling() -> None:
    figure = draw([ROW, dataclasses.replace(ROW, case="D")], "title")
    assert figure is not None
    (ax,) = figure.axes
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert list(lines["torch"].get_xdata()) == [2, 2]
    assert list(lines["mm float32 (ceiling)"].get_xdata()) == pytest.approx([0.5, 0.5])
    assert [text.get_text() for text in ax.get_yticklabels()] == [ROW.label, "D N=100 K=20 sigma=4"]
    assert draw([dataclasses.replace(ROW, samples={})], "nothing") is None


def test_a_picture_has_a_column_for_each_number_of_threads() -> None:
    figure = draw([ROW, dataclasses.replace(ROW, case="D"), dataclasses.replace(ROW, threads=2)], "title")
    assert figure is not None
    one, two = figure.axes
    assert (one.get_title(), two.get_title()) == ("1 thread", "2 threads")
    assert [len(line.get_xdata()) for line in one.get_lines() if line.get_label() == "torch"] == [2]
    assert [len(line.get_xdata()) for line in two.get_lines() if line.get_label() == "torch"] == [1]
    assert [text.get_text() for text in one.get_yticklabels()] == [ROW.label, "D N=100 K=20 sigma=4"]
