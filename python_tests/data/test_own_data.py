"""The user's own data: what is read from files and folders, and errors about what cannot be read."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from somvae_ext.data import Samples, TableFormat, load_array
from somvae_ext.data.own_data import read_own_data

RNG = np.random.default_rng(0)


def written(path: Path, **arrays: np.ndarray) -> Path:
    """Writes the single array ``x`` to an ``.npy`` file, or all arrays to an ``.npz`` file."""
    if path.suffix == ".npy":
        np.save(path, arrays["x"])
    else:
        np.savez(path, **arrays)
    return path


def csv_file(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refused(path: Path, sentence: str, **options: object) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{path}: {sentence}")):
        load_array(path, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "shape", "read_as"),
    [
        (None, (5, 3), (5, 3)),
        (None, (5, 4, 6), (5, 1, 4, 6)),
        (None, (5, 2, 4, 6), (5, 2, 4, 6)),
        (None, (5, 7, 2, 4, 6), (5, 7, 2, 4, 6)),
        ("series", (7, 3), (1, 7, 3)),
        ("series", (5, 7, 3), (5, 7, 3)),
        ("series", (5, 7, 4, 6), (5, 7, 1, 4, 6)),
        ("series", (5, 7, 2, 4, 6), (5, 7, 2, 4, 6)),
    ],
)
def test_axes_of_arrays(kind: str | None, shape: tuple[int, ...], read_as: tuple[int, ...], tmp_path: Path) -> None:
    array = RNG.standard_normal(shape)
    samples = load_array(written(tmp_path / "x.npy", x=array), kind=kind)  # type: ignore[arg-type]
    assert samples.x.dtype == torch.float32
    assert samples.x.equal(torch.from_numpy(array).float().reshape(read_as))
    assert (samples.label, samples.mask) == (None, None)


def test_images_of_bytes_stay_bytes_and_tables_do_not(tmp_path: Path) -> None:
    array = np.array([[[0, 51], [255, 102]]], dtype=np.uint8)
    images = torch.from_numpy(array)[:, None]
    assert load_array(written(tmp_path / "images.npy", x=array)).x.equal(images)
    masked = written(tmp_path / "masked.npz", x=array[None], mask=np.ones((1, 1)))
    assert load_array(masked).x.equal(images[None])
    table = load_array(written(tmp_path / "table.npy", x=array[0])).x
    assert table.equal(torch.tensor([[0.0, 51], [255, 102]]))


def test_bytes_beside_other_numbers_in_a_folder_keep_their_values(tmp_path: Path) -> None:
    frames = np.array([[[0, 51], [255, 102]]], dtype=np.uint8)
    np.save(tmp_path / "a.npy", frames)
    assert load_array(tmp_path).x.equal(torch.from_numpy(frames)[None, :, None])
    np.save(tmp_path / "b.npy", frames.astype(np.float64))
    assert load_array(tmp_path).x.equal(torch.from_numpy(frames).float()[None, :, None].expand(2, -1, -1, -1, -1))


def test_lengths_of_series_are_equivalent_to_a_mask(tmp_path: Path) -> None:
    x = RNG.random((3, 4, 2))
    x[1, 2:] = np.nan  # padding
    lengths = np.array([4, 2, 3])
    by_length = load_array(written(tmp_path / "lengths.npz", x=x, lengths=lengths))
    mask = np.arange(4) < lengths[:, None]
    by_mask = load_array(written(tmp_path / "mask.npz", x=x, mask=mask))
    both = load_array(written(tmp_path / "both.npz", x=x, mask=mask, lengths=lengths.astype(float)))
    for samples in (by_length, both):
        assert samples.x.equal(by_mask.x)
        assert samples.mask is not None
        assert samples.mask.tolist() == mask.tolist()
    for wrong in ([4, 2, 0], [4, 2, 5], [4, 2.5, 3]):
        refused(written(tmp_path / "wrong.npz", x=x, lengths=np.array(wrong)), "lengths must")


def test_an_archive_holds_labels_and_a_mask_beside_the_series(tmp_path: Path) -> None:
    x, mask = RNG.random((2, 3, 4)), np.array([[1, 1, 0], [1, 1, 1]])
    x[0, 2] = np.nan  # padding
    for name, label in (("label", np.array([3, 1])), ("y", np.array([[0, 1, -1], [2, 2, 2]]))):
        samples = load_array(written(tmp_path / f"{name}.npz", x=x, mask=mask, **{name: label}))
        assert samples.x.shape == (2, 3, 4)
        assert (samples.x[0, 2] == 0).all()
        assert samples.label is not None
        assert samples.label.equal(torch.from_numpy(label))
        assert samples.mask is not None
        assert samples.mask.equal(torch.from_numpy(mask).bool())


@pytest.mark.parametrize(
    ("label", "padding", "read_as"),
    [
        ([2.5, 1.5, 2.5], np.nan, [1, 0, 1]),
        ([2.5, 1.5, 2.5], -1.0, [1, 0, 1]),
        ([7, 3, 7], -9, [7, 3, 7]),
        (["b", "a", "b"], "", [1, 0, 1]),
    ],
)
def test_labels_of_padding_are_ignored(
    label: list[object], padding: object, read_as: list[int], tmp_path: Path
) -> None:
    mask = np.array([[True, True, False], [True, False, False]])
    padded = np.full(mask.shape, padding, dtype=np.array(label).dtype)
    padded[mask] = label
    samples = load_array(written(tmp_path / "data.npz", x=np.zeros((2, 3, 1)), mask=mask, label=padded))
    assert samples.label is not None
    assert samples.label[mask].tolist() == read_as
    assert samples.label[~mask].tolist() == [-1] * 3


def test_names_of_classes_are_numbered_in_their_order(tmp_path: Path) -> None:
    x = RNG.random((4, 2))
    text = load_array(written(tmp_path / "text.npz", x=x, label=np.array(["cat", "ant", "cat", "bee"]))).label
    assert text is not None
    assert text.tolist() == [2, 0, 2, 1]
    halves = load_array(written(tmp_path / "halves.npz", x=x, label=np.array([2.5, -1, 2.5, 0]))).label
    assert halves is not None
    assert halves.tolist() == [2, 0, 2, 1]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_with_names_labels_and_blank_lines(delimiter: str, tmp_path: Path) -> None:
    text = "a, kind ,b\n1,setosa,-2.5\n\n 3 , iris,1e2\n".replace(",", delimiter)
    samples = load_array(csv_file(tmp_path, "\ufeff" + text), table=TableFormat(label_column="kind"))
    assert samples.x.tolist() == [[1, -2.5], [3, 100]]
    assert samples.label is not None
    assert samples.label.tolist() == [1, 0]


def test_a_table_without_names(tmp_path: Path) -> None:
    samples = load_array(csv_file(tmp_path, "1,2\n3,4"))
    assert samples.x.tolist() == [[1, 2], [3, 4]]
    assert samples.feature_names is None


def test_the_names_of_the_features_are_those_of_the_columns_without_the_labels(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "width, y ,height\n1,0,2\n")
    assert load_array(path, table=TableFormat(label_column="y")).feature_names == ("width", "height")
    csv_file(tmp_path, "width,y,height\n3,0,4\n", "unlike.csv")
    assert load_array(tmp_path, table=TableFormat(label_column="y")).feature_names == ("width", "height")
    csv_file(tmp_path, "height,y,width\n3,0,4\n", "unlike.csv")
    assert load_array(tmp_path, table=TableFormat(label_column="y")).x[1].tolist() == [[4, 3]]
    csv_file(tmp_path, "depth,y,width\n3,0,4\n", "unlike.csv")
    sentence = r"unlike\.csv: columns must be .*, got a table without 'height' and with the unknown 'depth'"
    with pytest.raises(ValueError, match=sentence):
        load_array(tmp_path, table=TableFormat(label_column="y"))


def test_columns_may_be_named_like_missing_values_or_numbers(tmp_path: Path) -> None:
    elements = load_array(csv_file(tmp_path, "Na,K\n1,2\n"))
    assert elements.feature_names == ("Na", "K")
    numbered = load_array(csv_file(tmp_path, "0,1,y\n1,2,7\n"), table=TableFormat(label_column="y"))
    assert (numbered.feature_names, numbered.x.tolist()) == (("0", "1"), [[1, 2]])


def test_labels_that_are_integers_stay_what_they_are(tmp_path: Path) -> None:
    samples = load_array(csv_file(tmp_path, "a,y\n1,7\n2,-3\n"), table=TableFormat(label_column="y"))
    assert samples.label is not None
    assert samples.label.tolist() == [7, -3]


def test_a_table_can_be_one_series(tmp_path: Path) -> None:
    samples = load_array(csv_file(tmp_path, "a,y\n1,7\n2,8\n"), kind="series", table=TableFormat(label_column="y"))
    assert samples.x.tolist() == [[[1], [2]]]
    assert samples.label is not None
    assert samples.label.tolist() == [[7, 8]]


@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2), min_size=1)
)
def test_values_written_to_a_table_are_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[float]]
) -> None:
    path = csv_file(tmp_path_factory.mktemp("table"), "\n".join(",".join(map(repr, row)) for row in rows))
    assert load_array(path, table=TableFormat(header=False)).x.tolist() == rows


def test_a_folder_of_series_is_padded_and_masked(tmp_path: Path) -> None:
    first, second = RNG.random((2, 3), dtype=np.float32), RNG.random((4, 3), dtype=np.float32)
    np.save(tmp_path / "a.npy", first)
    csv_file(tmp_path, "\n".join(",".join(map(repr, row)) for row in second.tolist()), "b.csv")
    (tmp_path / "notes.txt").write_text("not a series")
    samples = load_array(tmp_path)
    assert samples.x.shape == (2, 4, 3)
    assert samples.mask is not None
    assert samples.mask.tolist() == [[True, True, False, False], [True] * 4]
    assert samples.x[samples.mask].equal(torch.from_numpy(np.concatenate([first, second])))
    assert (samples.x[~samples.mask] == 0).all()


def test_a_folder_of_series_of_one_length_needs_no_mask(tmp_path: Path) -> None:
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.arange(5.0))  # one value per frame
    samples = load_array(tmp_path)
    assert (samples.x.shape, samples.mask) == ((2, 5, 1), None)


def test_frames_of_a_folder_have_labels_and_padding_has_none(tmp_path: Path) -> None:
    csv_file(tmp_path, "v,state\n1,up\n2,down\n", "a.csv")
    csv_file(tmp_path, "v,state\n3,up\n", "b.csv")
    samples = load_array(tmp_path, table=TableFormat(label_column="state"))
    assert samples.label is not None
    assert samples.label.tolist() == [[1, 0], [1, -1]]


def test_missing_files_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.npy: no such file or folder"):
        load_array(tmp_path / "gone.npy")
    with pytest.raises(FileNotFoundError, match=r"must hold a \.npy file or a table for each series, got neither"):
        load_array(tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must hold at least one row, got an empty file"),
        ("\n \n", "must hold at least one row, got an empty file"),
        ("a,b\n", "must hold at least one row, got only a line of names"),
        ("a,b\n1,2\n\n3\n", "every line must hold 2 values like the first one, got 1 in line 4"),
        ("a,b\n1,2\n3,x\n", "column 'b' must hold numbers, got 'x', first in row 1 (line 3); set one_hot=['b'] if"),
        ("a,b\n1,2\n,4\n", "values must be finite float32 numbers, got NaN in row 1 (line 3), column 'a'"),
        ("1,,3\n4,5,6\n", "values must be finite float32 numbers, got NaN in row 0 (line 1), column 1"),
        ("1,NA,3\n4,5,6\n", "values must be finite float32 numbers, got NaN in row 0 (line 1), column 1"),
        ("n/a, Null\n4,5\n", "values must be finite float32 numbers, got NaN in row 0 (line 1), column 0"),
        ("1,2\n3,4\n5,None\n", "values must be finite float32 numbers, got NaN in row 2 (line 3), column 1"),
        ("\n1,2.5,x\n4,5,y\n", "column '2' must hold numbers, got 'x' and 'y', first in row 0 (line 2)"),
        ("a,b\n1,2\n\n3,nan\n", "values must be finite float32 numbers, got NaN in row 1 (line 4), column 'b'"),
        ("1,2\n3,-inf\n", "values must be finite float32 numbers, got -inf in row 1 (line 2), column 1"),
        ("1,2\n3,1e39\n", "values must be finite float32 numbers, got 1e+39 in row 1 (line 2), column 1"),
        ("1,2\n3,\0\n", "must be a text file of rows and columns, got bytes that are no text"),
    ],
)
def test_tables_that_are_refused(text: str, sentence: str, tmp_path: Path) -> None:
    refused(csv_file(tmp_path, text), sentence)


TEXTS = (
    "no;sort;note;a;b;c;d\n1;x;;1,5;2,5;3,5;4,5\n2;y;dry;1,5;2,5;3,5;4,5\n3;x;;1,5;2,5;3,5;4,5\n4;y;;1,5;2,5;3,5;4,5\n"
)


def test_advice_for_several_columns_without_numbers_is_given_once(tmp_path: Path) -> None:
    """A comment in a few rows is no sign of a missing value. Beside decimal commas, a point may be a decimal sign."""
    advice = (
        "columns must hold numbers, got in 'sort' 'x' and 'y': set one_hot=['sort'] if its categories count as "
        "features, label_column='sort' if they are classes, or drop=['sort']; in 'note' 'dry': set one_hot=['note'] if "
        "its categories count as features, label_column='note' if they are classes, or drop=['note']; in 'a', 'b', 'c' "
        "and 1 more '1,5': if the comma is the decimal sign, set decimal=','"
    )
    refused(csv_file(tmp_path, TEXTS), advice)
    points = csv_file(tmp_path, "a;b\n1.5;1\n12.25;2\n", "points.csv")
    sentence = (
        "column 'a' must hold numbers, got '1.5' and '12.25', first in row 0 (line 2); if the point is the decimal"
    )
    refused(points, sentence + " sign, set decimal='.'", table=TableFormat(decimal=","))
    thousands = csv_file(tmp_path, "a;b\n1.500;1\n12.250;2\n", "thousands.csv")
    sentence = "column 'a' must hold numbers, got '1.500' and '12.250', first in row 0 (line 2); if it parts thousands"
    refused(thousands, sentence + ", set thousands='.'", table=TableFormat(decimal=","))


def test_advice_for_other_data_than_the_training_data(tmp_path: Path) -> None:
    """Its columns have their uses already, so that only the format can be wrong."""
    csv_file(tmp_path, "a;b\n1;2\n3;4\n", "1.csv")
    csv_file(tmp_path, "a;b\n1;x\n3;y\n", "2.csv")
    with pytest.raises(ValueError, match=r"got 'x' and 'y', .*; the training data have numbers there$"):
        load_array(tmp_path)
    csv_file(tmp_path, "a,b\n1,2\n3,4\n", "2.csv")
    sentence = "got a table without 'a', 'b' and with the unknown 'a,b'; if ',' separates them, set separator=','"
    with pytest.raises(ValueError, match=sentence):
        load_array(tmp_path, table=TableFormat(separator=";"))


def test_a_table_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"\x02\x00\x00\x01")
    refused(path, "must be a text file of rows and columns, got bytes that are no text")


def test_label_columns_that_are_refused(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "a,b\n1,2\n")
    refused(path, "label_column must be one of its columns a, b, got 'c'", table=TableFormat(label_column="c"))
    nameless = csv_file(tmp_path, "1,2\n1,3\n", "nameless.csv")
    refused(
        nameless,
        "label_column must be one of its columns 0 to 1, as the file has no names, got '2'",
        table=TableFormat(label_column="2"),
    )
    gap = csv_file(tmp_path, "a,y\n1,b\n2, \n", "gap.csv")
    refused(gap, "every row must have a label, got none in row 1 (line 3)", table=TableFormat(label_column="y"))
    only = csv_file(tmp_path, "y\n1\n", "only.csv")
    refused(only, "must hold a column of features besides 'y', got none", table=TableFormat(label_column="y"))
    array = written(tmp_path / "x.npy", x=np.zeros((2, 2)))
    refused(
        array,
        "label_column must name a column of a table, got 'y' for a .npy file",
        table=TableFormat(label_column="y"),
    )


@pytest.mark.parametrize(
    ("shape", "place"), [((4, 3), "row 2, column 1"), ((4, 3, 2), "row 2, at [0, 1, 0] in it")], ids=["table", "images"]
)
def test_the_place_of_a_nan_in_an_array_is_named(shape: tuple[int, ...], place: str, tmp_path: Path) -> None:
    x = np.zeros(shape)
    x[2, 1] = np.nan
    refused(
        written(tmp_path / "x.npy", x=x),
        f"values must be finite float32 numbers, got NaN in {place} (rows count from 0)",
    )


@pytest.mark.parametrize(
    ("kind", "shape", "sentence"),
    [
        ("static", (3,), "static data must have 2 axes [N, F] to 4 [N, C, H, W], got shape [3]"),
        ("static", (1, 1, 1, 1, 1), "static data must have 2 axes [N, F] to 4 [N, C, H, W], got shape [1, 1, 1, 1, 1]"),
        ("series", (1,) * 6, "series data must have 2 axes [T, F] to 5 [B, T, C, H, W], got shape [1, 1, 1, 1, 1, 1]"),
        ("static", (0, 3), "must hold at least one row, got none"),
        ("static", (3, 0), "rows must hold at least one value, got shape [3, 0]"),
        ("series", (3, 0, 2), "rows must hold at least one value, got shape [3, 0, 2]"),
    ],
)
def test_shapes_that_are_refused(kind: str, shape: tuple[int, ...], sentence: str, tmp_path: Path) -> None:
    refused(written(tmp_path / "x.npy", x=np.zeros(shape)), sentence, kind=kind)


def test_a_kind_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "kind must be 'static' or 'series', got 'seires'", kind="seires")


def test_arrays_that_are_refused(tmp_path: Path) -> None:
    refused(written(tmp_path / "text.npy", x=np.array([["a"]])), "must hold numbers, got dtype <U1")
    refused(
        written(tmp_path / "complex.npy", x=np.ones((2, 2), dtype=complex)), "must hold numbers, got dtype complex128"
    )
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([[None]]), allow_pickle=True)
    refused(objects, "must be an array of numbers that numpy.save wrote, got something else")
    for name, kind in (
        ("short.npy", "an array of numbers that numpy.save"),
        ("text.npz", "an archive that numpy.savez"),
    ):
        path = tmp_path / name
        path.write_text("no array")
        refused(path, f"must be {kind} wrote, got something else")
    (tmp_path / "empty.npy").write_bytes(b"")
    refused(tmp_path / "empty.npy", "must be an array of numbers that numpy.save wrote, got something else")
    (tmp_path / "swapped.npz").write_bytes(written(tmp_path / "one.npy", x=np.zeros((2, 2))).read_bytes())
    refused(tmp_path / "swapped.npz", "must be an archive that numpy.savez wrote, got a single array; name it .npy")
    (tmp_path / "swapped.npy").write_bytes(written(tmp_path / "all.npz", x=np.zeros((2, 2))).read_bytes())
    refused(tmp_path / "swapped.npy", "must be one array that numpy.save wrote, got an archive; name it .npz")
    (tmp_path / "data.xlsx").write_text("")
    refused(tmp_path / "data.xlsx", "must be a .csv, .tsv, .txt, .parquet, .arrow, .npy or .npz file or a folder of")


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"data": (4, 3)}, "must hold an array named 'x', got 'data'"),
        ({"x": (4, 3), "label": (5,)}, "labels must have shape [4] for x of shape [4, 3], got [5]"),
        ({"x": (4, 3), "label": (4, 3)}, "labels must have shape [4] for x of shape [4, 3], got [4, 3]"),
        (
            {"x": (4, 3, 2), "mask": (4, 3), "y": (3,)},
            "labels must have shape [4] or [4, 3] for x of shape [4, 3, 2], got",
        ),
        ({"x": (4, 3, 2), "mask": (4, 2)}, "mask must have shape [B, T] = [4, 3], got [4, 2]"),
        ({"x": (4, 3), "data": (4,), "t": (3,)}, "must hold 'x' and at most 'label' or 'y', 'mask' and 'lengths', got"),
        ({"x": (4, 3), "y": (4,), "label": (4,)}, "labels must be in one array, got 'label' and 'y'"),
        ({"x": (4, 3, 2), "lengths": (3,)}, "lengths must hold an integer for each of the 4 series, got int64 of"),
        ({"x": (4, 3, 2), "lengths": (4,), "mask": (4, 3)}, "mask and lengths must tell the same, but they do not"),
    ],
)
def test_archives_that_are_refused(arrays: dict[str, tuple[int, ...]], sentence: str, tmp_path: Path) -> None:
    ones = {name: np.ones(shape, dtype=np.int64) for name, shape in arrays.items()}
    refused(written(tmp_path / "data.npz", **ones), sentence)


def test_masks_and_labels_that_are_refused(tmp_path: Path) -> None:
    x, mask = np.zeros((2, 3, 1)), np.array([[1, 1, 0], [0, 0, 0]])
    path = written(tmp_path / "a.npz", x=x, mask=mask)
    refused(path, "mask must leave every series at least one frame, got none in row 1")
    refused(path, "mask says which frames of series are real, so kind must be 'series'", kind="static")
    refused(written(tmp_path / "b.npz", x=x, mask=mask + 1), "mask must hold true and false, or 1 and 0")
    refused(written(tmp_path / "c.npz", x=x[0], y=np.array([0, 1, np.nan])), "labels must be numbers or text, got nan")
    real = written(tmp_path / "real.npz", x=x, mask=mask[[0, 0]], y=np.array([[0, np.nan, 1], [0, 1, np.nan]]))
    refused(real, "labels must be numbers or text, got nan")
    refused(
        written(tmp_path / "d.npz", x=x[0], y=np.ones(3, dtype=complex)), "labels must be numbers or text, got dtype"
    )


def test_folders_that_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 2)))
    refused(tmp_path, "a folder holds series, so kind must be 'series', got 'static'", kind="static")
    np.save(tmp_path / "b.npy", np.zeros((4, 3)))
    refused_file = tmp_path / "b.npy"
    with pytest.raises(ValueError, match=re.escape(f"{refused_file}: frames must have shape [2] as in a.npy, got [3]")):
        load_array(tmp_path)
    np.save(tmp_path / "b.npy", np.zeros((0, 2)))
    with pytest.raises(ValueError, match=re.escape(f"{refused_file}: must hold at least one frame, got none")):
        load_array(tmp_path)
    np.save(tmp_path / "b.npy", np.full((1, 2), np.nan))
    with pytest.raises(ValueError, match=re.escape(f"{refused_file}: values must be finite float32 numbers, got NaN")):
        load_array(tmp_path)
    refused_file.unlink()
    csv_file(tmp_path, "u,v,y\n1,2,3\n", "c.csv")
    refused(tmp_path, "labels must be in all 2 series or in none, got 1 with them", table=TableFormat(label_column="y"))


def test_rows_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    x = RNG.random((50, 2), dtype=np.float32)
    samples: Samples = load_array(written(tmp_path / "x.npy", x=x))
    assert samples.x.equal(torch.from_numpy(x))


# ---- identifiers of samples ------------------------------------------------------------------------------------------


def keys_of(path: Path, **options: object) -> dict[str, list[object]]:
    row_keys = load_array(path, **options).row_keys  # type: ignore[arg-type]
    assert row_keys is not None
    return {name: values.tolist() for name, values in row_keys.items()}


def test_rows_are_identified_by_ids_or_numbers(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "Patient,v\nP-7,1\nP-3,2\n,3\n")
    assert keys_of(path, table=TableFormat(id_column="Patient")) == {"Patient": ["P-7", "P-3", ""]}
    assert keys_of(path, table=TableFormat(drop=("Patient",))) == {"index": [0, 1, 2]}
    assert keys_of(written(tmp_path / "images.npy", x=np.zeros((4, 5, 6)))) == {"index": [0, 1, 2, 3]}
    assert keys_of(written(tmp_path / "rows.npz", x=np.zeros((2, 3)))) == {"index": [0, 1]}


@pytest.mark.parametrize("name", ["table.csv", "rows.npy"])
def test_rows_keep_their_numbers_when_others_are_left_out(name: str, tmp_path: Path) -> None:
    x = np.array([[1, np.nan], [2, 3], [np.nan, 4], [5, 6]])
    path = written(tmp_path / name, x=x) if name == "rows.npy" else csv_file(tmp_path, "a,b\n1,\n2,3\n,4\n5,6\n")
    samples = read_own_data(path, None, missing="drop").samples
    assert samples.row_keys is not None
    assert samples.row_keys["index"].tolist() == [1, 3]


def test_series_are_identified_by_files_or_numbers(tmp_path: Path) -> None:
    assert keys_of(written(tmp_path / "series.npz", x=np.zeros((3, 4, 2)), lengths=[4, 1, 2])) == {"series": [0, 1, 2]}
    assert keys_of(csv_file(tmp_path, "v\n1\n2\n"), kind="series") == {"series": [0]}
    folder = tmp_path / "wards"
    folder.mkdir()
    np.save(folder / "bed-02.night.npy", np.zeros((2, 1)))
    csv_file(folder, "v\n1\n", "bed-01.csv")
    (folder / "bed-03.TSV.gz").write_bytes(gzip.compress(b"v\n1\n"))
    assert keys_of(folder) == {"series": ["bed-01", "bed-02.night", "bed-03"]}
    np.save(folder / "bed-01.npy", np.zeros((2, 1)))
    assert keys_of(folder) == {"series": ["bed-01.csv", "bed-01.npy", "bed-02.night.npy", "bed-03.TSV.gz"]}
